"""Ctrl-C ends a count in several processes at once and quietly; a process that dies is told."""

import os
import signal
import subprocess
import sys
import time

import pytest

from medmcl.cooccurrence.count.workers import run_jobs
from medmcl.core.errors import MedmclError

COUNTS = """
import signal, sys, time
from pathlib import Path

def count(mark):
    Path(mark).touch()
    time.sleep(60)

if __name__ == "__main__":
    from medmcl.cooccurrence.count.workers import run_jobs  # here: processes need not import it
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell's & leaves ignored
    print("ready", flush=True)
    try:
        run_jobs(count, [(mark,) for mark in sys.argv[1:]], workers=2)
    except KeyboardInterrupt:
        print("stopped", flush=True)
        sys.exit(130)
"""


@pytest.mark.parametrize("when", ["processes start", "processes work"])
def test_ctrl_c_ends_all_processes_at_once_without_a_trace(tmp_path, when):
    """A terminal sends it to the whole group, also to processes that are still importing."""
    script = tmp_path / "counts.py"
    script.write_text(COUNTS)
    marks = [tmp_path / "a", tmp_path / "b"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    words = [sys.executable, script, *marks]
    with subprocess.Popen(words, start_new_session=True, **pipes) as parent:
        assert parent.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 30
        if when == "processes start":
            time.sleep(0.1)
        else:
            while not all(mark.exists() for mark in marks) and time.monotonic() < deadline:
                time.sleep(0.05)
        pressed = time.monotonic()
        os.killpg(parent.pid, signal.SIGINT)
        said, _ = parent.communicate(timeout=30)
        assert time.monotonic() - pressed < 20  # not the 60 s that a job takes
    assert (parent.returncode, said) == (130, "stopped\n")


def test_a_process_that_dies_is_told():
    with pytest.raises(MedmclError, match="fewer --workers"):
        run_jobs(os._exit, [(1,), (1,)], workers=2)
