"""Processes that read records: the same results in order, no orphan, and a death that is told."""

import os
import signal
import subprocess
import sys
import time

import pytest
from processes import none_left

from medmcl.core.errors import MedmclError
from medmcl.data.loading import worker_pool as processes
from medmcl.data.loading.worker_pool import each, worker_pool


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
    monkeypatch.setattr(processes, "_WORTH_SECONDS", 0.0)


def test_results_come_in_order_from_several_processes(eager):
    with worker_pool(2):
        done = list(each(where, range(40)))
        again = list(each(where, range(3)))
    assert [item for item, _ in done] == list(range(40))
    assert {pid for _, pid in done[1:]} - {os.getpid()}
    assert done[0][1] == os.getpid()
    assert {pid for _, pid in again[1:]} <= {pid for _, pid in done[1:]}, "the pool is kept"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_short_work_stays_here(count):
    with worker_pool(count):
        assert {pid for _, pid in each(where, range(100))} == {os.getpid()}


def test_without_a_loan_nothing_starts(eager):
    assert {pid for _, pid in each(where, range(100))} == {os.getpid()}


def test_a_process_that_dies_is_told(eager):
    with worker_pool(2), pytest.raises(MedmclError, match="--workers 0"):
        list(each(fatal, range(30)))


def test_an_error_of_the_work_comes_through(eager):
    with worker_pool(2), pytest.raises(ValueError, match="invalid literal"):
        list(each(int, ["1", "2", "x", "4"]))


STARTS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background is deaf
from medmcl.data.loading import worker_pool as processes
processes._TRIED, processes._WORTH_SECONDS = 1, 0.0
if __name__ == "__main__":
    with processes.worker_pool(2):
        for number, _ in enumerate(processes.each(time.sleep, [0.01] * 9000)):
            if number == 1:
                print(*[p.pid for p in processes._lent.get().pool._processes.values()], flush=True)
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
