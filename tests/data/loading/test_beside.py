"""Copies of this process: the same results in order, and errors, deaths and Ctrl-C as without."""

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from processes import none_left

from medmcl.core.errors import ConfigError, MedmclError
from medmcl.data.loading import worker_pool as processes
from medmcl.data.loading.worker_pool import beside, shared_array, worker_pool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux")


@pytest.fixture
def eager(monkeypatch):
    """Copies join in at once."""
    monkeypatch.setattr(processes, "_WORTH_COPIES", 0.0)


def test_copies_do_a_part_of_what_cannot_be_sent_and_results_come_in_order(eager):
    held = threading.Lock()  # nothing that pickles
    begun = []

    def work(item):
        with held:
            time.sleep(0.01)
            return np.full(3, item), os.getpid()

    with worker_pool(3):
        found = list(beside(work, range(40), told=begun.append))
    assert [int(one[0]) for one, _ in found] == list(range(40))
    assert len({pid for _, pid in found} | {os.getpid()}) == 3
    assert begun == sorted(begun)
    assert len(begun) < 40  # the rest was begun elsewhere


@pytest.mark.parametrize(
    ("count", "given"), [(0, {}), (1, {}), (2, {"forks": False})], ids=["0", "1", "no forks"]
)
def test_without_processes_or_where_they_may_not_it_is_done_here(eager, count, given):
    with worker_pool(count):
        assert set(beside(lambda _: os.getpid(), range(9), **given)) == {os.getpid()}


def test_short_work_is_done_here():
    with worker_pool(2):
        assert set(beside(lambda _: os.getpid(), range(99))) == {os.getpid()}


def test_the_first_error_is_raised_whoever_met_it_and_nobody_begins_more(eager, tmp_path):
    def work(item):
        (tmp_path / str(item)).touch()
        time.sleep(0.01 if item < 5 else 0.2)
        if item >= 5:
            raise ConfigError(f"item {item}", got=item)

    with worker_pool(2), pytest.raises(ConfigError, match="item 5") as raised:
        list(beside(work, range(99)))
    assert raised.value.got == 5
    assert len(list(tmp_path.iterdir())) <= 7


@pytest.mark.parametrize("can_be_sent", [True, False], ids=["sent", "not sent"])
def test_an_error_of_a_copy_says_where_it_was_raised(eager, can_be_sent):
    class OddError(Exception):
        pass

    own = os.getpid()

    def work(item):
        time.sleep(0.02)
        if os.getpid() != own:
            raise (ZeroDivisionError if can_be_sent else OddError)("in a copy")

    kind, words = (ZeroDivisionError, "") if can_be_sent else (RuntimeError, "OddError: ")
    with worker_pool(2), pytest.raises(kind, match=f"^{words}in a copy") as raised:
        list(beside(work, range(99)))
    shown = "".join(traceback.format_exception(raised.value))
    assert "raise (ZeroDivisionError if can_be_sent else OddError)" in shown
    assert Path(__file__).name in shown.partition("beside this one")[2]


def test_memory_that_ran_out_is_told_as_such(eager):
    own = os.getpid()

    def work(item):
        time.sleep(0.02)
        if os.getpid() != own:
            raise MemoryError

    with worker_pool(2), pytest.raises(MemoryError):
        list(beside(work, range(99)))


def test_copies_write_into_a_shared_array(eager):
    found = shared_array((90, 3), np.float32)
    assert found.shape == (90, 3)
    assert found.dtype == np.float32

    def work(item):
        time.sleep(0.01)
        found[item] = item, os.getpid() != own, 1

    own = os.getpid()
    with worker_pool(2):
        assert set(beside(work, range(90))) == {None}
    assert found[:, 0].tolist() == [*range(90)]
    assert set(found[:, 1]) == {0, 1}  # some rows here, others there
    assert shared_array((0, 3), np.float32).shape == (0, 3)
    with pytest.raises(MemoryError):
        shared_array((2**30, 2**20), np.float64)


def test_a_copy_that_is_killed_is_told(eager):
    own = os.getpid()

    def work(item):
        time.sleep(0.02)
        if os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)

    with worker_pool(2), pytest.raises(MedmclError, match="--workers 0"):
        list(beside(work, range(9)))


def test_what_others_do_beside_a_copy_that_is_killed_goes_on_to_its_end(tmp_path):
    own = os.getpid()

    def work(item):
        (tmp_path / str(os.getpid())).touch()
        while len(begun := [int(one.name) for one in tmp_path.iterdir()]) < 3:
            time.sleep(0.01)
        first, last = sorted({*begun} - {own})
        if os.getpid() == first:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.getpid() == last:
            time.sleep(0.5)
            (tmp_path / str(last)).write_text("done")

    with worker_pool(3), pytest.raises(MedmclError, match="--workers 0"):
        list(beside(work, range(3), at_once=True))
    assert [one.read_text() for one in tmp_path.iterdir()].count("done") == 1


COMPUTES = """
import os, time
import torch
from medmcl.data.loading import worker_pool as processes
processes._WORTH_COPIES = 0.0
own, many = os.getpid(), torch.ones(2**22)
def work(item):
    if os.getpid() == own:
        time.sleep(0.3)  # the copy takes the others
    return os.getpid() != own, float(many.sum())
work(0)  # on two threads
with processes.worker_pool(2):
    found = [*processes.beside(work, range(9))]
print(torch.get_num_threads(), any(there for there, _ in found), {total for _, total in found})
"""


def test_a_copy_does_not_wait_for_threads_of_openmp_that_its_parent_has():
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPUTES],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == "2 True {4194304.0}\n", done.stderr


STARTS = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background is deaf
from medmcl.data.loading import worker_pool as processes
processes._WORTH_COPIES = 0.0
own, said = os.getpid(), []
def work(item):
    if os.getpid() != own and not said:
        said.append(os.write(1, b"%d\\n" % os.getpid()))
    time.sleep(0.05)
if __name__ == "__main__":
    with processes.worker_pool(3):
        list(processes.beside(work, range(9000)))
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_no_copy_outlives_its_parent(tmp_path, ending):
    script = tmp_path / "starts.py"
    script.write_text(STARTS)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, script], **pipes) as parent:
        copies = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(ending)
        parent.wait(20)
    assert none_left(copies)


THREADED = """
import torch
from medmcl.data.loading import worker_pool as processes
processes._WORTH_COPIES = 0.0

def work(size):
    return float((torch.ones(size, size) @ torch.ones(size, size)).sum())

torch.set_num_threads(2)
first = work(800)  # by two threads, which no copy has
with processes.worker_pool(2):
    assert list(processes.beside(work, [800] * 12)) == [first] * 12
print("done")
"""


def test_copies_wait_for_no_thread_of_their_parent(tmp_path):
    """MKL, which torch holds, takes no notice of what OpenMP is told."""
    script = tmp_path / "threaded.py"
    script.write_text(THREADED)
    own = {name: x for name, x in os.environ.items() if name != "OMP_NUM_THREADS"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([sys.executable, script], env=own, start_new_session=True, **pipes) as it:
        try:
            assert it.communicate(timeout=120)[0] == "done\n"
        finally:  # with the copies, if they wait
            if it.poll() is None:
                os.killpg(it.pid, signal.SIGKILL)
