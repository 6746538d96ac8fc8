"""Writing files: what is replaced, what is not, and that nothing half-written is left."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushforward import Ensemble, Flow, cli
from pushforward._io import output, tables

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, modes, pipes and devices are POSIX's")

TABLE = np.arange(6.0).reshape(3, 2)


def save_flow(path: Path) -> None:
    Flow(2, layers=[], seed=0).save(path)


def save_ensemble(path: Path) -> None:
    Ensemble.of(2, members=2, layers=[], seed=0).save(path)


def keep_checkpoint(path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    Flow(2, layers=[], seed=0).fit(x, epochs=1, seed=0, checkpoint=path)


def write_csv(path: Path) -> None:
    tables.write(str(path), ["a", "b"], [TABLE])


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "flow": ("file", save_flow),
    "ensemble": ("file", save_ensemble),
    "checkpoint": ("file", keep_checkpoint),
    "csv": ("file.csv", write_csv),
    "npy": ("file.npy", write_csv),
    "parquet": ("file.parquet", write_csv),
}


@pytest.fixture(params=WRITERS)
def writer(request: pytest.FixtureRequest) -> tuple[str, Callable[[Path], None]]:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return WRITERS[request.param]


@pytest.fixture
def whole(writer: tuple[str, Callable[[Path], None]], tmp_path: Path) -> bytes:
    """What the writer writes to a file of its own."""
    folder = tmp_path / "whole"
    folder.mkdir()
    writer[1](folder / writer[0])
    return (folder / writer[0]).read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name != "whole")


def size_of(data: bytes) -> int:
    """A checkpoint has times in it, which are not the same twice; what is written is about as long."""
    return len(data) // 64


# -- what is not replaced ----------------------------------------------------------------------------------------


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path, writer: Any, whole: bytes) -> None:
    name, write = writer
    (tmp_path / "there").mkdir()
    target, link, second = tmp_path / "there" / name, tmp_path / f"link-{name}", tmp_path / f"second-{name}"
    target.write_bytes(b"old")
    link.symlink_to(Path("there") / name)
    second.symlink_to(link.name)
    write(second)
    assert (link.is_symlink(), second.is_symlink(), target.is_symlink()) == (True, True, False)
    assert size_of(target.read_bytes()) == size_of(whole)
    assert names(tmp_path / "there") == [name]


def test_a_link_to_nothing_yet_leads_to_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    output.write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"new"


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        output.write(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a", "b"]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path, writer: Any, whole: bytes) -> None:
    name, write = writer
    path = tmp_path / name
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write(path)
    reader.join()
    assert size_of(read[0]) == size_of(whole)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert names(tmp_path) == [name]


def node(path: Path, kind: int, *numbers: int) -> None:
    try:
        os.mknod(path, kind | 0o666, os.makedev(*numbers))
    except OSError as error:
        pytest.skip(f"devices cannot be made here ({error.strerror})")


def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path, writer: Any) -> None:
    name, write = writer
    path = tmp_path / name
    node(path, stat.S_IFCHR, 1, 3)  # a null device of our own
    write(path)
    assert stat.S_ISCHR(path.stat().st_mode)
    assert path.stat().st_rdev == os.makedev(1, 3)
    assert names(tmp_path) == [name]


def test_a_disk_is_refused(tmp_path: Path) -> None:
    node(tmp_path / "disk", stat.S_IFBLK, 7, 250)
    with pytest.raises(OSError, match="a disk, which is not written to"):
        output.write(tmp_path / "disk", b"new")
    assert stat.S_ISBLK((tmp_path / "disk").stat().st_mode)


def test_a_socket_and_a_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(OSError, match="a socket, which is not written to"):
            output.write("socket", b"new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"):
        output.write(tmp_path / "folder", b"new")
    assert names(tmp_path) == ["folder", "socket"]


def test_a_file_that_may_not_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder may be writable: a rename would replace it all the same."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda where, mode: (Path(where), mode) != (path, os.W_OK))
    with pytest.raises(PermissionError, match="may not be written to"):
        output.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_standard_output_is_written_to_under_any_name(tmp_path: Path) -> None:
    """As /dev/stdout is: the shell's file stays the one that it has open, with what is in it."""
    save_flow(tmp_path / "model")
    (tmp_path / "stdout.csv").symlink_to("/proc/self/fd/1")
    if not (tmp_path / "stdout.csv").exists():
        pytest.skip("there is no /proc")
    words = [sys.executable, "-m", "pushforward", "sample", "model", "-n", "2", "--seed", "0", "-o", "stdout.csv"]
    with open(tmp_path / "shell", "wb", buffering=0) as file:
        file.write(b"before\n")
        subprocess.run(words, check=True, stdout=file, cwd=tmp_path)
        file.write(b"after\n")
    lines = (tmp_path / "shell").read_text().splitlines()
    assert (lines[0], lines[1], len(lines), lines[-1]) == ("before", "x0,x1", 5, "after")


# -- what a file that is replaced hands on -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604, 0o755])
def test_a_private_file_stays_private_also_while_it_is_written(tmp_path: Path, writer: Any, mode: int) -> None:
    name, write = writer
    path = tmp_path / name
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    with output.replacing(path) as file:
        (temporary,) = set(names(tmp_path)) - {name}
        assert stat.S_IMODE((tmp_path / temporary).stat().st_mode) == 0o600
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path, writer: Any) -> None:
    name, write = writer
    before = os.umask(0o027)
    try:
        write(tmp_path / name)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o4711)
    os.chown(path, 1234, 5678)
    path.chmod(0o640)
    output.write(path, b"new")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 5678, 0o640)


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    output.write(path, b"new")
    assert path.read_bytes() == b"new"


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        output.write(tmp_path / "no" / "file", b"new")
    assert caught.value.filename == str(tmp_path / "no" / "file")


# -- nothing half-written is left --------------------------------------------------------------------------------


def test_an_error_leaves_the_old_table(tmp_path: Path, writer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name, write = writer
    path = tmp_path / name
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(path)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["file.csv", "file.npy", "file.parquet"])
def test_a_table_that_ends_in_the_middle_is_not_there(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")

    def blocks() -> Iterator[np.ndarray]:
        yield TABLE
        raise MemoryError

    for before in ([], [name]):
        for old in before:
            (tmp_path / old).write_bytes(b"old")
        with pytest.raises(MemoryError):
            tables.write(str(tmp_path / name), ["a", "b"], blocks())
        assert names(tmp_path) == before
    assert (tmp_path / name).read_bytes() == b"old"


# A file that an interrupt keeps from being closed is closed by the interpreter, which complains.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_ctrl_c_at_any_line_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """An interrupt before each line that a save walks through, one save after the other."""
    path = tmp_path / "file"
    found: set[bytes] = set()
    finished = False
    line = 0
    while not finished:
        path.write_bytes(b"old")
        left = line

        def trace(frame: Any, event: str, _: object) -> Any:
            nonlocal left
            if frame.f_code.co_filename != output.__file__:
                return None
            if event == "line":
                left -= 1
                if left == -1:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            output.write(path, b"new")
            finished = True
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        found.add(path.read_bytes())
        assert names(tmp_path) == ["file"], f"after an interrupt before line {line}"
        line += 1
    assert line > 30
    assert found == {b"old", b"new"}


HANGING = """
import sys, time
from pushforward._io import output
with output.replacing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def hanging(path: Path) -> subprocess.Popen[bytes]:
    """A process that is writing a file until its standard input is closed."""
    words = [sys.executable, "-c", HANGING, str(path)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    return process


def end(process: subprocess.Popen[bytes]) -> int:
    """Let it finish."""
    process.communicate()
    return process.returncode


def test_the_next_save_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    """Also that of another file in the folder; and not that of a process which is still writing, nor anything else."""
    mine = [".pushforward-0123.tmp", ".pushforward-0123456789abcdef.tmp.bak", "notes.tmp"]
    for name in mine:
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / ".pushforward-00000000deadbeef.tmp").symlink_to("notes.tmp")
    os.mkfifo(tmp_path / ".pushforward-11111111deadbeef.tmp")
    strange = [".pushforward-00000000deadbeef.tmp", ".pushforward-11111111deadbeef.tmp"]
    killed, writing = hanging(tmp_path / "killed"), hanging(tmp_path / "writing")
    killed.kill()
    killed.communicate()
    assert len(names(tmp_path)) == len(mine) + len(strange) + 2
    output.write(tmp_path / "third", b"new")
    assert len(names(tmp_path)) == len(mine) + len(strange) + 2  # one temporary file, and the third
    assert end(writing) == 0
    assert names(tmp_path) == sorted([*mine, *strange, "third", "writing"])
    assert (tmp_path / "writing").read_bytes() == b"half"


def test_ctrl_c_in_a_process_leaves_nothing(tmp_path: Path) -> None:
    process = hanging(tmp_path / "file")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode != 0
    assert names(tmp_path) == []


def test_many_who_save_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    """Each removes what is abandoned, and nothing that another is writing."""
    path = tmp_path / "file"
    errors: list[BaseException] = []
    stop = time.monotonic() + 1.0

    def save(data: bytes) -> None:
        try:
            while time.monotonic() < stop:
                output.write(path, data)
                assert path.read_bytes() in contents
        except BaseException as error:
            errors.append(error)

    contents = [bytes([i]) * 10_000 for i in range(4)]
    threads = [threading.Thread(target=save, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names(tmp_path) == ["file"]


# -- the command line --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a model and a table under several names."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(200, 2))
    flow = Flow(2, layers=[], seed=0).fit(x, epochs=1, seed=0)
    flow.columns = ("a", "b")
    flow.save("model")
    tables.write("table.csv", ["a", "b"], [x])
    np.save("table.npy", x)
    np.save("model.npy", x)
    os.link("table.csv", "twin.csv")
    Path("link.csv").symlink_to("table.csv")
    conditional = Flow(1, layers=[], context=1, seed=0)
    conditional.columns, conditional.context_columns = ("a",), ("b",)
    conditional.save("conditional")
    return tmp_path


FIT = "--epochs 1 --depth 1 --hidden 4 --seed 0"
# The words of a command, and the two names of one file.
SAME = [
    ("score model table.csv -o table.csv", "table.csv", "table.csv"),
    ("score model table.csv -o ./table.csv", "./table.csv", "table.csv"),
    ("score model table.csv -o link.csv", "link.csv", "table.csv"),
    ("score model link.csv -o table.csv", "table.csv", "link.csv"),
    ("score model table.csv -o twin.csv", "twin.csv", "table.csv"),
    ("score model table.npy -o table.npy", "table.npy", "table.npy"),
    (f"fit table.csv -o table.csv {FIT}", "table.csv", "table.csv"),
    (f"fit link.csv -o table.csv {FIT}", "table.csv", "link.csv"),
    (f"fit table.npy -o table.npy {FIT}", "table.npy", "table.npy"),
    (f"fit table.csv -o new --validation table.npy --plot table.npy {FIT}", "table.npy", "table.npy"),
    (f"fit table.csv -o new --checkpoint table.csv {FIT}", "table.csv", "table.csv"),
    (f"fit table.csv -o new --checkpoint new {FIT}", "new", "new"),
    (f"fit table.csv -o new --plot ./new {FIT}", "./new", "new"),
    (f"fit table.csv -o model --resume model {FIT}", "model", "model"),
    ("sample conditional -n 1 --context-table table.csv -o table.csv", "table.csv", "table.csv"),
    ("sample conditional -n 1 --context-table table.csv -o link.csv", "link.csv", "table.csv"),
    ("convert table.npy --from zuko -o table.npy", "table.npy", "table.npy"),
]


@pytest.mark.parametrize(("words", "first", "second"), SAME)
def test_an_output_that_is_an_input_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], words: str, first: str, second: str
) -> None:
    def content() -> dict[str, bytes]:
        return {name: Path(name).read_bytes() for name in names(folder)}

    before = content()
    assert cli.main(words.split()) == 2
    error = capsys.readouterr().err
    assert f"{first} is the same file as {second}, which would be lost" in error
    assert error.count("\n") == 1
    assert content() == before


def test_an_output_that_is_an_input_is_refused_in_pipes_too(folder: Path) -> None:
    """The shell opens the file, once to read and once to add to it."""
    before = Path("table.csv").read_bytes()
    words = [sys.executable, "-m", "pushforward", "score", "model"]
    with open("table.csv", "rb") as file:
        run = subprocess.run([*words, "-", "-o", "table.csv"], stdin=file, capture_output=True, text=True, check=False)
    assert (run.returncode, "table.csv is the same file as standard input" in run.stderr) == (2, True)
    with open("table.csv", "ab") as stream:
        run = subprocess.run([*words, "table.csv"], stdout=stream, stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, "standard output is the same file as table.csv" in run.stderr) == (2, True)
    assert Path("table.csv").read_bytes() == before


def test_a_pipe_may_be_both(folder: Path) -> None:
    """A terminal is standard input and output, and so is a socket."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        words = [sys.executable, "-m", "pushforward", "score", "model", "-"]
        process = subprocess.Popen(words, stdin=theirs, stdout=theirs)
        mine.sendall(b"a,b\n0,0\n")
        mine.shutdown(socket.SHUT_WR)
        assert process.wait() == 0
        assert mine.recv(100).startswith(b"log_prob\n-")


def test_a_checkpoint_may_be_the_one_that_is_resumed(folder: Path) -> None:
    fit = f"fit table.csv -o new --checkpoint kept {FIT}".split()
    assert cli.main(fit) == 0
    assert cli.main([*fit, "--resume", "kept"]) == 0


def test_plots_replace_nothing_but_a_file(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    Path("old.png").write_bytes(b"old")
    Path("old.png").chmod(0o600)
    Path("link.png").symlink_to("old.png")
    assert cli.main(f"fit table.csv -o new --plot link.png {FIT}".split()) == 0
    assert Path("link.png").is_symlink()
    assert Path("old.png").read_bytes().startswith(b"\x89PNG")
    for name in ("loss.png", "loss.svg", "loss.PDF"):
        assert cli.main(["plot", "history", "new", "-o", name]) == 0
        assert Path(name).stat().st_size > 1000
    os.mkfifo("pipe.png")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe.png").read_bytes()))
    reader.start()
    assert cli.main(["plot", "history", "new", "-o", "pipe.png"]) == 0
    reader.join()
    assert read[0].startswith(b"\x89PNG")


def test_a_device_needs_no_folder_to_write_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As /dev is to those who are not root."""
    node(Path("null.csv"), stat.S_IFCHR, 1, 3)
    writable = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and writable(path, mode))
    assert cli.main(["score", "model", "table.csv", "-o", "null.csv"]) == 0
    assert cli.main(["score", "model", "table.csv", "-o", "scores.csv"]) == 2
    assert stat.S_ISCHR(Path("null.csv").stat().st_mode)
