"""The same file in C++: programs built against the installed package give Python's numbers."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, Case
from fuzz.make_corpus import (
    VALID,
    VALID_ENSEMBLES,
    VALID_TABLES,
    hostile,
    hostile_ensembles,
    hostile_images,
    hostile_mixtures,
    hostile_tables,
)
from pages import DOCS, blocks
from programs import cmake, compiler, find, run
from pushforward import (
    Above,
    Below,
    Category,
    Circle,
    Column,
    Date,
    Ensemble,
    Flow,
    Integer,
    Interval,
    Positive,
    Real,
    TableFlow,
)
from pushforward._model.masses import Masses
from pushforward._tables import files
from pushforward.errors import FileFormatError

ROOT = Path(__file__).parents[1]
SCALARS = {"float32": "float", "float64": "double"}
# Other instruction sets and compilers add up in another order, and a steep spline magnifies the last digit a
# thousandfold. In float64 it still tells that the arithmetic is the same.
TOLERANCES = {"float32": 2e-3, "float64": 1e-11}


@pytest.fixture(scope="module")
def cmakedir() -> Path:
    folder = Path(run(sys.executable, "-m", "pushforward", "--cmakedir").strip())
    if not (folder / "pushforwardConfig.cmake").exists():
        pytest.skip(f"no CMake package in {folder}: pushforward is imported from its sources, not installed")
    return folder


@pytest.fixture(scope="module")
def build(cmakedir, tmp_path_factory):
    """A function that builds a project's only program."""
    name = compiler()

    def build(source: Path, program: str) -> Path:
        folder = tmp_path_factory.mktemp(program)
        cmake(source, folder, f"-DCMAKE_PREFIX_PATH={cmakedir}", f"-DCMAKE_CXX_COMPILER={name}")
        return folder / program

    return build


@pytest.fixture(scope="module")
def embed(build) -> Path:
    return build(ROOT / "tests" / "embed", "embed")


def results(embed: Path, folder: Path, case: Case, flow: Flow, scalar: str) -> dict[str, np.ndarray]:
    """What every call of the C++ program returns for the file of a flow."""
    dtype = np.float32 if scalar == "float" else np.float64
    flow.save(folder / "model.safetensors")
    case.latent(65).astype(dtype).tofile(folder / "z")
    data(case).astype(dtype).tofile(folder / "x")
    if case.context:
        case.condition(65).astype(dtype).tofile(folder / "context")
    context = folder / "context" if case.context else "-"
    run(embed, scalar, "run", folder / "model.safetensors", folder / "x", folder / "z", context, folder)
    points = {name: np.fromfile(folder / name, dtype) for name in ("inverse", "forward", "gradient", "grad")}
    sums = ("log_prob", "log_prob_beside_grad", "inverse_log_det", "forward_log_det", "loss")
    return points | {name: np.fromfile(folder / name, np.float64) for name in sums}


def data(case: Case) -> np.ndarray:
    """Rows of the data side, the same in both precisions."""
    return case.flow("float64").forward(case.latent(65, seed=5), case.condition(65))[0].astype(np.float32)


def expect_python(embed: Path, folder: Path, case: Case, flow: Flow, twin: Flow, tolerance: float) -> None:
    """Compare the C++ program in the precision of `twin`, given the file of `flow`, with Python's `twin`."""
    dtype = twin.dtype
    condition = None if case.context == 0 else case.condition(65).astype(dtype)
    x, z = data(case).astype(dtype), case.latent(65).astype(dtype)
    expected = {"log_prob": twin.log_prob(x, condition)}
    expected["log_prob_beside_grad"], expected["grad"] = twin.log_prob_and_grad(x, condition)
    expected["inverse"], expected["inverse_log_det"] = twin.inverse(x, condition)
    expected["forward"], expected["forward_log_det"] = twin.forward(z, condition)
    expected["loss"], expected["gradient"] = twin.loss_and_grad(x, condition)
    for name, values in results(embed, folder, case, flow, SCALARS[dtype.name]).items():
        wanted = np.ravel(expected[name])
        scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
        np.testing.assert_allclose(values, wanted, rtol=0, atol=tolerance * scale, err_msg=name)


@pytest.mark.parametrize("case", [case for case in CASES if case.dim in (1, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers(embed, tmp_path, case, dtype):
    flow = case.flow(dtype)
    expect_python(embed, tmp_path, case, flow, flow, TOLERANCES[dtype])


@pytest.mark.parametrize("scalar", ["float", "double"])
def test_names_and_supports(embed, tmp_path, scalar):
    support = [Positive(), Interval(-1, 3), Circle(0, 1), Real()]
    flow = Flow(4, layers=[], support=support, context=1)
    flow.save(tmp_path / "model")
    lines = ["Positive 0 inf", "Interval -1 3", "Circle 0 1", "Real -inf inf"]
    assert run(embed, scalar, "describe", tmp_path / "model").splitlines() == ["|", *lines]
    flow.columns, flow.context_columns = ("mass", "part", "angle", "height"), ("time",)
    flow.save(tmp_path / "model")
    assert run(embed, scalar, "describe", tmp_path / "model").splitlines() == ["mass part angle height | time", *lines]


def test_other_precision(embed, tmp_path):
    case = next(case for case in CASES if case.context and case.dim == 3)
    single, double = case.flow("float32"), case.flow("float64")
    double.parameters = single.parameters
    expect_python(embed, tmp_path, case, single, double, TOLERANCES["float64"])
    expect_python(embed, tmp_path, case, double, single, TOLERANCES["float32"])


@pytest.mark.parametrize("scalar", ["float", "double"])
def test_valid_files(embed, tmp_path, scalar):
    for name, flow in VALID.items():
        flow.save(tmp_path / name)
    assert run(embed, scalar, "load", *(tmp_path / name for name in VALID)).split() == ["loaded"] * len(VALID)


def damaged_files(folder):
    found = {}
    for name, damage in (("mixed", hostile), ("mixture", hostile_mixtures), ("images", hostile_images)):
        VALID[name].save(folder / name)
        found |= damage((folder / name).read_bytes())
    return found


@pytest.mark.parametrize("scalar", ["float", "double"])
def test_damaged_files(embed, tmp_path, scalar):
    damaged = damaged_files(tmp_path)
    for name, (content, _) in damaged.items():
        (tmp_path / name).write_bytes(content)
    lines = run(embed, scalar, "load", *(tmp_path / name for name in damaged)).splitlines()
    for line, (name, (_, message)) in zip(lines, damaged.items(), strict=True):
        assert line.startswith(f"FileFormatError: {tmp_path / name}: ")
        assert message in line


def test_python_refuses_the_same_files(tmp_path):
    damaged = damaged_files(tmp_path)
    for name, (content, _) in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match=name):
            Flow.load(tmp_path / name)


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ensembles(embed, tmp_path, dtype, context):
    """Densities and samples of several flows, of which one has no weight; samples from a later row on."""
    names = ("affine", "spline", "maf", "spline-resnet")
    cases = [case for case in CASES if case.name in names and case.dim == 3 and case.context == context]
    assert len(cases) == 4
    ensemble = Ensemble([case.flow(dtype) for case in cases], [0.3, 0, 0.5, 0.2])
    ensemble.save(tmp_path / "model.safetensors")
    x, condition = data(cases[0]).astype(dtype), cases[0].condition(65)
    x.tofile(tmp_path / "x")
    if context:
        condition = condition.astype(dtype)
        condition.tofile(tmp_path / "context")
    given = tmp_path / "context" if context else "-"
    printed = run(embed, SCALARS[dtype], "ensemble", tmp_path / "model.safetensors", tmp_path / "x", given, tmp_path)
    assert printed.split() == ["4", "3", str(context)]
    density = np.fromfile(tmp_path / "log_prob")
    tolerance = TOLERANCES[dtype]
    np.testing.assert_allclose(density, ensemble.log_prob(x, condition), atol=tolerance * np.abs(density).max())
    slopes = [flow.log_prob_and_grad(x, condition) for flow in ensemble.flows]
    joint = np.log(np.maximum(ensemble.weights, 1e-300))[:, None] + [density for density, _ in slopes]
    share = np.exp(joint - np.logaddexp.reduce(joint))
    gradient = np.einsum("mn,mni->ni", share, [slope for _, slope in slopes])
    found = np.fromfile(tmp_path / "grad", dtype).reshape(-1, 3)
    np.testing.assert_allclose(found, gradient, rtol=0, atol=tolerance * max(1.0, np.abs(gradient).max()))
    samples = np.fromfile(tmp_path / "samples", dtype).reshape(-1, 3)
    # The seed whose key is 7: rows 5, 6, ... of that key are those of a longer call.
    shifted = None if condition is None else np.concatenate([np.zeros((5, 3)), condition])
    expected = rows_of_key(ensemble, 7, 70, shifted)[5:]
    np.testing.assert_allclose(samples, expected, atol=tolerance * max(1.0, np.abs(expected).max()))
    density = np.fromfile(tmp_path / "samples_log_prob")
    np.testing.assert_allclose(
        density, ensemble.log_prob(samples, condition), atol=tolerance * max(1.0, np.abs(density).max())
    )


def rows_of_key(ensemble, key, n, condition):
    """Return the rows that `sample` draws by a seed of this key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pushforward._flow.density.sample_key", lambda seed: key)
        return ensemble.sample(n, condition)


@pytest.mark.parametrize("scalar", ["float", "double"])
def test_files_of_ensembles(embed, tmp_path, scalar):
    for name, model in (VALID | VALID_ENSEMBLES).items():
        model.save(tmp_path / name)
    paths = [tmp_path / name for name in VALID | VALID_ENSEMBLES]
    assert run(embed, scalar, "load-ensemble", *paths).split() == ["loaded"] * len(paths)
    lines = run(embed, scalar, "load", *(tmp_path / name for name in VALID_ENSEMBLES)).splitlines()
    assert all("it holds an ensemble, which Ensemble::load reads" in line for line in lines)
    damaged = hostile((tmp_path / "mixed").read_bytes()) | hostile_ensembles((tmp_path / "ensemble").read_bytes())
    for name, (content, _) in damaged.items():
        (tmp_path / f"damaged-{name}").write_bytes(content)
    lines = run(embed, scalar, "load-ensemble", *(tmp_path / f"damaged-{name}" for name in damaged)).splitlines()
    for line, (name, (_, message)) in zip(lines, damaged.items(), strict=True):
        assert line.startswith(f"FileFormatError: {tmp_path / f'damaged-{name}'}: ")
        assert message in line


def test_python_refuses_the_same_ensembles(tmp_path):
    VALID_ENSEMBLES["ensemble"].save(tmp_path / "valid")
    for name, (content, _) in hostile_ensembles((tmp_path / "valid").read_bytes()).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match=name):
            Ensemble.load(tmp_path / name)


def table_of_every_kind(n: int, seed: int) -> dict[str, np.ndarray]:
    """Rows with categories of which many are rare, atoms, gaps, whole and rounded numbers, dates, and all supports.

    The more cells a column has, the fewer digits their masses have in common: some thousand are enough.
    """
    rng = np.random.default_rng(seed)
    size = rng.normal(size=n)
    kind = np.where(size + 0.5 * rng.normal(size=n) > 0, "large", "small").astype(object)
    kind[rng.uniform(size=n) < 0.1] = None
    name = np.array([f"n{int(value)}" for value in rng.exponential(6, n)], dtype=object)
    weight = 50 + 10 * size + rng.normal(size=n)
    weight[rng.uniform(size=n) < 0.3] = np.nan
    return {
        "size": size,
        "kind": kind,
        "grade": rng.choice([1, 2, 5], n),
        "rain": np.where(rng.uniform(size=n) < 0.6, 0.0, rng.gamma(2.0, size=n)),
        "count": rng.poisson(np.exp(4 + 0.3 * size)),
        "often": np.where(rng.uniform(size=n) < 0.5, rng.integers(0, 25, n), rng.poisson(200, n)),
        "flag": rng.uniform(size=n) < 0.3,
        "day": np.datetime64("2020-01-01") + rng.integers(0, 1000, n),
        "time": np.datetime64("2020-01-01T00:00:00") + rng.integers(0, 3000, n),
        "planet": np.full(n, "earth", dtype=object),
        "name": name,
        "half": np.round(rng.gamma(9.0, size=n) * 4) / 4,
        "part": rng.beta(2, 3, n),
        "angle": rng.uniform(0, 360, n),
        "far": 3 + rng.gamma(2.0, size=n),
        "below": 10 - np.round(rng.gamma(2.0, size=n), 1),
        "weight": weight,
    }


def rows_of_numbers(flow: TableFlow, table: dict[str, np.ndarray]) -> np.ndarray:
    """Rows as C++ takes them: indices of categories, dates in units since 1970, NaN for gaps."""
    columns = []
    for name in flow.columns:
        kind, values = flow.schema[name].kind, table[name]
        if isinstance(kind, Category):
            index = {value: float(i) for i, value in enumerate(kind.values)} | {None: np.nan}
            values = np.array([index.get(value, -1.0) for value in values.tolist()])
        elif isinstance(kind, Date):
            values = values.astype(f"datetime64[{kind.unit}]").astype(np.int64)
        columns.append(values.astype(np.float64))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_model_of_a_table(embed, tmp_path, dtype):
    """Masses are those of a fit, which are float32, or the same in float64; flows are float64."""
    given = {
        "angle": Circle(0, 360),
        "far": Above(3),
        "below": Column(Below(10), step=0.1),
        "time": Date("s"),
        "often": Column(Integer(0, 300), atoms=range(25)),  # more than are shown to flows one by one
    }
    table, fresh = table_of_every_kind(400, 0), table_of_every_kind(300, 1)
    flow = TableFlow(given).fit(table, epochs=2, seed=0)
    assert any(flow._model.codings[list(flow.columns).index("name")].rare)
    masses = Masses({**flow._model.masses.model, "dtype": dtype})
    masses.parameters[...] = flow._model.masses.parameters
    flow._model.masses = masses
    flow.save(tmp_path / "model.safetensors")
    rows = rows_of_numbers(flow, fresh)
    expected = flow.log_prob(fresh)
    assert 0.5 < np.isfinite(expected).mean() < 1
    # Rows of gaps alone, of no value that a column has, and with infinity.
    rows = np.concatenate([rows, np.full((1, 17), np.nan), np.full((1, 17), -7.5), np.full((1, 17), np.inf)])
    expected = np.concatenate([expected, [-np.inf, -np.inf, np.nan]])
    rows.tofile(tmp_path / "rows")
    printed = run(embed, "double", "table", tmp_path / "model.safetensors", tmp_path / "rows", tmp_path).splitlines()
    np.testing.assert_allclose(np.fromfile(tmp_path / "log_prob"), expected, rtol=0, atol=TOLERANCES[dtype])
    assert [line.split()[0] for line in printed] == list(flow.columns)
    by_name = {line.split()[0]: line for line in printed}
    assert by_name["kind"] == 'kind Category -inf inf 0 1  "large" "small"'
    assert by_name["rain"] == "rain Positive 0 inf 0 0  0"
    assert by_name["grade"] == "grade Category -inf inf 0 0  1 2 5"
    assert by_name["time"] == "time Date -inf inf 1 0 s"
    assert by_name["below"] == "below Below -inf 10 0.1 0 "
    days = flow.schema["day"].kind.ends
    assert by_name["day"] == f"day Date {days[0]:g} {days[1]:g} 1 0 D"


def test_files_of_tables(embed, tmp_path):
    for name, saved in VALID_TABLES.items():
        files.save(tmp_path / name, saved)
    paths = [tmp_path / name for name in VALID_TABLES]
    assert run(embed, "double", "load-table", *paths).split() == ["loaded"] * len(paths)
    for model in ("load", "load-ensemble"):
        lines = run(embed, "double", model, *paths).splitlines()
        assert all("the model of a table with categories, which TableFlow::load reads" in line for line in lines)
    damaged = hostile_tables((tmp_path / "table").read_bytes())
    for name, (content, _) in damaged.items():
        (tmp_path / f"damaged-{name}").write_bytes(content)
    lines = run(embed, "double", "load-table", *(tmp_path / f"damaged-{name}" for name in damaged)).splitlines()
    for line, (name, (_, message)) in zip(lines, damaged.items(), strict=True):
        assert line.startswith(f"FileFormatError: {tmp_path / f'damaged-{name}'}: ")
        assert message in line


def test_python_refuses_the_same_tables(tmp_path):
    files.save(tmp_path / "valid", VALID_TABLES["table"])
    for name, (content, _) in hostile_tables((tmp_path / "valid").read_bytes()).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match=name):
            TableFlow.load(tmp_path / name)


def test_a_long_header_is_refused_at_once(embed, tmp_path):
    names = ",".join(f'"{i}":{{}}' for i in range(200_000)).encode()
    (tmp_path / "long").write_bytes((len(names) + 2).to_bytes(8, "little") + b"{" + names + b"}")
    # A tenth of a second; growing with the square of the header's length it would be minutes.
    assert run(embed, "float", "load", tmp_path / "long").startswith("FileFormatError")


def test_files_that_cannot_be_read(embed, tmp_path):
    lines = run(embed, "float", "load", tmp_path / "missing", tmp_path).splitlines()
    for line, path in zip(lines, (tmp_path / "missing", tmp_path), strict=True):
        assert line.startswith("filesystem_error: ")
        assert str(path) in line


def test_page_has_the_example():
    """The program of docs/embedding.md, which test_example builds, is the one in examples/embed."""
    example = ROOT / "examples" / "embed"
    code = {block.language: block.code for block in blocks(DOCS / "embedding.md")}
    assert code["cpp"] == (example / "score.cpp").read_text()
    assert code["cmake"] == (example / "CMakeLists.txt").read_text()
    assert code["sh"] in (example / "README.md").read_text()


def test_example(cmakedir, tmp_path):
    """The page's program, project and model, by the page's commands, in an empty folder."""
    name = compiler()
    page = {block.language: block.code for block in blocks(DOCS / "embedding.md")}
    for file, language in (("score.cpp", "cpp"), ("CMakeLists.txt", "cmake"), ("model.py", "python")):
        (tmp_path / file).write_text(page[language])
    program = f"""
set -e
cd '{tmp_path}'
python() {{ '{sys.executable}' "$@"; }}
python model.py
{page["sh"]}"""
    generator = {"CMAKE_GENERATOR": "Ninja"} if find("ninja") else {}
    printed = run("bash", "-c", program, CXX=name, **generator).splitlines()
    rows = np.fromfile(tmp_path / "rows.bin", np.float32).reshape(-1, 2)
    expected = Flow.load(tmp_path / "model.safetensors").log_prob(rows)
    np.testing.assert_allclose(np.array(printed[-len(rows) :], float), expected, atol=TOLERANCES["float32"])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the linker has no such option")
def test_a_plugin_that_is_closed(build):
    """Its threads go on sleeping in its code, which therefore stays where it is. It knows no OpenMP."""
    script = """
import _ctypes, ctypes, os, sys, threading, time
plugin = ctypes.CDLL(sys.argv[1])
print(plugin.default_threads())
worker = threading.Thread(target=lambda: print(plugin.work()))  # a thread that lives on would keep it loaded, too
worker.start()
worker.join()
_ctypes.dlclose(plugin._handle)
time.sleep(0.1)
ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW | os.RTLD_NOLOAD)
"""
    plugin = build(ROOT / "tests" / "plugin", "plugin")
    assert run(sys.executable, "-c", script, plugin, OMP_NUM_THREADS="3").split() == ["3", "100"]


def test_entry_point(cmakedir):
    """Where scikit-build-core looks when another project has pushforward among its build requirements."""
    (entry,) = [entry for entry in importlib.metadata.entry_points(group="cmake.root") if entry.name == "pushforward"]
    assert list(entry.load().__path__) == [str(cmakedir)]


def test_include_folder(cmakedir):
    folder = Path(run(sys.executable, "-m", "pushforward", "--includes").strip())
    assert (folder / "pushforward" / "pushforward.hpp").exists()
