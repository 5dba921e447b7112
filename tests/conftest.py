"""The order of files, the longest first; a register of releases for each test; and no network."""

import gc
import os
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path

import offline
import pytest

pytest_plugins = ["golden_time"]

gc.disable()  # while tests are collected: half of that time would be looking for garbage

REGISTERS = tempfile.TemporaryDirectory(prefix="medmcl-registers-")
os.environ["MEDMCL_REGISTER"] = REGISTERS.name  # that of fixtures of a module or session
NETWORK_NOTES = offline.begin()
os.fsync = os.fstat  # nobody turns this machine off: nothing is waited for, a bad handle refused

LONGEST = (
    "engine/test_absent_device.py",
    "test_notebooks.py",
    "test_faults.py",
    "stages/evaluate/test_nobody_seen_is_scored.py",
    "test_multistage_study.py",
    "stages/run/test_pretrain.py",
    "engine/test_ends_together.py",
    "stages/evaluate/test_external.py",
    "stages/launch/test_launch.py",
    "stages/train/test_wrecked.py",
    "stages/select/test_select.py",
    "stages/cluster/test_multistage.py",
    "stages/train/test_autobind.py",
    "test_mutants.py",
    "test_plugin.py",
    "stages/factorise/test_given_vectors.py",
    "stages/recipe/test_shared.py",
    "stages/run/test_one_writer.py",
    "stages/test_rows_over_ranks.py",
    "stages/evaluate/test_missing_modalities.py",
    "stages/evaluate/test_risk_table.py",
    "stages/run/test_cures.py",
    "stages/benchmark/test_runs.py",
    "stages/benchmark/test_benchmark.py",
    "stages/run/test_built_once.py",
    "test_start_up.py",
    "stages/test_stopping.py",
    "cooccurrence/release/test_register.py",
    "data/check/test_check.py",
    "data/cohort/test_shipped_cohorts.py",
    "stages/recipe/test_volume_graph.py",
    "evaluation/report/test_figures.py",
    "evaluation/report/test_sections.py",
    "data/loading/test_simple_features.py",
    "engine/test_distributed.py",
    "cooccurrence/test_claime_simulation.py",
    "test_docs.py",
)
"""By seconds that they take or wait; `pytest --durations` says when another belongs here."""
PLACES = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
assert all(file.is_file() for file in PLACES), "LONGEST names a file that has gone"


def pytest_collection_modifyitems(items):
    """Files of `LONGEST`, then the others as they were."""
    items.sort(key=lambda item: PLACES.get(item.path, len(PLACES)))


def pytest_collection_finish():
    """What was imported and collected stays, and is not looked through again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def images(request):
    """Reports have empty images, but in tests of evaluation, and in runs of a session."""
    from drawing import undrawn

    drawn = Path(__file__).parent / "evaluation" in request.path.parents
    with nullcontext() if drawn else undrawn():
        yield


@pytest.fixture(autouse=True)
def register(monkeypatch):
    """Nothing was released before a test, and nothing of it is remembered at home."""
    folder = Path(tempfile.mkdtemp(dir=REGISTERS.name))
    monkeypatch.setenv("MEDMCL_REGISTER", str(folder))
    return folder


@pytest.fixture
def network_notes():
    """The file that attempts to reach the network are noted in."""
    return NETWORK_NOTES


@pytest.fixture(autouse=True)
def no_network(network_notes):
    """A test fails that reaches for the network, in whatever process, whatever becomes of it."""
    before = network_notes.stat().st_size
    yield
    with network_notes.open(encoding="utf-8") as file:
        file.seek(before)
        told = file.read()
    assert not told, f"a test reached for the network:\n{told}"


@pytest.fixture(scope="module")
def real_ray():
    """Ray on this machine; it looks for clouds by itself, so that its processes are not watched."""
    pytest.importorskip("ray", reason="needs the extra [ray]")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(offline.NOTES)
        patch.setenv("RAY_ADDRESS", "local")  # not a cluster that happens to run here
        patch.setenv("RAY_AUTH_MODE", "disabled")  # writes no token into the home folder
        yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray does not wait for the processes that it ended
        gc.collect()


def pytest_unconfigure():
    NETWORK_NOTES.unlink(missing_ok=True)
