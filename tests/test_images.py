"""What the layers of pixels promise beyond the laws."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from pushforward import MLP, ActNorm, Additive, Coupling, Flow, Split, Squeeze
from pushforward._model.layer import Layer
from pushforward._model.new import new
from pushforward._model.place import Shape
from pushforward._model.state import State


def image_state(shape: Shape, layers: Sequence[Layer], dtype: str = "float64", context: int = 0) -> State:
    """A flow of images before any data, which takes its rows flat."""
    plain, dim = Flow(1, layers=[]), int(np.prod(shape))
    rng = np.random.default_rng(0)
    return new(dim, context, None, dtype, plain.base, plain.support * dim, layers, rng, shape)


def test_squeeze_takes_squares_as_channels() -> None:
    state = image_state((2, 4, 6), [Squeeze()])
    x = np.arange(48.0).reshape(2, 4, 6)
    z = state.inverse(x.reshape(1, -1))[0].reshape(8, 2, 3)
    for channel in range(2):
        for row in range(2):
            for column in range(2):
                assert (z[4 * channel + 2 * row + column] == x[channel, row::2, column::2]).all()


def test_split_leaves_the_second_half_of_the_channels() -> None:
    state = image_state((4, 2, 2), [ActNorm(), Split(), ActNorm(), Split()])
    for i, values in enumerate(state.named_parameters().values()):
        values[...] = i
    z = np.zeros((1, 16))
    x = state.forward(z)[0].reshape(4, 2, 2)
    # Shifts of both layers, of one, and of none.
    assert (x[0] == 1 * np.exp(2) + 3).all()
    assert (x[1] == 3).all()
    assert (x[2:] == 0).all()
    np.testing.assert_array_equal(state.inverse(x.reshape(1, -1))[0], z)


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 4, 4)])
def test_checkerboards_alternate(shape: Shape) -> None:
    state = image_state(shape, [Coupling(Additive(), MLP((4,)), mask="checkerboard")] * 2)
    rows, columns = np.indices(shape[1:])
    even = np.broadcast_to((rows + columns) % 2 == 0, shape)
    kept = [np.array(layer["kept"]).reshape(shape) for layer in state.model["layers"]]
    assert (kept[0] == even).all()
    assert (kept[1] == ~even).all()


def test_channel_masks_alternate() -> None:
    state = image_state((3, 1, 2), [Coupling(Additive(), MLP((4,)), mask="channels")] * 2)
    kept = [layer["kept"] for layer in state.model["layers"]]
    assert kept[0] == [True, True, False, False, False, False]
    assert kept[1] == [False, False, True, True, True, True]


@pytest.mark.parametrize(
    ("shape", "layers", "message"),
    [
        ((1, 3, 4), [Squeeze()], "Squeeze needs an even height and width; its features have the shape (1, 3, 4)"),
        ((1, 4, 4), [Split()], "Split needs an even number of channels; its features have the shape (1, 4, 4)"),
        ((1, 4, 4), [Coupling(mask="channels")], 'mask="channels" needs two channels at least'),
        ((2, 1, 1), [Coupling(mask="checkerboard")], 'mask="checkerboard" needs two pixels at least'),
        ((4, 2, 2), [Coupling(mask=[True] * 15 + [False]), Split()], "a coupling's mask has 16 entries; its features"),
    ],
)
def test_layers_that_do_not_fit_the_shape_are_refused(shape: Shape, layers: list[Layer], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        image_state(shape, layers)


@pytest.mark.parametrize("layer", [Squeeze(), Split(), Coupling(mask="channels"), Coupling(mask="checkerboard")])
def test_layers_of_pixels_need_a_shape(layer: Layer) -> None:
    with pytest.raises(ValueError, match=r"needs a flow with a shape, \(channels, height, width\); this one has dim=4"):
        Flow(4, layers=[layer])
