"""Rows of xarray and ArviZ."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from pushforward import LU, Flow

xarray = pytest.importorskip("xarray")

RNG = np.random.default_rng(0)
MU, THETA = RNG.normal(size=(4, 50)), RNG.normal(size=(4, 50, 3))
NAMES = ("mu", "theta[a]", "theta[b]", "theta[c]")
FLAT = np.concatenate([MU[..., None], THETA], axis=-1)


def dataset() -> Any:
    return xarray.Dataset(
        {"mu": (("chain", "draw"), MU), "theta": (("chain", "draw", "school"), THETA)},
        coords={"school": ["a", "b", "c"], "chain": range(4), "draw": range(50)},
    )


def made() -> Flow:
    return Flow(4, layers=[LU()], seed=0)


def inference_data() -> Any:
    arviz = pytest.importorskip("arviz")
    draws = {"mu": MU, "theta": THETA}
    return (
        arviz.from_dict(posterior=draws) if hasattr(arviz, "InferenceData") else arviz.from_dict({"posterior": draws})
    )


def test_a_data_set_is_its_draws() -> None:
    flow, plain = made().fit(dataset(), epochs=2, seed=0), made().fit(FLAT.reshape(-1, 4), epochs=2, seed=0)
    assert flow.columns == NAMES
    assert flow.parameters.tobytes() == plain.parameters.tobytes()
    density = flow.log_prob(dataset())
    assert density.shape == (4, 50)
    np.testing.assert_array_equal(density.ravel(), plain.log_prob(FLAT.reshape(-1, 4)))
    with pytest.raises(ValueError, match="x has the columns 'theta"):
        flow.log_prob(dataset()[["theta", "mu"]])
    with pytest.raises(ValueError, match=r"x has shape \(4, 50, 3\); this flow has dim=4"):
        flow.log_prob(dataset()[["theta"]])
    chains = np.repeat(np.arange(4), 50)
    assert made().fit(dataset(), groups=chains, epochs=1, seed=0).history is not None


def test_the_order_of_the_axes_does_not_matter() -> None:
    flow = made().initialize(dataset())
    turned = dataset().transpose("school", "draw", "chain")
    np.testing.assert_array_equal(flow.log_prob(turned), flow.log_prob(dataset()))


def test_inference_data_is_its_posterior() -> None:
    flow = made().fit(inference_data(), epochs=2, seed=0)
    assert flow.columns == ("mu", "theta[0]", "theta[1]", "theta[2]")
    np.testing.assert_array_equal(flow.log_prob(inference_data()), flow.log_prob(FLAT))


def test_a_data_array_is_its_values() -> None:
    table = xarray.DataArray(FLAT[0], dims=("row", "name"), coords={"name": list("abcd")})
    flow = made().fit(table, epochs=1, seed=0)
    assert flow.columns == tuple("abcd")
    np.testing.assert_array_equal(flow.log_prob(table), flow.log_prob(FLAT[0]))
    np.testing.assert_array_equal(flow.log_prob(table[3]), flow.log_prob(FLAT[0, 3]))
    chains = xarray.DataArray(FLAT, dims=("chain", "draw", "parameter"))
    again = made().fit(chains, epochs=1, seed=0)
    assert again.columns is None
    assert again.parameters.tobytes() == made().fit(FLAT.reshape(-1, 4), epochs=1, seed=0).parameters.tobytes()
    one = Flow(1, layers=[], seed=0).initialize(dataset()["mu"])
    np.testing.assert_array_equal(one.log_prob(dataset()["mu"]), one.log_prob(MU[..., None]))


def test_contexts_and_weights_may_be_labelled() -> None:
    arrays = FLAT[0], MU[0][:, None], MU[1] ** 2
    x, c, w = (xarray.DataArray(values, dims=("row", "name")[: values.ndim]) for values in arrays)
    flow = Flow(4, context=1, layers=[LU()], seed=0).fit(x, context=c, weights=w, epochs=1, seed=0)
    plain = Flow(4, context=1, layers=[LU()], seed=0)
    plain.fit(FLAT[0], context=MU[0][:, None], weights=MU[1] ** 2, epochs=1, seed=0)
    assert flow.parameters.tobytes() == plain.parameters.tobytes()


def test_variables_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x has variables with other axes of chain, draw, sample than the rest"):
        made().fit(dataset().assign(tau=("chain", MU[:, 0])))
    with pytest.raises(ValueError, match="x has no variables"):
        made().fit(xarray.Dataset())


def test_the_package_imports_none_of_them() -> None:
    script = "import sys, numpy, pushforward; pushforward.Flow(1, layers=[]).log_prob([[0.5]]); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"xarray", "arviz", "torch", "pytensor", "pandas"} & set(run.stdout.split())
