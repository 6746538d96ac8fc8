"""Compare training steps of flows of images with PyTorch: `python benchmarks/images_speed.py [--rounds 7] [--rows 64]`.

Each flow runs in a process of its own, on `--threads` threads. They are timed in turns, so that other load on the
machine affects both alike. A time is the median over all rounds, and a ratio is the median of the rounds' ratios. The
share of the arithmetic limit counts the multiply-adds of the convolutions, a step's three times, against the rate of
wide dense layers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from environment import describe, median_seconds

SHAPES = {"couplings": (1, 8, 8), "glow": (1, 28, 28)}
COUPLINGS, HIDDEN = 8, 32
LEVELS, STEPS, GLOW_HIDDEN, GLOW_KERNELS = 3, 4, 64, (3, 1, 3)


# -- this library ------------------------------------------------------------------------------------------------


def our_layers(case: str) -> list[Any]:
    from pushforward import Affine, ConvNet, Coupling, glow

    if case == "couplings":
        return [Coupling(Affine(), ConvNet(HIDDEN, 2), mask="checkerboard")] * COUPLINGS
    return glow(SHAPES[case], levels=LEVELS, depth=STEPS, hidden=GLOW_HIDDEN, kernel=GLOW_KERNELS)


def our_flow(case: str) -> Any:
    from pushforward import Flow

    return Flow(shape=SHAPES[case], layers=our_layers(case), seed=0)


def our_step(case: str, rows: int, threads: int) -> Callable[[], object]:
    from pushforward import Adam

    flow = our_flow(case)
    flow.num_threads = threads
    x = np.random.default_rng(0).normal(size=(rows, *SHAPES[case])).astype(np.float32)
    adam = Adam(1e-4)

    def step() -> None:
        _, gradient = flow.loss_and_grad(x)
        flow.parameters = adam.step(flow.parameters, gradient)

    return step


def multiply_adds(case: str) -> int:
    """Those of all convolutions for one row: of the taps that are there, at the pixels that are needed."""

    def pairs(read: np.ndarray, computed: np.ndarray, kernel: int) -> int:
        reach = kernel // 2
        padded = np.pad(read, reach)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel))
        return int(windows[computed].sum())

    if case == "couplings":
        rows, columns = np.indices(SHAPES[case][1:])
        some = (rows + columns) % 2 == 0
        every = np.ones_like(some)
        each = pairs(some, every, 3) * HIDDEN + pairs(every, every, 3) * HIDDEN**2 + pairs(every, ~some, 3) * HIDDEN * 2
        return COUPLINGS * each
    channels, height, width = SHAPES[case]
    total = 0
    for _ in range(LEVELS):
        if height % 2 == 0 and width % 2 == 0:
            channels, height, width = 4 * channels, height // 2, width // 2
        every = np.ones((height, width), dtype=bool)
        half = channels // 2
        taps = [pairs(every, every, kernel) for kernel in GLOW_KERNELS]
        each = (taps[0] * half + taps[1] * GLOW_HIDDEN + taps[2] * 2 * half) * GLOW_HIDDEN
        total += STEPS * (each + height * width * channels**2)
        channels //= 2
    return total


def dense_rate(threads: int) -> float:
    """Multiply-adds in a second of wide dense layers."""
    from pushforward import MLP, Affine, Coupling, Flow

    width, rows = 512, 2048
    flow = Flow(2, layers=[Coupling(Affine(), MLP((width,) * 5))], seed=0)
    flow.num_threads = threads
    x = np.zeros((rows, 2), dtype=np.float32)
    return 4 * width**2 * rows / median_seconds(lambda: flow.log_prob(x), 1.0)


# -- PyTorch -----------------------------------------------------------------------------------------------------


def torch_step(case: str, rows: int, threads: int) -> Callable[[], object]:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

    torch.set_num_threads(threads)
    torch.manual_seed(0)

    def network(inputs: int, outputs: int, hidden: int, kernels: tuple[int, int, int]) -> nn.Sequential:
        first, middle, last = (
            nn.Conv2d(a, b, kernel, padding=kernel // 2)
            for a, b, kernel in zip((inputs, hidden, hidden), (hidden, hidden, outputs), kernels, strict=True)
        )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(first, nn.ReLU(), middle, nn.ReLU(), last)

    def moved(x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        a, shift = theta.chunk(2, dim=1)
        log_scale = a / (1 + a.abs() / 3)
        return (x - shift) * torch.exp(-log_scale), log_scale

    class Checkerboard(nn.Module):
        def __init__(self, number: int) -> None:
            super().__init__()
            rows, columns = np.indices(SHAPES[case][1:])
            self.register_buffer("kept", torch.tensor(((rows + columns + number) % 2 == 0).astype(np.float32)))
            self.network = network(1, 2, HIDDEN, (3, 3, 3))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            z, log_scale = moved(x, self.network(x * self.kept))
            return self.kept * x + (1 - self.kept) * z, -((1 - self.kept) * log_scale).sum(dim=(1, 2, 3))

    class Channels(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.network = network(channels // 2, channels, GLOW_HIDDEN, GLOW_KERNELS)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            kept, other = x.chunk(2, dim=1)
            z, log_scale = moved(other, self.network(kept))
            return torch.cat([kept, z], dim=1), -log_scale.sum(dim=(1, 2, 3))

    class ActNorm(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
            self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return (x - self.shift) * torch.exp(-self.log_scale), -self.log_scale.sum() * x[0, 0].numel()

    class Conv1x1(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(channels, channels))
            self.register_buffer("order", torch.randperm(channels))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            lower = torch.tril(self.weight, -1) + torch.eye(len(self.weight))
            upper = torch.triu(self.weight, 1) + torch.diag(torch.exp(self.weight.diagonal()))
            matrix = (lower @ upper)[:, self.order]
            return functional.conv2d(x, matrix[:, :, None, None]), self.weight.diagonal().sum() * x[0, 0].numel()

    class Squeeze(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, float]:
            return functional.pixel_unshuffle(x, 2), 0.0

    levels: list[list[nn.Module]] = []
    if case == "couplings":
        levels.append([Checkerboard(number) for number in range(COUPLINGS)])
    else:
        channels, height, width = SHAPES[case]
        for _ in range(LEVELS):
            level: list[nn.Module] = []
            if height % 2 == 0 and width % 2 == 0:
                channels, height, width = 4 * channels, height // 2, width // 2
                level.append(Squeeze())
            for _ in range(STEPS):
                level += [ActNorm(channels), Conv1x1(channels), Channels(channels)]
            levels.append(level)
            channels //= 2
    modules = nn.ModuleList([nn.ModuleList(level) for level in levels])
    optimizer = torch.optim.Adam(modules.parameters(), 1e-4)
    images = torch.tensor(np.random.default_rng(0).normal(size=(rows, *SHAPES[case])).astype(np.float32))

    def step() -> None:
        optimizer.zero_grad()
        x, log_prob = images, torch.zeros(())
        for number, level in enumerate(levels):
            for layer in level:
                x, log_det = layer(x)
                log_prob = log_prob + log_det
            if number < len(levels) - 1:
                x, left = x.chunk(2, dim=1)
                log_prob = log_prob - 0.5 * (left**2).sum(dim=(1, 2, 3))
        loss = -(log_prob - 0.5 * (x**2).sum(dim=(1, 2, 3))).mean()
        loss.backward()
        optimizer.step()

    return step


# -- taking turns ------------------------------------------------------------------------------------------------

STEPS_OF = {"pushforward": our_step, "torch": torch_step}


def serve(name: str, case: str, rows: int, threads: int) -> None:
    """For each line on the standard input, time steps for about a second and print the median."""
    step = STEPS_OF[name](case, rows, threads)
    for _ in range(3):
        step()
    print(flush=True)
    for _ in sys.stdin:
        print(json.dumps(median_seconds(step, 1.0)), flush=True)


class Server:
    """A flow in its own process."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, str(Path(__file__)), "--serve", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def seconds(self) -> float:
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return float(json.loads(self._read()))


def compare(case: str, arguments: argparse.Namespace) -> Iterator[str]:
    servers = {name: Server(name, case, arguments.rows, arguments.threads) for name in STEPS_OF}
    times: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(arguments.rounds):
        for name in sorted(servers, reverse=turn % 2 == 1):
            times[name].append(servers[name].seconds())
            time.sleep(0.2)  # threads that wait for work fall asleep
    for server in servers.values():
        server.process.communicate()
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        yield f"{case}: a step of {arguments.rows} rows takes {1e3 * seconds:.2f} ms with {name}"
    ratios = [b / a for a, b in zip(times["pushforward"], times["torch"], strict=True)]
    low, high = min(ratios), max(ratios)
    yield f"{case}: {statistics.median(ratios):.2f} times as fast ({low:.2f} to {high:.2f} in {len(ratios)} rounds)"
    rate = 3 * multiply_adds(case) * arguments.rows / medians["pushforward"]
    share = rate / dense_rate(arguments.threads)
    yield f"{case}: {2e-9 * rate:.0f} GFLOP/s in convolutions, {share:.0%} of the rate of wide dense layers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", default=",".join(SHAPES))
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        name, case, rows, threads = arguments.serve
        serve(name, case, int(rows), int(threads))
        return
    print(json.dumps(describe()))
    for case in arguments.cases.split(","):
        for line in compare(case, arguments):
            print(line, flush=True)


if __name__ == "__main__":
    main()
