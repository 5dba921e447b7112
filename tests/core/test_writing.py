"""A full disk is one message; what was there stays whole."""

import errno
import resource
import subprocess
import sys

import numpy as np
import pytest

from medmcl.core import writing
from medmcl.core.atomic import append_line, file_aside, folder_aside, write_atomically
from medmcl.core.errors import ArtefactError, RecordError
from medmcl.core.file_lock import claimed
from medmcl.core.writing import (
    DiskError,
    disk_error,
    file_error,
    free_bytes,
    refuse_full,
    reserved_array,
    size,
)

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("error", "what"), [
    (FULL, "the disk is full"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "the quota of disk space is used up"),
    (OSError(errno.EIO, "Input/output error"), "the disk failed"),
    (OSError("400000 requested and 131056 written"), "the disk is full"),
    (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), "full"),
    (ValueError("serializing: I/O error: No space left on device (os error 28)"), "is full"),
    (ValueError("I/O error: Disk quota exceeded (os error 122)"), "quota"),
    (ValueError("another number of records"), None),
    (PermissionError(errno.EACCES, "Permission denied"), None),
    (RecordError("cannot be read: Input/output error"), None),
])  # fmt: skip
def test_what_a_full_disk_raises_is_known_whoever_raises_it(error, what, tmp_path):
    told = disk_error(error, tmp_path / "x")
    wrapped = RuntimeError("the writer failed")
    wrapped.__context__ = error
    if what is None:
        assert told is None
        assert disk_error(wrapped) is None
    else:
        assert what in str(told)
        assert f"{tmp_path / 'x'}: " in str(told)
        assert "free" in str(told)
        assert what in str(disk_error(wrapped))


@pytest.mark.parametrize("write", [
    lambda path: write_atomically(path, "new"),
    lambda path: write_atomically(path.with_name("folder.json"), "new", page=path),
    lambda path: append_line(path, "new"),
    lambda path: _raise_inside(file_aside(path)),
    lambda path: _raise_inside(folder_aside(path.with_name("folder"))),
])  # fmt: skip
def test_what_was_there_stays_where_a_write_fails(write, tmp_path, monkeypatch):
    path = tmp_path / "kept.txt"
    path.write_text("old\n")
    monkeypatch.setattr("medmcl.core.atomic.os.fsync", _fail)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, hard))  # a file of 5 bytes at most
    try:
        with pytest.raises(DiskError, match=r"kept\.txt|folder"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert path.read_text() == "old\n"
    assert [one.name for one in tmp_path.iterdir()] == ["kept.txt"]


def _fail(_):
    raise FULL


def _raise_inside(opened):
    with opened:
        raise FULL


def test_space_of_an_array_is_reserved_before_it_is_filled(tmp_path):
    made = reserved_array(tmp_path / "a.npy", np.float32, (100, 1000))
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= made.nbytes
    assert not made.any()
    made[3] = 1
    made.flush()
    assert np.load(tmp_path / "a.npy")[3].all()


def test_space_is_taken_by_zeros_where_it_cannot_be_reserved(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(writing.os, "posix_fallocate", unsupported)
    made = reserved_array(tmp_path / "a.npy", np.int64, (3, 100_000))
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= made.nbytes
    assert np.load(tmp_path / "a.npy").shape == (3, 100_000)


TOO_LARGE = """
import sys, resource, numpy as np
from pathlib import Path
from medmcl.core.writing import DiskError, reserved_array
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))
try:
    reserved_array(Path(sys.argv[1]), np.float32, (100, 100_000))
except DiskError as error:
    print(error)
"""


def test_an_array_that_does_not_fit_is_an_error_and_no_signal(tmp_path):
    call = [sys.executable, "-c", TOO_LARGE, tmp_path / "a.npy"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "a.npy: " in done.stdout


def test_what_will_not_fit_is_refused_with_what_is_needed_and_free(tmp_path):
    refuse_full(tmp_path / "new" / "folder", 1000, "the rows", "elsewhere")
    free = free_bytes(tmp_path)
    with pytest.raises(DiskError, match=r"the rows will not fit(.|\n)*free(.|\n)*or elsewhere"):
        refuse_full(tmp_path / "new", 2 * free, "the rows", "elsewhere")


def test_sizes_are_said_in_their_units():
    said = [size(n) for n in (0, 999, 1_500, 2e6, 3.21e9, 4e12)]
    assert said == ["0 bytes", "999 bytes", "1.5 kB", "2 MB", "3.21 GB", "4.0 TB"]


def test_a_folder_that_is_gone_is_one_message(tmp_path):
    with pytest.raises(DiskError, match=r"run: the folder was moved or taken away"):
        append_line(tmp_path / "run" / "metrics.jsonl", "{}")
    gone = FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "run" / "x.npy"))
    assert "taken away" in str(disk_error(gone))
    gone.filename = str(tmp_path / "x.npy")  # of a folder that is there: whoever read it says why
    assert disk_error(gone) is None


def test_a_link_to_a_file_and_a_name_without_room_for_parts_are_no_outputs(tmp_path):
    (tmp_path / "mine.csv").write_text("mine")
    (tmp_path / "link.csv").symlink_to("mine.csv")
    refused = [("link.csv", r"name the file itself: .*/mine\.csv"), ("x" * 230, "a shorter name")]
    for name, fix in [*refused, ("x" * 300, "a shorter name")]:
        with pytest.raises(ArtefactError, match=fix), claimed(tmp_path / name, "written"):
            pytest.fail("claimed")
    with claimed(tmp_path / ("x" * 180), "written"):
        pass


def test_what_stands_in_the_way_is_told_by_name(tmp_path):
    errors = []
    for path in (tmp_path, tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match=r"\[Errno") as raised:
            path.read_bytes()
        errors.append(str(file_error(raised.value)))
    assert all("cannot be used" in one and str(tmp_path) in one for one in errors)
    assert file_error(KeyError("x")) is file_error(OSError(errno.EISDIR, "nameless")) is None


@pytest.mark.parametrize("damage", ["a folder in the file's place", "a file in the folder's place"])
def test_what_stands_in_the_way_is_named_and_not_a_part_that_is_gone(damage, tmp_path):
    path = tmp_path / "run" / "made.json"
    in_the_way = path if damage.startswith("a folder") else path.parent
    if in_the_way == path:
        (path / "mine").mkdir(parents=True)
    else:
        path.parent.write_text("mine")
    with pytest.raises(OSError) as raised:
        write_atomically(path, "{}")
    told = str(file_error(raised.value))
    assert told.startswith(f"{in_the_way}: cannot be used: ")
    assert "move" in told
    assert ".part" not in told


def test_a_folder_that_nobody_may_write_to_is_named(tmp_path):
    part = str(tmp_path / ".made.00000000-1-00000000.part")
    told = str(file_error(PermissionError(errno.EACCES, "Permission denied", part)))
    assert told.startswith(f"{tmp_path}: cannot be used: ")
