"""Choice of the compiled core: the module of the best instruction set that this machine runs."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import TYPE_CHECKING

from pushforward._checks import choice

_LEVELS = ("v2", "v3", "v4")


def _runnable() -> tuple[str, ...]:
    from pushforward import _cpu  # `_process` has refused sub-interpreters: it would wait there for ever

    level = _cpu.x86_64_level()
    if level == 0:
        return ("base",)
    runnable = _LEVELS[: max(level - 1, 0)]
    if not runnable:
        raise ImportError("pushforward needs a processor with at least x86-64-v2 (SSE4.2); this one has less")
    return runnable


def _load() -> ModuleType:
    runnable = _runnable()
    level = os.environ.get("PUSHFORWARD_SIMD") or runnable[-1]
    if level not in runnable:
        choice("PUSHFORWARD_SIMD", level, runnable, note="the levels this processor runs")
    return importlib.import_module(f"pushforward._core_{level}")


if TYPE_CHECKING:
    from pushforward import _core_v2

    core = _core_v2  # all levels have this interface
else:
    core = _load()


def simd_level() -> str:
    """Name the instruction set in use.

    Returns
    -------
    str
        ``"v4"`` (AVX-512), ``"v3"`` (AVX2 and FMA) or ``"v2"`` (SSE4.2), the x86-64 levels; ``"base"`` on another
        architecture. The best one that the processor runs, unless the environment variable ``PUSHFORWARD_SIMD``
        named another before the import.

    Examples
    --------
    >>> import pushforward
    >>> pushforward.simd_level() in {"v2", "v3", "v4", "base"}
    True
    """
    return core.simd_level


def build_info() -> dict[str, str]:
    """Describe the compiled core: what a bug report needs.

    Returns
    -------
    dict of str to str
        Version, instruction set, compiler, Eigen's version and what it vectorises with, the version date of the OpenMP
        whose settings are used (``"none"`` in a build without), what runs the threads (``"pool"``, its own, or
        ``"openmp"``), and the default number of threads.

    Examples
    --------
    >>> import pushforward
    >>> sorted(pushforward.build_info())
    ['compiler', 'eigen', 'openmp', 'simd_in_use', 'simd_level', 'threading', 'threads', 'version']
    """
    return {
        "version": core.version,
        "simd_level": core.simd_level,
        "simd_in_use": core.simd_in_use,
        "compiler": core.compiler,
        "eigen": core.eigen,
        "openmp": "none" if core.openmp is None else str(core.openmp),
        "threading": core.threading,
        "threads": str(core.default_threads()),
    }
