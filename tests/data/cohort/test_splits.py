import numpy as np
import pandas as pd
import pytest

from medmcl.core.errors import CohortError
from medmcl.data.cohort.spec import RandomSplit, SplitKeys
from medmcl.data.cohort.splits import draw, row_splits, stand_in_splits, subject_splits
from medmcl.data.tables.files import Table, tidy


def table(values):
    return Table(tidy(pd.DataFrame({"fold": values})), "people.csv", ())


def ids(count):
    return np.array([f"s{n}" for n in range(count)], dtype=object)


def test_a_random_split_depends_on_the_subject_and_not_on_the_order():
    keys = SplitKeys(random=RandomSplit(seed=3, tuning=0.2, held_out=0.3))
    names = ids(2000)
    forward = dict(zip(names, row_splits(table([]), names, keys), strict=True))
    backward = dict(zip(names[::-1], row_splits(table([]), names[::-1], keys), strict=True))
    assert forward == backward
    some = dict(zip(names[:50], row_splits(table([]), names[:50], keys), strict=True))
    assert all(forward[name] == side for name, side in some.items())
    share = pd.Series(forward).value_counts(normalize=True)
    assert abs(share["held_out"] - 0.3) < 0.04
    assert abs(share["tuning"] - 0.2) < 0.04


def test_another_seed_draws_another_split():
    sides = [[draw(f"s{n}", RandomSplit(seed=seed)) for n in range(50)] for seed in (0, 1)]
    assert sides[0] != sides[1]


def test_usual_names_of_the_tuning_split_are_understood():
    keys = SplitKeys(column="fold")
    values = ["train", "val", "Valid", "validation", "tuning", "held_out", None]
    sides = row_splits(table(values), ids(7), keys)
    assert list(sides) == ["train", *["tuning"] * 4, "held_out", None]


def test_test_must_be_mapped_by_hand():
    with pytest.raises(CohortError, match=r"test(?s:.*)held_out: \[test\]"):
        row_splits(table(["train", "test"]), ids(2), SplitKeys(column="fold"))
    keys = SplitKeys(column="fold", train=("train",), held_out=("test",))
    assert list(row_splits(table(["train", "test"]), ids(2), keys)) == ["train", "held_out"]


def test_rows_with_an_unknown_split_can_still_be_checked():
    keys = SplitKeys(column="fold")
    sides = stand_in_splits(table(["train", "val", "test", None]), ids(4), keys)
    assert list(sides) == ["train", "tuning", "held_out", "held_out"]
    assert set(stand_in_splits(table(["a", "b"]), ids(2), keys)) == {"train"}
    assert set(stand_in_splits(table([1, 2]), ids(2), SplitKeys(column="none"))) == {"train"}


def test_values_of_folds_are_mapped_and_others_are_in_no_split():
    keys = SplitKeys(column="fold", train=(1, 2), tuning=(9,), held_out=(10,))
    sides = row_splits(table([1, 2, 9, 10, 7]), ids(5), keys)
    assert list(sides) == ["train", "train", "tuning", "held_out", None]
    split, findings = subject_splits(ids(5), sides, np.arange(1, 6))
    assert pd.isna(split["s4"])
    assert [f.code for f in findings] == ["cohort.no_split"]
    assert "1 of 5" in findings[0].what


def test_a_value_in_two_splits_is_refused():
    with pytest.raises(CohortError, match="two splits"):
        row_splits(table([1]), ids(1), SplitKeys(column="fold", train=(1,), tuning=(1,)))
    with pytest.raises(CohortError, match="'site12' is in two splits"):
        row_splits(
            table(["site12"]), ids(1), SplitKeys(column="fold", train=("*1*",), tuning=("*2",))
        )


def test_a_value_may_stand_for_several_and_one_that_is_named_goes_first():
    keys = SplitKeys(column="fold", train=("x_train_*",), tuning=("x_train_7",), held_out=("t?",))
    names = ["x_train_1", "x_train_7", "t5", "t55", "X_train_1", None]
    sides = row_splits(table(names), ids(6), keys)
    assert list(sides) == ["train", "tuning", "held_out", None, None, None]


def test_one_row_without_split_does_not_undo_the_other():
    names = np.array(["a", "a"], dtype=object)
    split, findings = subject_splits(
        names, np.array([None, "tuning"], dtype=object), np.array([1, 2])
    )
    assert split["a"] == "tuning"
    assert findings == []
