"""One process at a time: whoever lives is waited for or named, whoever is dead is not."""

import errno
import json
import multiprocessing
import os
import signal
import time
import tracemalloc
from pathlib import Path

import pytest

from medmcl.core import file_lock
from medmcl.core.errors import ArtefactError, MedmclError
from medmcl.core.file_lock import alone, claimed, one_writer, sweep_lock


def hold(path, ready):
    with alone(path, "busy"):
        ready.set()
        time.sleep(60)


@pytest.fixture
def held(tmp_path):
    """A place that another process holds, and that process."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=hold, args=(tmp_path / "place", ready), daemon=True)
    other.start()
    assert ready.wait(30)
    yield tmp_path / "place", other
    other.kill()
    other.join()


def test_a_living_owner_is_named_and_a_killed_one_is_told(held):
    path, other = held
    refused = pytest.raises(ArtefactError, match=rf"busy here(.|\n)*process {other.pid} on")
    with refused, alone(path, "busy here"):
        pytest.fail("two at once")
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with alone(path, "busy") as killed:
        assert f"process {other.pid} on" in killed
    with alone(path, "busy") as killed:
        assert killed == ""
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("text", ["[" * 200_000, "[1]", "5", "{", '{"host": 1}'])
def test_a_lock_that_somebody_else_wrote_is_of_nobody(tmp_path, text):
    tmp_path.joinpath(".place.lock").write_text(text)
    with alone(tmp_path / "place", "busy") as killed:
        assert killed == ""


def test_a_lock_of_any_size_is_read_in_little_memory(tmp_path):
    (tmp_path / ".place.lock").touch()
    os.truncate(tmp_path / ".place.lock", 10**8)
    tracemalloc.start()
    assert file_lock._Owner.read(tmp_path / ".place.lock") is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_a_lock_is_swept_once_nobody_holds_it(held):
    path, other = held
    sweep_lock(path)
    assert path.with_name(".place.lock").exists()
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    sweep_lock(path)
    sweep_lock(path)
    assert not list(path.parent.iterdir())


def test_waiting_ends_with_the_other_and_can_be_given_up(held):
    path, other = held
    told = []

    def give_up(owner):
        told.append(owner)
        if len(told) == 2:
            raise MedmclError("stopped")

    with pytest.raises(MedmclError, match="stopped"), alone(path, "busy", wait=give_up):
        pytest.fail("two at once")
    assert all(str(other.pid) in owner for owner in told)

    def kill(owner):
        os.kill(other.pid, signal.SIGKILL)

    with alone(path, "busy", wait=kill) as killed:
        assert str(other.pid) in killed


def test_the_lock_of_a_file_lies_beside_it_and_ends_with_its_owner(tmp_path):
    file = tmp_path / "ledger.json"
    with alone(file, "busy"):
        with pytest.raises(ArtefactError, match="busy"), alone(file, "busy"):
            pytest.fail("two at once")
        with alone(tmp_path / "other.json", "another place"):
            pass
        said = json.loads((tmp_path / ".ledger.json.lock").read_text())
        assert said["process"] == os.getpid()
    with pytest.raises(KeyboardInterrupt), alone(file, "busy"):
        raise KeyboardInterrupt
    with alone(file, "busy") as killed:
        assert killed == ""


def test_a_lock_that_is_not_whole_names_nobody(tmp_path):
    (tmp_path / ".place.lock").write_text('{"host": ')
    with alone(tmp_path / "place", "busy") as killed:
        assert killed == ""


def test_a_place_that_is_missing_or_shut_is_named(tmp_path):
    refused = pytest.raises(ArtefactError, match="cannot be locked: there is no such")
    with refused, alone(tmp_path / "none" / "file", "busy"):
        pytest.fail("no such place")


ELSEWHERE = {"host": "ward-17", "process": 312, "since": "2026-11-28T10:00:00+00:00", "boot": "b"}


def test_what_another_machine_left_is_not_taken_over_and_the_hint_works(tmp_path):
    """Whether process 312 lives cannot be seen from here."""
    path, lock = tmp_path / "place", tmp_path / ".place.lock"
    lock.write_text(json.dumps(ELSEWHERE))
    for _ in range(2):
        refused = pytest.raises(ArtefactError, match=r"process 312 on ward-17, since 2026")
        with refused as found, alone(path, "busy"):
            pytest.fail("taken over")
        assert json.loads(lock.read_text()) == ELSEWHERE
    told = []

    def wait(owner):
        told.append(owner)
        os.system(owner.partition("free its lock: ")[2])

    assert found.value.fix.endswith(f"if it is dead, which only ward-17 can tell, "
                                    f"free its lock: rm {lock}")  # fmt: skip
    with alone(path, "busy", wait=wait) as killed:
        assert killed == ""
    assert len(told) == 1


def test_a_machine_that_was_started_again_or_renamed_is_the_same(tmp_path):
    """What was killed by a restart is dead; a container has another name on each start."""
    with alone(tmp_path / "place", "busy"):
        here = json.loads((tmp_path / ".place.lock").read_text())
    for changed in ({"boot": "earlier"}, {"host": "f3ab17"}):
        (tmp_path / ".place.lock").write_text(json.dumps({**here, **changed}))
        with alone(tmp_path / "place", "busy") as killed:
            assert f"process {os.getpid()} on" in killed


def test_a_machine_of_the_same_name_is_another(tmp_path):
    with alone(tmp_path / "place", "busy"):
        here = json.loads((tmp_path / ".place.lock").read_text())
    (tmp_path / ".place.lock").write_text(json.dumps({**here, "boot": "b", "machine": "another"}))
    refused = pytest.raises(ArtefactError, match=rf"held by process {os.getpid()} on")
    with refused as found, alone(tmp_path / "place", "busy"):
        pytest.fail("taken over")
    assert "if it is dead" in found.value.fix


def test_where_there_is_no_flock_a_file_does_it(tmp_path, monkeypatch):
    def missing(*_):
        raise OSError(errno.ENOSYS, "no flock")

    monkeypatch.setattr("fcntl.flock", missing)
    path, lock = tmp_path / "place", tmp_path / ".place.lock"
    refused = pytest.raises(ArtefactError, match=f"process {os.getpid()} on")
    with alone(path, "busy"):
        os.utime(lock, (0, 0))  # old, which is no sign of death
        with refused, alone(path, "busy"):
            pytest.fail("two at once")
    assert not list(tmp_path.iterdir())
    lock.write_text("312\nward-17\n")
    refused = pytest.raises(ArtefactError, match=rf"process 312 on ward-17(.|\n)*rm {lock}")
    with refused, alone(path, "busy"):
        pytest.fail("taken over")


@pytest.mark.parametrize("filled", [False, True])
def test_an_output_has_one_writer_and_folders_that_stay_empty_go(filled, tmp_path):
    out = tmp_path / "new" / "folder" / "out"

    @one_writer("being made", filled=filled)
    def make(what, out=None):
        return what

    with claimed(out, "being made", filled=filled):
        with pytest.raises(ArtefactError, match="being made"):
            make(1, out)
        with pytest.raises(ArtefactError, match="being made"):
            make(1, out=str(out))
        assert make(2) == 2
    assert not list(tmp_path.iterdir())
    assert make(3, out) == 3
    with claimed(out, "being made", filled=filled):
        (out.parent / "other").touch()
    assert [one.name for one in out.parent.iterdir()] == ["other"]


@pytest.mark.parametrize("filled", [False, True])
def test_a_link_to_an_output_is_that_output(filled, tmp_path):
    out, link = tmp_path / "out", tmp_path / "below" / "link"
    out.mkdir()
    link.parent.mkdir()
    link.symlink_to(out)
    for one, other in ((out, link), (link, out)):
        refused = pytest.raises(ArtefactError, match="being made")
        with claimed(one, "being made", filled=filled), refused:  # noqa: SIM117 - the second is refused
            with claimed(other, "being made", filled=filled):
                pytest.fail("two at once")


def test_a_pipe_in_the_place_of_a_lock_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / ".place.lock")
    refused = pytest.raises(ArtefactError, match="is a named pipe, not a file")
    with refused, alone(tmp_path / "place", "busy"):
        pytest.fail("taken")


def test_a_folder_in_the_place_of_a_lock_is_named(tmp_path):
    (tmp_path / ".place.lock").mkdir()
    refused = pytest.raises(ArtefactError, match=r"/\.place\.lock: .*directory(.|\n)*move it away")
    with refused, alone(tmp_path / "place", "busy"):
        pytest.fail("taken")


def test_a_link_in_the_place_of_a_lock_is_refused_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "theirs").write_text("as it was")
    (tmp_path / ".place.lock").symlink_to(tmp_path / "theirs")
    refused = pytest.raises(ArtefactError, match=r"/\.place\.lock: (.|\n)*the link away: none may")
    with refused, alone(tmp_path / "place", "busy"):
        pytest.fail("taken")
    assert (tmp_path / "theirs").read_text() == "as it was"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_is_full_as_a_lock_is_taken_leaves_no_lock(code, tmp_path, monkeypatch):
    def full(file, *_, **__):
        raise OSError(code, os.strerror(code), str(file))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(MedmclError, match="the disk"), alone(tmp_path / "counts", "it is written"):
        pass
    assert not [*tmp_path.iterdir()]
    monkeypatch.undo()
    with alone(tmp_path / "counts", "it is written") as killed:
        assert killed == ""
