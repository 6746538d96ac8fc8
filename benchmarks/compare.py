"""Compare speed with other libraries: `python benchmarks/compare.py [--cases A,B] [--json FILE] [--markdown FILE]`.

Needs `pip install ".[bench]"`; libraries that are not installed are left out. Every flow runs in its own process. They
are timed in turns, one at a time, for several rounds, so that other load on the machine affects all of them alike. A
time is the median over all rounds, and a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from contenders import CASES, CONTENDERS, OPERATIONS
from environment import describe

OURS = "pushforward"
HEADINGS = {
    "step": "training step",
    "log_prob": "`log_prob`, a row of 20,000",
    "sample": "`sample`, a row of 20,000",
    "log_prob_256": "`log_prob`, 256 rows",
}


class Server:
    """A flow in its own process."""

    def __init__(self, name: str, case: str, threads: int, python: str) -> None:
        self.name = name
        command = [python, str(Path(__file__).with_name("contenders.py")), name, case, str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.communicate()[1].strip().splitlines()[-1])
        self.about = json.loads(line)

    def times(self, operation: str, seconds: float) -> list[float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(operation, seconds, file=self.process.stdin, flush=True)
        times: list[float] = json.loads(self.process.stdout.readline())
        return times

    def close(self) -> None:
        self.process.communicate()


def start(peers: list[str], case: str, threads: int, python: str) -> list[Server]:
    servers = [Server(OURS, case, threads, sys.executable)]
    for name in peers:
        try:
            servers.append(Server(name, case, threads, python))
        except RuntimeError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return servers


def compare(case: str, arguments: argparse.Namespace) -> dict[str, object]:
    servers = start(arguments.peers.split(","), case, arguments.threads, arguments.peers_python)
    results: dict[str, object] = {"case": case, "about": {server.name: server.about for server in servers}}
    for operation, rows in OPERATIONS.items():
        all_times: dict[str, list[float]] = {server.name: [] for server in servers}
        medians: dict[str, list[float]] = {server.name: [] for server in servers}
        for round_number in range(arguments.rounds):
            turn = round_number % len(servers)
            for server in servers[turn:] + servers[:turn]:
                times = server.times(operation, arguments.seconds)
                all_times[server.name] += times
                medians[server.name].append(statistics.median(times))
        seconds = {name: statistics.median(times) / rows for name, times in all_times.items()}
        peers = [name for name in seconds if name != OURS]
        best = min(peers, key=lambda name: seconds[name]) if peers else None
        ratios = [peer / ours for peer, ours in zip(medians[best], medians[OURS], strict=True)] if best else []
        results[operation] = {
            "seconds": seconds,
            "best_peer": best,
            "ratio": statistics.median(ratios) if ratios else None,
            "ratio_range": [min(ratios), max(ratios)] if ratios else None,
        }
        figures = "  ".join(f"{name} {_readable(value)}" for name, value in seconds.items())
        ratio = f"{statistics.median(ratios):6.1f}x of {best}" if ratios else ""
        print(f"{case}  {operation:13s} {ratio}   {figures}", flush=True)
    for server in servers:
        server.close()
    return results


def _readable(seconds: float) -> str:
    for unit, size in (("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def markdown(results: list[dict[str, object]]) -> str:
    """A table of cases by operations: our time, the best peer's, and the ratio."""
    rows = [["case", *(HEADINGS[name] for name in OPERATIONS)], ["---"] * (len(OPERATIONS) + 1)]
    for result in results:
        case = CASES[str(result["case"])]
        kind = f"splines of {case.bins} bins" if case.bins else "affine"
        about = f"{case.layers} {kind}, {case.dim} features, ({case.hidden}, {case.hidden}), {case.rows} rows a step"
        cells = [f"**{result['case']}** {about}"]
        for name in OPERATIONS:
            timing = result[name]
            assert isinstance(timing, dict)
            parts = [_readable(timing["seconds"][OURS])]
            if timing["best_peer"]:
                parts += [_readable(timing["seconds"][timing["best_peer"]]), f"**{timing['ratio']:.1f}**"]
            cells.append(" · ".join(parts))
        rows.append(cells)
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--peers", default=",".join(name for name in CONTENDERS if name != OURS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one operation of one flow in one round")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter that has the peers")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    environment = describe()
    for name, value in environment.items():
        print(f"{name:24s} {value}")
    results = [compare(case, arguments) for case in arguments.cases.split(",")]
    print("\n" + markdown(results))
    if arguments.json:
        report = {"environment": environment, "threads": arguments.threads, "results": results}
        arguments.json.write_text(json.dumps(report, indent=1))
    if arguments.markdown:
        arguments.markdown.write_text(markdown(results))


if __name__ == "__main__":
    main()
