"""What a reader must doubt: nearly perfect results of enough people, and models of nothing."""

import pytest

from medmcl.evaluation.aspects.tasks.doubtful import doubtful, too_good
from medmcl.evaluation.models.strength import ALIKE
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.results import Result


def row(value, *, metric="auroc", events=20, n=60, kind="binary", **about):
    said = {"task": "relapse", "target": "relapse", "direction": "higher", "method": "vectors",
            "protocol": "linear"} | about  # fmt: skip
    return Result(metric=metric, value=value, events=events, n=n, kind=kind, **said)


@pytest.mark.parametrize(
    ("one", "is_told"),
    [
        (row(1.0), True),
        (row(0.996), True),
        (row(0.995), False),
        (row(None), False),
        (row(1.0, events=9), False),
        (row(1.0, events=55), False),  # five without it
        (row(1.0, metric="c_index", kind="survival", events=60), True),
        (row(1.0, metric="r2", kind="regression", events=None), True),
        (row(1.0, metric="r2", kind="regression", events=None, n=9), False),
        (row(1.0, metric="accuracy"), False),
        (row(1.0, versus="covariates"), False),
        (row(1.0, kind="retrieval"), False),
        (row(1.0, target="macro"), False),
    ],
)
def test_the_rule(one, is_told):
    assert bool(too_good([one])) == is_told


def test_a_task_has_one_line_that_names_the_best_and_counts_the_others():
    rows = [row(0.997), row(1.0, method="both", target="NORM"), row(0.8, method="covariates")]
    assert too_good([*rows, row(1.0, task="death", metric="c_index", kind="survival")]) == [
        "relapse, NORM: AUROC of 1.000 (both and 1 other method) on held-out people is rarely "
        "true: look for the outcome among the inputs, or for what is known only because of it",
        "death, relapse: C-index of 1.000 (vectors) on held-out people is rarely true: look for "
        "the outcome among the inputs, or for what is known only because of it",
    ]


def test_a_model_that_gives_everyone_the_same_is_told_of_the_main_method_alone():
    rows = [
        row(0.55, note=f"few people; {ALIKE}"),
        row(0.55, method="covariates"),
        row(0.60, task="death"),
        row(0.61, task="death", method="covariates", note=ALIKE),
    ]
    (said,) = doubtful(Evaluation(results=rows))
    assert said.startswith(f"relapse: vectors: {ALIKE}; it found nothing")


def test_the_model_that_predict_applies_is_told_beside_folds():
    kept = f"relapse: vectors, as medmcl predict applies it: {ALIKE}"
    some = f"a: {ALIKE}, in 2 of 5 folds"
    rows = [row(0.7, split="cross-validation", note=f"few people; {some}")]
    first, second = doubtful(Evaluation(results=rows, notes=["another remark", kept]))
    assert first.startswith(f"relapse: vectors: {some}; it found nothing")
    assert second == kept
