"""What the model of a table takes from the rows of its fit before any training, column by column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pushforward._tables.warp import Warp


@dataclass(frozen=True)
class Summary:
    """What is taken from one column.

    Parameters
    ----------
    center : float
        Of numbers: what stands in the place of a gap where flows of other columns read it.
    warp : Warp, optional
        Of numbers: the map from the line to normal scores.
    shown : Warp, optional
        Of numbers: the map from all values, atoms among them, to the scores that flows of other columns read.
    rare : tuple of float
        Of categories: the share that each level has of the rows with a rare level, and 0 for a level that is common;
        empty if none is rare. Rare levels have a code together, within which their shares are the same in every row:
        so few rows do not show on what they depend.
    """

    center: float = 0.0
    warp: Warp | None = None
    shown: Warp | None = None
    rare: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it in JSON's types."""
        warps = {name: None if warp is None else warp.to_json() for name, warp in self._warps.items()}
        return {"center": self.center, **warps, "rare": list(self.rare)}

    @property
    def _warps(self) -> dict[str, Warp | None]:
        return {"warp": self.warp, "shown": self.shown}

    @classmethod
    def from_json(cls, value: object) -> Summary:
        """Make it of its JSON, which is checked.

        Raises
        ------
        TypeError, ValueError
            If it is none.
        """
        if not isinstance(value, dict) or set(value) != {"center", "warp", "shown", "rare"}:
            raise ValueError("a summary must have center, warp, shown and rare")
        center, rare = value["center"], value["rare"]
        if type(center) is not float or not math.isfinite(center):
            raise ValueError(f"a center is {center!r}")
        if not isinstance(rare, list) or not all(type(share) is float and 0 <= share <= 1 for share in rare):
            raise ValueError("rare must be a list of shares")
        if rare and not (abs(sum(rare) - 1) < 1e-9 and sum(share > 0 for share in rare) > 1):
            raise ValueError("the shares of rare levels must be those of several, and add up to 1")
        return cls(center, _warp(value["warp"]), _warp(value["shown"]), tuple(rare))


def _warp(value: object) -> Warp | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) != {"kind", "edges", "shares"} or value["kind"] != "Warp":
        raise ValueError("a warp must have edges and shares")
    for name in ("edges", "shares"):
        if not isinstance(value[name], list) or not all(type(entry) is float for entry in value[name]):
            raise ValueError(f"a warp's {name} must be a list of numbers")
    return Warp.from_json(value)
