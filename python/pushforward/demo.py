"""The demo: fit a flow to a household's electricity, compare it with other densities, draw data beside samples."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pushforward._check.diagnostics import gaussian_log_prob
from pushforward._fit.history import NEEDS_MATPLOTLIB
from pushforward._io.output import write_figure
from pushforward._model.supports import Circle, Interval, Positive, Real
from pushforward._typing import Array
from pushforward.flow import Flow

LABELS = (
    "power (kW)",
    "voltage (V)",
    "kitchen (Wh)",
    "laundry (Wh)",
    "heating, cooling (Wh)",
    "time of day (min)",
)
"""The columns, with their units; data/README.md says more."""

# The meters of the rooms start at 0, and no minute took 90 Wh. The day goes round.
SUPPORT = (Positive(), Real(), Interval(0, 90), Interval(0, 90), Interval(0, 90), Circle(0, 1440))
"""What values the columns may take."""

_TIME = 5
_PAIRS = ((_TIME, 0), (0, 1), (_TIME, 4), (4, 0))
_SEED = 0
_GAUSSIANS = (10, 20, 40)


def rows() -> npt.NDArray[np.float32]:
    """Return the demo's table: 5,000 minutes, six columns (UCI; Hebrail, Berard 2012; CC BY 4.0)."""
    table: npt.NDArray[np.float32] = np.load(Path(__file__).parent / "data" / "power.npy")
    return table


def run(output: str) -> None:
    """Fit, print the table of log-likelihoods, and draw to a PNG file.

    Parameters
    ----------
    output : str
        The file to draw to; without Matplotlib, a line says how to install it.
    """
    table = rows()
    dim = table.shape[1]
    order = np.random.default_rng(_SEED).permutation(len(table))
    test, train = np.split(table[order], [len(table) // 5])
    print("One household's electricity, minute by minute (UCI; Hebrail, Berard 2012; CC BY 4.0).")
    print(f"{dim} columns, {len(train)} rows to fit, {len(test)} held out.\n")

    print(f"{'density':<25} {'log-likelihood (nats per row)':>29} {'time':>11}")
    start = time.perf_counter()
    # One thread, because steps this small gain little from more, and wait for them on a machine that is busy.
    flow = Flow(dim, support=SUPPORT, seed=_SEED, num_threads=1).fit(train, seed=_SEED, progress=False)
    _line("flow (neural splines)", flow.log_prob(test), start)
    start = time.perf_counter()
    _line("Gaussian", gaussian_log_prob(train, test), start)
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        print(f"{'Gaussian mixture':<25} {'left out: pip install scikit-learn':>29}")
    else:
        start = time.perf_counter()
        # The number of Gaussians is chosen by a tenth of the rows, as the flow chooses its best epoch.
        some, held = np.split(train, [len(train) - len(train) // 10])
        mixtures = [GaussianMixture(k, reg_covar=1e-4, random_state=_SEED).fit(some) for k in _GAUSSIANS]
        best = max(mixtures, key=lambda mixture: mixture.score(held))
        _line(f"mixture of {best.n_components} Gaussians", best.score_samples(test), start)
    try:
        from scipy.stats import gaussian_kde
    except ImportError:
        print(f"{'kernel density estimate':<25} {'left out: pip install scipy':>29}")
    else:
        start = time.perf_counter()
        _line("kernel density estimate", gaussian_kde(train.T).logpdf(test.T), start)
    print("\nMean over the held-out rows, and its standard error; higher is better.")

    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print(f"No picture: {NEEDS_MATPLOTLIB}")
    else:
        _draw(table, flow.sample(len(table), seed=_SEED), output)
        print(f"Data beside samples of the flow: {output}")


def _line(name: str, log_prob: Array, start: float) -> None:
    seconds = time.perf_counter() - start
    error = log_prob.std(ddof=1) / math.sqrt(len(log_prob))
    print(f"{name:<25} {f'{log_prob.mean():.2f} +- {error:.2f}':>29} {seconds:>9.2f} s", flush=True)


def _draw(data: Array, samples: Array, output: str) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.6), layout="constrained")
    # Two pairs of features in a row, each as data and samples; the narrow column keeps the pairs apart.
    grid = figure.add_gridspec(2, 5, width_ratios=(1, 1, 0.06, 1, 1))
    # Blue from light to dark reads the same with any colour vision; it starts below 1 so that a lone row is seen.
    norm = LogNorm(0.3, 200)
    low, high = data.min(axis=0), data.max(axis=0)
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    for number, (i, j) in enumerate(_PAIRS):
        row, first = divmod(3 * number, 6)
        left = figure.add_subplot(grid[row, first], ylabel=LABELS[j])
        right = figure.add_subplot(grid[row, first + 1], sharex=left, sharey=left)
        right.tick_params(labelleft=False)
        for ax, table, title in ((left, data, "data"), (right, samples, "samples of the flow")):
            cells = ax.hexbin(
                table[:, i], table[:, j], gridsize=(30, 20), extent=(low[i], high[i], low[j], high[j]), mincnt=1,
                linewidths=0.2, norm=norm, cmap="Blues",
            )  # fmt: skip
            ax.set(xlabel=LABELS[i], xlim=(low[i], high[i]), ylim=(low[j], high[j]))
            if row == 0:
                ax.set_title(title, fontsize="medium")
            if i == _TIME:
                ax.set_xticks(range(0, 1441, 480))
    bar = figure.colorbar(cells, ax=figure.axes, label=f"rows in a cell, of {len(data):,}", aspect=40, format="%g")
    bar.ax.set_ylim(1, None)
    write_figure(output, figure, "png")
