"""Is the meter right? `python examples/household_power.py FOLDER [--output PNG]`.

FOLDER holds minutes of one household's electricity, standardised (`train.npy`, `test.npy`), and their means and
standard deviations (`norm.npz`): total power, voltage, the energy of three circuits that have their own meters, and the
time of day (UCI; Hebrail, Berard 2012).

A conditional flow models the distribution of the total power given everything else: p(power | voltage, circuits, time).
A minute with a low density is unusual. The threshold is calibrated on held-out minutes, separately for each hour: the
share of held-out minutes that are at least as unusual is a p-value. So the rate of false alarms is the chosen one,
whether the flow is good or not (conformal prediction; Vovk, Gammerman, Shafer 2005). A better flow detects more
faults.

That is tried with faults made on purpose in test minutes, and beside a regression on the same inputs, calibrated in the
same way. The picture shows quantiles over the day, alarms on sound minutes, and faults found by alarms raised.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from pushforward import Flow, Positive, neural_spline

HEATER = 3  # its column among the inputs: voltage, kitchen, laundry, heater, and the time's cosine and sine
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#555555"

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From power (n, 1) in kW and inputs (n, 6) to how odd each minute is, (n,)."""


def read(folder: Path, file: str, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return power, inputs and hour of some minutes, drawn at random."""
    table, norm = np.load(folder / file, mmap_mode="r"), np.load(folder / "norm.npz")
    chosen = np.random.default_rng(0).choice(len(table), min(rows, len(table)), replace=False)
    minutes = table[np.sort(chosen)] * norm["std"] + norm["mean"]
    minutes = np.random.default_rng(1).permutation(minutes)
    return minutes[:, :1], inputs(minutes[:, 1:5], minutes[:, 5]), (minutes[:, 5] // 60).astype(int) % 24


def inputs(rest: np.ndarray, minute: np.ndarray) -> np.ndarray:
    """Return what the power is conditioned on; the time as a point on a circle, so that midnight is no edge."""
    angle = 2 * np.pi * minute / 1440
    return np.column_stack([rest, np.cos(angle), np.sin(angle)])


class Alarm:
    """P-values of minutes, calibrated within each hour."""

    def __init__(self, score: Score, power: np.ndarray, given: np.ndarray, hour: np.ndarray) -> None:
        self.score = score
        scores = score(power, given)
        self.held_out = [np.sort(scores[hour == h]) for h in range(24)]

    def p_value(self, power: np.ndarray, given: np.ndarray, hour: np.ndarray) -> np.ndarray:
        """Return the share of held-out minutes of the hour that are at least as odd, (n,)."""
        scores, p = self.score(power, given), np.empty(len(power))
        for h, sound in enumerate(self.held_out):
            at = hour == h
            p[at] = (1 + len(sound) - np.searchsorted(sound, scores[at])) / (1 + len(sound))
        return p


def regression(power: np.ndarray, given: np.ndarray) -> Score:
    """Return the score of a least-squares fit with squares and products of the inputs."""
    pairs = np.triu_indices(given.shape[1])

    def terms(given: np.ndarray) -> np.ndarray:
        z = (given - mean) / deviation
        return np.column_stack([np.ones(len(z)), z, z[:, pairs[0]] * z[:, pairs[1]]])

    mean, deviation = given.mean(axis=0), given.std(axis=0)
    coefficients = np.linalg.lstsq(terms(given), power, rcond=None)[0]
    return lambda power, given: np.abs(power - terms(given) @ coefficients)[:, 0]


def faults(power: np.ndarray, given: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return power and inputs of minutes in which the heater runs, with something wrong."""
    heater = given[:, HEATER]
    dead = given.copy()
    dead[:, HEATER] = np.random.default_rng(2).uniform(0, 1, len(dead))  # a meter at 0, as the table has it
    return {
        "total misses the heater": (np.maximum(power - 0.06 * heater[:, None], 0.01), given),  # Wh a minute to kW
        "total reads 20 % low": (0.8 * power, given),
        "heater's meter is dead": (power, dead),
    }


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=Path("household_power.png"), metavar="PNG")
    parser.add_argument("--rows", type=int, default=500_000, help="to learn from; half of them for the calibration")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()

    power, given, hour = read(arguments.folder, "train.npy", arguments.rows)
    half = len(power) // 2
    layers = neural_spline(1, depth=3, hidden=64, bins=16)
    flow = Flow(1, layers=layers, support=Positive(), context=given.shape[1], seed=0)
    flow.fit(power[:half], context=given[:half], epochs=arguments.epochs, seed=0)
    print(f"flow: {flow.history}")

    alarms = {
        "flow": Alarm(lambda power, given: -flow.log_prob(power, given), power[half:], given[half:], hour[half:]),
        "regression": Alarm(regression(power[:half], given[:half]), power[half:], given[half:], hour[half:]),
    }
    power, given, hour = read(arguments.folder, "test.npy", arguments.rows)
    p = {name: alarm.p_value(power, given, hour) for name, alarm in alarms.items()}
    print("\nFalse alarms in test minutes")
    for rate in (0.1, 0.01, 0.001):
        print(
            f"asked for {rate:<6}", *(f"{name} {(values <= rate).mean():.4f}" for name, values in p.items()), sep="   "
        )

    runs = given[:, HEATER] > 10
    found = {}
    print(f"\nFaults found, in {runs.sum()} minutes in which the heater runs, at 1 % of false alarms")
    for fault, (wrong_power, wrong_given) in faults(power[runs], given[runs]).items():
        found[fault] = {name: alarm.p_value(wrong_power, wrong_given, hour[runs]) for name, alarm in alarms.items()}
        shares = (f"{name} {(values <= 0.01).mean():6.1%}" for name, values in found[fault].items())
        print(f"{fault:<24}", *shares, sep="   ")
    draw(flow, alarms, given, p, hour, found, arguments.output)
    print(f"\nPicture: {arguments.output}")


def draw(
    flow: Flow,
    alarms: dict[str, Alarm],
    given: np.ndarray,
    p: dict[str, np.ndarray],
    hour: np.ndarray,
    found: dict[str, dict[str, np.ndarray]],
    path: Path,
) -> None:
    """Draw quantiles over the day, false alarms by hour, and faults found by false alarms."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    minute = np.arange(0, 1441, 10.0)
    for heater, colour, label in ((0.5, BLUE, "heater off"), (18.5, ORANGE, "heater on")):
        rest = np.tile([np.median(given[:, 0]), 0.5, 0.5, heater], (len(minute), 1))
        z = np.array([-1.645, 0.0, 1.645])  # the quantiles 5, 50 and 95 %
        low, median, high = (flow.forward(np.full((len(minute), 1), q), inputs(rest, minute))[0][:, 0] for q in z)
        left.fill_between(minute / 60, low, high, color=colour, alpha=0.3, linewidth=0)
        left.plot(minute / 60, median, color=colour, label=label)
    left.set(xlabel="hour", ylabel="power (kW)", title="median, and 5 to 95 %", xticks=range(0, 25, 6), ylim=(0, None))
    left.legend(frameon=False)

    for (name, values), colour in zip(p.items(), (BLUE, ORANGE), strict=True):
        rates = [(values[hour == h] <= 0.01).mean() for h in range(24)]
        middle.plot(range(24), rates, "o-", color=colour, markersize=4, label=name)
    held_out = np.array([len(scores) for scores in alarms["flow"].held_out])
    error = np.sqrt(0.01 * 0.99 * (1 / np.bincount(hour, minlength=24) + 1 / held_out))
    middle.fill_between(range(24), 0.01 - 2 * error, 0.01 + 2 * error, color=GREY, alpha=0.2, linewidth=0)
    middle.set(xlabel="hour", ylabel="false alarms", title="sound minutes, 1 % asked for", ylim=(0, 0.02))
    middle.set_xticks(range(0, 25, 6))
    middle.legend(frameon=False)

    rate = np.geomspace(1e-3, 1, 200)
    for (fault, values), line in zip(found.items(), ("-", "--", ":"), strict=True):
        for name, colour in zip(values, (BLUE, ORANGE), strict=True):
            right.plot(
                rate, np.searchsorted(np.sort(values[name]), rate, "right") / len(values[name]), line, color=colour
            )
        right.plot([], [], line, color=GREY, label=fault)
    right.set(xscale="log", xlabel="false alarms asked for", ylabel="faults found", title="minutes with a fault")
    right.set(ylim=(0, 1.35), yticks=np.linspace(0, 1, 6))
    right.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
