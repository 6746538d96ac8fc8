"""Models on disk: what comes back, what is refused, and that files of every version stay readable."""

from __future__ import annotations

import copy
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pushforward
import pytest
from cases import CASES, Case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pushforward import Adam, ContextNetwork, Ensemble, Epoch, FileFormatError, Flow, History, Mixture, realnvp
from pushforward._io import files
from pushforward._model import description
from pushforward._model.state import state_of

GOLDEN = Path(__file__).parent / "golden"


def example(tmp_path: Path, name: str = "affine-3|3", dtype: str = "float32") -> Path:
    case = next(case for case in CASES if str(case) == name)
    flow = case.flow(dtype)
    flow.columns, flow.context_columns = ("a", "b", "c"), ("d", "e", "f")
    path = tmp_path / "flow.safetensors"
    flow.save(path)
    return path


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_saved_comes_back(case: Case, dtype: str, tmp_path: Path) -> None:
    flow, x, context = case.flow(dtype), case.latent(65), case.condition(65)
    flow.save(tmp_path / "flow.safetensors")
    twin = type(flow).load(str(tmp_path / "flow.safetensors"))
    assert repr(twin) == repr(flow)
    assert twin.parameters.tobytes() == flow.parameters.tobytes()
    assert twin.log_prob(x, context).tobytes() == flow.log_prob(x, context).tobytes()
    few = None if context is None else context[:9]
    assert twin.sample(9, few, seed=0).tobytes() == flow.sample(9, few, seed=0).tobytes()


def test_a_file_without_supports_is_one_of_real_features(tmp_path: Path) -> None:
    """Files were written so before there were supports."""
    path = example(tmp_path)
    before = Flow.load(path)
    path.write_bytes(edit_model(lambda content: content["model"].pop("support"))(path.read_bytes()))
    flow = Flow.load(path)
    assert repr(flow) == repr(before)
    x, context = np.ones((3, 3)), np.ones(3)
    assert flow.log_prob(x, context).tobytes() == before.log_prob(x, context).tobytes()
    flow.save(path)
    assert repr(Flow.load(path)) == repr(before)


def test_a_fit_leaves_its_history_in_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=1000)
    x = np.stack([a, a**2 + 0.3 * rng.normal(size=1000)], axis=1).astype(np.float32)
    options = {"epochs": 8, "batch_size": 50, "optimizer": Adam(1e-2, weight_decay=0.0), "seed": 0}
    for validation in (0.2, None):
        flow = Flow(2, layers=realnvp(2, depth=2, hidden=(16,)), seed=0).fit(x, validation=validation, **options)
        flow.save(tmp_path / "flow.safetensors")
        twin = Flow.load(tmp_path / "flow.safetensors")
        assert str(twin.history) == str(flow.history)
        np.testing.assert_array_equal(twin.history["validation_loss"], flow.history["validation_loss"])
        assert twin.sample(2, seed=0).dtype == np.float32
        twin.fit(x, epochs=1, optimizer=Adam(1e-4), seed=0)  # goes on, rather than starting anew
        assert twin.history["train_loss"][0] < flow.history["train_loss"][0] - 0.3


def test_any_safetensors_reader_opens_it(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = example(tmp_path)
    with safe_open(path, "np") as file:
        content = json.loads(file.metadata()["pushforward"])
        names = set(file.keys())
    assert content["format"] == files.FORMAT
    assert content["columns"] == ["a", "b", "c"]
    assert names == set(Flow.load(path).named_parameters()) | {
        f"{side}standardization.{part}" for side in ("", "context_") for part in ("shift", "scale")
    }


# -- writing is atomic -------------------------------------------------------------------------------------------


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = example(tmp_path)
    before = path.read_bytes()
    flow = Flow.load(path)
    flow.parameters += 1

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        flow.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_saved_file_has_the_usual_mode(tmp_path: Path) -> None:
    path = example(tmp_path)
    (tmp_path / "other").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    flow = Flow(2)
    flow.parameters[3] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        flow.save(tmp_path / "flow.safetensors")
    assert not os.listdir(tmp_path)


# -- what is refused ---------------------------------------------------------------------------------------------


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: dict[str, Any], rest: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def edit_model(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Damage the description."""

    def damage(data: bytes) -> bytes:
        header, rest = split(data)
        content = json.loads(header["__metadata__"]["pushforward"])
        change(content)
        header["__metadata__"]["pushforward"] = json.dumps(content)
        return join(header, rest)

    return damage


def edit_header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Damage the header."""

    def damage(data: bytes) -> bytes:
        header, rest = split(data)
        change(header)
        return join(header, rest)

    return damage


def replace_text(old: str, new: str) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        header, rest = split(data)
        text = header["__metadata__"]["pushforward"]
        assert old in text
        header["__metadata__"]["pushforward"] = text.replace(old, new, 1)
        return join(header, rest)

    return damage


def interval(low: float, high: float) -> dict[str, Any]:
    return {"kind": "Interval", "low": low, "high": high}


def set_float(name: str, value: float) -> Callable[[bytes], bytes]:
    def damage(data: bytes) -> bytes:
        header, rest = split(data)
        entry = header[name]
        first = entry["data_offsets"][0]
        code = {"F32": "<f", "F64": "<d"}[entry["dtype"]]
        return join(header, rest[:first] + struct.pack(code, value) + rest[first + struct.calcsize(code) :])

    return damage


def layer(content: dict[str, Any]) -> dict[str, Any]:
    return content["model"]["layers"][0]


WEIGHT = "layers.0.conditioner.0.weight"
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "not a safetensors file"),
    "text": (lambda data: b"hello, this is no model at all", "not a safetensors file"),
    "truncated": (lambda data: data[:-1], "damaged"),
    "longer": (lambda data: data + b"\0", "damaged"),
    "header length": (lambda data: struct.pack("<Q", 1 << 60) + data[8:], "damaged"),
    "foreign": (edit_header(lambda h: h["__metadata__"].clear()), "not one of pushforward's"),
    "newer": (edit_model(lambda c: c.update(format=files.FORMAT + 1)), "update it"),
    "format text": (edit_model(lambda c: c.update(format="1")), "format version"),
    "no model": (edit_model(lambda c: c.pop("model")), "model"),
    "deep": (replace_text('"columns": ["a"', '"columns": [' + "[" * 100_000 + '"a"'), "nested"),
    "name twice": (replace_text('"format": 2', '"format": 2, "format": 2'), "twice"),
    "unknown layer": (edit_model(lambda c: layer(c).update(kind="Evil")), "Evil"),
    "unknown transform": (edit_model(lambda c: layer(c)["transform"].update(kind="os.system")), "os.system"),
    "layer as transform": (edit_model(lambda c: layer(c)["transform"].update(kind="ActNorm")), "transform must be"),
    "unknown activation": (edit_model(lambda c: layer(c)["conditioner"].update(activation="step")), "step"),
    "unknown base": (edit_model(lambda c: c["model"]["base"].update(kind="Cauchy")), "Cauchy"),
    "layer as base": (edit_model(lambda c: c["model"]["base"].update(kind="ActNorm")), "base must be Normal"),
    "missing field": (edit_model(lambda c: layer(c).pop("kept")), "kept"),
    "layers number": (edit_model(lambda c: c["model"].update(layers=3)), "description"),
    "layer list": (edit_model(lambda c: c["model"].update(layers=[[1]])), "must be Coupling"),
    "mask short": (edit_model(lambda c: layer(c).update(kept=[True])), "mask"),
    "mask numbers": (edit_model(lambda c: layer(c).update(kept=[1, 0, 1])), "mask"),
    "mask all": (edit_model(lambda c: layer(c).update(kept=[True] * 3)), "mask"),
    "huge width": (edit_model(lambda c: layer(c)["conditioner"].update(hidden=[10**9, 10**9])), "more parameters"),
    "huger width": (edit_model(lambda c: layer(c)["conditioner"].update(hidden=[2**62] * 2)), "hidden"),
    "beyond int64": (edit_model(lambda c: layer(c)["conditioner"].update(hidden=[2**80])), "description"),
    "negative width": (edit_model(lambda c: layer(c)["conditioner"].update(hidden=[-1])), "hidden"),
    "other width": (edit_model(lambda c: layer(c)["conditioner"].update(hidden=[5, 5])), "is expected"),
    "huge dim": (edit_model(lambda c: c["model"].update(dim=10**15)), "is expected"),
    "zero dim": (edit_model(lambda c: c["model"].update(dim=0)), "dim is 0"),
    "dim true": (edit_model(lambda c: c["model"].update(dim=True)), "dim is True"),
    "other dtype": (edit_model(lambda c: c["model"].update(dtype="float64")), "is expected"),
    "unknown dtype": (edit_model(lambda c: c["model"].update(dtype="float16")), "float16"),
    "support text": (edit_model(lambda c: c["model"].update(support="Positive")), "support is no list"),
    "support object": (edit_model(lambda c: c["model"].update(support={"kind": "Real"})), "support is no list"),
    "support short": (edit_model(lambda c: c["model"].update(support=[{"kind": "Real"}])), "support has 1 entries"),
    "support number": (edit_model(lambda c: c["model"].update(support=[1, 2, 3])), "support.0. must be Real"),
    "support other": (edit_model(lambda c: c["model"].update(support=[{"kind": "ActNorm"}] * 3)), "must be Real"),
    "support ends": (edit_model(lambda c: c["model"].update(support=[interval(1, 0)] * 3)), "needs low < high"),
    "support endless": (edit_model(lambda c: c["model"].update(support=[interval(0, 1e999)] * 3)), "has Infinity"),
    "support extra": (edit_model(lambda c: c["model"].update(support=[interval(0, 1) | {"x": 1}] * 3)), "unknown 'x'"),
    "support circle": (
        edit_model(lambda c: c["model"].update(support=[interval(0, 1) | {"kind": "Circle"}] * 3)),
        "out of its range",
    ),
    "version": (edit_model(lambda c: c.pop("version")), "the version that wrote it"),
    "version number": (edit_model(lambda c: c.update(version=1)), "the version that wrote it"),
    "not a number": (edit_model(lambda c: c.update(more=float("nan"))), "has NaN for a number"),
    "names": (edit_model(lambda c: c.update(columns=["a"])), "column names"),
    "names numbers": (edit_model(lambda c: c.update(columns=[1, 2, 3])), "column names"),
    "data dtype": (edit_model(lambda c: c.update(data_dtype="object")), "data_dtype"),
    "history": (edit_model(lambda c: c.update(training={"epochs": 3})), "history"),
    "best epoch": (edit_model(lambda c: c.update(training={"epochs": [], "best_epoch": 7, "stopped": ""})), "epoch"),
    "tensor missing": (edit_header(lambda h: h.update({"other": h.pop(WEIGHT)})), "missing"),
    "tensor extra": (
        edit_header(lambda h: h.update({"zzz": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})),
        "zzz|damaged",
    ),
    "tensor shape": (edit_header(lambda h: h[WEIGHT]["shape"].reverse()), "is expected"),
    "tensor dtype": (edit_header(lambda h: h[WEIGHT].update(dtype="I32")), "I32"),
    "offsets": (edit_header(lambda h: h[WEIGHT].update(data_offsets=[0, 10**12])), "damaged"),
    "overlap": (edit_header(lambda h: h[WEIGHT].update(data_offsets=[0, 4])), "damaged"),
    "nan": (set_float(WEIGHT, float("nan")), "NaN or infinity"),
    "inf": (set_float("standardization.shift", float("inf")), "NaN or infinity"),
    "scale": (set_float("standardization.scale", -1.0), "not above 0"),
    "context scale": (set_float("context_standardization.scale", 0.0), "not above 0"),
}


def check_refused(path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FileFormatError, match=message) as caught:
        Flow.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    check_refused(example(tmp_path), *DAMAGES[name])


def network(**changes: Any) -> Callable[[bytes], bytes]:
    """Damage the description of a context network."""
    return edit_model(lambda content: content["model"]["context_network"].update(changes))


NETWORK_DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "null": (edit_model(lambda c: c["model"].update(context_network=None)), "context_network must be ContextNetwork"),
    "missing": (edit_model(lambda c: c["model"].pop("context_network")), "is expected"),
    "other kind": (network(kind="MLP"), "context_network must be ContextNetwork"),
    "unknown name": (network(depth=3), "unknown 'depth'"),
    "unknown network": (network(network={"kind": "CNN"}), "network must be MLP.* or ResNet"),
    "no features": (network(features=0), "features must be at least 1"),
    "other features": (network(features=5), "is expected|more parameters"),
    "huge features": (network(features=2**31 - 1), "more parameters"),
    "huger features": (network(features=2**40), "features must be at most"),
    "huge width": (
        network(network={"kind": "MLP", "hidden": [2**31 - 1] * 2, "activation": "relu"}),
        "more parameters",
    ),
    "tensor missing": (
        edit_header(lambda h: h.update({"other": h.pop("context_network.0.weight")})),
        "'context_network.0.weight' is missing",
    ),
    "nan": (set_float("context_network.0.weight", float("nan")), "NaN or infinity"),
}


@pytest.mark.parametrize("name", NETWORK_DAMAGES)
def test_a_damaged_context_network_is_refused(name: str, tmp_path: Path) -> None:
    check_refused(example(tmp_path, "context-network-spline-3|3"), *NETWORK_DAMAGES[name])


def test_a_context_network_needs_a_context_in_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "flow.safetensors"
    Flow(2).save(path)
    summary = ContextNetwork().to_json()
    check_refused(path, edit_model(lambda content: content["model"].update(context_network=summary)), "needs a context")


def test_files_name_a_context_network_only_if_there_is_one(tmp_path: Path) -> None:
    """Older versions refuse a name that they do not know, and read all other files."""
    for name in ("affine-3|3", "context-network-spline-3|3"):
        header, _ = split(example(tmp_path, name).read_bytes())
        content = json.loads(header["__metadata__"]["pushforward"])
        assert ("context_network" in content["model"]) == name.startswith("context-network")
        assert content["format"] == 2


def test_a_missing_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        Flow.load(tmp_path / "none.safetensors")
    with pytest.raises(IsADirectoryError):
        Flow.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Flow(2).save(tmp_path / "no" / "folder.safetensors")


def test_a_slip_of_the_code_is_no_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slip(model: object) -> None:
        raise AttributeError("a slip")

    path = example(tmp_path)
    monkeypatch.setattr(description, "check", slip)
    with pytest.raises(AttributeError, match="a slip"):
        Flow.load(path)


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_modes_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file has the mode that the umask leaves, one that is replaced keeps its own; the umask is left alone."""
    path, flow = tmp_path / "flow.safetensors", Flow(1, layers=[])
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", None)
            flow.save(path)
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o604)
        flow.save(path)
        assert path.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(before)
    assert [entry.name for entry in tmp_path.iterdir()] == ["flow.safetensors"]


def check_valid_or_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        flow = Flow.load(path)
    except FileFormatError:
        return
    context = np.ones(flow.context) if flow.context else None
    assert flow.log_prob(np.ones((3, flow.dim)), context).shape == (3,)


@given(st.data())
@settings(
    max_examples=10_000 if os.environ.get("PUSHFORWARD_FULL") else 400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_mutation_is_valid_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    original = example(tmp_path).read_bytes()
    header_size = 8 + struct.unpack("<Q", original[:8])[0]
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        kind = data.draw(st.sampled_from(["flip", "truncate", "splice", "write"]))
        limit = len(changed) - 1
        if limit < 16:
            break
        at = data.draw(st.one_of(st.integers(0, min(header_size, limit)), st.integers(0, limit)))
        if kind == "flip":
            changed[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "truncate":
            del changed[at:]
        elif kind == "splice":
            source, size = data.draw(st.integers(0, limit)), data.draw(st.integers(1, 64))
            changed[at : at + size] = changed[source : source + size]
        else:
            text = data.draw(st.sampled_from([b"-1", b"null", b"1e99", b"[]", b"{}", b'""', b"99999999999999999999"]))
            changed[at : at + len(text)] = text
    check_valid_or_refused(tmp_path / "mutated.safetensors", bytes(changed))


MODEL_NAMES = ["dim", "context", "context_network", "conditioner_precision", "dtype", "base", "support", "layers"]


@given(st.dictionaries(st.sampled_from(MODEL_NAMES), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["kind", "hidden", "kept", "mask", "x"]), inner),
    max_leaves=8,
)))  # fmt: skip
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_description_is_valid_or_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    damaged = edit_model(lambda content: content["model"].update(change))(example(tmp_path).read_bytes())
    check_valid_or_refused(tmp_path / "described.safetensors", damaged)


# -- histories ---------------------------------------------------------------------------------------------------


def history(**changes: Any) -> Callable[[bytes], bytes]:
    """Give a file a history with an epoch that is damaged, or other entries."""
    entry = {"epoch": 1, "steps": 3, "seconds": 0.5, "train_loss": 2.0, "validation_loss": 1.5, "learning_rate": 1e-3,
             "grad_norm": 1.0}  # fmt: skip
    outer = {"stopped": "epochs", "best_epoch": 1, "initial_loss": None, "best_loss": 1.5}
    training = outer | {"epochs": [entry | {k: v for k, v in changes.items() if k in entry or k == "more"}]}
    training |= {name: value for name, value in changes.items() if name in outer}
    return edit_model(lambda content: content.update(training=training))


HISTORY_DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "infinite": (history(train_loss=float("inf")), "has Infinity for a number"),
    "infinite in other words": (
        lambda data: replace_text("2.0", "1e999")(history(train_loss=2.0)(data)),
        "has 1e999 for a number",
    ),
    "NaN": (history(best_loss=float("nan")), "has NaN for a number"),
    "huge": (history(train_loss=10**400), "train_loss=1000"),
    "huge count": (history(steps=10**400), "counted wrong"),
    "text": (history(seconds="1"), "seconds='1'"),
    "true": (history(seconds=True), "seconds=True"),
    "negative": (history(learning_rate=-1.0), "learning_rate=-1.0"),
    "negative count": (history(steps=-100), "before the one before it"),
    "epoch 0": (history(epoch=0), "counted wrong"),
    "epoch 2": (history(epoch=2), "counted wrong"),
    "more": (history(more=1), "epoch 1 of the history is damaged"),
    "best epoch": (history(best_epoch=2), "best epoch is none"),
    "best epoch -1": (history(best_epoch=-1), "best epoch is none"),
    "best epoch null": (history(best_epoch=None), "best epoch is none"),
    "best loss": (history(best_loss="1"), "initial or best loss is no number"),
    "stopped": (history(stopped=3), "why the fit ended"),
    "stopped with an escape": (history(stopped="\x1b]0;gone\x07"), "why the fit ended"),
}


@pytest.mark.parametrize("name", HISTORY_DAMAGES)
def test_a_damaged_history_is_refused(name: str, tmp_path: Path) -> None:
    check_refused(example(tmp_path), *HISTORY_DAMAGES[name])


def test_the_history_that_is_damaged_is_a_history(tmp_path: Path) -> None:
    path = example(tmp_path)
    path.write_bytes(history()(path.read_bytes()))
    assert str(Flow.load(path).history).startswith("1 epochs, 3 steps, 0.5 s, stopped by epochs; best epoch 1")


def test_a_history_with_an_infinite_loss_is_saved(tmp_path: Path) -> None:
    """An epoch whose density had no finite loss stays in the history of a fit that went back from it."""
    flow = Flow(1, layers=[], seed=0)
    epochs = [Epoch(1, 3, 0.5, 2.0, np.inf, 1e-3, 1.0), Epoch(2, 6, 1.0, np.nan, 1.5, 1e-3, np.nan)]
    flow.history = History(epochs, best_epoch=2, stopped="epochs", initial_loss=-np.inf)
    flow.save(tmp_path / "flow")
    twin, again = Flow.load(tmp_path / "flow"), copy.deepcopy(flow)
    for found in (twin.history, again.history):
        assert found is not None
        np.testing.assert_array_equal(found["validation_loss"], [np.nan, 1.5])
        np.testing.assert_array_equal(found["train_loss"], [2.0, np.nan])
    twin.save(tmp_path / "flow")


# -- mixtures ----------------------------------------------------------------------------------------------------

MIXTURES = [("full", 2), ("full", 1), ("diagonal", 3)]


def mixture(covariance: str, dim: int, dtype: str = "float64", seed: int = 0) -> Flow:
    return Flow(dim, layers=[], base=Mixture(3, covariance), dtype=dtype, seed=seed)


@pytest.mark.parametrize(("covariance", "dim"), MIXTURES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_mixture_with_a_number_that_is_not_finite_is_refused(
    tmp_path: Path, covariance: str, dim: int, value: float
) -> None:
    mixture(covariance, dim).save(tmp_path / "flow")
    Ensemble([mixture(covariance, dim), mixture(covariance, dim, seed=1)]).save(tmp_path / "ensemble")
    whole = {name: (tmp_path / name).read_bytes() for name in ("flow", "ensemble")}
    for name in mixture(covariance, dim).named_parameters():
        if not mixture(covariance, dim).named_parameters()[name].size:
            continue
        check_refused(tmp_path / "flow", set_float(name, value), f"'{name}' holds NaN or infinity")
        (tmp_path / "ensemble").write_bytes(set_float(f"members.1.{name}", value)(whole["ensemble"]))
        with pytest.raises(FileFormatError, match=f"'members.1.{name}' holds NaN or infinity"):
            Ensemble.load(tmp_path / "ensemble")
        (tmp_path / "flow").write_bytes(whole["flow"])


@pytest.mark.parametrize(("covariance", "dim"), MIXTURES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mixture_of_any_finite_numbers_is_a_density(tmp_path: Path, covariance: str, dim: int, dtype: str) -> None:
    """Weights need not be normalised, and no diagonal of a covariance's factor is 0: both are logarithms."""
    rng = np.random.default_rng(0)
    greatest = float(np.finfo(dtype).max)
    x = rng.normal(size=(50, dim))
    flow = mixture(covariance, dim, dtype)
    for extreme in (greatest, -greatest, 1e30, -1e30, 100.0, -100.0, 1e-40, 0.0):
        for name in flow.named_parameters():
            flow = mixture(covariance, dim, dtype)
            flow.named_parameters()[name][...] = extreme
            flow.named_parameters()[name].reshape(-1)[::2] *= rng.choice([-1, 0, 1])
            flow.save(tmp_path / "flow")
            twin = Flow.load(tmp_path / "flow")
            assert twin.log_prob(x).tobytes() == flow.log_prob(x).tobytes()
            assert not np.isnan(twin.log_prob(x)).any()
            assert np.isfinite(twin.sample(20, seed=0)).all()
            u = state_of(twin).base.cdf(x, twin.named_parameters())
            assert ((u >= 0) & (u <= 1)).all()


def test_weights_of_a_mixture_count_by_their_ratios_alone(tmp_path: Path) -> None:
    flow = mixture("full", 2)
    x = np.random.default_rng(1).normal(size=(50, 2))
    flow.named_parameters()["base.log_weights"][...] = np.log([0.2, 0.3, 0.5])
    expected = flow.log_prob(x)
    flow.named_parameters()["base.log_weights"][...] += 7.0
    flow.save(tmp_path / "flow")
    np.testing.assert_allclose(Flow.load(tmp_path / "flow").log_prob(x), expected, rtol=1e-12)


# -- files of every version stay readable ------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.safetensors")), ids=lambda path: path.stem)
def test_golden_files_are_read_as_ever(path: Path) -> None:
    """Written by golden/write.py of the version in the name; never written again."""
    flow = Flow.load(path)
    expected = np.load(path.with_suffix(".npz"))
    context = expected["context"] if flow.context else None
    tolerance = {"float32": 2e-4, "float64": 1e-10}[flow.dtype.name]
    np.testing.assert_allclose(
        flow.log_prob(expected["x"], context), expected["log_prob"], rtol=tolerance, atol=tolerance
    )
    z, _ = flow.inverse(expected["x"], context)
    np.testing.assert_allclose(z, expected["z"], rtol=tolerance, atol=tolerance)


def test_there_are_golden_files_of_this_format() -> None:
    assert list(GOLDEN.glob(f"format{files.FORMAT}-*.safetensors"))
    assert pushforward.__version__
