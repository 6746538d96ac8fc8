"""The flow: NumPy arrays in, NumPy arrays out."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from pushforward import _checks
from pushforward._fit.history import History, from_json, to_json
from pushforward._flow.fitting import Fitting
from pushforward._flow.generator import Generator
from pushforward._io import files
from pushforward._io.savable import Savable
from pushforward._model import description, supports, threads
from pushforward._model.bases import BASES, Base
from pushforward._model.layer import Layer
from pushforward._model.networks import ContextNetwork
from pushforward._model.new import features_of, new
from pushforward._model.part import one_of
from pushforward._model.state import checked_names
from pushforward._model.supports import Support
from pushforward._shapes import flat
from pushforward._typing import Array, Doubles, Floats, Seed

if TYPE_CHECKING:
    from pushforward._check.report import Report
    from pushforward._questions.conditional import Conditional, Marginal


# More would take more memory for their description than machines have.
_MOST_FEATURES = 1 << 24


class Flow(Fitting, Generator, Savable):
    """A normalizing flow: a density over rows of `dim` features that can be fitted, scored, sampled, differentiated.

    A generator G of invertible layers maps a base density to the data, x = G(z), and
    log p(x) = log p_base(G^-1(x)) + log|det dG^-1/dx| (Papamakarios et al. 2021, equation 4). Standardisation of the
    data is part of the model: x and every density are in the units of the table.

    The results of a row with NaN or infinity are NaN. So are those of a row outside the support, except that its log
    density is -inf. Other rows are not affected. Results are the same to the last bit for any number of threads, and
    whichever rows are passed together. Several Python threads may call one flow at once, as long as none changes it.

    Parameters
    ----------
    dim : int, optional
        Features, at least 1; needed without `shape`.
    shape : (channels, height, width), optional
        That of a row, if rows are images or lattices: every call then takes and returns data as (n, channels, height,
        width) in place of (n, dim), and `dim` is the number of pixels. Latent points stay (n, dim). The data of each
        channel are standardised by one shift and one scale. Rows in `Files` are flat.
    layers : sequence of layers, optional
        `Coupling`, `Autoregressive`, `Permutation`, `LU`, `Householder`, `ActNorm` and `ContextShift` in generator
        order, base first. By default those of `neural_spline`, and with a context a `ContextShift`, of a size that the
        first `fit` or `initialize` chooses by the number of rows. `parameters` are then new ones. With a shape, by
        default those of `glow`.
    base : Normal, StudentT, Uniform or Mixture, optional
        The density in latent space. By default `Normal`; if `layers` are left to the first fit too, it then becomes the
        `Mixture` of one or more Gaussians that suits the rows.
    support : Real, Positive, Interval, Circle, a sequence or a mapping, optional
        What values the features may take; by default any. There is no mass outside. One is for all features, a sequence
        has one per feature, and a mapping those of some features, by the names in `columns` or by number.
    context : int
        Conditioning features; with any, every call takes ``context=`` of shape ``(n, context)`` or ``(context,)``.
    context_network : ContextNetwork, optional
        A network that reads the context once for all layers, which then read its outputs. By default every layer reads
        the context itself.
    conditioner_precision : {"bfloat16"}, optional
        Precision of the products in the networks of `Coupling` and `Autoregressive`. By default that of the flow. With
        "bfloat16", both factors of a product are rounded to 8 significant bits, and sums are float32 in a fixed order,
        so that results are the same at every level of instructions. Densities and samples are exact for the function
        with the rounded networks, which are step functions. Gradients pass through the rounding as if it were not
        there, and their products are rounded too. Calls take longer than in the precision of the flow, because no
        instructions for bfloat16 are used. Networks with convolutions do not have it, and `context_network` keeps the
        precision of the flow.
    columns, context_columns : sequence of str, optional
        Names of the features and of the conditioning features. By default those of the DataFrame fitted.
    dtype : {"float32", "float64"}
        Precision of the parameters and of the arithmetic inside. Densities are float64 either way.
    seed : int or numpy.random.Generator, optional
        Fixes the initial parameters, random masks and random permutations.
    num_threads : int, optional
        Threads of every call. The default is taken from OpenMP's settings (``OMP_NUM_THREADS``, or all cores).

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range, the layers do not fit `dim`, there is a context network without a
        context, or a network with convolutions is to compute in bfloat16.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(1000, 2)) @ [[1, 0.5], [0, 2]]
    >>> flow = Flow(2, seed=0).fit(x, epochs=10, seed=0)
    >>> flow.log_prob(x[:3]).shape
    (3,)
    >>> flow.sample(5, seed=0).shape
    (5, 2)
    >>> Flow(3, columns=["mass", "ratio", "drift"], support={"mass": Positive(), "ratio": Interval(0, 1)}).support
    (Positive(), Interval(low=0.0, high=1.0), Real())
    """

    history: History | None
    """The curves of the last fit; None before any."""

    def __init__(
        self,
        dim: int | None = None,
        *,
        shape: Sequence[int] | None = None,
        layers: Sequence[Layer] | None = None,
        base: Base | None = None,
        support: Support | Sequence[Support] | Mapping[Any, Support] | None = None,
        context: int = 0,
        context_network: ContextNetwork | None = None,
        conditioner_precision: Literal["bfloat16"] | None = None,
        columns: Sequence[str] | None = None,
        context_columns: Sequence[str] | None = None,
        dtype: npt.DTypeLike = "float32",
        seed: Seed = None,
        num_threads: int | None = None,
    ) -> None:
        dim, row = features_of(dim, shape, _MOST_FEATURES)
        context = _checks.integer("context", context, 0, _MOST_FEATURES)
        if not isinstance(context_network, ContextNetwork | None):
            raise TypeError(f"context_network must be ContextNetwork() or None, not {context_network!r}")
        description.check_context_network(context_network, context)
        if base is not None and not isinstance(base, Base):
            raise TypeError(f"base must be {one_of(BASES)}, not {base!r}")
        columns = checked_names("columns", columns, dim)
        support = supports.resolve(support, dim, columns)
        rng = np.random.default_rng(seed)
        if layers is not None and not isinstance(layers, Sequence):
            raise TypeError(f"layers must be a sequence of layers, not {layers!r}")
        precision = description.precision(dtype)
        if conditioner_precision is not None:
            description.check_conditioner_precision(conditioner_precision)
        self._state = new(
            dim, context, context_network, precision, base, support, layers, rng, row, conditioner_precision
        )
        self.columns, self.context_columns = columns, context_columns
        self.num_threads = num_threads
        self.history = None

    # -- what it is ----------------------------------------------------------------------------------------------

    @property
    def context_network(self) -> ContextNetwork | None:
        """The network that reads the context for all layers; None if they read it themselves."""
        return self._state.context_network

    @property
    def conditioner_precision(self) -> Literal["bfloat16"] | None:
        """Precision of the products in the layers' networks; None if it is that of the flow.

        Examples
        --------
        >>> Flow(2, conditioner_precision="bfloat16").conditioner_precision
        'bfloat16'
        """
        return self._state.conditioner_precision

    @property
    def dtype(self) -> np.dtype[Any]:
        """Precision of the parameters and of the arithmetic inside."""
        return self._state.dtype

    @property
    def base(self) -> Base:
        """The density in latent space."""
        return self._state.base

    @property
    def layers(self) -> list[Layer]:
        """The layers as they were described, in generator order."""
        return self._state.layers

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the features: those of the DataFrame fitted, or as assigned; None if they are not known.

        A DataFrame with other names, or with the same in another order, is refused by every call.
        """
        return self._state.columns

    @columns.setter
    def columns(self, names: Sequence[str] | None) -> None:
        self._state.columns = names

    @property
    def context_columns(self) -> tuple[str, ...] | None:
        """Names of the conditioning features, in the same way."""
        return self._state.context_columns

    @context_columns.setter
    def context_columns(self, names: Sequence[str] | None) -> None:
        self._state.context_columns = names

    @property
    def num_threads(self) -> int:
        """Threads of every call. Set to None for the default, taken from OpenMP's settings."""
        return self._state.num_threads

    @num_threads.setter
    def num_threads(self, value: int | None) -> None:
        self._state.threads = None if value is None else threads.check("num_threads", value)

    def __repr__(self) -> str:
        layers = "".join(f"        {layer!r},\n" for layer in self.layers)
        entries: object = self.support if len(set(self.support)) > 1 else self.support[0]
        support = "" if supports.are_real(self.support) else f"    support={entries!r},\n"
        context = f"    context={self.context},\n" if self.context else ""
        if self.context_network is not None:
            context += f"    context_network={self.context_network!r},\n"
        if self.conditioner_precision is not None:
            context += f"    conditioner_precision={self.conditioner_precision!r},\n"
        features = self.dim if self.shape is None else f"shape={self.shape}"
        return (
            f"Flow(\n    {features},\n    layers=[\n{layers}    ],\n    base={self.base!r},\n{support}{context}"
            f"    dtype={self.dtype.name!r},\n)"
        )

    # -- parameters ----------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Floats:
        """What training changes, as one contiguous (p,) array in the flow's dtype: a live view, writable in place.

        Assigning copies the values in.

        Examples
        --------
        >>> flow = Flow(2, seed=0)
        >>> flow.parameters = 0 * flow.parameters
        >>> bool((flow.parameters == 0).all())
        True
        """
        return self._state.parameters

    @parameters.setter
    def parameters(self, values: npt.ArrayLike) -> None:
        array = _checks.floats(values, "parameters")
        parameters = self.parameters
        if array.shape != parameters.shape:
            raise ValueError(f"parameters has shape {array.shape}; this flow has {parameters.shape}")
        parameters[...] = array

    def named_parameters(self) -> dict[str, Floats]:
        """Return each block of the parameters by name, as writable views on `parameters`.

        Returns
        -------
        dict of str to array
            A dense layer's weight is (outputs, inputs).

        Examples
        --------
        >>> flow = Flow(2, layers=[Coupling(conditioner=MLP(hidden=(8,)))])
        >>> {name: values.shape for name, values in flow.named_parameters().items()}
        {'layers.0.conditioner.0.weight': (8, 1), 'layers.0.conditioner.0.bias': (8,), \
'layers.0.conditioner.1.weight': (2, 8), 'layers.0.conditioner.1.bias': (2,)}
        """
        return self._state.named_parameters()

    # -- densities and samples -----------------------------------------------------------------------------------

    def density_threshold(
        self, level: float, context: npt.ArrayLike | None = None, *, n: int = 10_000, seed: Seed = None
    ) -> Doubles:
        """Return the log density above which a share of the mass lies: the edge of the region of highest density.

        It is the quantile of the log densities of `n` draws (Hyndman 1996), the same draws for the same seed. A region
        that is to hold the share p of the mass holds p to within sqrt(p (1 - p) / n), one standard error.

        Parameters
        ----------
        level : float
            The share of the mass inside, above 0 and below 1.
        context : (..., context) array, optional
            Conditions, each of which has its own threshold.
        n : int
            Draws for each condition, at least 1.
        seed : int or numpy.random.Generator, optional
            Fixes the draws.

        Returns
        -------
        (...) array of float64
            A log density for each condition; without a context of shape ().

        Raises
        ------
        TypeError, ValueError
            If the level or `n` is out of its range, or the context has the wrong shape or type.

        Examples
        --------
        >>> import numpy as np
        >>> flow = Flow(2, base=Normal(), layers=[])  # of a standard normal, 95 % are within a radius of sqrt(5.99)
        >>> bool(abs(flow.density_threshold(0.95, seed=0) + np.log(2 * np.pi) + 5.99 / 2) < 0.1)
        True
        """
        level = _checks.number("level", level, 0.0, 1.0, closed="neither")
        n = _checks.integer("n", n, 1)
        conditions = _checks.conditions(context, self.context, self.context_columns, ())
        shape = () if conditions is None else conditions.shape[:-1]
        _, density = self._sample((n, *shape), conditions, seed, 1.0, with_log_prob=True)
        return np.asarray(np.quantile(density, 1 - level, axis=0))

    def check(
        self,
        x: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
        seed: Seed = None,
    ) -> Report:
        """Compare the flow with rows that it was not fitted to.

        The rows are scored, carried to the latent side and back, tested there for the base density, and set against
        samples: by a classifier, if scikit-learn is installed (a few seconds). Of more than 100,000 rows all are
        scored, and the rest is done on so many drawn at random; the classifier gets 5,000. Rows of a flow with a
        context are also ranked among 200 draws under the condition of each, at most 1,000 of them.

        Parameters
        ----------
        x : (n, dim) array
            Rows held out of the fit, at least 2; hundreds tell more. `Files` are read in pieces.
        context : (n, context) or (context,) array, optional
            Conditions of each row or of all.
        weights : (n,) array, optional
            Non-negative weights of the rows; the scale does not matter.
        seed : int or numpy.random.Generator, optional
            Fixes the parts for cross-validation and the samples.

        Returns
        -------
        Report
            The numbers, and in ``report.next`` what to try next. It prints as a few lines.

        Raises
        ------
        TypeError, ValueError
            Before any work, if an array has the wrong shape or type, or holds NaN or infinity or a value outside its
            support.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(1200, 2))
        >>> flow = Flow(2, layers=[]).initialize(x[:1000])  # a Gaussian, as these rows are
        >>> flow.check(x[1000:], seed=0).next
        'No problem detected in 200 rows.'
        """
        from pushforward._check import diagnostics

        return diagnostics.check(self._state, self.history, x, context, weights, seed)

    # -- questions -----------------------------------------------------------------------------------------------

    def conditional(
        self,
        known: Mapping[Any, npt.ArrayLike],
        context: npt.ArrayLike | None = None,
        *,
        draws: int = 400,
        steps: int = 200,
        seed: Seed = 0,
    ) -> Conditional:
        """Return the density of the other columns given some.

        It is exact where the flow is triangular with the known columns first (see `triangular`). One unknown column is
        normalised on a grid. Several are drawn by importance sampling, from a mixture fitted to draws of the flow and
        then to the draws of each row; rows whose weights stay uneven get 32 chains that move by Hamiltonian dynamics.

        Parameters
        ----------
        known : mapping of str or int to float or (n,) array
            Values of the columns that are known, by name or number. Single numbers are for all rows.
        context : (n, context) or (context,) array, optional
            Conditions of each row or of all.
        draws : int
            Weighted draws of each row with several unknown columns, at least 50.
        steps : int
            The most steps that chains may take; 0 for no chains.
        seed : int or numpy.random.Generator, optional
            Fixes the draws.

        Returns
        -------
        Conditional
            With `log_prob`, `sample`, `mean`, `quantile`, and the error and diagnostics of each row.

        Raises
        ------
        TypeError, ValueError
            Before any work, if a column is not one of the flow's, no column or every column is known, a value is NaN,
            infinite or outside its support, or an option is out of its range.

        Examples
        --------
        >>> flow = Flow(3, layers=triangular(3, depth=1, hidden=(8,)), dtype="float64", seed=0)
        >>> given = flow.conditional({0: [0.0, 1.0]})
        >>> given.sample(5, seed=0).shape
        (5, 2, 2)
        """
        from pushforward._questions.conditional import conditional

        return conditional(self._state.copy(), known, context, draws, steps, seed)

    def marginal(self, columns: Sequence[Any], *, draws: int = 400, steps: int = 200, seed: int = 0) -> Marginal:
        """Return the density of some columns, whatever the others are.

        Parameters
        ----------
        columns : sequence of str or int
            The columns, by name or number, in the order that points shall have.
        draws, steps : int
            As those of `conditional`, for the integral over the other columns.
        seed : int
            Fixes the draws of that integral.

        Returns
        -------
        Marginal
            With `log_prob`, `log_prob_and_error` and `sample`.

        Raises
        ------
        TypeError, ValueError
            If a column is not one of the flow's, or comes twice, or an option is out of its range.
        """
        from pushforward._questions.conditional import marginal

        return marginal(self._state.copy(), columns, draws, steps, seed)

    def impute(
        self,
        x: npt.ArrayLike,
        context: npt.ArrayLike | None = None,
        *,
        method: Literal["draw", "mean"] = "draw",
        copies: int | None = None,
        draws: int = 200,
        steps: int = 200,
        seed: Seed = None,
    ) -> Floats:
        """Fill the gaps of rows, by what is known of each row.

        Parameters
        ----------
        x : (n, dim) array
            Rows; NaN is a gap.
        context : (n, context) or (context,) array, optional
            Conditions of each row or of all.
        method : {"draw", "mean"}
            Whether gaps are filled with a draw of their joint conditional density, which keeps spread and correlations,
            or with its mean, which is closest on average.
        copies : int, optional
            How many times to fill all gaps with draws, for multiple imputation (Rubin 1987), at least 1.
        draws, steps : int
            As those of `conditional`.
        seed : int or numpy.random.Generator, optional
            Fixes the draws.

        Returns
        -------
        (n, dim) array
            The rows without gaps, in the dtype of `x`; with `copies`, (copies, n, dim). There is a warning if chains
            have not converged.

        Raises
        ------
        TypeError, ValueError
            Before any work, if `x` has the wrong shape or type, or a value that is infinite or outside its support.

        Examples
        --------
        >>> import numpy as np
        >>> flow = Flow(2, layers=[LU()], dtype="float64", seed=0)
        >>> bool(np.isfinite(flow.impute([[0.5, np.nan], [1.0, 2.0]], seed=0)).all())
        True
        """
        from pushforward._questions.impute import impute

        filled = impute(self._state.copy(), flat(x, self.shape, "x"), context, method, copies, (draws, steps, seed))
        return filled if self.shape is None else filled.reshape((*filled.shape[:-1], *self.shape))

    # -- files and copies ----------------------------------------------------------------------------------------

    def _to_file(self) -> tuple[dict[str, Any], dict[str, Array]]:
        if not np.isfinite(self.parameters).all():
            raise ValueError("the flow's parameters hold NaN or infinity; such a file could not be loaded")
        return files.content_of(self._state, to_json(self.history))

    @classmethod
    def _of_file(cls, content: dict[str, Any], tensors: dict[str, Array]) -> Flow:
        flow = cls.__new__(cls)
        state, training = files.flow_of(content, tensors)
        flow._state, flow.history = state, from_json(training)
        return flow

    def astype(self, dtype: npt.DTypeLike) -> Flow:
        """Return a copy whose parameters, and the arithmetic inside, have another precision.

        Parameters
        ----------
        dtype : {"float32", "float64"}
            The precision.

        Returns
        -------
        Flow
            The same density, to what rounding in the coarser precision comes to.

        Raises
        ------
        ValueError
            If `dtype` is none of those.

        Examples
        --------
        >>> Flow(2, seed=0).astype("float64").dtype
        dtype('float64')
        """
        content, tensors = files.content_of(self._state, to_json(self.history))
        content["model"] = {**content["model"], "dtype": description.precision(dtype)}
        for name in self.named_parameters():
            tensors[name] = tensors[name].astype(content["model"]["dtype"])
        twin = type(self).__new__(type(self))
        twin.__setstate__({"content": content, "tensors": tensors, **copy.deepcopy(self._not_in_files())})
        return twin

    def __getstate__(self) -> dict[str, Any]:
        content, tensors = files.content_of(self._state, to_json(self.history))
        copies = {name: values.copy() for name, values in tensors.items()}
        return {"content": content, "tensors": copies, **self._not_in_files()}

    def _not_in_files(self) -> dict[str, Any]:
        """Return what copies of a flow have, and files do not."""
        return {"threads": self._state.threads, "open": self._state.open, "left_open": self._state.left_open}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Through JSON, as from a file: the copy shares nothing with the flow, and tuples become lists.
        content: dict[str, Any] = json.loads(json.dumps(state["content"]))
        self._state = files.restore(content, state["tensors"])
        self._state.threads, self._state.open = state["threads"], state.get("open")
        self._state.left_open = state.get("left_open", ())
        self.history = from_json(files.training_of(content))
