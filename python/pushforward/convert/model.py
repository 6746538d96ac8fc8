"""Flows of PyTorch libraries, read without PyTorch: their arrays by name, their modules by path."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._model.layer import Layer
from pushforward._model.layers import ActNorm, Permutation
from pushforward._model.state import state_of
from pushforward._typing import Array, Doubles
from pushforward.flow import Flow

ACTIVATIONS: dict[str, Callable[[Doubles], Doubles]] = {
    "relu": lambda u: np.maximum(u, 0),
    "silu": lambda u: u / (1 + np.exp(-u)),
    "tanh": np.tanh,
    "gelu": lambda u: u * [0.5 * (1 + math.erf(value / math.sqrt(2))) for value in u],
    "elu": lambda u: np.where(u > 0, u, np.expm1(u)),
    "leaky_relu": lambda u: np.where(u > 0, u, 0.01 * u),
}


@dataclass
class Model:
    """A flow of another library.

    Parameters
    ----------
    arrays : dict of str to array
        What its state dict holds.
    modules : dict of str to module
        Its modules by path, "" for the flow itself; none if only the state dict is there.
    options : dict of str to object
        What a state dict does not tell.
    dim, context : int
        Features and conditioning features.
    """

    arrays: dict[str, Array]
    modules: dict[str, Any]
    options: dict[str, Any]
    dim: int = 0
    context: int = 0
    read: set[str] = field(default_factory=set)

    # -- arrays --------------------------------------------------------------------------------------------------

    def holds(self, name: str) -> bool:
        """Whether there is an array of this name, or one below it."""
        return any(other == name or other.startswith(f"{name}.") for other in self.arrays)

    def below(self, path: str) -> list[str]:
        """Return the names of the arrays below a path, without it."""
        return [name[len(path) + 1 :] for name in self.arrays if name.startswith(f"{path}.")]

    def count(self, path: str) -> int:
        """Return how many members a list of modules has: path.0, path.1 ... must all be there."""
        if path in self.modules:
            return len(self.modules[path])
        found = {name.split(".")[0] for name in self.below(path)}
        for i in range(len(found)):
            if str(i) not in found:
                raise ValueError(f"{path}.{i} has no array in the state dict, so its kind is unknown; pass the module")
        return len(found)

    def floats(self, name: str, shape: Sequence[int | None]) -> Doubles:
        """Return an array as float64; None in `shape` is any length."""
        array = self._array(name)
        if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
            expected = ", ".join("n" if n is None else str(n) for n in shape) + "," * (len(shape) == 1)
            raise ValueError(f"{name} has shape {array.shape}; ({expected}) is expected")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has NaN or infinity")
        return array.astype(np.float64)

    def indices(self, name: str) -> npt.NDArray[np.int64]:
        """Return a vector of integers."""
        array = self._array(name)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(f"{name} must be a vector of integers, not {array.dtype} of shape {array.shape}")
        return array.astype(np.int64)

    def _array(self, name: str) -> Array:
        if name not in self.arrays:
            raise ValueError(f"{name} is missing")
        self.read.add(name)
        return self.arrays[name]

    def skip(self, name: str) -> None:
        """Count an array that says nothing new as read."""
        self.read.add(name)

    def check_read(self) -> None:
        """Refuse a model with arrays that no layer has taken."""
        left = [name for name in self.arrays if name not in self.read]
        if left:
            more = f" and {len(left) - 4} more" if len(left) > 4 else ""
            raise ValueError(f"nothing is known of {', '.join(left[:4])}{more}")

    def precision(self, dtype: npt.DTypeLike | None) -> npt.DTypeLike:
        """Return `dtype` or, if it is None, float64 if an array is (beyond single numbers), else float32."""
        if dtype is not None:
            return dtype
        return "float64" if any(a.dtype == np.float64 and a.ndim for a in self.arrays.values()) else "float32"

    # -- modules -------------------------------------------------------------------------------------------------

    def read_layer(self, path: str, kinds: Iterable[tuple[str, str, Reader]]) -> list[Piece]:
        """Read the module at a path by the first of the kinds (class, array that gives it away, reader) that fits."""
        module = self.modules.get(path)
        classes = {kind.__name__ for kind in type(module).__mro__}
        for name, telltale, reader in kinds:
            if name in classes if self.modules else self.holds(f"{path}.{telltale}"):
                return reader(self, path)
        if self.modules:
            raise ValueError(f"{path} is a {type(module).__name__}, for which pushforward has no layer")
        names = ", ".join(self.below(path)[:6]) or "nothing"
        raise ValueError(f"{path} is of no kind that pushforward has a layer for; it holds {names}")

    def setting(self, path: str, attribute: str, option: str) -> Any:
        """Return what the module says, or the option that stands for it."""
        return getattr(self.modules[path], attribute) if self.modules else self.options[option]

    def activation(self, places: Mapping[str, object]) -> str:
        """Return the name of the activation that a network has, given all its activations by path.

        They are told apart by their values, so that functions, modules and lambdas are all the same.
        """
        if not self.modules:
            name: str = self.options["activation"]
            return name
        points = np.linspace(-4, 4, 33)
        found = "relu"  # without hidden layers any will do
        for i, (path, call) in enumerate(places.items()):
            values = to_numpy(path, call(self.tensor(points).float()))  # type: ignore[operator]
            near = [name for name, ours in ACTIVATIONS.items() if np.abs(values - ours(points)).max() < 1e-5]
            if not near:
                shown = getattr(call, "__name__", repr(call))
                raise ValueError(f"{path} is {shown}; the activations are {', '.join(ACTIVATIONS)}")
            if i and near[0] != found:
                raise ValueError(f"{path} is {near[0]}, but the network's first activation is {found}")
            found = near[0]
        return found

    def tensor(self, values: Array) -> Any:
        """Return an array as a tensor like those of the model."""
        tensors = [*self.modules[""].state_dict().values()]
        like = next((tensor for tensor in tensors if tensor.is_floating_point()), tensors[0].float())
        return like.new_tensor(values.tolist())


def open_model(flow: object, library: str, given: Mapping[str, Any], usual: Mapping[str, Any]) -> Model:
    """Read a module or a state dict.

    Parameters
    ----------
    flow : module, or mapping of str to tensor or array
        The model.
    library : str
        Whose it is, for messages.
    given, usual : dict
        The options of a state dict as they were passed, None for none, and the library's own defaults.

    Returns
    -------
    Model
        Its arrays and modules.

    Raises
    ------
    TypeError, ValueError
        If it is neither, an array is none of real numbers, or a module comes with options.
    """
    if isinstance(flow, Mapping):
        options = {name: usual[name] if value is None else value for name, value in given.items()}
        _checks.choice("activation", options["activation"], ACTIVATIONS)
        return Model(_arrays(flow), {}, options)
    if not all(hasattr(flow, name) for name in ("state_dict", "named_modules")):
        raise TypeError(f"flow must be a flow of {library} or its state_dict(), not {type(flow).__name__}")
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name}={value!r} goes with a state dict; of a module it is read off")
    module: Any = flow
    return Model(_arrays(module.state_dict()), dict(module.named_modules()), {})


def _arrays(state: Mapping[Any, Any]) -> dict[str, Array]:
    arrays = {str(name): to_numpy(str(name), value) for name, value in state.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name} must be an array of real numbers; it has dtype {array.dtype}")
    return arrays


def to_numpy(name: str, value: Any) -> Array:
    """Return a tensor, or what NumPy takes for an array, as one; the name is for the message."""
    try:
        return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    except (TypeError, ValueError) as error:  # bfloat16, ragged lists
        raise TypeError(f"{name} must be an array of real numbers: {error}") from None


@dataclass(frozen=True)
class Piece:
    """A layer, and its parameters by their names within it."""

    layer: Layer
    blocks: Mapping[str, Array] = field(default_factory=dict)


Reader = Callable[[Model, str], list[Piece]]


def assemble(pieces: Sequence[Piece], model: Model, dtype: npt.DTypeLike | None) -> Flow:
    """Build the flow of all the model's layers, which stand in the order from data to noise."""
    model.check_read()
    pieces = pieces[::-1]
    layers = [piece.layer for piece in pieces]
    flow = Flow(model.dim, layers=layers, context=model.context, dtype=model.precision(dtype), seed=0)
    parameters = flow.named_parameters()
    for i, piece in enumerate(pieces):
        for name, values in piece.blocks.items():
            parameters.pop(f"layers.{i}.{name}")[...] = values
    if any(values.size for values in parameters.values()):
        raise AssertionError(f"no value for {', '.join(parameters)}")
    state_of(flow).initialized = True  # a fit goes on from here
    return flow


def check_equal(flow: Flow, model: Model, log_prob: Callable[[Any, Any, Any], Any]) -> None:
    """Refuse a module whose density is another, as that of a subclass with a method of its own may be.

    Parameters
    ----------
    flow : Flow
        What was made of it.
    model : Model
        The module; it is copied, and the copy put into evaluation mode.
    log_prob : callable
        Takes the copy, rows and context (or None), and returns their log densities.

    Raises
    ------
    ValueError
        If the log densities of half of 64 rows drawn from the flow differ by more than rounding.
    """
    rng = np.random.default_rng(0)
    context = rng.standard_normal((64, flow.context)) if flow.context else None
    rows = flow.sample(64, context, seed=rng)
    twin = copy.deepcopy(model.modules[""]).eval()
    condition = None if context is None else model.tensor(context)
    theirs = to_numpy("log_prob", log_prob(twin, model.tensor(rows), condition))
    ours = flow.log_prob(rows, context)
    difference = float(np.median(np.abs(theirs - ours) / (1 + np.abs(ours))))
    if not difference < {8: 1e-8, 4: 1e-3}.get(theirs.itemsize, 0.1):
        raise ValueError(
            f"the flow built from {type(twin).__name__} has other log densities, by {difference:.2g} relative; "
            "it has methods of its own, or comes from a version of the library that is not known"
        )


@contextmanager
def within(path: str) -> Iterator[None]:
    """Put the path in front of the message of what goes wrong."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from None


def affine(log_scale: Doubles, shift: Doubles) -> Piece:
    """Return the layer of x = z exp(log_scale) + shift."""
    return Piece(ActNorm(), {"log_scale": log_scale, "shift": shift})


def affine_of(path: str, scale: Doubles, shift: Doubles) -> Piece:
    """Return the layer of z = x scale + shift."""
    if not (scale > 0).all():
        raise ValueError(f"{path} has a scale that is not above 0: {scale.min()}")
    return affine(-np.log(scale), -shift / scale)


def permutation(model: Model, name: str) -> Piece:
    """Return the layer of z_i = x_indices[i], with the indices of that name."""
    indices = model.indices(name)
    if sorted(indices.tolist()) != list(range(model.dim)):
        raise ValueError(f"{name} must hold each of 0 ... {model.dim - 1} once, not {indices.tolist()}")
    return Piece(Permutation(tuple(np.argsort(indices).tolist())))
