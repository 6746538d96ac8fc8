"""Describe the environment of a timing, and measure times."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pushforward


def describe() -> dict[str, str]:
    """Processor, cores, versions."""
    cpu = platform.processor() or "unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{f"pushforward {name}": value for name, value in pushforward.build_info().items()},
    }


def median_seconds(call: Callable[[], object], seconds: float = 2.0, least: int = 5, most: int = 2000) -> float:
    """Median time of a call, repeated for about `seconds`."""
    times: list[float] = []
    call()
    end = time.perf_counter() + seconds
    while len(times) < least or (time.perf_counter() < end and len(times) < most):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
