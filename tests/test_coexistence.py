"""Beside other libraries with threads, in either order of import; and how much of the machine a call takes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
from pushforward import Flow, build_info
from test_threads import PATIENCE, needs_fork

needs_task_list = pytest.mark.skipif(
    not os.path.isdir("/proc/self/task"), reason="this system does not list a process's threads"
)
heeds_openmp = pytest.mark.skipif(build_info()["openmp"] == "none", reason="this build does not know OpenMP")

# What every script has: a flow, rows, and their density as one thread computes it.
START = """
import os, threading, time
import numpy as np

def tasks():
    return sorted(os.listdir("/proc/self/task"))

def flow_and_rows():
    flow = Flow(3, layers=pushforward.realnvp(3, depth=4, hidden=(32, 32)), seed=0)
    flow.parameters = np.random.default_rng(0).normal(scale=0.2, size=flow.parameters.shape)
    return flow, np.random.default_rng(1).normal(size=(4000, 3))
"""
IMPORT = "import pushforward\nfrom pushforward import Flow"


def run(*parts: str, path: Path | None = None, **env: str) -> str:
    """What a new process prints that runs the parts of a script one after the other; it must end well and in time."""
    script = "\n".join(textwrap.dedent(part) for part in parts)
    arguments = ["-c", script]
    if path is not None:
        (path / "script.py").write_text(script)
        arguments = [str(path / "script.py")]
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **env}, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


# -- one process -------------------------------------------------------------------------------------------------

# Each has threads of its own and keeps them busy.
OTHERS = {
    "numpy": """
        import numpy
        a = numpy.random.default_rng(0).normal(size=(400, 400))

        def other():
            return numpy.linalg.svd(a @ a, compute_uv=False).sum()
    """,
    "sklearn": """
        import numpy
        from sklearn.cluster import KMeans
        from sklearn.ensemble import HistGradientBoostingRegressor
        a = numpy.random.default_rng(0).normal(size=(2000, 8))

        def other():
            trees = HistGradientBoostingRegressor(max_iter=1, max_leaf_nodes=4).fit(a[:, 1:], a[:, 0])
            return trees.predict(a[:, 1:]).sum() + KMeans(4, n_init=1, random_state=0).fit(a).inertia_
    """,
    "torch": """
        import torch
        torch.manual_seed(0)
        start = torch.randn(400, 400)

        def other():
            a = start.clone().requires_grad_()
            torch.tanh(a @ a).sum().backward()
            return a.grad.abs().sum().item()
    """,
}


@needs_task_list
@pytest.mark.parametrize("pushforward_first", [True, False], ids=["pushforward first", "pushforward second"])
@pytest.mark.parametrize("name", OTHERS)
def test_beside_another_library(name: str, pushforward_first: bool) -> None:
    """In turns, then at once: no crash, nobody waits for ever, the same results, no more threads than asked for."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    imports = [IMPORT, OTHERS[name]] if pushforward_first else [OTHERS[name], IMPORT]
    script = """
        flow, x = flow_and_rows()
        flow.num_threads = 1
        expected, others = flow.log_prob(x), other()
        before = len(tasks())
        for flow.num_threads in [3, 2, 3]:
            assert flow.log_prob(x).tobytes() == expected.tobytes()
            assert np.isclose(other(), others)
        started = len(tasks()) - before

        def repeat_other():
            for _ in range(2):
                wrong.append(not np.isclose(other(), others))

        def repeat_flow():
            for _ in range(20):
                wrong.append(flow.log_prob(x).tobytes() != expected.tobytes())

        wrong = []
        threads = [threading.Thread(target=target) for target in [repeat_other, repeat_flow] * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(started, len(wrong), any(wrong))
    """
    assert run(*imports, START, script, OMP_NUM_THREADS="2") == "2 44 False"


@needs_task_list
def test_a_call_wakes_no_more_threads_than_it_asks_for() -> None:
    """Those that an earlier call wanted sleep on: they are neither woken nor do they spin."""
    script = """
        def state(task):
            "Whether it sleeps, and how often it was given a core and left it."
            lines = open(f"/proc/self/task/{task}/status").read().splitlines()
            return [line for line in lines if line.startswith("State:") or "ctxt_switches" in line]

        flow, x = flow_and_rows()
        before = set(tasks())
        flow.num_threads = 8
        flow.log_prob(x)
        helpers = set(tasks()) - before
        flow.num_threads = 2
        flow.log_prob(x)
        before = None
        while True:  # until they sleep
            time.sleep(0.1)
            states = {task: state(task) for task in helpers}
            if states == before and all("S (sleeping)" in lines[0] for lines in states.values()):
                break
            before = states
        for _ in range(300):
            flow.log_prob(x[:500])
        print(len(helpers), sum(state(task) != states[task] for task in helpers))
    """
    started, woken = map(int, run(IMPORT, START, script).split())
    assert started == 7
    assert woken <= 1


def test_threads_sleep_between_calls() -> None:
    script = """
        flow, x = flow_and_rows()
        flow.num_threads = 4
        flow.log_prob(x)
        time.sleep(0.1)
        before = time.process_time()
        time.sleep(1)
        print(time.process_time() - before)
    """
    assert float(run(IMPORT, START, script)) < 0.1


# -- numbers of threads ------------------------------------------------------------------------------------------


@heeds_openmp
def test_threadpoolctl_says_how_many_threads() -> None:
    """At the time of a call, as long as the flow has no number of its own."""
    threadpoolctl = pytest.importorskip("threadpoolctl")
    flow, own = Flow(2), Flow(2, num_threads=3)
    for limit in (1, 2, 5):
        with threadpoolctl.threadpool_limits(limit, user_api="openmp"):
            assert flow.num_threads == limit
            assert build_info()["threads"] == str(limit)
            assert own.num_threads == 3
        with threadpoolctl.threadpool_limits(limit, user_api="blas"):
            assert flow.num_threads == Flow(2).num_threads
    with threadpoolctl.threadpool_limits(7):
        assert flow.num_threads == 7


@heeds_openmp
@needs_task_list
def test_a_call_obeys_threadpoolctl() -> None:
    pytest.importorskip("threadpoolctl")
    script = """
        from threadpoolctl import threadpool_limits
        flow, x = flow_and_rows()
        before = len(tasks())
        with threadpool_limits(1, user_api="openmp"):
            flow.log_prob(x)
            flow.fit(x, epochs=1, seed=0)
        limited = len(tasks()) - before
        flow.log_prob(x)
        print(limited, len(tasks()) - before)
    """
    assert run(IMPORT, START, script, OMP_NUM_THREADS="3") == "0 2"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_threads_that_the_system_refuses() -> None:
    """Where memory is left for the stacks of a few threads only, calls do with those."""
    script = """
        import resource
        flow, x = flow_and_rows()
        flow.num_threads = 1
        expected = flow.log_prob(x)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
        stack = 8 << 20 if stack == resource.RLIM_INFINITY else stack
        resource.setrlimit(resource.RLIMIT_AS, (used + 5 * stack, resource.RLIM_INFINITY))
        before = len(tasks())
        for flow.num_threads in (64, 2, 64):
            assert flow.log_prob(x).tobytes() == expected.tobytes()
        print(len(tasks()) - before)
    """
    assert 1 <= int(run(IMPORT, START, script)) < 10


# -- processes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["loky", pytest.param("multiprocessing", marks=needs_fork), "threading"])
def test_workers_of_joblib(backend: str, tmp_path: Path) -> None:
    """Also where the parent has threads, which a forked worker has not."""
    pytest.importorskip("joblib")
    script = f"""
        import joblib

        if __name__ == "__main__":
            flow, x = flow_and_rows()
            flow.num_threads = 2
            parts = np.array_split(x, 6)
            alone = [flow.log_prob(part).tobytes() for part in parts]
            for _ in range(2):
                parallel = joblib.Parallel(n_jobs=2, backend={backend!r})
                done = parallel(joblib.delayed(flow.log_prob)(part) for part in parts)
                assert [density.tobytes() for density in done] == alone
            assert flow.log_prob(x).tobytes() == b"".join(alone)
            print("the same")
    """
    assert run(IMPORT, START, script, path=tmp_path) == "the same"


@needs_fork
def test_children_beside_another_library() -> None:
    """A process that computes with scikit-learn and a flow forks; its children use the flow."""
    pytest.importorskip("sklearn")
    script = """
        flow, x = flow_and_rows()
        flow.num_threads = 2
        expected = flow.log_prob(x).tobytes()
        for _ in range(3):
            other()
            pid = os.fork()
            if pid == 0:
                os._exit(0 if flow.log_prob(x).tobytes() == expected else 1)
            assert flow.log_prob(x).tobytes() == expected
            assert os.waitpid(pid, 0)[1] == 0
        print("the same")
    """
    assert run(OTHERS["sklearn"], IMPORT, START, script, OMP_NUM_THREADS="2") == "the same"


def test_the_process_ends_during_calls() -> None:
    """Threads that Python does not wait for are in the midst of calls, or between them."""
    script = """
        flow, x = flow_and_rows()
        flow.num_threads = 2
        x = np.tile(x, (10, 1))
        started = threading.Barrier(4)

        def compute():
            started.wait()
            while True:
                flow.log_prob(x)

        for _ in range(3):
            threading.Thread(target=compute, daemon=True).start()
        started.wait()
        time.sleep(0.1)
        print("ends", flush=True)
    """
    for _ in range(3):
        assert run(IMPORT, START, script) == "ends"
