"""Flows as scikit-learn estimators: `FlowDensity`, a density and a transformer, and `ConditionalFlow`, a regressor.

They take plain settings, so that they can be cloned, searched over and put in pipelines; the flow that a fit makes is
`flow_`. Needs scikit-learn: ``pip install "pushforward[sklearn]"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    from scipy import special
    from scipy.stats.qmc import Sobol
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        DensityMixin,
        RegressorMixin,
        TransformerMixin,
    )
    from sklearn.utils import check_array, check_consistent_length, check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise ImportError('these estimators need scikit-learn 1.6 or newer: pip install "pushforward[sklearn]"') from None

from pushforward import _checks
from pushforward._fit.optimizer import Adam
from pushforward._io.rows import Rows
from pushforward._io.scan import check_density
from pushforward._model import latent, supports
from pushforward._model.bases import Base
from pushforward._model.layer import Layer
from pushforward._model.networks import ContextNetwork
from pushforward._model.presets import PRESETS, neural_spline
from pushforward._model.state import state_of
from pushforward._model.supports import Support
from pushforward._typing import Array, Doubles, Floats
from pushforward.flow import Flow

_FLOATS = (np.float64, np.float32)
_TARGET: dict[str, Any] = {"dtype": _FLOATS, "ensure_2d": False}

# A mean over one target: the trapezoidal rule out to 6 deviations of a standard normal. It is exact to many digits for
# a smooth map; where the map jumps between two modes, a step of 1/32 misses at most 0.6 % of the jump.
_NODES = np.linspace(-6, 6, 385)
# Over several targets, points of a Sobol sequence (Sobol 1967): a power of two, as its balance wants. Each target by
# itself gets the midpoints of so many equal shares.
_POINTS = 1 << 10
_CHUNK_NUMBERS = 1 << 22


class _FlowEstimator(BaseEstimator):  # type: ignore[misc]
    """The settings of a flow and of its fit, and the fit itself."""

    def __init__(
        self,
        *,
        layers: str | Callable[..., Sequence[Layer]] | Sequence[Layer] | None = None,
        depth: int | None = None,
        hidden: int | Sequence[int] | None = None,
        base: Base | None = None,
        support: Support | Sequence[Support] | Mapping[Any, Support] | None = None,
        dtype: str = "float32",
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float | None = None,
        validation: float | None = 0.1,
        patience: int | None = 30,
        max_time: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        num_threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.layers = layers
        self.depth = depth
        self.hidden = hidden
        self.base = base
        self.support = support
        self.dtype = dtype
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.validation = validation
        self.patience = patience
        self.max_time = max_time
        self.random_state = random_state
        self.num_threads = num_threads
        self.verbose = verbose

    def _fit_flow(
        self,
        x: Array,
        context: Array | None,
        sample_weight: npt.ArrayLike | None,
        groups: npt.ArrayLike | None,
        columns: Sequence[str] | None,
        context_network: ContextNetwork | None = None,
    ) -> Flow:
        """Fit a flow to the distinct rows."""
        weights = _checks.row_weights(sample_weight, len(x))
        labels = None if groups is None else _checks.labels(groups, len(x), "groups")
        # Equal rows of two groups stay two.
        keys = [part for part in (x, context, None if labels is None else labels[:, None]) if part is not None]
        kept, weights = _distinct(keys, weights)
        x, context = x[kept], None if context is None else context[kept]
        labels = None if labels is None else labels[kept]
        held = _checks.number("validation", self.validation or 0.0, 0.0, 1.0, closed="left", what="a fraction or None")
        seed = _seed(self.random_state)
        flow = Flow(
            x.shape[1],
            layers=self._layers(x.shape[1]),
            base=self.base,
            support=self.support,
            context=0 if context is None else context.shape[1],
            context_network=context_network,
            columns=columns,
            dtype=self.dtype,
            seed=seed,
            num_threads=self.num_threads,
        )
        return flow.fit(
            x,
            context=context,
            weights=weights,
            groups=labels,
            validation=held,
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=Adam(self.learning_rate, weight_decay=self.weight_decay),
            max_time=self.max_time,
            patience=self.patience,
            seed=seed,
            progress=bool(self.verbose),
        )

    def _rows(self, X: npt.ArrayLike) -> Array:
        """Check rows to use a fitted flow on."""
        check_is_fitted(self)
        rows: Array = validate_data(self, X, dtype=_FLOATS, reset=False)
        return rows

    def _layers(self, dim: int) -> Sequence[Layer] | None:
        """Return the layers; None for those that suit the rows."""
        options = {name: getattr(self, name) for name in ("depth", "hidden") if getattr(self, name) is not None}
        if self.layers is None and not options:
            return None
        if self.layers is None:
            return neural_spline(dim, **options)
        if isinstance(self.layers, str):
            return PRESETS[_checks.choice("layers", self.layers, PRESETS, note="the presets")](dim, **options)
        if callable(self.layers):
            return self.layers(dim, **options)
        if options:
            raise ValueError(f"{' and '.join(options)} change a preset; with a list of layers, leave them None")
        return self.layers


class FlowDensity(DensityMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _FlowEstimator):  # type: ignore[misc]
    """Density of the rows of a table by a normalizing flow; as a transformer, to and from its latent side.

    Equal rows are fitted as one, with their weights added, and the order of rows does not matter. So a weight of 2 is
    the same as the row twice, and the copies of a row, as there are in a bootstrap or a sampler's chain, never stand
    among the training rows and the validation rows at once.

    Parameters
    ----------
    layers : str, callable or sequence of layers, optional
        By default `neural_spline` of a size that suits the rows.
        A preset, ``"neural_spline"``, ``"realnvp"``, ``"nice"`` or ``"maf"``; a function of the number of features
        that returns layers, such as ``functools.partial(neural_spline, bins=16, dropout=0.1)``; or the layers.
    depth : int, optional
        Couplings or other layers of the preset; by default its own number.
    hidden : int or sequence of int, optional
        Widths of the preset's networks; by default its own.
    base : Normal, StudentT, Uniform or Mixture, optional
        The density of the latent side; by default `Normal`, or a `Mixture` that suits the rows if `layers`, `depth` and
        `hidden` are left alone too.
    support : Real, Positive, Interval, Circle, Pixel, a sequence or a mapping, optional
        What values the features may take; by default any. A sequence has one per feature, a mapping those of some
        features, by the names in a DataFrame or by number.
    dtype : {"float32", "float64"}
        Precision of the flow's parameters and arithmetic.
    epochs : int, optional
        Passes over the training rows; by default as for `Flow.fit`.
    batch_size : int, optional
        Rows of a step; by default as for `Flow.fit`.
    learning_rate : float
        Of Adam, above 0.
    weight_decay : float, optional
        Of Adam, at least 0; by default as for `Flow.fit`, by the number of training rows.
    validation : float, optional
        The fraction of rows held out to choose the best epoch by, in [0, 1); with None or 0 the last one is taken.
    patience : int, optional
        Stop after so many epochs without a better validation loss; None never.
    max_time : float, optional
        Seconds after which to stop a fit. With it, a fit cannot be repeated to the last bit.
    random_state : int, RandomState or None
        Fixes the first parameters, the rows held out and their shuffling: an int makes every fit the same.
    num_threads : int, optional
        Threads of every call; by default what OpenMP would use.
    verbose : bool
        Whether to show a progress bar.

    Attributes
    ----------
    flow_ : Flow
        The fitted flow, with its `history`, and `save`.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : (n_features_in_,) array of str
        Their names, if the table fitted was a DataFrame with such names.

    Examples
    --------
    >>> import numpy as np
    >>> from pushforward.sklearn import FlowDensity
    >>> from sklearn.model_selection import GridSearchCV
    >>> X = np.random.default_rng(0).gamma(3.0, size=(300, 2))
    >>> model = FlowDensity(epochs=5, hidden=16, random_state=0).fit(X)
    >>> model.score_samples(X[:3]).shape
    (3,)
    >>> search = GridSearchCV(model, {"layers": ["neural_spline", "maf"], "depth": [1, 2], "hidden": [(16,)]}, cv=2)
    >>> sorted(search.fit(X).best_params_)
    ['depth', 'hidden', 'layers']
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.flow_.dim

    def fit(
        self,
        X: npt.ArrayLike,
        y: object = None,
        sample_weight: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> FlowDensity:
        """Fit the density.

        Parameters
        ----------
        X : (n, n_features) array or DataFrame
            Rows of data, at least two.
        y : ignored
            There for pipelines.
        sample_weight : (n,) array, optional
            Non-negative weights of the rows; the scale does not matter.
        groups : (n,) array of any type, optional
            Labels of rows that belong together, such as those of one person: whole groups are held out.

        Returns
        -------
        FlowDensity
            This estimator.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type, or holds NaN or infinity, a value outside its support or a
            constant feature, or if a setting is out of its range.
        TrainingDivergedError
            If the loss keeps becoming non-finite although the learning rate was lowered.
        """
        x = validate_data(self, X, dtype=_FLOATS, ensure_min_samples=2)
        self.flow_ = self._fit_flow(x, None, sample_weight, groups, _names(self))
        return self

    def score_samples(self, X: npt.ArrayLike) -> Floats:
        """Return the log density of each row.

        Parameters
        ----------
        X : (n, n_features) array or DataFrame
            Rows of data.

        Returns
        -------
        (n,) array of float64
            log p in nats; -inf where a value is outside its support.

        Raises
        ------
        TypeError, ValueError
            If `X` has the wrong shape or type, other names of features, or holds NaN or infinity.
        """
        x = self._rows(X)
        return self.flow_.log_prob(x)

    def score(self, X: npt.ArrayLike, y: object = None) -> float:
        """Return the mean log density of rows, in nats.

        Parameters and errors are those of `score_samples`; `y` is ignored.
        """
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> Floats:
        """Draw rows from the density.

        Parameters
        ----------
        n_samples : int
            Rows, at least 0.
        random_state : int, RandomState or None
            Fixes the rows drawn.

        Returns
        -------
        (n_samples, n_features) array
            In the dtype of the data fitted.

        Raises
        ------
        TypeError, ValueError
            If `n_samples` is not such an integer.
        """
        check_is_fitted(self)
        return self.flow_.sample(n_samples, seed=_seed(random_state))

    def transform(self, X: npt.ArrayLike) -> Floats:
        """Carry rows to the latent side, where they follow the base.

        Parameters and errors are those of `score_samples`.

        Returns
        -------
        (n, n_features) array
            z in the dtype of `X`; NaN in rows with a value outside its support.
        """
        x = self._rows(X)
        return self.flow_.inverse(x)[0]

    def inverse_transform(self, X: npt.ArrayLike) -> Floats:
        """Carry latent rows to the data's side.

        Parameters
        ----------
        X : (n, n_features) array or DataFrame
            Rows of the latent side.

        Returns
        -------
        (n, n_features) array
            Rows of data, in the dtype of `X`.

        Raises
        ------
        TypeError, ValueError
            If `X` has the wrong shape or type, or holds NaN or infinity.
        """
        check_is_fitted(self)
        return self.flow_.forward(check_array(X, dtype=_FLOATS, input_name="X"))[0]


class ConditionalFlow(RegressorMixin, _FlowEstimator):  # type: ignore[misc]
    """Density of a target given the features, p(y | X), by a conditional flow: a regressor with the whole distribution.

    The target may be skewed, have several modes, be bounded, or have several columns that depend on each other.

    Parameters are those of `FlowDensity`, and one more; `layers`, `base` and `support` apply to the target, and rows
    are equal if their features and targets are. `score` is R², as for every regressor; to choose settings by the
    density, pass ``scoring=lambda model, X, y: model.log_prob(X, y).mean()`` to a search.

    Parameters
    ----------
    context_network : ContextNetwork, optional
        A network that reads the features once for all layers, which then read its outputs: for dozens of features or
        more. By default every layer reads the features themselves.

    Attributes
    ----------
    flow_ : Flow
        The fitted flow over the target, with the features as its context.
    n_features_in_ : int
        Number of features.
    n_outputs_ : int
        Columns of the target.
    feature_names_in_ : (n_features_in_,) array of str
        Names of the features, if they were a DataFrame with such names.

    Examples
    --------
    >>> import numpy as np
    >>> from pushforward.sklearn import ConditionalFlow
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(1, 3, size=(500, 1))
    >>> y = X[:, 0] * rng.gamma(3.0, size=500)
    >>> model = ConditionalFlow(depth=2, hidden=16, random_state=0).fit(X, y)
    >>> model.predict([[1.0], [2.0]]).shape
    (2,)
    >>> low, high = model.predict_quantiles([[2.0]], [0.05, 0.95])[0]
    >>> bool(low < model.predict([[2.0]])[0] < high)
    True
    """

    def __init__(
        self,
        *,
        layers: str | Callable[..., Sequence[Layer]] | Sequence[Layer] | None = None,
        depth: int | None = None,
        hidden: int | Sequence[int] | None = None,
        context_network: ContextNetwork | None = None,
        base: Base | None = None,
        support: Support | Sequence[Support] | Mapping[Any, Support] | None = None,
        dtype: str = "float32",
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float | None = None,
        validation: float | None = 0.1,
        patience: int | None = 30,
        max_time: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        num_threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            layers=layers,
            depth=depth,
            hidden=hidden,
            base=base,
            support=support,
            dtype=dtype,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            validation=validation,
            patience=patience,
            max_time=max_time,
            random_state=random_state,
            num_threads=num_threads,
            verbose=verbose,
        )
        self.context_network = context_network

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> ConditionalFlow:
        """Fit the density of the target given the features.

        Parameters
        ----------
        X : (n, n_features) array or DataFrame
            The features of each row; at least two rows.
        y : (n,) or (n, n_outputs) array
            The target.
        sample_weight : (n,) array, optional
            Non-negative weights of the rows; the scale does not matter.
        groups : (n,) array of any type, optional
            Labels of rows that belong together, such as those of one person: whole groups are held out.

        Returns
        -------
        ConditionalFlow
            This estimator.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type, or holds NaN or infinity, if the target has a value outside its
            support or a constant column, or if a setting is out of its range.
        TrainingDivergedError
            If the loss keeps becoming non-finite although the learning rate was lowered.
        """
        names = _checks.column_names(y)
        x, target = validate_data(
            self, X, y, validate_separately=({"dtype": _FLOATS, "ensure_min_samples": 2}, _TARGET)
        )
        check_consistent_length(x, target)
        self._is_single = target.ndim == 1
        target = target.reshape(len(target), -1)
        self.n_outputs_ = target.shape[1]
        weights = _checks.row_weights(sample_weight, len(target))
        check_density(Rows.of(target, None, weights), supports.resolve(self.support, self.n_outputs_, names), "y")
        self.flow_ = self._fit_flow(target, x, sample_weight, groups, names, self.context_network)
        self.flow_.context_columns = _names(self)
        return self

    def predict(self, X: npt.ArrayLike) -> Doubles:
        """Return the mean of the target given the features.

        The result is not random. With one target it is a quadrature over latent space; with several, the mean over
        1,024 points that fill latent space evenly.

        Parameters
        ----------
        X : (n, n_features) array or DataFrame
            The features of each row.

        Returns
        -------
        (n,) or (n, n_outputs) array of float64
            In the shape of the target fitted.

        Raises
        ------
        TypeError, ValueError
            If the features have the wrong shape or type, or the target has a `Circle`.
        """
        x = self._rows(X)
        t, weights = self._latent_points()
        return self._in_shape(np.concatenate([np.einsum("nmk,m->nk", y, weights) for y in self._images(x, t)]))

    def predict_quantiles(self, X: npt.ArrayLike, quantiles: npt.ArrayLike = (0.05, 0.5, 0.95)) -> Doubles:
        """Return quantiles of each target given the features.

        With one target they are exactly those of the flow; with several, those of 1,024 points that fill latent space
        evenly.

        Parameters
        ----------
        X : (n, n_features) array or DataFrame
            The features of each row.
        quantiles : (q,) array
            Shares of the mass below, in (0, 1).

        Returns
        -------
        (n, q) or (n, n_outputs, q) array of float64
            By the shape of the target fitted.

        Raises
        ------
        TypeError, ValueError
            If the features or the quantiles have the wrong shape, type or range, or the target has a `Circle`.
        """
        x = self._rows(X)
        shares = _checks.floats(quantiles, "quantiles").astype(np.float64)
        if shares.ndim != 1 or not ((shares > 0) & (shares < 1)).all():
            raise ValueError(f"quantiles must be a sequence of numbers in (0, 1), not {quantiles!r}")
        if self.n_outputs_ == 1:
            t = special.ndtri(shares if latent.is_increasing(state_of(self.flow_)) else 1 - shares)[:, None]
            parts = list(self._images(x, t))
        else:
            t, _ = self._latent_points()
            parts = [np.quantile(y, shares, axis=1).swapaxes(0, 1) for y in self._images(x, t)]
        return self._in_shape(np.concatenate(parts).swapaxes(1, 2))

    def sample(
        self, X: npt.ArrayLike, n_samples: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> Floats:
        """Draw targets given the features.

        Parameters
        ----------
        X : (n, n_features) array or DataFrame
            The features of each row.
        n_samples : int
            Draws for each row, at least 0.
        random_state : int, RandomState or None
            Fixes the draws.

        Returns
        -------
        (n, n_samples) or (n, n_outputs, n_samples) array
            By the shape of the target fitted, in its dtype.

        Raises
        ------
        TypeError, ValueError
            If the features have the wrong shape or type, or `n_samples` is not such an integer.
        """
        x = self._rows(X)
        each = _checks.integer("n_samples", n_samples)
        y = self.flow_.sample(len(x) * each, context=x.repeat(each, axis=0), seed=_seed(random_state))
        return self._in_shape(y.reshape(len(x), each, self.n_outputs_).swapaxes(1, 2))

    def log_prob(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
        """Return the log density of each row's target given its features.

        Parameters
        ----------
        X : (n, n_features) array or DataFrame
            The features of each row.
        y : (n,) or (n, n_outputs) array
            Their targets.

        Returns
        -------
        (n,) array of float64
            log p(y | X) in nats; -inf where a target is outside its support.

        Raises
        ------
        TypeError, ValueError
            If an array has the wrong shape or type, or holds NaN or infinity.
        """
        x = self._rows(X)
        _checks.names(y, self.flow_.columns, "y")
        target = check_array(y, input_name="y", **_TARGET)
        check_consistent_length(x, target)
        return self.flow_.log_prob(target.reshape(len(target), -1), context=x)

    def _latent_points(self) -> tuple[Array, Array]:
        """Return points of a standard normal that stand for all of it, (m, n_outputs), and their weights, (m,)."""
        if self.n_outputs_ == 1:
            weights = np.exp(-0.5 * _NODES**2)
            return _NODES[:, None], weights / weights.sum()
        points = Sobol(self.n_outputs_, scramble=False).random(_POINTS)
        return special.ndtri(points + 0.5 / _POINTS), np.full(_POINTS, 1 / _POINTS)

    def _images(self, x: Array, t: Array) -> Iterator[Array]:
        """Carry the same latent points to the target under each row's features: (rows, m, n_outputs), a few at a time.

        The points are the same for all rows, so that what is predicted for one does not depend on the others.
        """
        for i, support in enumerate(self.flow_.support):
            if support.wraps:
                raise ValueError(f"target {i} is an angle, {support!r}: it has no mean or quantiles; use sample")
        z = latent.from_normal(state_of(self.flow_), t)
        size = max(1, _CHUNK_NUMBERS // (len(z) * (z.shape[1] + x.shape[1])))
        for first in range(0, len(x), size):
            rows = x[first : first + size]
            y, _ = self.flow_.forward(np.tile(z, (len(rows), 1)), context=rows.repeat(len(z), axis=0))
            yield y.reshape(len(rows), *z.shape)

    def _in_shape(self, values: Array) -> Array:
        """Drop the axis of the targets, the second, where the target fitted had none."""
        return values[:, 0] if self._is_single else values


def _seed(random_state: int | np.random.RandomState | None) -> int:
    if isinstance(random_state, Integral):
        return int(random_state)
    seed: int = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    return seed


def _names(estimator: _FlowEstimator) -> tuple[str, ...] | None:
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else tuple(names)


def _distinct(tables: Sequence[Array], weights: Array | None) -> tuple[Array, Array | None]:
    """Return which rows stand for all, in an order that is theirs alone, and their weights.

    Of equal rows the first stands for all, with the sum of their weights; rows of weight 0 are left out. Weights that
    are all the same are None.
    """
    columns = [column for table in tables for column in table.T]
    order = np.lexsort(columns)
    is_first = np.zeros(len(order), dtype=bool)
    is_first[0] = True
    for column in columns:
        ordered = column[order]
        is_first[1:] |= ordered[1:] != ordered[:-1]
    firsts = np.flatnonzero(is_first)
    totals = np.add.reduceat(np.ones(len(order)) if weights is None else weights[order], firsts)
    kept, totals = order[firsts[totals > 0]], totals[totals > 0]
    return kept, None if (totals == totals[0]).all() else totals
