"""The order of files, the longest first; a register of releases for each test; and no network."""

import os
import tempfile
from pathlib import Path

import offline
import pytest

REGISTERS = tempfile.TemporaryDirectory(prefix="medmcl-registers-")
os.environ["MEDMCL_REGISTER"] = REGISTERS.name  # that of fixtures of a module or session
NETWORK_NOTES = offline.begin()

LONGEST = (
    "test_notebooks.py",
    "test_multistage_study.py",
    "stages/evaluate/test_nobody_seen_is_scored.py",
    "stages/run/test_pretrain.py",
    "stages/select/test_select.py",
    "stages/cluster/test_multistage.py",
    "stages/test_stopping.py",
    "stages/train/test_autobind.py",
    "stages/recipe/test_shared.py",
    "stages/evaluate/test_external.py",
    "test_plugin.py",
    "test_docs.py",
    "evaluation/report/test_figures.py",
    "stages/train/test_wrecked.py",
    "data/loading/test_simple_features.py",
    "stages/factorise/test_given_vectors.py",
    "engine/test_distributed.py",
    "cooccurrence/test_claime_simulation.py",
)
"""By processor seconds; `pytest --durations` says when another belongs here."""
PLACES = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
assert all(file.is_file() for file in PLACES), "LONGEST names a file that has gone"


def pytest_collection_modifyitems(items):
    """Files of `LONGEST`, then the others as they were."""
    items.sort(key=lambda item: PLACES.get(item.path, len(PLACES)))


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


def pytest_unconfigure():
    NETWORK_NOTES.unlink(missing_ok=True)
