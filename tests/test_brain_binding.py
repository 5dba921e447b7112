"""The study of real brains: who is in a test fold changes nothing that others are predicted by."""

from dataclasses import replace

import numpy as np
import pytest
from made_targets import targets_of

from benchmarks.brain import brain_binding
from medmcl.evaluation.models.cross_validation import draw_folds, strata_of


@pytest.fixture
def study(monkeypatch):
    monkeypatch.setattr(brain_binding, "STEPS", 3)
    monkeypatch.setattr(brain_binding, "LABEL_STEPS", 3)
    return brain_binding


def people(study, rows: int = 120):
    rng = np.random.default_rng(0)
    raw = {
        "scan": rng.normal(size=(rows, 30)),
        "one": rng.normal(size=(rows, 2)),
        "two": rng.normal(size=(rows, 3)),
    }
    raw["one"][::7, 1] = np.nan
    raw["scan"][::5] = np.nan
    known = (np.arange(rows) < 100)[:, None]
    values = rng.integers(0, 2, (rows, 1))
    ids = np.array([f"p{i}" for i in range(rows)])
    return study.People(
        layout=study.LAYOUTS["oasis1"].__class__(
            task="autism", components={"scan": 5}, table="", groups={}, draw=lambda: None
        ),
        raw=raw,
        present={name: ~np.isnan(x).all(axis=1) for name, x in raw.items()},
        targets=targets_of("binary", values, known, name="autism"),
        subjects=ids,
        units=ids,
    )


def test_no_method_sees_the_people_of_its_test_fold(study):
    """Other inputs, entries and labels of some test people leave the other predictions alone."""
    mine = people(study)
    plan = draw_folds(mine.units, strata_of(mine.targets), mine.labelled, name=mine.targets.name)
    _, train, tuning, test = next(plan)
    both = np.sort(np.concatenate([train, tuning]))
    changed, kept = test[::2], test[1::2]

    raw = {name: x.copy() for name, x in mine.raw.items()}
    values = mine.targets.values.copy()
    values[test] = 1 - values[test]
    for x in raw.values():
        x[changed] = 100.0
    raw["scan"][changed[:3]] = np.nan
    other = replace(
        mine,
        raw=raw,
        present={name: ~np.isnan(x).all(axis=1) for name, x in raw.items()},
        targets=replace(mine.targets, values=values),
    )

    first = study.scores(study.Fold(mine, train, tuning, both, 3), 0.0)
    second = study.scores(study.Fold(other, train, tuning, both, 3), 0.0)

    assert "star on one" in first
    assert len(first) > 12
    for name, guess in first.items():
        np.testing.assert_allclose(second[name][kept], guess[kept], atol=1e-6, err_msg=name)
        assert not np.allclose(second[name][changed], guess[changed]), name
