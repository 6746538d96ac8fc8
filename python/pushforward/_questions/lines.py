"""Coordinates on the line: columns with bounds, or on a circle, as real numbers in units of their spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pushforward._model.supports import Support
from pushforward._typing import Doubles

_TINY = 1e-300
# Places on a circle among which the cut is chosen.
_PLACES = 64


class Lines:
    """Invertible maps of columns to the line: the identity, the logarithm, or the logit, then a shift and a scale.

    A circle is cut where draws are rarest, and is then an interval.

    Parameters
    ----------
    support : sequence of Support
        What values each column may take.
    draws : (n, k) array
        Rows of typical size.
    """

    def __init__(self, support: Sequence[Support], draws: Doubles) -> None:
        self._support = tuple(support)
        self._cuts = [_rarest(entry, column) for entry, column in zip(support, draws.T, strict=True)]
        self._shift, self._scale = np.zeros(len(self._support)), np.ones(len(self._support))
        raw = self.to_line(draws)
        low, middle, high = np.quantile(raw, (0.16, 0.5, 0.84), axis=0)
        spread = np.where(high > low, (high - low) / 2, raw.std(axis=0))
        self._shift, self._scale = middle, np.where(spread > 0, spread, 1.0)

    def to_line(self, x: Doubles) -> Doubles:
        """Return the coordinates of values (..., k)."""
        y = np.empty(x.shape)
        for i, entry in enumerate(self._support):
            low, high = entry.ends
            if not entry.is_bounded:
                y[..., i] = x[..., i]
            elif not np.isfinite(high):
                y[..., i] = np.log(np.maximum(x[..., i] - low, _TINY))
            else:
                share = (x[..., i] - self._cuts[i]) / (high - low)
                share = share % 1.0 if entry.wraps else share
                share = np.clip(share, _TINY, 1 - 2.0**-53)
                y[..., i] = np.log(share) - np.log1p(-share)
        result: Doubles = (y - self._shift) / self._scale
        return result

    def from_line(self, y: Doubles) -> tuple[Doubles, Doubles]:
        """Return the values (..., k) of coordinates, and log |dx/dy| (...)."""
        raw = y * self._scale + self._shift
        x, log_slope = np.empty(y.shape), np.full(y.shape[:-1], float(np.log(self._scale).sum()))
        for i, entry in enumerate(self._support):
            low, high = entry.ends
            t = raw[..., i]
            if not entry.is_bounded:
                x[..., i] = t
            elif not np.isfinite(high):
                x[..., i] = low + np.exp(np.minimum(t, 700.0))
                log_slope += t
            else:
                share = 0.5 * (1 + np.tanh(0.5 * t))
                place = self._cuts[i] + (high - low) * share
                x[..., i] = (
                    np.where(place > high, place - (high - low), place) if entry.wraps else np.minimum(place, high)
                )
                log_slope += np.log(high - low) - np.abs(t) - 2 * np.log1p(np.exp(-np.abs(t)))
        return x, log_slope

    def slopes(self, y: Doubles) -> tuple[Doubles, Doubles]:
        """Return dx/dy, and the derivative of log |dx/dy|, of each coordinate; both (..., k)."""
        raw = y * self._scale + self._shift
        log_slope, bend = np.zeros(y.shape), np.zeros(y.shape)
        for i, entry in enumerate(self._support):
            low, high = entry.ends
            t = raw[..., i]
            if entry.is_bounded and not np.isfinite(high):
                log_slope[..., i], bend[..., i] = np.minimum(t, 700.0), 1.0
            elif entry.is_bounded:
                log_slope[..., i] = np.log(high - low) - np.abs(t) - 2 * np.log1p(np.exp(-np.abs(t)))
                bend[..., i] = -np.tanh(0.5 * t)
        return np.exp(log_slope) * self._scale, bend * self._scale


def _rarest(support: Support, draws: Doubles) -> float:
    """Return where an interval begins, or where a circle is cut."""
    low, high = support.ends
    if not support.wraps:
        return low
    counts = np.bincount(
        np.clip((draws - low) / (high - low) * _PLACES, 0, _PLACES - 1).astype(np.int64), minlength=_PLACES
    )
    around = counts + np.roll(counts, 1) + np.roll(counts, -1)
    return float(low + (high - low) * (np.argmin(around) + 0.5) / _PLACES)
