"""The package itself: modules that are reached without being imported, at no cost to the import."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = ("cli", "convert", "dask", "demo", "importance", "kde", "plot", "sklearn")


def python(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_reached_as_an_attribute(name: str) -> None:
    needed = {"dask": "dask.array", "plot": "matplotlib", "sklearn": "sklearn"}
    if name in needed:
        pytest.importorskip(needed[name])
    script = f"import pushforward as pf; print(pf.{name}.__name__, {name!r} in dir(pf))"
    assert python(script) == f"pushforward.{name} True"


def test_modules_cost_the_import_nothing() -> None:
    others = ("dask", "matplotlib", "sklearn", "scipy", "pandas", "argparse")
    script = f"""import sys, pushforward
loaded = [name for name in {MODULES!r} if "pushforward." + name in sys.modules]
print(loaded, [name for name in {others!r} if name in sys.modules])"""
    assert python(script) == "[] []"


def test_another_attribute_is_none() -> None:
    import pushforward

    with pytest.raises(AttributeError, match=r"^module 'pushforward' has no attribute 'plots'$"):
        pushforward.plots  # noqa: B018
    assert set(pushforward.__all__) <= set(dir(pushforward))
