"""What holds for all tests: examples that repeat, threads that sleep while they wait, a quick garbage collector."""

import gc
import os

import pytest
from hypothesis import settings

# OpenMP's threads, of scikit-learn and PyTorch, spin while they wait for one another. Beside other tests on the same
# cores a classifier then takes five times its processor time. Read when OpenMP is loaded, so no later than here.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Hypothesis tries the same examples at every run of continuous integration, and new ones at a developer's.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the collector away from the tests collected: to walk over all of them takes half a second each time."""
    gc.freeze()
