"""Threads, processes and instruction sets: the same bits from everywhere, and nothing that waits for ever."""

from __future__ import annotations

import _thread
import copy
import functools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import timeit
from ast import literal_eval
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pushforward
import pytest
from pushforward import Flow, _cpu, realnvp, simd_level

PATIENCE = 120  # seconds until a process that hangs is taken for one: far more than any busy machine needs

needs_fork = pytest.mark.skipif(
    not hasattr(os, "fork") or pushforward.build_info()["threading"] == "openmp",
    reason="this system cannot fork, or a child cannot use OpenMP's threads after its parent has",
)


def flow_of(dtype: str = "float32", context: int = 0) -> Flow:
    flow = Flow(3, layers=realnvp(3, depth=4, hidden=(32, 32)), context=context, dtype=dtype, seed=0)
    flow.parameters = np.random.default_rng(0).normal(scale=0.2, size=flow.parameters.shape)
    return flow


def rows_of(n: int, dim: int = 3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng([seed, n]).normal(size=(n, dim))


CALLS: dict[str, Callable[[Flow, np.ndarray, np.ndarray], tuple]] = {
    "log_prob": lambda flow, x, c: (flow.log_prob(x, c),),
    "inverse": lambda flow, x, c: flow.inverse(x, c),
    "forward": lambda flow, x, c: flow.forward(x, c),
    "sample_and_log_prob": lambda flow, x, c: flow.sample_and_log_prob(len(x), c, seed=0),
    "log_prob_and_grad": lambda flow, x, c: flow.log_prob_and_grad(x, c),
    "loss_and_grad": lambda flow, x, c: flow.loss_and_grad(x, c)[1:],
    "forward_vjp": lambda flow, x, c: flow.forward_vjp(x, x, np.ones(len(x)), c),
    "inverse_vjp": lambda flow, x, c: flow.inverse_vjp(x, x, np.ones(len(x)), c),
    "log_prob_vjp": lambda flow, x, c: flow.log_prob_vjp(x, np.ones(len(x)), c),
    "no parameters": lambda flow, x, c: flow.log_prob_vjp(x, np.ones(len(x)), c, parameters=False)[::2],
    "latent": lambda flow, x, c: (flow.base_log_prob(x), flow.sample_latent(len(x), seed=0)),
}


def run(script: str, path: Path | None = None, **env: str) -> str:
    """What a new process prints that runs a script, from a file if a path is given; it must end well and in time."""
    script = "from test_threads import *\n" + textwrap.dedent(script)
    arguments = ["-c", script]
    if path is not None:
        (path / "script.py").write_text(script)
        arguments = [str(path / "script.py")]
    here = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": here, **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


# -- threads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_threads", [1, 2, None])
def test_eight_threads_may_call_one_flow(num_threads: int | None) -> None:
    """Every call of two flows from all threads at once, on tables of different sizes, is what it is alone.

    None stands for another number of threads at each call.
    """
    flows = [flow_of("float32", 2), flow_of("float64", 2)]
    for flow in flows:
        flow.num_threads = num_threads
    work = [(name, i, n) for n in (1, 65, 300, 1000) for name in CALLS for i in (0, 1)]

    def bits(item: tuple[str, int, int]) -> list[bytes]:
        name, i, n = item
        if num_threads is None:
            flows[i].num_threads = 1 + n % 7  # also while another thread is in a call
        return [array.tobytes() for array in CALLS[name](flows[i], rows_of(n), rows_of(n, 2, seed=3))]

    alone = [bits(item) for item in work]
    together = threading.Barrier(8)

    def all_work(first: int) -> bool:
        together.wait()
        turned = [*range(first, len(work)), *range(first)]  # each thread begins elsewhere
        return all(bits(work[k]) == alone[k] for k in turned)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(all_work, range(0, 64, 8)))


def test_a_fit_in_each_of_four_threads() -> None:
    def fitted(seed: int) -> bytes:
        return copy.deepcopy(flow).fit(rows_of(500), epochs=3, seed=seed).parameters.tobytes()

    flow = flow_of()
    flow.num_threads = 1
    alone = [fitted(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(fitted, range(4))) == alone


@pytest.mark.parametrize("call", CALLS)
def test_other_threads_go_on_during_a_call(call: str) -> None:
    """A thread that only looks at the clock does so throughout the call, which therefore does not hold the GIL."""
    flow, n, ticks, stop = flow_of(context=1), 50_000, [], threading.Event()
    flow.num_threads = 1

    def look_at_the_clock() -> None:
        while not stop.wait(0.001):
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=look_at_the_clock)
    thread.start()
    try:
        for _ in range(10):
            x, c = rows_of(n), rows_of(n, 1)
            started = time.perf_counter()
            CALLS[call](flow, x, c)
            ended = time.perf_counter()
            # A busy machine may not run the thread at all for a while; half of ten parts is proof enough, when it
            # takes much longer than the 5 ms after which Python itself would switch, before or after the core's work.
            parts = {int(10 * (tick - started) / (ended - started)) for tick in ticks if started < tick < ended}
            if len(parts) >= 5 and ended - started > 0.05:
                return
            n *= 2 if ended - started < 0.3 else 1
        pytest.fail(f"looked at the clock in {len(parts)} tenths of a call of {ended - started:.2f} s")
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def heeds_interrupts() -> Iterator[None]:
    """Jobs that a shell runs in the background begin with interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interrupts")
def test_an_interrupt_from_the_keyboard_ends_a_fit_at_its_best() -> None:
    flow, x, held = flow_of(), rows_of(500), rows_of(200, seed=2)
    flow.num_threads = 1
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        flow.fit(x, validation=held, epochs=10**9, patience=None, seed=0)
    timer.join()
    assert flow.history.stopped == "interrupted"
    if flow.history.epochs:
        assert -flow.log_prob(held).mean() == pytest.approx(flow.history["validation_loss"].min(), rel=1e-12)


LONG = 8  # seconds of a call that is to be cut short


def long_call(call: str, num_threads: int) -> tuple[Flow, Callable[[], tuple]]:
    """Return a flow and a call of it that would take so long."""
    flow, n = Flow(3, layers=realnvp(3, depth=8, hidden=(256, 256)), context=1, seed=0, num_threads=num_threads), 2000
    few = rows_of(n), rows_of(n, 1)
    # The least of three: one that other programs delayed would make the call too short.
    seconds = min(timeit.repeat(lambda: CALLS[call](flow, *few), number=1, repeat=3))
    n = int(n * LONG / seconds)
    return flow, functools.partial(CALLS[call], flow, rows_of(n), rows_of(n, 1))


@pytest.mark.usefixtures("heeds_interrupts")
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_from_the_keyboard_ends_any_call(call: str, num_threads: int) -> None:
    """Soon, and the next call is as it was."""
    flow, too_long = long_call(call, num_threads)
    parameters = flow.parameters.copy()
    few = rows_of(300), rows_of(300, 1)
    expected = [array.tobytes() for array in CALLS[call](flow, *few)]
    timer = threading.Timer(0.1, _thread.interrupt_main)
    started = time.perf_counter()
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            too_long()
    finally:  # an interrupt that comes after the test would end pytest
        timer.cancel()
        timer.join()
    assert time.perf_counter() - started < LONG / 3
    np.testing.assert_array_equal(flow.parameters, parameters)
    assert [array.tobytes() for array in CALLS[call](flow, *few)] == expected


@pytest.mark.usefixtures("heeds_interrupts")
def test_an_interrupt_is_for_the_main_thread_alone() -> None:
    """The calls of other threads go on, and a call of the main thread is ended while they make theirs."""
    flow, x, stop = flow_of(), rows_of(100_000), threading.Event()
    flow.num_threads = 2
    expected = flow.log_prob(x).tobytes()

    def work() -> bool:
        same = True
        while not stop.is_set():
            same &= flow.log_prob(x).tobytes() == expected
        return same

    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(work) for _ in range(8)]
        _, too_long = long_call("log_prob", 2)
        timer = threading.Timer(0.1, _thread.interrupt_main)
        started = time.perf_counter()
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                too_long()
            assert time.perf_counter() - started < LONG
        finally:
            stop.set()
        assert all(other.result() for other in others)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
def test_a_signal_handler_may_call_the_flow() -> None:
    """It does so in the middle of another call, on the same thread and on other rows."""
    flow, x, other = flow_of(), rows_of(1_000_000), rows_of(3000, seed=5)
    flow.num_threads = 2
    expected, expected_by_handler = flow.log_prob(x), flow.log_prob_and_grad(other)[1]
    seen = []

    def handle(*_: object) -> None:
        seen.append(flow.log_prob_and_grad(other)[1])

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.1)
    try:
        found = flow.log_prob(x)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen
    np.testing.assert_array_equal(found, expected)
    for gradient in seen:
        np.testing.assert_array_equal(gradient, expected_by_handler)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
def test_what_a_signal_handler_raises_ends_the_call() -> None:
    flow, too_long = long_call("log_prob", 2)

    def handle(*_: object) -> None:
        raise TimeoutError("enough")

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(TimeoutError, match="enough"):
            too_long()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert np.isfinite(flow.log_prob(rows_of(5), rows_of(5, 1))).all()


# -- numbers of threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", ["1", "3"])
def test_openmp_says_how_many_threads(threads: str) -> None:
    script = """
        import pushforward
        flow = Flow(2)
        default = flow.num_threads
        flow.num_threads = 5
        chosen = flow.num_threads
        flow.num_threads = None
        print(pushforward.build_info()["threads"], default, chosen, flow.num_threads)
    """
    assert run(script, OMP_NUM_THREADS=threads).split() == [threads, threads, "5", threads]


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="this system does not list a process's threads")
def test_no_more_threads_than_asked_for() -> None:
    script = """
        flow, started = flow_of(), []
        for flow.num_threads in (1, 3):
            before = len(os.listdir("/proc/self/task"))
            for call in CALLS.values():
                call(flow, rows_of(1000), None)
            started.append(len(os.listdir("/proc/self/task")) - before)
        print(*started)
    """
    alone, of_three = map(int, run(script, OMP_NUM_THREADS="8").split())
    assert alone == 0
    assert of_three == 2


# -- processes ---------------------------------------------------------------------------------------------------

CHILDREN = """
    flow, x = flow_of(), rows_of(1000)
    flow.num_threads = 2

    def result():
        arrays = [array for call in CALLS.values() for array in call(flow, x, None) if array is not None]
        fitted = copy.deepcopy(flow).fit(x, epochs=2, seed=0)
        return b"".join(array.tobytes() for array in [*arrays, fitted.parameters])

    def child():
        "Fork; the child, and then a child of its own, compute what is expected. They leave without cleaning up."
        pid = os.fork()
        if pid == 0:
            try:
                same = result() == expected
                grandchild = os.fork()
                same = same and result() == expected
                if grandchild:
                    same = same and os.waitpid(grandchild, 0)[1] == 0
                os._exit(0 if same else 1)
            finally:
                os._exit(2)
        return pid

    def ended_well(pid):
        assert os.waitpid(pid, 0)[1] == 0
"""


@needs_fork
@pytest.mark.parametrize(
    "order",
    ["child before any thread", "child after threads", "children while other threads compute"],
)
def test_a_forked_child_computes(order: str, tmp_path: Path) -> None:
    """Threads do not survive a fork; a child that waited for them would never end."""
    path, script = str(tmp_path / "expected"), textwrap.dedent(CHILDREN)
    run(script + f"open({path!r}, 'wb').write(result())")  # elsewhere, so that nothing has started threads before
    script += f"\nexpected = open({path!r}, 'rb').read()\n"
    script += {
        "child before any thread": "ended_well(child()); result(); ended_well(child())",
        "child after threads": "result(); pids = [child(), child()]; result(); [ended_well(pid) for pid in pids]",
        # Each on another number of threads, and for the first time.
        "children while other threads compute": textwrap.dedent("""
            stop, rows = threading.Event(), rows_of(20_000)
            def compute(num_threads):
                mine = copy.deepcopy(flow)
                mine.num_threads = num_threads
                while not stop.is_set():
                    mine.log_prob(rows)
            threads = [threading.Thread(target=compute, args=(n,)) for n in (2, 3, 5)]
            for thread in threads:
                thread.start()
            try:
                for _ in range(5):
                    ended_well(child())
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
        """),
    }[order]
    run(script + "\nassert result() == expected")


@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=needs_fork)])
def test_processes_of_a_pool(method: str, tmp_path: Path) -> None:
    script = f"""
        import multiprocessing

        if __name__ == "__main__":
            flow = flow_of().fit(rows_of(500), epochs=1, seed=0)
            parts = np.array_split(rows_of(1000), 4)
            alone = [flow.log_prob(part).tobytes() for part in parts]
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                print([density.tobytes() for density in pool.map(flow.log_prob, parts)] == alone)
    """
    assert run(script, tmp_path) == "True"


def test_another_interpreter_of_the_process_is_refused_before_numpy_is_loaded_there() -> None:
    """An import that cannot work there must say so, and neither crash nor wait for ever."""
    script = """
        import faulthandler
        faulthandler.dump_traceback_later(20, exit=True)
        try:
            import _interpreters as interpreters  # from Python 3.13 on
        except ImportError:
            try:
                import _xxsubinterpreters as interpreters
            except ImportError:
                print("unavailable")
                raise SystemExit
        inside = '''if True:
            import sys
            try:
                import pushforward
            except ImportError as error:
                print(error, "numpy" in sys.modules)
        '''
        interpreters.run_string(interpreters.create(), inside)
        assert flow_of().sample(3).shape == (3, 3)
    """
    answer = run(script)
    if answer == "unavailable":
        pytest.skip("this Python has no interpreters to start")
    assert answer == "pushforward runs in Python's main interpreter only, not in a sub-interpreter False"


# -- instruction sets --------------------------------------------------------------------------------------------

LEVELS = ["v2", "v3", "v4"][: max(_cpu.x86_64_level() - 1, 0)] or ["base"]


def skip_unless_built(level: str) -> None:
    if find_spec(f"pushforward._core_{level}") is None:
        pytest.skip(f"this build has no module for {level} (PUSHFORWARD_LEVELS)")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_level_that_the_machine_has(level: str, dtype: str, tmp_path: Path) -> None:
    """The variable chooses the level, and all levels agree to rounding."""
    skip_unless_built(level)
    results = tmp_path / "results.npz"
    script = f"""
        flow, x, c = flow_of({dtype!r}, 2), rows_of(300), rows_of(300, 2)
        results = {{f"{{name}} {{i}}": array for name in CALLS for i, array in enumerate(CALLS[name](flow, x, c))}}
        results["fit"] = flow.fit(x, context=c, epochs=2, seed=0).log_prob(x, c)
        np.savez({str(results)!r}, **results)
        print(simd_level())
    """
    assert run(script, PUSHFORWARD_SIMD=level, OMP_NUM_THREADS="1") == level
    flow, x, c = flow_of(dtype, 2), rows_of(300), rows_of(300, 2)
    flow.num_threads = 1
    tolerance = {"float32": 1e-4, "float64": 1e-11}[dtype]
    with np.load(results) as there:
        for name, call in CALLS.items():
            for i, here in enumerate(call(flow, x, c)):
                scale = max(1.0, np.abs(here).max())
                np.testing.assert_allclose(there[f"{name} {i}"], here, rtol=tolerance, atol=tolerance * scale)
        flow.fit(x, context=c, epochs=2, seed=0)
        np.testing.assert_allclose(there["fit"], flow.log_prob(x, c), atol=1e3 * tolerance)


def test_the_best_level_is_the_default() -> None:
    skip_unless_built(LEVELS[-1])
    assert run("print(simd_level())", PUSHFORWARD_SIMD="") == LEVELS[-1]
    assert simd_level() == (os.environ.get("PUSHFORWARD_SIMD") or LEVELS[-1])


# -- processors --------------------------------------------------------------------------------------------------

needs_two_processors = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="this system has no processor affinity, or this process may use one processor only",
)
places_its_helpers = pytest.mark.skipif(
    pushforward.build_info()["threading"] != "pool", reason="OpenMP places its own threads"
)

MASKS = """
    flow, x, before = flow_of(), rows_of(4096), set(os.listdir("/proc/self/task"))
    flow.num_threads = 2

    def masks():
        "Return the masks of the caller and of its helper, and the number of processors that both may use."
        flow.log_prob(x)
        (helper,) = set(os.listdir("/proc/self/task")) - before
        return os.sched_getaffinity(0), os.sched_getaffinity(int(helper)), pushforward._dispatch.core.processors()

    def helper_gets(expected):
        "A helper gets another mask when a call wakes it: it must have fallen asleep."
        end = time.monotonic() + 20
        while masks()[1] != expected and time.monotonic() < end:
            time.sleep(0.01)
        return masks()[1] == expected
"""


def bindings() -> list[dict[str, str]]:
    """Return settings of OpenMP that allow every processor, as job scripts set them."""
    every = ",".join(map(str, sorted(os.sched_getaffinity(0)))) if hasattr(os, "sched_getaffinity") else ""
    binds = [{"OMP_PROC_BIND": binding} for binding in ("true", "close", "spread", "false")]
    return [{}, *binds, {"OMP_PLACES": "threads"}, {"OMP_PLACES": f"{{{every}}}"}]


@needs_two_processors
@places_its_helpers
@pytest.mark.parametrize("settings", bindings(), ids=str)
def test_a_helper_does_not_share_the_one_processor_of_its_caller(settings: dict[str, str]) -> None:
    """All processors are used, and OpenMP may have bound the caller to one."""
    caller, helper, processors = literal_eval(run(MASKS + "\n    print(masks())", **settings))
    allowed = os.sched_getaffinity(0)
    assert caller | helper == allowed
    assert processors == len(allowed)


@needs_two_processors
@places_its_helpers
@pytest.mark.parametrize("settings", bindings(), ids=str)
def test_a_mask_of_one_processor_holds_for_helpers(settings: dict[str, str]) -> None:
    """As taskset sets it before the process starts."""
    allowed = os.sched_getaffinity(0)
    one = {max(allowed)}
    os.sched_setaffinity(0, one)
    try:
        answer = run(MASKS + "\n    print(masks())", **settings)
    finally:
        os.sched_setaffinity(0, allowed)
    assert literal_eval(answer) == (one, one, 1)


@needs_two_processors
@places_its_helpers
@pytest.mark.parametrize("settings", bindings(), ids=str)
def test_a_mask_that_is_set_later_holds_for_helpers(settings: dict[str, str]) -> None:
    script = """
    allowed = os.sched_getaffinity(0) | masks()[1]
    one = {max(allowed)}
    os.sched_setaffinity(0, one)
    print(helper_gets(one), masks()[2])
    """
    assert run(MASKS + script, **settings).split() == ["True", "1"]
