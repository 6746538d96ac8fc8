"""Pictures: drawn, and what stands in them compared with what it must be."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pushforward import Circle, Epoch, Flow, History, Interval, Positive, Real, Uniform

matplotlib = pytest.importorskip("matplotlib")
stats = pytest.importorskip("scipy.stats")

from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.colors import same_color, to_rgb  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.path import Path  # noqa: E402
from pushforward import plot  # noqa: E402
from pushforward._check.calibration import calibration, ranks  # noqa: E402
from pushforward._check.distributions import uniform_band  # noqa: E402
from pushforward._figure import BLUE, BLUE_TINTS, VERMILION  # noqa: E402
from pushforward._model.state import state_of  # noqa: E402
from pushforward.plot import _common, _smooth  # noqa: E402
from pushforward.plot._common import Span  # noqa: E402

PNG = b"\x89PNG"


def normal(n: int = 400, dim: int = 2, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim))


def identity(dim: int = 2, **options: Any) -> Flow:
    """A flow that is its base."""
    return Flow(dim, layers=[], dtype="float64", **options)


def draw(figure: Any) -> bytes:
    """Render a figure; what warns there is an error, as everywhere in the tests."""
    image = io.BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def labels(ax: Any) -> tuple[str, str]:
    return ax.get_xlabel(), ax.get_ylabel()


def legend(holder: Any) -> list[str]:
    return [text.get_text() for text in holder.get_texts()]


def data_line(ax: Any, colour: str) -> Any:
    [line] = [line for line in ax.lines if same_color(line.get_color(), colour)]
    return line


# -- corner: what stands where -------------------------------------------------------------------------------------


def test_corner_has_a_lower_triangle_of_panels() -> None:
    x = normal(dim=3)
    figure = plot.corner(identity(3), x, names=["a", "b", "c"], n=2000, seed=0)
    assert draw(figure).startswith(PNG)
    assert [labels(ax) for ax in figure.axes] == [
        ("", ""),
        ("", "b"), ("", ""),
        ("a", "c"), ("b", ""), ("c", ""),
    ]  # fmt: skip
    diagonal, pairs = [figure.axes[i] for i in (0, 2, 5)], [figure.axes[i] for i in (1, 3, 4)]
    for ax, column in zip(diagonal, x.T, strict=True):
        assert not ax.get_yticks().size
        low, high = ax.get_xlim()
        assert low < np.quantile(column, 0.01) < np.quantile(column, 0.99) < high
    for ax, (i, j) in zip(pairs, [(1, 0), (2, 0), (2, 1)], strict=True):
        assert ax.get_xlim() == diagonal[j].get_xlim()
        assert ax.get_ylim() == diagonal[i].get_xlim()
    shown = [
        [any(t.label1.get_visible() for t in axis.get_major_ticks()) for axis in (ax.xaxis, ax.yaxis)]
        for ax in figure.axes
    ]
    assert shown == [[False, False], [False, True], [False, False], [True, True], [True, False], [True, False]]
    assert legend(figure.legends[0]) == ["data, 400 rows", "flow, 2,000 samples"]
    assert figure.legends[0].get_title().get_text() == "regions of 50 and 90 %"


def texts_of(figure: Any) -> list[Any]:
    """The boxes of every text that is drawn."""
    draw(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    found = []
    for ax in figure.axes:
        texts = [ax.title, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis):
            texts += [tick.label1 for tick in axis.get_major_ticks() if tick.label1.get_visible()]
        texts += ax.get_legend().get_texts() if ax.get_legend() else []
        found += [text for text in texts if text.get_visible() and text.get_text()]
    found += [text for part in figure.legends for text in part.get_texts()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in found]


@pytest.mark.parametrize("dim", [1, 2, 5, 9, 14])
def test_no_label_hides_another(dim: int) -> None:
    scales = np.resize([1.0, 1e-4, 250.0, 3e6, 0.01, 10.0], dim)
    shifts = np.resize([0.0, 0.0, -1000.0, 1e9, 1.1e9, 4.0], dim)
    x = scales * normal(dim=dim) + shifts
    figure = plot.corner(identity(dim).initialize(x), x, n=500, seed=0)
    boxes = texts_of(figure)
    width, height = figure.bbox.width, figure.bbox.height
    for i, (text, box) in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= width, text
        assert 0 <= box.y0 < box.y1 <= height, text
        for other, its in boxes[:i]:
            assert not box.overlaps(its), (text, other)


@pytest.mark.parametrize("seed", range(4))
def test_an_offset_of_the_ticks_stands_in_the_label(seed: int) -> None:
    x = normal() * [0.01, 1e-6] + [1.1e9, 0]
    figure = plot.corner(identity().initialize(x), x, names=["time (s)", "length"], n=500, seed=seed)
    assert figure.axes[1].get_xlabel() == "time (s)\n+1.1e9"
    assert labels(figure.axes[2])[0] == figure.axes[1].get_ylabel() == "length\n1e−6"  # noqa: RUF001
    texts = [text.get_text() for text in figure.axes[1].get_xticklabels()]
    assert len(texts) > 1
    ticks = np.array([float(text.replace("−", "-")) for text in texts])  # noqa: RUF001
    np.testing.assert_allclose(figure.axes[1].get_xticks(), ticks + 1.1e9, atol=1e-6)


def test_names_come_from_where_they_are() -> None:
    pandas = pytest.importorskip("pandas")
    flow, x = identity(), normal()
    assert plot.corner(flow, x, n=100).axes[1].get_ylabel() == "x1"
    frame = pandas.DataFrame(x, columns=["u", "v"])
    assert plot.corner(flow, frame, n=100).axes[1].get_ylabel() == "v"
    flow.columns = ("speed", "mass")
    assert plot.corner(flow, x, n=100).axes[1].get_ylabel() == "mass"
    assert plot.corner(flow, x, names=["a", "b"], n=100).axes[1].get_ylabel() == "b"


def test_chosen_features() -> None:
    flow, x = identity(3), normal(dim=3) * [1, 10, 100]
    flow.columns = ("a", "b", "c")
    figure = plot.corner(flow.initialize(x), x, features=["c", 0], n=200, seed=0)
    assert len(figure.axes) == 3
    assert labels(figure.axes[1]) == ("c", "a")
    assert figure.axes[0].get_xlim()[1] > 100 > 10 > figure.axes[2].get_xlim()[1]
    many = identity(30)
    assert len(plot.corner(many, features=range(5), n=100).axes) == 15


def test_one_feature() -> None:
    figure = plot.corner(identity(1), normal(dim=1), n=500, seed=0)
    [ax] = figure.axes
    assert labels(ax) == ("x0", "")
    assert legend(ax.get_legend()) == ["data, 400 rows", "flow, 500 samples"]
    assert draw(figure).startswith(PNG)


def test_corner_into_a_given_figure() -> None:
    whole = Figure(figsize=(9, 4.5), layout="constrained")
    left, right = whole.subfigures(1, 2)
    assert plot.corner(identity(), n=200, figure=left) is whole
    assert plot.calibration(identity(), normal(), figure=right) is whole
    assert len(left.axes) == len(right.axes) == 3
    assert draw(whole).startswith(PNG)
    own = Figure()
    assert plot.corner(identity(), n=200, figure=own) is own


def test_a_seed_repeats_a_picture() -> None:
    one, same, other = (draw(plot.corner(identity(), normal(50), n=200, seed=seed)) for seed in (1, 1, 2))
    assert one == same != other


# -- corner: the densities -----------------------------------------------------------------------------------------


def inside(path: Path, points: np.ndarray) -> np.ndarray:
    return np.logical_xor.reduce([Path(polygon).contains_points(points) for polygon in path.to_polygons()])


@pytest.mark.parametrize("levels", [(0.5, 0.9), (0.39,), (0.2, 0.5, 0.8)])
def test_regions_hold_their_share(levels: tuple[float, ...]) -> None:
    data = normal(20_000)
    figure = plot.corner(identity(), data, n=50_000, levels=levels, seed=0)
    ax = figure.axes[1]
    [areas] = [part for part in ax.collections if getattr(part, "filled", False)]
    [rims] = [part for part in ax.collections if not getattr(part, "filled", True)]
    assert len(rims.get_paths()) == len(levels) == len(areas.get_paths())
    points = normal(20_000, seed=9)
    for path, level in zip(rims.get_paths(), sorted(levels, reverse=True), strict=True):
        assert inside(path, points).mean() == pytest.approx(level, abs=0.02)
        # Smooth: the rim is about as long as the circle that holds as much.
        length = sum(np.linalg.norm(np.diff(polygon, axis=0), axis=1).sum() for polygon in path.to_polygons())
        assert length < 1.1 * 2 * np.pi * stats.chi(2).ppf(level)
    assert same_color(rims.get_edgecolor()[0], VERMILION)
    for colour, tint in zip(areas.get_facecolor(), BLUE_TINTS, strict=False):
        assert same_color(colour, tint)
    outermost = areas.get_paths()[0]
    assert inside(outermost, points).mean() == pytest.approx(
        max(levels) - (sorted(levels)[-2] if len(levels) > 1 else 0), abs=0.02
    )


def test_marginals_are_densities() -> None:
    data = normal(1000)
    figure = plot.corner(identity(), data, bins=20, n=50_000, seed=0)
    ax = figure.axes[0]
    points, values = data_line(ax, VERMILION).get_data()
    np.testing.assert_allclose(values, stats.norm.pdf(points), atol=0.02)
    heights, edges, _ = ax.patches[0].get_data()
    assert len(heights) == 20
    low, high = ax.get_xlim()
    assert (edges[0], edges[-1]) == (low, high)
    within = ((data[:, 0] >= low) & (data[:, 0] <= high)).mean()
    assert (heights * np.diff(edges)).sum() == pytest.approx(within)
    assert ax.get_ylim()[1] > max(heights.max(), values.max())


def test_without_data_the_flow_is_drawn_as_areas_too() -> None:
    figure = plot.corner(identity(), n=5000, seed=0)
    assert legend(figure.legends[0]) == ["flow, 5,000 samples"]
    assert not figure.axes[1].lines
    assert sorted(getattr(part, "filled", None) for part in figure.axes[1].collections) == [False, True]


def test_weights_count_rows() -> None:
    x = normal(300)
    x[150:] += 4
    weights = np.repeat([1.0, 0.0], 150)
    whole, weighted = (
        plot.corner(identity(), x[:150], n=500, seed=0),
        plot.corner(identity(), x, weights=weights, n=500, seed=0),
    )
    assert weighted.axes[0].get_xlim() == whole.axes[0].get_xlim()
    drawn = weighted.axes[1].lines[0].get_xydata()
    assert len(np.unique(drawn, axis=0)) == 150
    assert {tuple(row) for row in drawn} == {tuple(row) for row in x[:150]}
    heights, edges, _ = weighted.axes[0].patches[0].get_data()
    assert heights.sum() > 0
    assert np.average(edges[1:], weights=heights) < 1.0


def test_conditions() -> None:
    flow = Flow(1, layers=[], context=1)
    asked = []
    sample = Flow.sample

    def seen(self: Flow, n: int, context: Any = None, seed: Any = None) -> Any:
        asked.append(context)
        return sample(self, n, context, seed)

    conditions = np.array([[1.0], [2.0], [3.0]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Flow, "sample", seen)
        plot.corner(flow, context=[7.0], n=100)
        plot.corner(flow, context=conditions, n=300)
        plot.corner(flow, normal(3, 1), context=conditions, weights=[0.0, 1.0, 3.0], n=100)
    assert asked[0].tolist() == [7.0]
    assert np.unique(asked[1], return_counts=True)[1].tolist() == [100, 100, 100]
    assert np.unique(asked[2], return_counts=True)[1].tolist() == [25, 75]


# -- limits and supports ---------------------------------------------------------------------------------------------


def test_supports_are_respected() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack(
        [rng.exponential(size=500), rng.uniform(size=500), 350 + rng.uniform(0, 10, size=500), rng.normal(size=500)]
    )
    support = [Positive(), Interval(0, 1), Circle(0, 360), Real()]
    figure = plot.corner(identity(4, support=support).initialize(x), x, n=20_000, seed=0)
    limits = [figure.axes[i].get_xlim() for i in (0, 2, 5, 9)]
    assert limits[0][0] == 0
    assert limits[1:3] == [(0, 1), (0, 360)]
    assert limits[3][0] < -2
    assert draw(figure).startswith(PNG)


def test_a_narrow_angle_is_drawn_over_its_own_range() -> None:
    """Also where it crosses the ends of its circle; one that goes all the way round is drawn whole."""
    rng = np.random.default_rng(0)
    turn = 2 * np.pi
    x = np.column_stack(
        [
            40 + 3 * rng.normal(size=4000),
            0.1 * rng.normal(size=4000) % turn,
            (180 + 5 * rng.normal(size=4000) + 180) % 360 - 180,
        ]
    )
    x = np.column_stack([x, rng.uniform(0, 360, 4000)])
    support = [Circle(0, 360), Circle(0, turn), Circle(-180, 180), Circle(0, 360)]
    flow = Resampled(x, support)
    figure = plot.corner(flow, x, n=4000, seed=0)
    panels = [figure.axes[i] for i in (0, 2, 5, 9)]
    for ax, center, deviation in zip(panels, (40, 0, 180), (3, 0.1, 5), strict=False):
        low, high = ax.get_xlim()
        assert center - 5 * deviation < low < center - 2.5 * deviation
        assert center + 2.5 * deviation < high < center + 5 * deviation
        curve = data_line(ax, VERMILION)
        area = np.trapezoid(curve.get_ydata(), curve.get_xdata())
        assert 0.98 < area < 1.01  # nothing was lost at the ends of the circle
    assert panels[3].get_xlim() == (0, 360)
    # The dots, and the contours, are where the panels are.
    pair = figure.axes[4]
    dots = data_line(pair, BLUE)
    (low, high), (bottom, top) = pair.get_xlim(), pair.get_ylim()
    assert ((dots.get_xdata() > low) & (dots.get_xdata() < high)).mean() > 0.98
    assert ((dots.get_ydata() > bottom) & (dots.get_ydata() < top)).mean() > 0.98
    assert draw(figure).startswith(PNG)


def test_the_density_of_a_narrow_angle_is_that_of_the_flow() -> None:
    x = (0.05 * np.random.default_rng(0).normal(size=(2000, 1))) % 1
    flow = Resampled(x, [Circle(0, 1)])
    figure = plot.density(flow, x, n=2000, seed=0)
    low, high = figure.axes[0].get_xlim()
    assert -0.3 < low < -0.12 < 0.12 < high < 0.3
    curve = data_line(figure.axes[0], VERMILION)
    rows = np.asarray(curve.get_xdata())[:, None] % 1
    np.testing.assert_array_equal(curve.get_ydata(), np.exp(flow.log_prob(rows)))


class Resampled(Flow):
    """A flow whose samples are rows of a table."""

    def __init__(self, x: np.ndarray, support: list[Any]) -> None:
        super().__init__(x.shape[1], layers=[], dtype="float64", support=support)
        self.table = x

    def sample(self, n: int, context: Any = None, seed: Any = None) -> Any:
        return self.table[np.random.default_rng(seed).integers(len(self.table), size=n)]


def test_ranges_are_by_name_or_in_order() -> None:
    flow = identity()
    by_name = plot.corner(flow, range={"x1": (0, 1)}, n=500, seed=0)
    assert by_name.axes[2].get_xlim() == (0, 1)
    assert by_name.axes[0].get_xlim()[0] < -2
    in_order = plot.corner(flow, range=[(-1, 2.5), None], n=500, seed=0)
    assert in_order.axes[0].get_xlim() == (-1, 2.5)
    positive = plot.corner(identity(support=Positive()), range={"x0": (-1, 3)}, n=500)
    assert positive.axes[0].get_xlim() == (0, 3)


@pytest.mark.parametrize("span", [(1e6, 1e6 + 1), (0.0, 1e-7)])
def test_a_range_with_nothing_in_it(span: tuple[float, float]) -> None:
    assert draw(plot.corner(identity(), normal(), range=[span, None], n=500)).startswith(PNG)


def test_rows_that_are_all_the_same() -> None:
    assert draw(plot.corner(identity(), np.zeros((10, 2)), n=500)).startswith(PNG)
    assert draw(plot.corner(identity(), [[1.0, 2.0]], n=500)).startswith(PNG)


# -- the smoothing -----------------------------------------------------------------------------------------------------


def test_smooth_densities_follow_the_truth() -> None:
    x = normal(400_000)
    whole = Span(-5.0, 5.0, (False, False), False)
    part = Span(0.0, 1.0, (False, False), False)
    kernels = [_smooth.bandwidth(whole, column, None, 2) for column in x.T]
    got = _smooth.density(list(x.T), [whole, part], kernels, 60, None)
    expected = stats.norm.pdf(whole.centers(60))[:, None] * stats.norm.pdf(part.centers(60))
    assert np.abs(got - expected).max() < 0.08 * expected.max()
    weights = np.random.default_rng(0).uniform(size=len(x))
    weighted = _smooth.density(list(x.T), [whole, part], kernels, 60, weights)
    assert np.abs(weighted - expected).max() < 0.09 * expected.max()


@pytest.mark.parametrize("low", [True, False])
@pytest.mark.parametrize("high", [True, False])
def test_an_edge_leaves_the_density_as_it_is(low: bool, high: bool) -> None:
    """A flat density stays flat at a bound, where rows end, and at the edge of a view, where they go on."""
    x = np.random.default_rng(0).uniform(0.0 if low else -1.0, 1.0 if high else 2.0, size=200_000)
    span = Span(0.0, 1.0, (low, high), False)
    got = _smooth.density([x], [span], [0.05], 100, None)
    flat = 1 / ((1.0 if high else 2.0) - (0.0 if low else -1.0))
    np.testing.assert_allclose(got, flat, rtol=0.05)


def test_a_circle_has_no_seam() -> None:
    turn = np.random.default_rng(0).normal(0.0, 0.05, size=100_000)
    circle = Span(0.0, 1.0, (True, True), True)
    seam, middle = (turn % 1, (turn + 0.5) % 1)
    kernels = [_smooth.bandwidth(circle, column, None, 1) for column in (seam, middle)]
    assert kernels[0] == pytest.approx(kernels[1])
    assert kernels[0] < 0.01
    at_seam, at_middle = (_smooth.density([column], [circle], kernels[:1], 100, None) for column in (seam, middle))
    np.testing.assert_allclose(np.roll(at_seam, 50), at_middle, atol=1e-9)
    assert at_seam[0] == pytest.approx(stats.norm(0, 0.05).pdf(0.005), rel=0.05)


def test_thresholds() -> None:
    density = np.array([4.0, 1.0, 3.0, 2.0])
    assert _smooth.thresholds(density, (0.9, 0.5, 0.3)) == [2.0, 3.0, 4.0]
    assert _smooth.thresholds(density, (0.39, 0.2)) == [4.0]
    assert _smooth.thresholds(np.zeros(3), (0.5,)) == []


def test_spread() -> None:
    assert _common.spread(4, None, 4).tolist() == [0, 1, 2, 3]
    assert _common.spread(10, None, 3).tolist() == [1, 4, 8]
    assert _common.spread(3, np.array([2.0, 0.0, 1.0]), 6).tolist() == [0, 0, 0, 0, 2, 2]


# -- density -------------------------------------------------------------------------------------------------------


def test_density_of_one_feature() -> None:
    flow = identity(1)
    figure = plot.density(flow, normal(dim=1), n=20_000, seed=0)
    [ax] = figure.axes
    assert labels(ax) == ("x0", "density")
    assert legend(ax.get_legend()) == ["density of the flow", "region of 90 %", "region of 50 %", "data, 400 rows"]
    at, values = data_line(ax, VERMILION).get_data()
    np.testing.assert_allclose(values, stats.norm.pdf(at))
    for area, share in zip(ax.collections, (0.9, 0.5), strict=True):
        ends = area.get_paths()[0].vertices[:, 0]
        assert stats.norm.cdf(ends.max()) - stats.norm.cdf(ends.min()) == pytest.approx(share, abs=0.02)
    assert draw(figure).startswith(PNG)


def test_density_of_two_features() -> None:
    flow = identity(support=[Real(), Interval(0, 1)])
    x = flow.sample(100, seed=1)
    figure = plot.density(flow, x, names=["a", "b"], points=40, n=20_000, seed=0)
    ax, bar = figure.axes
    assert labels(ax) == ("a", "b")
    assert bar.get_ylabel() == "density"
    assert ax.get_ylim() == (0, 1)
    [shades] = [part for part in ax.collections if part.get_array() is not None and part.get_array().size == 1600]
    left, right = ax.get_xlim()
    centers = left + (np.arange(40) + 0.5) * (right - left) / 40
    np.testing.assert_allclose(np.asarray(shades.get_array()).reshape(40, 40)[17], stats.norm.pdf(centers), rtol=1e-6)
    [rims] = [part for part in ax.collections if hasattr(part, "levels")]
    np.testing.assert_allclose(rims.levels, stats.norm.pdf(stats.norm.ppf([0.95, 0.75])), rtol=0.05)
    assert len(ax.lines[0].get_xydata()) == 100
    assert legend(ax.get_legend()) == ["regions of 50 and 90 %", "data, 100 rows"]
    assert draw(figure).startswith(PNG)


@pytest.mark.parametrize("dim", [1, 2])
def test_a_flat_density_has_no_rims(dim: int) -> None:
    flow = identity(dim, base=Uniform(), support=Interval(0, 1))
    assert draw(plot.density(flow, flow.sample(50), n=200)).startswith(PNG)
    assert draw(plot.corner(flow, flow.sample(50), n=200)).startswith(PNG)


def test_a_density_far_from_its_mass() -> None:
    assert draw(plot.density(identity(), range=[(50, 51), None], n=200)).startswith(PNG)
    assert draw(plot.density(identity(1), range=[(50, 51)], n=200)).startswith(PNG)


def test_density_of_a_condition_and_into_given_axes() -> None:
    flow = Flow(1, context=2, seed=0)
    flow.parameters += 0.01
    ax = Figure().subplots()
    assert plot.density(flow, context=[0.5, -1.0], n=200, ax=ax) is ax.figure
    at, values = data_line(ax, VERMILION).get_data()
    np.testing.assert_allclose(values, np.exp(flow.log_prob(at[:, None], [0.5, -1.0])))


# -- calibration ---------------------------------------------------------------------------------------------------


def bars(ax: Any) -> np.ndarray:
    [steps] = [patch for patch in ax.patches if hasattr(patch, "get_data")]
    return steps.get_data().values


def test_calibration_counts_rows_by_the_base() -> None:
    x = normal(1000)
    figure = plot.calibration(identity(), x, bins=10)
    assert [ax.get_title() for ax in figure.axes] == [
        f"{name}: KS {test.statistic:.3f}, p = {test.pvalue:.2g}"
        for name, test in (
            ("z0", stats.kstest(x[:, 0], "norm")),
            ("z1", stats.kstest(x[:, 1], "norm")),
            ("radius", stats.kstest((x**2).sum(axis=1), "chi2", (2,))),
        )
    ]
    counts, _ = np.histogram(stats.norm.cdf(x[:, 1]), 10, (0, 1))
    np.testing.assert_allclose(bars(figure.axes[1]), counts / 100)
    counts, _ = np.histogram(stats.chi2(2).cdf((x**2).sum(axis=1)), 10, (0, 1))
    np.testing.assert_allclose(bars(figure.axes[2]), counts / 100)
    assert figure.get_supxlabel() == "distribution function of the base"
    assert draw(figure).startswith(PNG)


def band(ax: Any) -> tuple[float, float]:
    [grey] = [patch for patch in ax.patches if same_color(patch.get_facecolor(), "#dddddd")]
    heights = grey.get_path().transformed(grey.get_patch_transform()).vertices[:, 1]  # a Polygon before Matplotlib 3.9
    return heights.min(), heights.max()


def test_the_band_holds_what_has_no_fault() -> None:
    figure = plot.calibration(identity(), normal(1000), bins=10, level=0.9)
    low, high = band(figure.axes[0])
    assert (low * 100, high * 100) == pytest.approx(tuple(stats.binom.ppf([0.005, 0.995], 1000, 0.1)))
    within = []
    for seed in range(200):
        counts = np.histogram(normal(1000, 1, seed), stats.norm.ppf(np.linspace(0, 1, 11)))[0]
        within.append((counts >= low * 100 - 1e-9).all() and (counts <= high * 100 + 1e-9).all())
    assert np.mean(within) >= 0.85


def test_bars_beyond_the_band_are_vermilion() -> None:
    narrow = plot.calibration(identity(1), 0.5 * normal(1000, 1), bins=10)
    ax = narrow.axes[0]
    heights = bars(ax)
    low, high = band(ax)
    marked = [patch for patch in ax.patches if same_color(patch.get_facecolor(), VERMILION)]
    assert len(marked) == ((heights < low) | (heights > high)).sum() > 3
    for patch in marked:
        height = heights[round(patch.get_x() * 10)]
        assert patch.get_y() == pytest.approx(low if height < low else high)
        assert patch.get_y() + patch.get_height() == pytest.approx(height)
    assert ax.get_title().endswith("p < 0.001")


def test_calibration_with_weights_and_conditions() -> None:
    x, c = normal(300, 1), normal(300, 2)
    repeats = np.random.default_rng(1).integers(0, 3, size=300)
    flow = Flow(1, context=2, seed=0)
    one = plot.calibration(flow, x, context=c, weights=repeats, bins=7)
    other = plot.calibration(flow, np.repeat(x, repeats, axis=0), context=np.repeat(c, repeats, axis=0), bins=7)
    for mine, theirs in zip(one.axes, other.axes, strict=True):
        np.testing.assert_allclose(bars(mine), bars(theirs))


def test_calibration_of_many_features_draws_the_worst() -> None:
    x = normal(200, 40)
    x[:, 33] *= 3
    figure = plot.calibration(identity(40), x)
    names = [ax.get_title().split(":")[0] for ax in figure.axes]
    assert len(names) == 24
    assert "z33" in names
    assert names[-1] == "radius"
    numbers = [int(name[1:]) for name in names[:-1]]
    assert numbers == sorted(numbers)
    assert draw(figure).startswith(PNG)


def test_no_label_of_a_calibration_hides_another() -> None:
    boxes = texts_of(plot.calibration(identity(7), normal(500, 7)))
    for i, (text, box) in enumerate(boxes):
        for other, its in boxes[:i]:
            assert not box.overlaps(its), (text, other)


# -- coverage ------------------------------------------------------------------------------------------------------


def covered(flow: Flow, x: np.ndarray, c: Any, **options: Any) -> Any:
    return plot.coverage(flow, x, context=c, seed=0, **options)


def test_coverage_draws_ranks_and_curves() -> None:
    x, c = normal(600), normal(600, 1)
    flow = identity(context=1)
    flow.columns = ("mass", "spin")
    figure = covered(flow, x, c, bins=8)
    *panels, curves = figure.axes
    ours = ranks(state_of(flow), x, c, None, np.random.default_rng(0))
    result = calibration(flow.columns, ours)
    assert len(panels) == 2
    for ax, u, marginal in zip(panels, ours.features.T, result.marginals, strict=True):
        np.testing.assert_allclose(bars(ax), np.histogram(u, 8, (0, 1))[0] * 8 / 600)
        assert ax.get_title() == f"{marginal.feature}\np = {marginal.p_value:.2g}"
        assert band(ax) == pytest.approx(tuple(stats.binom.ppf([0.005 / 8, 1 - 0.005 / 8], 600, 1 / 8) * 8 / 600))
    diagonal, *lines = curves.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    for line, name in zip(lines, ("density", "random_points"), strict=True):
        at, held = line.get_xydata()[1:-1].T
        np.testing.assert_allclose(at, np.sort(getattr(ours, name)))
        np.testing.assert_allclose(held, np.arange(1, 601) / 600)
    assert legend(curves.get_legend()) == [
        f"highest density: p = {result.highest_density.p_value:.2g}",
        f"balls around similar rows: p = {result.random_points.p_value:.2g}",
    ]
    [area] = curves.collections
    corners = area.get_paths()[0].vertices
    assert np.abs(corners[:, 1] - corners[:, 0]).max() == pytest.approx(uniform_band(600, 0.99))
    assert labels(curves) == ("level of the regions", "share of the rows in them")
    assert draw(figure).startswith(PNG)


def test_coverage_of_a_flow_that_is_too_sure() -> None:
    figure = covered(identity(context=1), 1.6 * normal(600), normal(600, 1), level=0.9)
    ax, _, curves = figure.axes
    assert ax.get_title() == "x0\ntoo narrow, p < 0.001"
    assert any(same_color(patch.get_facecolor(), VERMILION) for patch in ax.patches)
    at, held = curves.lines[1].get_xydata().T
    reach = uniform_band(600, 0.9)
    assert (at - held).max() > 2 * reach
    assert (held - at).max() < reach


def test_coverage_with_weights() -> None:
    x, c = normal(300, 1), normal(300, 1)
    weights = np.where(x[:, 0] > 0, 3.0, 1.0)
    *_, curves = covered(identity(1, context=1), x, c, weights=weights).axes
    ours = ranks(state_of(identity(1, context=1)), x, c, weights, np.random.default_rng(0))
    at, held = curves.lines[1].get_xydata()[1:-1].T
    np.testing.assert_allclose(held, [ours.weights[ours.density <= level].sum() / weights.sum() for level in at])


def test_coverage_of_many_features_draws_the_worst() -> None:
    x = normal(200, 30)
    x[:, 27] *= 3
    figure = covered(identity(30, context=1), x, normal(200, 1))
    names = [ax.get_title().split("\n")[0] for ax in figure.axes[:-1]]
    assert len(names) == 24
    assert "x27" in names
    assert names == sorted(names, key=lambda name: int(name[1:]))


@pytest.mark.parametrize("dim", [1, 10])
def test_no_label_of_coverage_hides_another(dim: int) -> None:
    flow = identity(dim, context=1)
    flow.columns = [f"a column with a long name, number {i}" for i in range(dim)]
    boxes = texts_of(covered(flow, 2 * normal(200, dim) + 0.5, normal(200, 1)))
    assert len({text for text, _ in boxes if "a column" in text}) == dim
    for i, (text, box) in enumerate(boxes):
        for other, its in boxes[:i]:
            assert not box.overlaps(its), (text, other)


def test_coverage_of_one_row_and_into_a_given_figure() -> None:
    assert draw(covered(identity(context=1), normal(1), normal(1, 1))).startswith(PNG)
    whole = Figure(figsize=(12, 4), layout="constrained")
    _, right = whole.subfigures(1, 2)
    assert covered(identity(context=1), normal(), normal(400, 1), figure=right) is whole
    assert len(whole.axes) == 3
    assert draw(whole).startswith(PNG)


def test_a_seed_repeats_coverage() -> None:
    x, c = normal(100), normal(100, 1)
    one, same, other = (draw(plot.coverage(identity(context=1), x, context=c, seed=seed)) for seed in (1, 1, 2))
    assert one == same != other


def test_coverage_without_context() -> None:
    assert len(covered(identity(), normal(), None).axes) == 3


# -- history -------------------------------------------------------------------------------------------------------


def history(validation: list[float], best: int) -> History:
    epochs = [Epoch(i, i, float(i), 10.0 / i, loss, 1e-3, 1.0) for i, loss in enumerate(validation, 1)]
    return History(epochs, best_epoch=best, stopped="epochs")


def curves(ax: Any) -> dict[str, list[list[float]]]:
    return {line.get_label(): line.get_xydata().tolist() for line in ax.lines}


def test_history_draws_both_curves_and_marks_the_best() -> None:
    flow = Flow(1, layers=[])
    flow.history = history([3.0, 2.0, 2.5], 2)
    ax = Figure().subplots()
    for figure in (plot.history(flow, ax=ax), plot.history(flow.history), flow.history.plot()):
        drawn = curves(figure.axes[0])
        assert drawn["validation"] == [[1, 3], [2, 2], [3, 2.5]]
        assert drawn["training"] == [[1, 10], [2, 5], [3, 10 / 3]]
        assert drawn["best: 2.0000 at epoch 2"] == [[2, 2]]
        assert figure.axes[0].get_xlabel() == "epoch"
        assert "nats" in figure.axes[0].get_ylabel()
        assert draw(figure).startswith(PNG)
    assert flow.history.plot(ax) is ax.figure


@pytest.mark.parametrize("best", [0, 2])
def test_history_without_validation(best: int) -> None:
    figure = plot.history(history([np.nan, np.nan], best))
    assert list(curves(figure.axes[0])) == ["training"]


def test_an_empty_history() -> None:
    assert draw(plot.history(History())).startswith(PNG)
    assert draw(plot.history(history([np.inf, 1.0, 1.0], 2))).startswith(PNG)


# -- all of them -----------------------------------------------------------------------------------------------------

BAD: list[tuple[Callable[..., object], dict[str, Any], type[Exception], str]] = [
    (plot.corner, {"flow": 3}, TypeError, "flow must be a Flow or an Ensemble, not int"),
    (plot.corner, {"data": normal(dim=3)}, ValueError, "data has shape (400, 3); this flow has dim=2"),
    (plot.corner, {"data": np.zeros((0, 2))}, ValueError, "data has no rows"),
    (plot.corner, {"data": [[np.nan, 1.0]]}, ValueError, "data has 1 row with NaN or infinity, first at row 0"),
    (plot.corner, {"data": [[-1.0, 1.0]]}, ValueError, "data has 1 row outside their support, first at row 0"),
    (plot.corner, {"data": np.ones((2, 2)), "weights": [1, -1]}, ValueError, "weights must not be negative"),
    (plot.corner, {"weights": [1.0]}, ValueError, "weights and bins are of data; give data too"),
    (plot.corner, {"context": [1.0]}, ValueError, "context was given, but this flow has context=0"),
    (plot.corner, {"levels": (0.5, 1.0)}, ValueError, "levels[1] must be in (0, 1), not 1.0"),
    (plot.corner, {"levels": 0.5}, TypeError, "levels must be a sequence of shares such as (0.5, 0.9), not 0.5"),
    (plot.corner, {"levels": (0.1, 0.2, 0.3, 0.4)}, ValueError, "levels must hold 1 to 3 different shares, not 4"),
    (plot.corner, {"n": 10}, ValueError, "n must be at least 100, not 10"),
    (plot.corner, {"bins": 0, "data": np.ones((2, 2))}, ValueError, "bins must be at least 1, not 0"),
    (plot.corner, {"names": ["a"]}, ValueError, "names must be 2 strings, one per feature, not ['a']"),
    (plot.corner, {"names": "ab"}, ValueError, "names must be 2 strings"),
    (plot.corner, {"features": ["x2"]}, ValueError, "feature is 'x2'; the features are 'x0', 'x1'"),
    (plot.corner, {"features": [2]}, ValueError, "there is no feature 2; this flow has dim=2"),
    (plot.corner, {"features": [0, "x0"]}, ValueError, "features must hold 1 to 20 different features, not [0, 'x0']"),
    (plot.corner, {"features": []}, ValueError, "features must hold 1 to 20 different features, not []"),
    (plot.corner, {"features": "x0"}, TypeError, "features must be a sequence of names or numbers, not 'x0'"),
    (plot.corner, {"flow": Flow(21, layers=[])}, ValueError, "this flow has dim=21; choose at most 20 features"),
    (plot.corner, {"range": {"y": (0, 1)}}, ValueError, "range has a feature is 'y'; the features are 'x0', 'x1'"),
    (plot.corner, {"range": [(0, 1)]}, ValueError, "range has 1 entries; this flow has dim=2"),
    (plot.corner, {"range": [(1, 0), None]}, ValueError, "range of 'x0' must be (low, high) with low < high, not"),
    (plot.corner, {"range": [(1, 2, 3), None]}, ValueError, "range of 'x0' must be (low, high), not (1, 2, 3)"),
    (plot.corner, {"range": [(-2, -1), None]}, ValueError, "range of 'x0' is (-2, -1), which holds nothing of its"),
    (plot.corner, {"range": 3}, TypeError, "range must be a mapping of names to (low, high), or a sequence"),
    (plot.density, {"flow": Flow(3, layers=[])}, ValueError, "density draws one or two features, and this flow has"),
    (plot.density, {"points": 2}, ValueError, "points must be at least 10, not 2"),
    (plot.density, {"flow": Flow(1, context=1)}, ValueError, "this flow has context=1: pass context= of shape"),
    (plot.density, {"flow": Flow(1, context=1), "context": [[1.0]]}, ValueError, "context has shape (1, 1); a"),
    (plot.density, {"flow": Flow(1, context=2), "context": [1.0, np.inf]}, ValueError, "context holds NaN or infinity"),
    (plot.density, {"flow": Flow(1, context=2), "context": [1.0]}, ValueError, "context has shape (1,); with"),
    (plot.density, {"data": [[-1.0, 1.0]]}, ValueError, "data has 1 row outside their support"),
    (plot.calibration, {"data": np.ones((5, 3))}, ValueError, "data has shape (5, 3); this flow has dim=2"),
    (plot.calibration, {"data": np.ones((5, 2)), "bins": 1}, ValueError, "bins must be at least 2, not 1"),
    (plot.calibration, {"data": np.ones((5, 2)), "level": 1.0}, ValueError, "level must be in (0, 1), not 1.0"),
    (plot.calibration, {"data": [[np.inf, 1.0]]}, ValueError, "data has 1 row with NaN or infinity"),
    (plot.coverage, {"data": np.ones((5, 2)), "bins": 1}, ValueError, "bins must be at least 2, not 1"),
    (plot.coverage, {"data": np.ones((5, 2)), "level": 0.0}, ValueError, "level must be in (0, 1), not 0.0"),
    (plot.coverage, {"data": [[np.nan, 1.0]]}, ValueError, "data has 1 row with NaN or infinity"),
    (plot.coverage, {"flow": Flow(1, context=2), "data": [[1.0]]}, ValueError, "this flow has context=2: pass"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "options", "error", "message"), BAD, ids=range(len(BAD)))
def test_wrong_input(
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[..., object],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    for name in ("sample", "log_prob", "inverse"):
        monkeypatch.setattr(Flow, name, None)  # no work is done before
    flow = options.pop("flow", None) or identity(support=Positive())
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        function(flow, **options)


@pytest.mark.parametrize("context", [[np.nan], np.zeros((0, 1)), [[1.0], [np.inf]]])
def test_wrong_conditions(context: Any) -> None:
    with pytest.raises(ValueError, match="context holds NaN or infinity, or no row"):
        plot.corner(Flow(1, context=1), context=context)


def test_wrong_history() -> None:
    with pytest.raises(ValueError, match="this flow has no history: fit it first"):
        plot.history(identity())
    with pytest.raises(TypeError, match="fit must be a Flow or a History, not list"):
        plot.history([])


def test_pyplot_is_left_alone() -> None:
    program = """
import sys, numpy as np
from pushforward import Flow, plot
flow = Flow(2, layers=[])
x = np.random.default_rng(0).normal(size=(100, 2))
figures = [plot.corner(flow, x), plot.density(flow), plot.calibration(flow, x)]
assert "matplotlib.pyplot" not in sys.modules
assert all(figure._repr_png_().startswith(b"\\x89PNG") for figure in figures)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_without_matplotlib() -> None:
    program = """
import sys
sys.modules["matplotlib"] = None
from pushforward import History
try:
    History().plot()
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert run.stdout == 'drawing needs matplotlib: pip install "pushforward[plot]"\n'


def test_colours_differ_in_lightness_too() -> None:
    """They are told apart in grey: by the luminance of sRGB."""
    light = [np.dot(to_rgb(colour), [0.2126, 0.7152, 0.0722]) for colour in (*BLUE_TINTS, BLUE)]
    assert (np.diff(light) < -0.1).all()
