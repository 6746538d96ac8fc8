"""The compiled core: the stub of the modules of all instruction sets, of which the package imports one."""

from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
_Doubles = npt.NDArray[np.float64]
_Indices = npt.NDArray[np.int64]
_Vector = Sequence[float] | _Doubles

version: str
simd_level: str
simd_in_use: str
compiler: str
eigen: str
openmp: int | None
file_format: int
activations: tuple[str, ...]
limits: dict[str, tuple[int, int] | tuple[float, float]]

threading: str

def default_threads() -> int: ...
def processors() -> int: ...
def draw_shares(key: int, rows: int) -> _Doubles: ...
@overload
def adam_step(
    parameters: npt.NDArray[np.float32],
    gradient: npt.NDArray[np.float32],
    norm: float | None,
    mean: npt.NDArray[np.float32],
    square: npt.NDArray[np.float32],
    number: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    clip_norm: float,
    decayed: _Indices | None,
    threads: int,
    average: npt.NDArray[np.float32] | None = None,
    average_weight: float = 0.0,
) -> float: ...
@overload
def adam_step(
    parameters: _Doubles,
    gradient: _Doubles,
    norm: float | None,
    mean: _Doubles,
    square: _Doubles,
    number: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    clip_norm: float,
    decayed: _Indices | None,
    threads: int,
    average: _Doubles | None = None,
    average_weight: float = 0.0,
) -> float: ...

sum_entries: int

def share_slots(
    rows: int, tile_rows: int, parameter_bytes: int, parts: int
) -> list[tuple[tuple[int, int], tuple[int, int], list[tuple[int, int]]]]: ...
@overload
def add_nodes(
    terms: npt.NDArray[np.float32],
    offsets: _Indices,
    nodes: Sequence[tuple[int, int]],
    sum: npt.NDArray[np.float32],
    threads: int,
) -> None: ...
@overload
def add_nodes(
    terms: _Floats,
    offsets: _Indices,
    nodes: Sequence[tuple[int, int]],
    sum: _Floats,
    threads: int,
) -> None: ...
@overload
def norm(gradient: npt.NDArray[np.float32], threads: int) -> float: ...
@overload
def norm(gradient: _Floats, threads: int) -> float: ...
def add_exactly(values: _Doubles, sums: _Indices) -> None: ...
def expectation_maximization(
    rows: _Doubles,
    weights: _Doubles | None,
    components: int,
    covariance: str,
    ridge: float,
    max_iterations: int,
    tolerance: float,
    restarts: int,
    seed: int,
    threads: int,
) -> tuple[_Doubles, _Doubles, _Doubles, _Doubles, float]: ...

class _Flow:
    def __init__(self, description: str, *, most_parameters: int | None = None) -> None: ...
    @property
    def tile_rows(self) -> int: ...
    @property
    def parameters(self) -> _Floats: ...
    @property
    def parameter_blocks(self) -> list[tuple[str, tuple[int, ...], float]]: ...
    @property
    def domains(self) -> list[str]: ...
    @property
    def latent_domains(self) -> list[str]: ...
    def set_standardization(self, shift: _Vector, scale: _Vector, cells: _Vector | None = None) -> None: ...
    def set_context_standardization(self, shift: _Vector, scale: _Vector) -> None: ...
    def to_line(self, x: _Floats, *, index: _Indices | None = None, threads: int | None = None) -> _Doubles: ...
    def initialize_from_data(
        self,
        x: _Floats,
        *,
        context: _Floats | None = None,
        weights: _Doubles | None = None,
        threads: int | None = None,
    ) -> None: ...
    def forward(
        self, z: _Floats, *, context: _Floats | None = None, threads: int | None = None
    ) -> tuple[_Floats, _Doubles]: ...
    def inverse(
        self, x: _Floats, *, context: _Floats | None = None, threads: int | None = None
    ) -> tuple[_Floats, _Doubles]: ...
    def log_prob(
        self,
        x: _Floats,
        *,
        context: _Floats | None = None,
        index: _Indices | None = None,
        temperature: float = 1.0,
        threads: int | None = None,
    ) -> _Doubles: ...
    def forward_and_log_prob(
        self, z: _Floats, *, context: _Floats | None = None, threads: int | None = None
    ) -> tuple[_Floats, _Doubles]: ...
    def inverse_and_log_prob(
        self, x: _Floats, *, context: _Floats | None = None, threads: int | None = None
    ) -> tuple[_Floats, _Doubles]: ...
    def base_log_prob(self, z: _Floats, *, temperature: float = 1.0, threads: int | None = None) -> _Doubles: ...
    def sample_latent(
        self,
        key: int,
        rows: int,
        *,
        is_double: bool = ...,
        temperature: float = 1.0,
        threads: int | None = None,
    ) -> _Floats: ...
    def sample(
        self,
        key: int,
        rows: int,
        *,
        first: int = 0,
        context: _Floats | None = None,
        is_double: bool = ...,
        with_log_prob: bool = False,
        temperature: float = 1.0,
        threads: int | None = None,
    ) -> tuple[_Floats, _Doubles]: ...
    def log_prob_and_grad(
        self, x: _Floats, *, context: _Floats | None = None, threads: int | None = None
    ) -> tuple[_Doubles, _Floats]: ...
    def loss_and_grad(
        self,
        x: _Floats,
        gradient: _Floats,
        *,
        context: _Floats | None = None,
        weights: _Doubles | None = None,
        index: _Indices | None = None,
        normalizer: float | None = None,
        dropout: int = 0,
        threads: int | None = None,
    ) -> tuple[float, float]: ...
    def loss_and_grad_of_slots(
        self,
        x: _Floats,
        sums: _Floats,
        values: _Doubles,
        *,
        context: _Floats | None = None,
        weights: _Doubles | None = None,
        index: _Indices | None = None,
        normalizer: float,
        dropout: int = 0,
        rows: int,
        slots: tuple[int, int],
        threads: int | None = None,
    ) -> None: ...
    def forward_vjp(
        self,
        z: _Floats,
        grad_x: _Floats,
        grad_log_det: _Doubles,
        *,
        context: _Floats | None = None,
        parameters: bool = True,
        threads: int | None = None,
    ) -> tuple[_Floats, _Floats | None, _Floats | None]: ...
    def inverse_vjp(
        self,
        x: _Floats,
        grad_z: _Floats,
        grad_log_det: _Doubles,
        *,
        context: _Floats | None = None,
        parameters: bool = True,
        threads: int | None = None,
    ) -> tuple[_Floats, _Floats | None, _Floats | None]: ...
    def log_prob_vjp(
        self,
        x: _Floats,
        grad_log_prob: _Doubles,
        *,
        context: _Floats | None = None,
        parameters: bool = True,
        threads: int | None = None,
    ) -> tuple[_Floats, _Floats | None, _Floats | None]: ...

class FlowFloat32(_Flow): ...
class FlowFloat64(_Flow): ...

class _Masses:
    def __init__(self, description: str, *, most_parameters: int | None = None) -> None: ...
    @property
    def parameters(self) -> _Floats: ...
    @property
    def parameter_blocks(self) -> list[tuple[str, tuple[int, ...], float]]: ...
    def log_prob(
        self,
        x: _Floats,
        *,
        context: _Floats | None = None,
        index: _Indices | None = None,
        threads: int | None = None,
    ) -> _Doubles: ...
    def sample(
        self,
        key: int,
        rows: int,
        *,
        first: int = 0,
        context: _Floats | None = None,
        counts: Sequence[int] | None = None,
        threads: int | None = None,
    ) -> _Doubles: ...
    def complete(
        self,
        key: int,
        known: _Doubles,
        *,
        first: int = 0,
        context: _Floats | None = None,
        counts: Sequence[int] | None = None,
        threads: int | None = None,
    ) -> tuple[_Doubles, _Doubles]: ...
    def loss_and_grad(
        self,
        x: _Floats,
        gradient: _Floats,
        *,
        context: _Floats | None = None,
        weights: _Doubles | None = None,
        index: _Indices | None = None,
        normalizer: float | None = None,
        dropout: int = 0,
        threads: int | None = None,
    ) -> tuple[float, float]: ...

class MassesFloat32(_Masses): ...
class MassesFloat64(_Masses): ...
