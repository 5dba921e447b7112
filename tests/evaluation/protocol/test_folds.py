"""How many folds a cohort can bear: more than people is refused, odd ones are said."""

import numpy as np
import pytest

from medmcl.core.errors import ConfigError
from medmcl.core.targets import Targets
from medmcl.evaluation import evaluate_embeddings
from medmcl.evaluation.protocol.folds import CrossValidation

PEOPLE = 24
SUBJECTS = np.arange(PEOPLE)
X = np.random.default_rng(0).normal(size=(PEOPLE, 2))
X[:6, 0] += 3


def binary():
    values = np.where(SUBJECTS < 6, 1.0, 0.0)[:, None]
    return Targets(
        name="t", kind="binary", columns=("ill",), values=values, known=np.ones((PEOPLE, 1), bool)
    )


def survival():
    values = np.stack([1.0 + SUBJECTS % 7, SUBJECTS < 6], axis=1)
    return Targets(
        name="t", kind="survival", columns=("time", "event"), values=values,
        known=np.ones((PEOPLE, 2), bool),
    )  # fmt: skip


def folds(count, repeats=1, people=PEOPLE, **more):
    unseen = np.arange(PEOPLE) < people
    return CrossValidation(folds=count, repeats=repeats, refit="probe", unseen=unseen, **more)


def remarks(how, task):
    return how.remarks(how.of(task, SUBJECTS, np.ones(PEOPLE, bool)), task, SUBJECTS)


@pytest.mark.parametrize(
    ("how", "got", "expected"),
    [
        (folds(200), "folds: 200 x 1, and 24 subjects", "2 to 24 folds"),
        (folds(25, 3), "folds: 25 x 3, and 24 subjects", "one subject left out at a time"),
        (folds(12, people=10), "folds: 12 x 1, and 10 subjects", "2 to 10 folds"),
        (folds(5, by="site", sites=SUBJECTS % 4), "folds: 5 x 1, and 4 sites", "2 to 4 folds"),
    ],
)
def test_more_folds_than_people_are_refused(how, got, expected):
    with pytest.raises(ConfigError, match="more folds than") as caught:
        how.of(binary(), SUBJECTS, np.ones(PEOPLE, bool))
    said = str(caught.value)
    assert got in said
    assert expected in said
    most = 4 if how.by == "site" else 5
    assert f"--set evaluate.folds='{most} x {how.repeats}'" in said


def test_leaving_one_out_is_done_and_named():
    rows = evaluate_embeddings(
        {"x": X}, binary(), np.full(PEOPLE, "train"), SUBJECTS, cross_validation=folds(PEOPLE),
        bootstrap_draws=20,
    )  # fmt: skip
    row = next(one for one in rows if one.metric == "auroc")
    assert row.value > 0.8
    assert row.n == PEOPLE
    assert "folds: leave-one-out, each holds a single person" in row.note.split("; ")
    (again,) = remarks(folds(PEOPLE, 2), binary())
    assert "drawing them 2 times" in again


@pytest.mark.parametrize("task", [binary(), survival()])
def test_folds_of_single_people_or_without_the_event_are_remarked_on(task):
    assert remarks(folds(3), task) == ()
    event = "the event" if task.kind == "survival" else "ill"
    single, without = remarks(folds(20), task)
    assert single == "folds: 16 of 20 hold a single person"
    assert without.startswith("folds: 1")
    assert without.endswith(f"of 20 hold nobody with {event}")
