"""Coupling layers, and which features they keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._model.convolutions import CONDITIONERS
from pushforward._model.layer import Layer
from pushforward._model.networks import MLP, Conditioner
from pushforward._model.part import Part, one_of
from pushforward._model.place import Place
from pushforward._model.transforms import TRANSFORMS, Affine, Transform

_IMAGE_MASKS = ("checkerboard", "channels")
_MASKS = ("half", "alternate", "random", *_IMAGE_MASKS)


@dataclass(frozen=True)
class Coupling(Layer):
    """Keep some features, and move the others by a transform whose parameters a network makes of the kept ones.

    Source: Dinh, Sohl-Dickstein, Bengio 2017, section 3.2. The context, if the flow has one, is an input of every
    network. With one feature nothing is kept.

    Parameters
    ----------
    transform : Additive, Affine or RationalQuadratic
        The elementwise map of the moved features.
    conditioner : MLP, ResNet, ConvNet or ConvResNet
        The network; those with convolutions in a flow with a shape.
    mask : {"half", "alternate", "random", "checkerboard", "channels"} or sequence of bool
        Which features are kept: the first half, every second one, a random half, or those marked True. In a flow with a
        shape also the pixels whose row and column have an even sum, with all their channels, or the first half of the
        channels (Dinh, Sohl-Dickstein, Bengio 2017, section 3.4). All but "random" flip from one coupling of a flow to
        the next; "random" is drawn by the flow's seed.
    unconditional : bool
        Whether the kept features are moved too, by the same kind of transform with learned parameters that are the same
        for all rows (Durkan et al. 2019, section 3.2). The network reads them on the x side.

    Raises
    ------
    TypeError, ValueError
        If the parts are not of these types, or the mask is none of those.

    Examples
    --------
    >>> Coupling(Affine(), MLP(hidden=(32,)), mask="alternate")
    Coupling(transform=Affine(max_log_scale=3.0), conditioner=MLP(hidden=(32,), activation='relu'), mask='alternate', \
unconditional=False)
    """

    PARTS: ClassVar[Mapping[str, Mapping[str, type[Part]]]] = {"transform": TRANSFORMS, "conditioner": CONDITIONERS}

    transform: Transform = Affine()  # noqa: RUF009 -- frozen
    conditioner: Conditioner = MLP()  # noqa: RUF009 -- frozen
    mask: str | Sequence[bool] = "half"
    unconditional: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.transform, Transform):
            raise TypeError(f"transform must be {one_of(TRANSFORMS)}, not {self.transform!r}")
        if not isinstance(self.conditioner, Conditioner):
            raise TypeError(f"conditioner must be {one_of(CONDITIONERS)}, not {self.conditioner!r}")
        if not isinstance(self.unconditional, bool):
            raise TypeError(f"unconditional must be True or False, not {self.unconditional!r}")
        if isinstance(self.mask, str):
            _checks.choice("mask", self.mask, _MASKS)
            return
        if not (isinstance(self.mask, Iterable) and all(isinstance(kept, (bool, np.bool_)) for kept in self.mask)):
            raise TypeError(f"mask must be {', '.join(map(repr, _MASKS))} or a one-dimensional boolean array")
        object.__setattr__(self, "mask", tuple(map(bool, self.mask)))

    @property
    def is_odd(self) -> bool:
        """Whether the network makes it odd."""
        return self.conditioner.is_symmetric and not self.unconditional

    @property
    def reach(self) -> float:
        """How far from 0 the layer bends a feature, in standard deviations."""
        return self.transform.reach

    def resolve(self, place: Place, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """Spell out the mask as "kept"."""
        kept: list[bool] = self._kept(place, number, rng).tolist()
        self.conditioner.check_place(place, kept)
        return {"kept": kept}

    def check(self, resolved: Mapping[str, Any], place: Place) -> None:
        """Refuse a mask that is none of the place's features, or moves none."""
        kept, dim = resolved.get("kept"), place.dim
        if not isinstance(kept, list) or len(kept) != dim or not all(isinstance(k, bool) for k in kept) or all(kept):
            raise ValueError(f"kept is not a mask of {dim} features that moves at least one")
        self.conditioner.check_place(place, kept)

    def _kept(self, place: Place, number: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        dim = place.dim
        if not isinstance(self.mask, str):
            if len(self.mask) != dim:
                raise ValueError(f"a coupling's mask has {len(self.mask)} entries; {place.described}")
            mask = np.array(self.mask)
            if mask.all():
                raise ValueError("a coupling's mask keeps every feature; at least one must be False, to be moved")
            return mask
        if self.mask in _IMAGE_MASKS:
            mask = _image_mask(self.mask, place)
            return mask if number % 2 == 0 else ~mask
        if dim == 1:
            return np.zeros(1, dtype=bool)
        if self.mask == "random":
            mask = np.zeros(dim, dtype=bool)
            mask[rng.permutation(dim)[: (dim + number % 2) // 2]] = True
            return mask
        features = np.arange(dim)
        mask = features < dim // 2 if self.mask == "half" else features % 2 == 0
        return mask if number % 2 == 0 else ~mask


def _image_mask(mask: str, place: Place) -> npt.NDArray[np.bool_]:
    channels, height, width = place.image(f'mask="{mask}"')
    if mask == "channels":
        if channels < 2:
            raise ValueError('mask="channels" needs two channels at least; there is one where it stands')
        return np.repeat(np.arange(channels) < channels // 2, height * width)
    if height * width < 2:
        raise ValueError('mask="checkerboard" needs two pixels at least; there is one where it stands')
    rows, columns = np.indices((height, width))
    return np.tile(((rows + columns) % 2 == 0).ravel(), channels)
