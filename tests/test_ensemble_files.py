"""Ensembles on disk and in pickles: what comes back, and what is refused."""

from __future__ import annotations

import copy
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ensembles import DTYPES, crescent, drawn, interrupted, members_of, small, three
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pushforward import ActNorm, Circle, Ensemble, FileFormatError, Flow, neural_spline
from test_files import edit_header, edit_model, join, replace_text, set_float, split


def same(a: Ensemble, b: Ensemble) -> bool:
    x, c = crescent(65), (np.ones((65, a.context)) if a.context else None)
    return (
        repr(a) == repr(b)
        and members_of(a) == members_of(b)
        and a.weights.tobytes() == b.weights.tobytes()
        and a.log_prob(x, c).tobytes() == b.log_prob(x, c).tobytes()
        and a.sample(9, None if c is None else c[:9], seed=0).tobytes()
        == b.sample(9, None if c is None else c[:9], seed=0).tobytes()
        and (a.columns, a.context_columns) == (b.columns, b.context_columns)
    )


@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_saved_comes_back(dtype: str, context: int, tmp_path: Path) -> None:
    ensemble = three(dtype, context)
    ensemble.weights = np.random.default_rng(0).uniform(size=3)
    ensemble.columns = ("a", "b")
    ensemble.save(tmp_path / "ensemble.safetensors")
    assert os.listdir(tmp_path) == ["ensemble.safetensors"]
    twin = Ensemble.load(str(tmp_path / "ensemble.safetensors"))
    assert same(ensemble, twin)
    twin.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "ensemble.safetensors").read_bytes()


def test_pickles_and_copies() -> None:
    ensemble = three()
    for twin in (pickle.loads(pickle.dumps(ensemble)), copy.deepcopy(ensemble)):
        assert same(ensemble, twin)
        twin.flows[0].parameters += 1
        assert not same(ensemble, twin)


def test_histories_and_weights_of_0_come_back(tmp_path: Path) -> None:
    ensemble = Ensemble([small(seed=seed) for seed in range(3)])
    interrupted(ensemble, 1, 0, RuntimeError)
    ensemble.save(tmp_path / "file")
    twin = Ensemble.load(tmp_path / "file")
    assert same(ensemble, twin)
    assert twin.weights.tolist() == [1, 0, 0]
    assert str(twin.flows[0].history) == str(ensemble.flows[0].history)
    assert [flow.history is None for flow in twin.flows] == [False, True, True]


def test_files_of_flows_and_of_ensembles(tmp_path: Path) -> None:
    flow = drawn(small(), 0)
    flow.save(tmp_path / "flow")
    assert same(Ensemble.load(tmp_path / "flow"), Ensemble([flow]))
    three().save(tmp_path / "ensemble")
    with pytest.raises(FileFormatError, match=r"ensemble: it holds an ensemble, which Ensemble\.load reads"):
        Flow.load(tmp_path / "ensemble")


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    ensemble = three()
    ensemble.flows[1].parameters[0] = np.nan
    with pytest.raises(ValueError, match="the parameters of member 1 hold NaN or infinity"):
        ensemble.save(tmp_path / "file")
    assert not os.listdir(tmp_path)


def example(tmp_path: Path) -> Path:
    """A small file: two members of one feature each, with a support and a context."""
    flows = [
        Flow(1, layers=[ActNorm()], support=Circle(0, 1), context=1, seed=0),
        Flow(1, layers=neural_spline(1, depth=1, hidden=2, bins=2), support=Circle(0, 1), context=1, dtype="float64"),
    ]
    Ensemble(flows, [1, 3]).save(tmp_path / "file")
    return tmp_path / "file"


def member(m: int, **changes: Any) -> Callable[[bytes], bytes]:
    return edit_model(lambda content: content["members"][m].update(changes))


def model(m: int, **changes: Any) -> Callable[[bytes], bytes]:
    return edit_model(lambda content: content["members"][m]["model"].update(changes))


def rename(old: str, new: str) -> Callable[[bytes], bytes]:
    return edit_header(lambda header: header.update({new: header.pop(old)}))


def extra(name: str) -> Callable[[bytes], bytes]:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    return edit_header(lambda header: header.update({name: entry}))


def weights(first: float, second: float) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        header, rest = split(data)
        begin, end = header["weights"]["data_offsets"]
        return join(header, rest[:begin] + struct.pack("<dd", first, second) + rest[end:])

    return damage


SCALE = "members.1.standardization.scale"
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "not a safetensors file"),
    "truncated": (lambda data: data[:-1], "damaged"),
    "newer": (edit_model(lambda c: c.update(format=99)), "update it"),
    "twice": (replace_text('"members": [', '"members": [], "members": ['), "twice"),
    "no members": (edit_model(lambda c: c.update(members=[])), "the members are missing"),
    "members object": (edit_model(lambda c: c.update(members={})), "the members are missing"),
    "members number": (edit_model(lambda c: c.update(members=2)), "the members are missing"),
    "member number": (edit_model(lambda c: c.update(members=[1, 2])), "a member is not a JSON object"),
    "one member more": (edit_model(lambda c: c["members"].append(c["members"][0])), "'weights'"),
    "one member less": (edit_model(lambda c: c["members"].pop()), "'weights'"),
    "neither": (edit_model(lambda c: c.pop("members")), "the model is missing"),
    "a model too": (edit_model(lambda c: c.update(c["members"][0])), "tensor"),
    "member empty": (edit_model(lambda c: c["members"][1].clear()), "member 1: the model is missing"),
    "no weights": (rename("weights", "weight"), "'weights' is missing"),
    "weights text": (rename("weights", "members.weights"), "'weights' is missing"),
    "weight negative": (weights(-0.5, 1.5), "negative"),
    "weights sum": (weights(0.5, 0.6), "add up to 1"),
    "weight NaN": (weights(np.nan, 1.0), "'weights' holds NaN"),
    "tensor NaN": (set_float(SCALE, np.nan), "holds NaN"),
    "scale 0": (set_float(SCALE, 0.0), "member 1: standardization.scale"),
    "tensor missing": (rename(SCALE, "members.1.standardization.scales"), "member 1: tensor 'standardization.scale'"),
    "tensor of no member": (rename(SCALE, "members.2.standardization.scale"), "unexpected tensor 'members.2"),
    "member 01": (rename(SCALE, "members.01.standardization.scale"), "unexpected tensor 'members.01"),
    "tensor of another": (rename(SCALE, "members.0.standardization.scales"), "member 0: unexpected tensor"),
    "tensor extra": (extra("members.0.extra"), "member 0: unexpected tensor 'extra'"),
    "tensor outside": (extra("extra"), "unexpected tensor 'extra'"),
    "tensor of the member": (extra("members.0"), "member 0: unexpected tensor ''"),
    "dim": (model(1, dim=2), "member 1: tensor"),
    "dtype": (model(1, dtype="float32"), "member 1: tensor"),
    "layer": (model(1, layers=[{"kind": "Evil"}]), "member 1: .*Evil"),
    "support": (model(1, support=[{"kind": "Circle", "low": 0, "high": 2}]), "the same support"),
    "columns": (member(0, columns=["a", "b"]), "member 0: the column names"),
    "columns differ": (
        edit_model(lambda c: [c["members"][i].update(columns=[str(i)]) for i in (0, 1)]),
        "same columns",
    ),
    "history": (member(1, training={"epochs": 3}), "member 1: the history"),
    "data dtype": (member(0, data_dtype="int8"), "member 0: data_dtype"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    path = example(tmp_path)
    damage, message = DAMAGES[name]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileFormatError, match=message) as caught:
        Ensemble.load(path)
    assert str(path) in str(caught.value)
    with pytest.raises(FileFormatError):
        Flow.load(path)


@given(st.data())
@settings(
    max_examples=5_000 if os.environ.get("PUSHFORWARD_FULL") else 300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_mutation_is_valid_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    changed = bytearray(example(tmp_path).read_bytes())
    header_size = 8 + struct.unpack("<Q", changed[:8])[0]
    for _ in range(data.draw(st.integers(1, 4))):
        limit = len(changed) - 1
        at = data.draw(st.one_of(st.integers(0, min(header_size, limit)), st.integers(0, limit)))
        kind = data.draw(st.sampled_from(["flip", "truncate", "splice", "write"]))
        if kind == "flip":
            changed[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "truncate" and at > 16:
            del changed[at:]
        elif kind == "splice":
            source, size = data.draw(st.integers(0, limit)), data.draw(st.integers(1, 64))
            changed[at : at + size] = changed[source : source + size]
        else:
            text = data.draw(st.sampled_from([b"-1", b"null", b"1e99", b"[]", b"{}", b'""', b"members", b"9" * 20]))
            changed[at : at + len(text)] = text
    path = tmp_path / "mutated"
    path.write_bytes(changed)
    try:
        ensemble = Ensemble.load(path)
    except FileFormatError:
        return
    context = np.ones(ensemble.context) if ensemble.context else None
    assert ensemble.log_prob(np.full((3, ensemble.dim), 0.5), context).shape == (3,)


def test_any_safetensors_reader_opens_it(tmp_path: Path) -> None:
    from safetensors import safe_open

    with safe_open(example(tmp_path), "np") as file:
        content = json.loads(file.metadata()["pushforward"])
        names = set(file.keys())
        assert file.get_tensor("weights").tolist() == [0.25, 0.75]
    assert [entry["model"]["dtype"] for entry in content["members"]] == ["float32", "float64"]
    assert {name.split(".")[0] for name in names} == {"weights", "members"}
    assert {name.split(".")[1] for name in names - {"weights"}} == {"0", "1"}
