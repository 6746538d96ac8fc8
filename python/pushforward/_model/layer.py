"""What every layer is: an invertible map of the features of its place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from pushforward._model.gaussian import Sample
from pushforward._model.part import Part
from pushforward._model.place import Place
from pushforward._typing import Floats


class Layer(Part):
    """An invertible map of all features.

    What a layer leaves open, such as the draw of a random mask, is spelled out when the flow is built, and stands in
    the description beside the layer's own fields.
    """

    whitens: ClassVar[bool] = False
    """Whether `start` makes features uncorrelated."""
    moves_alone: ClassVar[bool] = False
    """Whether each feature moves by itself, so that any of them may be taken out with its parameters."""
    reorders: ClassVar[bool] = False
    """Whether the layer does nothing but to change the order of the features."""

    @property
    def is_odd(self) -> bool:
        """Whether the map of -x is the negative of that of x, so that a density stays symmetric."""
        return self.reorders

    @property
    def reach(self) -> float:
        """How far from 0 the layer bends a feature, in standard deviations."""
        return math.inf

    def resolve(self, place: Place, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """Spell out what the layer leaves open, in JSON's types.

        Parameters
        ----------
        place : Place
            Where the layer stands, on its x side.
        number : int
            How many layers of this class stand before this one.
        rng : numpy.random.Generator
            Where random choices come from.

        Returns
        -------
        dict
            What the description holds beside the layer's fields.
        """
        return {}

    def check(self, resolved: Mapping[str, Any], place: Place) -> None:
        """Raise a ValueError if what a file has spelled out is nothing that `resolve` could return."""

    def place_before(self, place: Place) -> Place:
        """Return the place on the layer's z side, given that on its x side.

        Raises
        ------
        ValueError
            If the layer cannot stand there.
        """
        return place

    def is_triangular(self, dim: int) -> bool:
        """Whether each of `dim` features moves by itself and by those before it alone."""
        return self.moves_alone

    def before(self, columns: npt.NDArray[np.int64], resolved: Mapping[str, Any]) -> npt.NDArray[np.int64]:
        """Return labels of the features on the layer's z side, given those on its x side."""
        return columns

    def leading(self, count: int, dim: int, context: int) -> tuple[Layer, bool]:
        """Return the layer of the first features of a triangular one, and whether its network is constant there.

        Its parameters are the first ones along each axis; of a constant network only the last bias counts.
        """
        return self, False

    def start(self, resolved: Mapping[str, Any], parameters: Mapping[str, Floats], sample: Sample) -> Sample | None:
        """Set parameters from data before a first fit, if the layer is a linear map that can.

        Parameters
        ----------
        resolved : dict
            What `resolve` returned.
        parameters : dict of str to array
            Views of the layer's parameters.
        sample : Sample
            Rows on the layer's x side.

        Returns
        -------
        Sample or None
            The rows on the layer's z side; None if the layer does not start from data in this way.
        """
        return None
