"""A sampled posterior on disk: all rows, proposals and rounds, so that it goes on bit for bit where it was cut off."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pushforward._dispatch import core
from pushforward._fit.history import is_number
from pushforward._fit.progress import check_random_state
from pushforward._io import files
from pushforward._model.state import state_of
from pushforward._posterior.fold import Fold, Proposal
from pushforward._posterior.kernels import Kernels
from pushforward._posterior.proposal import Widened
from pushforward._posterior.rounds import Round
from pushforward._typing import Array, Doubles, PathLike
from pushforward.errors import FileFormatError
from pushforward.flow import Flow

_KIND = "posterior"
_FLOW, _WIDENED, _KERNELS = "flow", "widened", "kernels"
_F64 = np.dtype(np.float64)
_NOT_FINITE = ("nan", "inf", "-inf")


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Parameters
    ----------
    folds : tuple of Fold
        The rows with their proposals.
    rounds : tuple of Round
        The rounds so far.
    random_state : dict
        That of the random numbers after the last round.
    settings : dict
        What a run must have in common with the one that it resumes, in JSON's types.
    prior : list of float
        The prior at some rows.
    """

    folds: tuple[Fold, ...]
    rounds: tuple[Round, ...]
    random_state: Mapping[str, Any]
    settings: Mapping[str, Any]
    prior: list[float]


def write(path: PathLike, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    tensors: dict[str, Array] = {}
    folds = []
    for number, fold in enumerate(checkpoint.folds):
        proposals: list[Any] = []
        for i, proposal in enumerate(fold.proposals):
            prefix = f"folds.{number}.proposals.{i}."
            if isinstance(proposal, (Flow, Widened)):
                flow = proposal.flow if isinstance(proposal, Widened) else proposal
                content, own = files.content_of(state_of(flow), None)
                proposals.append({_FLOW if flow is proposal else _WIDENED: content})
            else:
                assert isinstance(proposal, Kernels)
                own = {"centers": proposal.centers, "factor": proposal.factor}
                proposals.append({_KERNELS: {}})
            tensors |= {prefix + name: values for name, values in own.items()}
        prefix = f"folds.{number}."
        tensors |= {
            f"{prefix}t": fold.t,
            f"{prefix}log_likelihood": fold.log_likelihood,
            f"{prefix}log_prior": fold.log_prior,
            f"{prefix}counts": np.array(fold.counts, np.float64),
            f"{prefix}log_densities": np.array(fold.log_densities).reshape(len(proposals), len(fold)),
        }
        folds.append(proposals)
    rounds = [
        {name: value if math.isfinite(value) else str(value) for name, value in dataclasses.asdict(one).items()}
        for one in checkpoint.rounds
    ]
    own_part = {
        "folds": folds,
        "rounds": rounds,
        "random_state": dict(checkpoint.random_state),
        "settings": dict(checkpoint.settings),
        "prior": checkpoint.prior,
    }
    files.write(path, {"format": files.FORMAT, "version": core.version, _KIND: own_part}, tensors)


def read(path: PathLike, settings: Mapping[str, Any], num_threads: int | None) -> Checkpoint:
    """Read a checkpoint of a run with these settings.

    Raises
    ------
    ValueError
        If the settings are others.
    FileFormatError
        If the file is damaged, or no checkpoint of a posterior.
    """
    content, tensors = files.read(path)
    with files.reading(path):
        entry = content.get(_KIND)
        if not isinstance(entry, dict):
            raise FileFormatError("not a checkpoint of sample_posterior")
        found = entry.get("settings")
        if not isinstance(found, dict):
            raise FileFormatError("the settings are missing")
        differ = [
            f"{name} was {found.get(name)}, now {value}" for name, value in settings.items() if found.get(name) != value
        ]
        if not differ:
            return _restored(entry, tensors, found, num_threads)
    raise ValueError(f"{path}: resume= goes on with the same prior and options; here {'; '.join(differ)}")


def _restored(
    entry: Mapping[str, Any], tensors: dict[str, Array], settings: Mapping[str, Any], num_threads: int | None
) -> Checkpoint:
    folds, rounds, random_state = (entry.get(name) for name in ("folds", "rounds", "random_state"))
    if not isinstance(folds, list) or len(folds) != 2 or not all(isinstance(one, list) for one in folds):
        raise FileFormatError("the two halves of the rows are missing")
    if not isinstance(rounds, list) or not rounds:
        raise FileFormatError("the rounds are missing")
    prior = entry.get("prior")
    if not isinstance(prior, list):
        raise FileFormatError("the prior is missing")
    check_random_state(random_state)
    assert isinstance(random_state, dict)
    dim = settings.get("dim")
    if type(dim) is not int or dim < 1:
        raise FileFormatError(f"dim is {dim!r}")
    checkpoint = Checkpoint(
        tuple(_fold(number, proposals, tensors, dim, num_threads) for number, proposals in enumerate(folds)),
        tuple(_round(one) for one in rounds),
        random_state,
        settings,
        prior,
    )
    if tensors:
        raise FileFormatError(f"unexpected tensor {min(tensors)!r}")
    if sum(map(len, checkpoint.folds)) != checkpoint.rounds[-1].calls:
        raise FileFormatError("the rows are not those of the last round")
    return checkpoint


def _fold(number: int, proposals: list[Any], tensors: dict[str, Array], dim: int, num_threads: int | None) -> Fold:
    prefix = f"folds.{number}."
    n = len(tensors.get(f"{prefix}t", ()))
    shapes = {
        "t": (n, dim),
        "log_likelihood": (n,),
        "log_prior": (n,),
        "counts": (len(proposals) + 1,),
        "log_densities": (len(proposals), n),
    }
    found: dict[str, Doubles] = {
        name: files.take(tensors, prefix + name, shape, _F64).copy() for name, shape in shapes.items()
    }
    files.check_finite({name: found[name] for name in ("t", "log_prior", "counts")})
    for name in ("log_likelihood", "log_densities"):
        if np.isnan(found[name]).any() or np.isposinf(found[name]).any():
            raise FileFormatError(f"{prefix}{name} holds NaN or +inf")
    restored: list[Proposal] = []
    for i, proposal in enumerate(proposals):
        start = f"{prefix}proposals.{i}."
        own = {name.removeprefix(start): tensors.pop(name) for name in list(tensors) if name.startswith(start)}
        restored.append(_proposal(proposal, own, dim, num_threads))
    return Fold(
        found["t"],
        found["log_likelihood"],
        found["log_prior"],
        tuple(restored),
        tuple(float(count) for count in found["counts"]),
        tuple(found["log_densities"]),
    )


def _proposal(entry: Any, own: dict[str, Array], dim: int, num_threads: int | None) -> Proposal:
    files.check_finite(own)
    if not isinstance(entry, dict) or len(entry) != 1:
        raise FileFormatError("a proposal is damaged")
    [(kind, content)] = entry.items()
    if kind in (_FLOW, _WIDENED) and isinstance(content, dict):
        flow = Flow.__new__(Flow)
        flow.__setstate__({"content": content, "tensors": own, "threads": num_threads})
        if (flow.dim, flow.context) != (dim, 0):
            raise FileFormatError("a proposal is no flow of these features")
        return Widened(flow) if kind == _WIDENED else flow
    if kind != _KERNELS:
        raise FileFormatError("a proposal is neither a flow nor kernels")
    centers = files.take(own, "centers", own["centers"].shape if "centers" in own else (), _F64)
    factor = files.take(own, "factor", (dim, dim), _F64)
    if centers.ndim != 2 or not len(centers) or centers.shape[1] != dim or not (np.diag(factor) > 0).all() or own:
        raise FileFormatError("the kernels are damaged")
    return Kernels(centers.copy(), factor.copy())


def _round(entry: Any) -> Round:
    names = [field.name for field in dataclasses.fields(Round)]
    if not isinstance(entry, dict) or set(entry) != set(names) or type(entry["calls"]) is not int:
        raise FileFormatError("a round is damaged")
    values = {name: float(value) if value in _NOT_FINITE else value for name, value in entry.items()}
    if not all(isinstance(value, float) or is_number(value) for value in values.values()):
        raise FileFormatError("a round is damaged")
    del values["calls"]
    return Round(calls=entry["calls"], **{name: float(value) for name, value in values.items()})
