"""Taking over neural spline flows that were trained with nflows or zuko; neither they nor PyTorch are imported."""

from __future__ import annotations

import math

import numpy.typing as npt

from pushforward import _checks
from pushforward.convert import nflows, zuko
from pushforward.convert.model import assemble, check_equal, open_model
from pushforward.flow import Flow

__all__ = ["from_nflows", "from_zuko"]


def from_nflows(
    flow: object,
    *,
    bound: float | None = None,
    activation: str | None = None,
    min_width: float | None = None,
    min_height: float | None = None,
    min_slope: float | None = None,
    dtype: npt.DTypeLike | None = None,
) -> Flow:
    """Take over a flow of nflows: the same density, in evaluation mode.

    Parameters
    ----------
    flow : nflows.flows.Flow, or mapping of str to tensor or array
        The flow itself, or its ``state_dict()``.
    bound : float, optional
        `tail_bound` of every spline; like the following ones only with a state dict, which does not tell it. By
        default 1.
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}, optional
        That of every network; by default "relu".
    min_width, min_height, min_slope : float, optional
        `min_bin_width`, `min_bin_height` and `min_derivative` of every spline; by default 1e-3.
    dtype : {"float32", "float64"}, optional
        Precision of the result; by default that of the tensors.

    Returns
    -------
    Flow
        Its layers are in generator order, the reverse of nflows'. A fit continues from its parameters.

    Raises
    ------
    TypeError, ValueError
        If there is no layer for a module, named by its path; if an array is unknown, missing, of another shape or
        not finite; if an option is out of its range, or comes with a module; or if the density of a module's copy is
        another than that of the result.

    Notes
    -----
    Converted are rational-quadratic splines with linear tails (Durkan et al. 2019) in couplings, with or without
    `apply_unconditional_transform`, whose network is a `ResidualNet` or a subclass of `MLP`, and in masked
    autoregressive transforms, with residual blocks or without; `LULinear`, permutations, `ActNorm`, `BatchNorm` (its
    running statistics), `PointwiseAffineTransform`; composites of these; and the bases `StandardNormal` and
    `DiagonalNormal`. Flows with context are not converted: nflows' networks use the context in ways that ours do not.

    A state dict does not contain every setting. The conversion assumes that every spline is rational-quadratic, that
    the base is one of those two, that no transform without arrays is last, and that `eps` has nflows' default. A module
    contains all settings.

    Affine couplings are not converted. In nflows they are affine in x, with a scale that is a sigmoid or a softplus;
    here they are affine in z.

    Examples
    --------
    >>> state = {
    ...     "_transform._transforms.0._permutation": [1, 2, 0],
    ...     "_transform._transforms.1.log_scale": [0.0, 0.5, 1.0],
    ...     "_transform._transforms.1.shift": [1.0, 0.0, 0.0],
    ... }
    >>> flow = from_nflows(state)
    >>> flow.layers
    [ActNorm(), Permutation(order=(2, 0, 1))]
    >>> z, log_det = flow.inverse([[0.0, 1.0, 2.0]])
    >>> z.round(3).tolist(), log_det.tolist()
    ([[2.0, 3.297, 0.0]], [1.5])
    """
    options = {"bound": bound, "activation": activation, "min_width": min_width, "min_height": min_height}
    options["min_slope"] = min_slope
    usual = {"bound": 1.0, "activation": "relu", "min_width": 1e-3, "min_height": 1e-3, "min_slope": 1e-3}
    model = open_model(flow, "nflows", options, usual)
    for name in ("bound", "min_width", "min_height", "min_slope"):
        if options[name] is not None:
            _checks.number(name, options[name], 0.0, math.inf if name == "bound" else 1.0, closed="neither")
    if not (model.holds("_transform") if not model.modules else "_transform" in model.modules):
        raise TypeError("flow must be a flow of nflows or its state_dict(), whose names begin with _transform")

    model.dim = nflows.dim_of(model)
    pieces = model.read_layer("_transform", nflows.LAYERS) + nflows.base(model)
    result = assemble(pieces, model, dtype)
    if model.modules:
        check_equal(result, model, lambda twin, x, context: twin.log_prob(x))
    return result


def from_zuko(
    flow: object,
    *,
    bound: float | None = None,
    slope: float | None = None,
    activation: str | None = None,
    dtype: npt.DTypeLike | None = None,
) -> Flow:
    """Convert a flow of zuko to a `Flow` with the same density.

    Parameters
    ----------
    flow : zuko.lazy.Flow, or mapping of str to tensor or array
        The flow itself, or its ``state_dict()``.
    bound : float, optional
        That of every spline; like the following ones only with a state dict, which does not tell it. By default 5.
    slope : float, optional
        The least slope of every spline; by default 1e-3.
    activation : {"relu", "silu", "tanh", "gelu", "elu", "leaky_relu"}, optional
        That of every network; by default "relu".
    dtype : {"float32", "float64"}, optional
        Precision of the result; by default that of the tensors.

    Returns
    -------
    Flow
        Its layers are in generator order, the reverse of zuko's. A fit continues from its parameters.

    Raises
    ------
    TypeError, ValueError
        If there is no layer for a module, named by its path; if an array is unknown, missing, of another shape or
        not finite; if an option is out of its range, or comes with a module; or if the density of a module's copy is
        another than that of the result.

    Notes
    -----
    Converted are `NSF`, in any number of passes and any order, with context or without, and what is built of the
    same parts: `MonotonicRQSTransform` in `MaskedAutoregressiveTransform` (with `adjacency` too: a network's missing
    connections become zeros), `GeneralCouplingTransform` and `ElementWiseTransform`; `PermutationTransform`,
    `LULinearTransform` with a positive diagonal, and affine transforms without a network, as unconditional ones; and
    the base `DiagNormal`.

    Not converted are residual networks (their blocks have one activation, ours two), layer normalisation, circular
    splines, rotations, and affine transforms with a network (theirs are affine in x, ours in z). A state dict does not
    contain every setting: the conversion assumes that every univariate transform is a spline with linear tails, and
    that no transform without arrays is last.

    Examples
    --------
    >>> import numpy as np
    >>> state = {"base.loc": [0.0], "base.scale": [1.0]}
    >>> state |= {f"transform.transforms.0.phi.{i}": np.zeros((1, n)) for i, n in enumerate((4, 4, 3))}
    >>> flow = from_zuko(state, bound=3.0)
    >>> flow.layers[0].transform
    RationalQuadratic(bins=4, bound=3.0, min_width=0.001, min_height=0.001, min_slope=0.001, scheme='clip')
    >>> flow.inverse([[0.5]])[0].tolist()
    [[0.5]]
    """
    options = {"bound": bound, "slope": slope, "activation": activation}
    model = open_model(flow, "zuko", options, {"bound": 5.0, "slope": 1e-3, "activation": "relu"})
    for name, high in (("bound", math.inf), ("slope", 1.0)):
        if options[name] is not None:
            _checks.number(name, options[name], 0.0, high, closed="neither")
    if not (model.holds("base") if not model.modules else {"transform", "base"} <= model.modules.keys()):
        raise TypeError("flow must be a flow of zuko or its state_dict(), with names such as base.loc")

    base = zuko.base(model)
    pieces = model.read_layer("transform", zuko.LAYERS) + base
    result = assemble(pieces, model, dtype)
    if model.modules:
        check_equal(result, model, lambda twin, x, context: twin(context).log_prob(x))
    return result
