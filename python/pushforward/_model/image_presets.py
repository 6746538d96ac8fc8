"""Ready-made lists of layers for flows with a shape."""

from __future__ import annotations

from collections.abc import Sequence

from pushforward import _checks
from pushforward._model.convolutions import ConvNet
from pushforward._model.coupling import Coupling
from pushforward._model.images import Conv1x1, Split, Squeeze
from pushforward._model.layer import Layer
from pushforward._model.layers import ActNorm
from pushforward._model.place import Shape, checked_shape
from pushforward._model.transforms import Affine

_MOST_LEVELS = 3


def _can_squeeze(shape: Shape) -> bool:
    return shape[1] % 2 == 0 and shape[2] % 2 == 0


def _squeezed(shape: Shape) -> Shape:
    return 4 * shape[0], shape[1] // 2, shape[2] // 2


def glow(
    shape: Sequence[int],
    *,
    levels: int = 3,
    depth: int = 8,
    hidden: int = 64,
    kernel: int | Sequence[int] = (3, 1, 3),
    padding: str = "zero",
    activation: str = "relu",
) -> list[Layer]:
    """Build the layers of a multi-scale flow of images (Glow; Kingma, Dhariwal 2018).

    Each level has `depth` steps of `ActNorm`, `Conv1x1` and an affine coupling of one half of the channels by the
    other. From the data on, a level begins with `Squeeze` where height and width are even, and but for the last one it
    ends with `Split`.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, height and width.
    levels : int
        Levels, at least 1.
    depth : int
        Steps of each level, at least 1.
    hidden : int
        Channels of the couplings' hidden layers, of which there are two.
    kernel : int or sequence of three int
        The kernels of the couplings' convolutions, as in `ConvNet`.
    padding : {"zero", "circular"}
        What kernels read beyond the edges.
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}
        What follows each hidden layer.

    Returns
    -------
    list of layers
        In generator order, for ``Flow(shape=..., layers=...)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range, or a level has an odd number of channels, or only one.

    Examples
    --------
    >>> glow((1, 8, 8), levels=2, depth=1)[-5:]  # the level next to the data
    [Split(), Coupling(transform=Affine(max_log_scale=3.0), conditioner=ConvNet(hidden=64, layers=2, \
kernel=(3, 1, 3), padding='zero', activation='relu', symmetric=False), mask='channels', unconditional=False), \
Conv1x1(order='random'), ActNorm(), Squeeze()]
    """
    here = checked_shape(shape)
    _checks.integer("levels", levels, 1)
    _checks.integer("depth", depth, 1)
    network = ConvNet(hidden, 2, kernel, padding, activation)
    step: list[Layer] = [ActNorm(), Conv1x1(), Coupling(Affine(), network, mask="channels")]
    from_data: list[Layer] = []
    for level in range(levels):
        if _can_squeeze(here):
            from_data.append(Squeeze())
            here = _squeezed(here)
        is_last = level == levels - 1
        if here[0] < 2 or (here[0] % 2 and not is_last):
            raise ValueError(
                "glow needs an even number of channels at each level; "
                f"level {level + 1} of {levels} has the shape {here}"
            )
        from_data += step * depth
        if not is_last:
            from_data.append(Split())
            here = (here[0] // 2, here[1], here[2])
    return from_data[::-1]


def realnvp_image(
    shape: Sequence[int],
    *,
    levels: int = 2,
    depth: int = 3,
    hidden: int = 64,
    kernel: int | Sequence[int] = 3,
    padding: str = "zero",
    activation: str = "relu",
) -> list[Layer]:
    """Build the layers of a multi-scale flow of images (RealNVP; Dinh, Sohl-Dickstein, Bengio 2017, section 3.6).

    From the data on, each level has `depth` affine couplings by a checkerboard, `Squeeze`, as many by channels, and
    `Split`. The last one has `depth + 1` by a checkerboard. An `ActNorm` before each coupling takes the place of batch
    normalisation.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, height and width; both even for each level but the last.
    levels : int
        Levels, at least 1.
    depth : int
        Couplings of each part of a level, at least 1.
    hidden : int
        Channels of the couplings' hidden layers, of which there are two.
    kernel : int or sequence of three int
        The kernels of the couplings' convolutions, as in `ConvNet`.
    padding : {"zero", "circular"}
        What kernels read beyond the edges.
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}
        What follows each hidden layer.

    Returns
    -------
    list of layers
        In generator order, for ``Flow(shape=..., layers=...)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range, or the height or the width of a level but the last is odd.

    Examples
    --------
    >>> [type(layer).__name__ for layer in realnvp_image((1, 8, 8), depth=1)]
    ['Coupling', 'ActNorm', 'Coupling', 'ActNorm', 'Split', 'Coupling', 'ActNorm', 'Squeeze', 'Coupling', 'ActNorm']
    """
    here = checked_shape(shape)
    _checks.integer("levels", levels, 1)
    _checks.integer("depth", depth, 1)
    network = ConvNet(hidden, 2, kernel, padding, activation)

    def couplings(mask: str, count: int) -> list[Layer]:
        return [ActNorm(), Coupling(Affine(), network, mask=mask)] * count

    from_data: list[Layer] = []
    for level in range(levels - 1):
        if not _can_squeeze(here):
            raise ValueError(
                f"realnvp_image needs an even height and width; level {level + 1} of {levels} has the shape {here}"
            )
        from_data += [*couplings("checkerboard", depth), Squeeze(), *couplings("channels", depth), Split()]
        channels, height, width = _squeezed(here)
        here = (channels // 2, height, width)
    return [*from_data, *couplings("checkerboard", depth + 1)][::-1]


def lattice(
    shape: Sequence[int],
    *,
    depth: int = 8,
    hidden: int = 32,
    layers: int = 2,
    kernel: int = 3,
    symmetric: bool = True,
) -> list[Layer]:
    """Build the layers of a flow of fields on a periodic lattice: affine couplings by a checkerboard.

    As in Albergo, Kanwar, Shanahan 2019, with circular convolutions, which make the couplings commute with translations
    by an even number of sites in all.

    Parameters
    ----------
    shape : (int, int, int)
        Components of the field at a site, and the height and width of the lattice.
    depth : int
        Couplings, at least 1.
    hidden : int
        Channels of their hidden layers.
    layers : int
        Hidden layers.
    kernel : int
        The kernels' height and width, odd.
    symmetric : bool
        Whether the density of a field is exactly that of the field with the opposite sign, as of an action with the
        symmetry Z2.

    Returns
    -------
    list of layers
        In generator order, for ``Flow(shape=..., layers=...)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> lattice((1, 6, 6), depth=1, hidden=16)
    [Coupling(transform=Affine(max_log_scale=3.0), conditioner=ConvNet(hidden=16, layers=2, kernel=3, \
padding='circular', activation='tanh', symmetric=True), mask='checkerboard', unconditional=False)]
    """
    checked_shape(shape)
    _checks.integer("depth", depth, 1)
    network = ConvNet(hidden, layers, kernel, "circular", "tanh", symmetric)
    return [Coupling(Affine(), network, mask="checkerboard")] * depth


def usual_image(shape: Shape) -> list[Layer]:
    """Return the layers of a flow with a shape that is given none: `glow`, or `realnvp_image` if channels are one."""
    if shape[0] % 2 and not _can_squeeze(shape):
        return realnvp_image(shape, levels=1)
    levels, here = 1, _squeezed(shape) if _can_squeeze(shape) else shape
    while levels < _MOST_LEVELS and _can_squeeze(here) and here[0] % 2 == 0:
        here = _squeezed((here[0] // 2, here[1], here[2]))
        levels += 1
    return glow(shape, levels=levels)
