"""The options of a fit: the default of each, its check, and its line in the help of the command line.

`Flow.fit`, the estimators for scikit-learn and ``pushforward fit`` have the same options with the same defaults.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pushforward import _checks
from pushforward._fit.bar import in_view
from pushforward._fit.optimizer import Adam
from pushforward._typing import PathLike, Seed

SCHEDULES = ("cosine", "constant")


def optimizer_for(weight_decay: float, given: Adam | None = None) -> Adam:
    """Return the optimiser: the one given, or the default, with this weight decay if its own is left open.

    A step takes off rate times decay, which no larger rate makes larger.
    """
    adam = Adam() if given is None else given
    if adam.weight_decay is not None:
        return adam
    weight_decay = weight_decay * min(1.0, Adam().learning_rate / adam.learning_rate)
    return Adam(adam.learning_rate, adam.betas, adam.eps, weight_decay)


def without_decay(given: Adam | None = None) -> Adam:
    """Return the optimiser for a density that is known: the one given, or the default, without decay by default."""
    adam = Adam() if given is None else given
    return adam if adam.weight_decay is not None else Adam(adam.learning_rate, adam.betas, adam.eps, 0.0)


Check = Callable[[str, Any], Any]


def _optional(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _count(name: str, value: object) -> int:
    return _checks.integer(name, value, 1)


def _positive(name: str, value: object) -> float:
    return _checks.number(name, value, 0.0, closed="neither")


def _clip_norm(name: str, value: object) -> float:
    return _checks.number(name, value, 0.0, closed="right")


def _schedule(name: str, value: object) -> str:
    return _checks.choice(name, value, SCHEDULES)


def _optimizer(name: str, value: object) -> object:
    if value is not None and not isinstance(value, Adam):
        raise TypeError(f"{name} must be Adam(), not {value!r}")
    return value


def _callback(name: str, value: object) -> object:
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable, not {value!r}")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def _progress(name: str, value: object) -> bool:
    if value is None:
        return in_view()
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True, False or None, not {value!r}")
    return value


def _frozen(name: str, value: object) -> tuple[int, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a sequence of numbers of layers, not {value!r}")
    least = -sys.maxsize  # how many layers there are, the fit knows
    return tuple(_checks.integer(f"{name}[{i}]", index, least) for i, index in enumerate(value))


def _seed(name: str, value: Any) -> object:
    np.random.default_rng(value)  # raises what is wrong with it
    return value


def _with_rows(name: str, value: object) -> object:
    """Leave a check to where the rows are known."""
    return value


def _option(default: Any, check: Check, text: str) -> Any:
    return field(default=default, metadata={"check": check, "text": text})


@dataclass(frozen=True)
class Options:
    """The options of a fit, checked."""

    validation: Any = _option(0.1, _with_rows, "fraction of rows to hold out, or a table of its own (default: 0.1)")
    epochs: int | None = _option(
        None, _optional(_count), "passes over the rows (default: by the number of rows, at most 100)"
    )
    batch_size: int | None = _option(
        None, _optional(_count), "rows of a step (default: 64 to 512, by the number of rows)"
    )
    optimizer: Adam | None = _option(None, _optimizer, "the optimiser")
    schedule: Literal["cosine", "constant"] = _option("cosine", _schedule, "of the learning rate (default: cosine)")
    max_time: float | None = _option(None, _optional(_positive), "seconds after which to stop (default: none)")
    patience: int | None = _option(
        30, _optional(_count), "stop after N epochs without a better validation loss, or none (default: 30)"
    )
    clip_norm: float | None = _option(5.0, _optional(_clip_norm), "longest gradient, or none (default: 5)")
    frozen: Sequence[int] = _option((), _frozen, "layers to leave as they start, by number from 0 (default: none)")
    restandardize: bool = _option(False, _flag, "standardise anew in a later fit")
    seed: Seed = _option(None, _seed, "seed of the random numbers")
    progress: bool | None = _option(None, _progress, "show a progress bar (default: in a terminal)")
    callback: Callable[[Any, Any], object] | None = _option(None, _callback, "called after each epoch")
    checkpoint: PathLike | None = _option(
        None, _optional(_checks.path), "keep the fit in a file from which it can be resumed"
    )
    checkpoint_every: int = _option(1000, _count, "steps from one writing to the next (default: 1000)")
    resume: PathLike | None = _option(
        None, _optional(_checks.path), "resume from a checkpoint, with the same rows and options"
    )

    def shared(self) -> dict[str, Any]:
        """Return what has to be the same in all processes of a fit, as text."""
        alone = ("validation", "seed", "progress", "callback")
        found = {name: repr(getattr(self, name)) for name in _FIELDS if name not in alone}
        are_rows = isinstance(self.validation, (tuple, list)) or np.ndim(self.validation) > 0
        return {**found, "validation": "rows" if are_rows else repr(self.validation)}

    def __post_init__(self) -> None:
        for option in dataclasses.fields(self):
            checked = option.metadata["check"](option.name, getattr(self, option.name))
            object.__setattr__(self, option.name, checked)


OPTIMIZER_TEXTS = {
    "learning_rate": "of Adam (default: 3e-3)",
    "weight_decay": "of Adam (default: by the number of rows)",
}
"""The lines for the optimiser's settings, where they are options themselves."""


def text(name: str) -> str:
    """Return the line of an option in the help of the command line."""
    found: str = OPTIMIZER_TEXTS[name] if name in OPTIMIZER_TEXTS else _FIELDS[name].metadata["text"]
    return found


def defaults() -> dict[str, Any]:
    """Return the default of each option."""
    return {name: option.default for name, option in _FIELDS.items()}


_FIELDS = {option.name: option for option in dataclasses.fields(Options)}
