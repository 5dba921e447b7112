"""A map of embeddings that a copy of the process draws."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux")

DRAWS = """
import os, time
import numpy as np
from medmcl.data.loading import worker_pool as processes
from medmcl.evaluation.report.training.embedding_figures import project
processes._WORTH_COPIES = 0.0
own, points = os.getpid(), np.random.default_rng(0).normal(size=(80, 6))
def draw(number):
    if os.getpid() == own:
        time.sleep(0.3)  # the copy takes the others
    else:
        return project(points)[0]
before = project(points)[0]  # of an earlier report
with processes.worker_pool(2):
    found = [one for one in processes.beside(draw, range(9)) if one is not None]
print(len(found) > 0 and all((one == before).all() for one in found))
"""


def test_a_map_is_drawn_in_a_copy_after_one_was_drawn_here():
    """What OpenMP computed by several threads, a copy of the process could only wait for."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", DRAWS], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "True\n", done.stderr
