"""The checks of absent_device_checks.py, in a process of their own.

A device is made known to torch before the first backward pass of a process, and one that knows a
device beside the CPU cannot be forked any more, as other tests do.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("absent_device_checks.py")


@pytest.mark.timeout(1200)
def test_every_recipe_runs_on_a_gpu_that_is_not_there():
    words = [sys.executable, "-m", "pytest", CHECKS, "-p", "no:xdist", "-p", "no:cacheprovider"]
    done = subprocess.run(
        words, cwd=CHECKS.parents[2], env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout or "100%" in done.stdout
