"""Sheets of images."""

from __future__ import annotations

import numpy as np
import pytest
from pushforward import Ensemble, Flow, Pixel, glow

pytest.importorskip("matplotlib")
from pushforward import plot
from pushforward.plot._images import _levels, _sheet

SHAPE = (1, 8, 8)
LAYERS = glow(SHAPE, levels=3, depth=1, hidden=4)


def titles(figure: object) -> list[str]:
    return [ax.get_title() for ax in figure.axes]


def sheets(figure: object) -> list[np.ndarray]:
    return [ax.images[0].get_array() for ax in figure.axes]


def test_samples_stand_side_by_side() -> None:
    flow = Flow(shape=SHAPE, layers=LAYERS, support=Pixel(17), seed=0)
    figure = plot.images(flow, 7, seed=3)
    assert titles(figure) == ["samples"]
    (sheet,) = sheets(figure)
    assert sheet.shape == (3 * 9 - 1, 3 * 9 - 1)
    key = int(np.random.default_rng(3).integers(1 << 63))
    x = flow.sample(7, seed=key) / 16
    assert (sheet[:8, :8] == x[0, 0]).all()
    assert (sheet[9:17, 18:] == x[5, 0]).all()
    assert (sheet[18:, 9:] == 0.5).all()
    cold, warm = sheets(plot.images(flow, 4, temperatures=(0.5, 1.0)))
    assert cold.std() < warm.std()


def test_levels_are_drawn_anew_from_the_finest_on() -> None:
    flow = Flow(shape=SHAPE, layers=LAYERS, support=Pixel(17), seed=0)
    # 64 pixels: a half leaves at each of two splits.
    assert _levels(flow) == [0, 16, 32]
    x = np.random.default_rng(0).integers(0, 17, (9, *SHAPE))
    figure = plot.images(flow, 9, data=x)
    assert titles(figure) == ["data", "through latent space", "finest level drawn", "2 finest levels drawn"]
    data, back, one, two = sheets(figure)
    assert (data == _sheet(x / 16)[..., 0]).all()
    assert (back == data).all()
    changed = [(sheet != data).mean() for sheet in (one, two)]
    assert 0.2 < changed[0] < changed[1]


def test_conditions_are_those_of_the_images_drawn() -> None:
    flow = Flow(shape=SHAPE, layers=LAYERS, context=1, seed=0)
    rng = np.random.default_rng(0)
    flow.parameters[...] = rng.normal(0, 0.1, flow.parameters.size)
    x, conditions = rng.normal(size=(9, *SHAPE)), rng.normal(size=(9, 1))
    for found, expected in zip(
        sheets(plot.images(flow, 4, data=x, context=conditions)),
        sheets(plot.images(flow, 4, data=x[:4], context=conditions[:4])),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_colours_and_real_fields() -> None:
    rgb = Flow(shape=(3, 4, 4), layers=[], support=Pixel(4))
    assert sheets(plot.images(rgb, 4))[0].shape == (9, 9, 3)
    field = Flow(shape=(1, 4, 4), layers=[])
    sheet = sheets(plot.images(field, 4))[0]
    assert sheet.min() == 0
    assert sheet.max() == 1


def test_errors() -> None:
    flow = Flow(shape=SHAPE, layers=[])
    for call, error, words in (
        (lambda: plot.images(Flow(4)), ValueError, "1 or 3 channels; this one has no shape"),
        (lambda: plot.images(Flow(shape=(2, 4, 4), layers=[])), ValueError, r"this one has \(2, 4, 4\)"),
        (lambda: plot.images("flow"), TypeError, "must be a Flow"),
        (lambda: plot.images(flow, 0), ValueError, "n must be at least 1"),
        (lambda: plot.images(flow, temperatures=()), TypeError, "temperatures must be"),
        (lambda: plot.images(flow, data=np.zeros((3, 64))), ValueError, "x has shape"),
        (lambda: plot.corner(flow), ValueError, "use plot.images"),
        (lambda: plot.corner(Ensemble([flow])), ValueError, "use plot.images"),
    ):
        with pytest.raises(error, match=words):
            call()
