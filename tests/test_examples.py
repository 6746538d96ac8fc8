"""The example scripts, with little training: what they print, and their pictures. Data lie beside the repository."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from programs import run

pyplot = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("scipy")

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"


def data(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"no {path}: the example's data are not part of the repository")
    return path


def output(script: str, picture: Path, *arguments: object) -> str:
    """Run an example and return what it prints; its picture must be drawn."""
    program = ROOT / "examples" / script
    printed = run(sys.executable, "-W", "error", program, *arguments, "--output", picture, MPLBACKEND="agg")
    image = pyplot.imread(picture)
    assert image.shape[1] > 1000
    # Nothing but the axes would be mostly white.
    assert 0.1 < (image[..., :3].min(axis=2) < 0.95).mean() < 0.8
    return printed


def test_first_fit(tmp_path: Path) -> None:
    run(sys.executable, "-W", "error", ROOT / "examples" / "first_fit.py", tmp_path / "fit.png", MPLBACKEND="agg")
    assert pyplot.imread(tmp_path / "fit.png").shape[1] > 1000


def test_black_hole_spins(tmp_path: Path) -> None:
    file = data("gw_o2/gw_o2_posteriors.npz")
    printed = output("black_hole_spins.py", tmp_path / "spins.png", file, "--epochs", 20, "--prior-rows", 50_000)
    population = re.findall(r"mean +([-.\d]+) \+- ([.\d]+), .*; width ([.\d]+),", printed)
    (mean, error, width), by_samples = ([float(number) for number in row] for row in population)
    # Published analyses of such events find a mean of about 0.06 and a width of at most 0.2.
    assert 0 < mean < 0.15
    assert 0.02 < error < 0.1
    assert width < 0.2
    # Two ways to the same integrals.
    assert abs(mean - by_samples[0]) < 0.3 * error
    assert 0.7 < width / by_samples[2] < 1.4
    events = re.findall(r"^(GW\d+) +([-.\d]+) \+- ([.\d]+) +([-.\d]+) \+- ([.\d]+)$", printed, re.MULTILINE)
    assert len(events) == 7
    for _, *numbers in events:
        alone, spread, together, new_spread = map(float, numbers)
        assert new_spread < spread
        assert abs(together - mean) <= abs(alone - mean) + 0.02  # pulled towards the population


def test_household_power(tmp_path: Path) -> None:
    folder = data("power")
    printed = output("household_power.py", tmp_path / "power.png", folder, "--rows", 60_000, "--epochs", 5)
    for rate, *shares in re.findall(r"^asked for ([.\d]+) +flow ([.\d]+) +regression ([.\d]+)$", printed, re.MULTILINE):
        for share in shares:
            expected = float(rate)
            assert abs(float(share) - expected) < 5 * (expected / 30_000) ** 0.5
    found = re.findall(r"^(.+?) +flow +([.\d]+)% +regression +([.\d]+)%$", printed, re.MULTILINE)
    shares = {name: (float(flow), float(regression)) for name, flow, regression in found}
    assert len(shares) == 3
    assert shares["total misses the heater"][0] > 60 > shares["total misses the heater"][1]
    assert shares["total reads 20 % low"][0] > 15 > shares["total reads 20 % low"][1]


def test_images(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    picture = tmp_path / "images.png"
    program = ROOT / "examples" / "images.py"
    printed = run(sys.executable, "-W", "error", program, "--minutes", 0.1, "--output", picture, MPLBACKEND="agg")
    flow, gaussian = (float(number) for number in re.findall(r"([.\d]+) (?:bits|by)", printed))
    assert flow < 4.08  # bits of a uniform density over 17 levels
    assert 2 < gaussian < 4.08
    assert pyplot.imread(picture).shape[1] > 1000


def test_lattice(tmp_path: Path) -> None:
    arguments = ("--minutes", 0.1, "--proposals", 5000, "--trajectories", 150, "--output", tmp_path / "lattice.png")
    program = ROOT / "examples" / "lattice.py"
    printed = run(sys.executable, "-W", "error", program, *arguments, MPLBACKEND="agg")
    assert pyplot.imread(tmp_path / "lattice.png").shape[1] > 1000
    walkers = [float(number) for number in re.findall(r"flow, ([-.\d]+) \+- [.\d]+ by walkers", printed)]
    # A run of 200,000 fields, whose errors are 1e-4.
    for got, long in zip(walkers, (0.1614, 0.0584, 0.0273, 0.0203), strict=True):
        assert abs(got - long) < 0.004
