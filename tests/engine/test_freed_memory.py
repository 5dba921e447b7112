"""Memory that a step gave back stays with the process, unless somebody set otherwise."""

import os
import platform
import subprocess
import sys

import pytest

from medmcl.engine import loop
from medmcl.stages.run import run as runs

STEPS = """
import resource, torch
from medmcl.engine.freed_memory import keep_freed
if ASKS:
    keep_freed()
for step in range(12):
    if step == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones(2**18) for _ in range(40)]  # 1 MB each
    del held
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
"""


def faults(asks, **given):
    """Pages that the system clears for a step of 40 MB; of glibc by itself all 10,240."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS.replace("ASKS", str(asks))],
        env={**os.environ, **given}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_a_step_is_given_the_memory_of_the_one_before():
    assert faults(asks=False) > 5000
    assert faults(asks=True) < 100
    assert faults(asks=True, MALLOC_TRIM_THRESHOLD_="65536") > 5000  # whoever set it is heeded


@pytest.mark.parametrize(
    ("module", "work"), [(loop, loop.fit), (runs, runs.Run._loaded)], ids=["fit", "models"]
)
def test_training_and_trained_models_ask_for_it(monkeypatch, module, work):
    class AskedError(Exception):
        pass

    def asked():
        raise AskedError

    monkeypatch.setattr(module, "keep_freed", asked)
    given = [None] * 4 if module is loop else [None, None]
    more = dict.fromkeys(("record", "checkpoints", "world", "stop")) if module is loop else {}
    with pytest.raises(AskedError):
        work(*given, **more)
