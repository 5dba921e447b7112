"""One process at a time: whoever lives is waited for or named, whoever is dead is not."""

import json
import multiprocessing
import os
import signal
import time

import pytest

from medmcl.core.errors import ArtefactError, MedmclError
from medmcl.core.file_lock import alone


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
