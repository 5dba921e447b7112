"""Processes that read records: the same results in order, no orphan, and a death that is told."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from processes import none_left

from medmcl.core.errors import MedmclError
from medmcl.data.loading import worker_pool as processes
from medmcl.data.loading.worker_pool import each, worker_pool
from medmcl.engine.signals import StopRequest


def where(item):
    return item, os.getpid()


def fatal(item):
    if item == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.fixture
def eager(monkeypatch):
    """Processes are used for any work at all."""
    monkeypatch.setattr(processes, "_TRIED", 1)
    monkeypatch.setattr(processes, "_WORTH_COPIES", 0.0)
    monkeypatch.setattr(processes, "_WORTH_SECONDS", 0.0)


def test_results_come_in_order_from_several_processes(eager):
    with worker_pool(2):
        done = list(each(where, range(40)))
        again = list(each(where, range(3)))
    assert [item for item, _ in done] == list(range(40))
    assert {pid for _, pid in done[1:]} - {os.getpid()}
    assert done[0][1] == os.getpid()
    assert [item for item, _ in again] == list(range(3))
    assert none_left({pid for _, pid in (*done, *again)} - {os.getpid()})


def test_what_does_not_pickle_is_worked_on_and_the_copies_end_with_the_work(eager):
    held = threading.Lock()
    items = [(number, held) for number in range(40)]

    def work(item):
        with item[1]:
            return where(item[0])

    with worker_pool(2):
        done = list(each(work, items))
        others = {pid for _, pid in done} - {os.getpid()}
        assert others
        assert none_left(others)  # a copy holds all that there was when it was made
        for item, _ in each(work, items):
            if item == 5:
                break  # what is not wanted is not waited for
        assert not multiprocessing.active_children()
    assert [item for item, _ in done] == list(range(40))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_short_work_stays_here(count):
    with worker_pool(count):
        assert {pid for _, pid in each(where, range(100))} == {os.getpid()}


def test_without_a_loan_nothing_starts(eager):
    assert {pid for _, pid in each(where, range(100))} == {os.getpid()}


def test_a_process_that_dies_is_told(eager):
    with worker_pool(2), pytest.raises(MedmclError, match="--workers 0"):
        list(each(fatal, range(30)))


def test_a_death_is_no_wish_to_stop(eager):
    with StopRequest() as stop, worker_pool(2), pytest.raises(MedmclError, match="--workers 0"):
        list(each(fatal, range(30)))
    assert not stop.asked, "the pool ends what is left of it by a signal that the parent listens to"


def test_an_error_of_the_work_comes_through(eager):
    with worker_pool(2), pytest.raises(ValueError, match="invalid literal"):
        list(each(int, ["1", "2", "x", "4"]))


STARTS = """
import multiprocessing, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background is deaf
from medmcl.data.loading import worker_pool as processes
processes._TRIED, processes._WORTH_COPIES, processes._WORTH_SECONDS = 1, 0.0, 0.0
if __name__ == "__main__":
    with processes.worker_pool(2):
        for number, _ in enumerate(processes.each(time.sleep, [0.01] * 9000)):
            if number == 1:
                print(*[p.pid for p in multiprocessing.active_children()], flush=True)
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_parent(tmp_path, ending):
    script = tmp_path / "starts.py"
    script.write_text(STARTS)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, script], **pipes) as parent:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        while parent.poll() is None:  # Python may lose an interrupt that comes in a destructor
            parent.send_signal(ending)
            time.sleep(0.5)
    assert none_left(children)


THREADED = """
import torch
from medmcl.data.loading import worker_pool as processes
processes._TRIED, processes._WORTH_COPIES, processes._WORTH_SECONDS = 1, 0.0, 0.0

def work(size):
    product = torch.ones(size, size) @ torch.ones(size, size)
    shown = torch.nn.functional.interpolate(product[None, None], size=(700, 700), mode="bilinear")
    return float(shown.softmax(-1).sum())

if __name__ == "__main__":
    torch.set_num_threads(2)
    first = work(800)  # by two threads, which no copy has
    with processes.worker_pool(2):
        assert all(abs(one - first) < 1e-2 for one in processes.each(work, [800] * 12))
    print("done")
"""


def test_processes_wait_for_no_thread_of_their_parent(tmp_path):
    """MKL, which torch holds, takes no notice of what OpenMP is told."""
    script = tmp_path / "threaded.py"
    script.write_text(THREADED)
    own = {name: x for name, x in os.environ.items() if name != "OMP_NUM_THREADS"}
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, check=False, env=own
    )
    assert ended.stdout == "done\n", ended.stderr
