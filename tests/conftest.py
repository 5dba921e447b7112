"""The order of files: those that take longest begin first, so that no process is left with one."""

from pathlib import Path

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
