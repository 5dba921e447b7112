"""Excluded records by outcome: a loss of cases is counted, told and warned of."""

from math import comb

import numpy as np
import pandas as pd
import pytest
import wfdb

from medmcl.core.targets import Targets
from medmcl.data.check.check import check_cohort
from medmcl.data.check.lost_by_outcome import Loss, losses, told, uneven
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import prepare

PEOPLE = 120


def targets(values, known=None, kind="binary"):
    values = np.asarray(values, float).reshape(len(values), -1)
    known = np.ones(values.shape, bool) if known is None else np.asarray(known, bool).reshape(-1, 1)
    columns = ("time", "event") if kind == "survival" else ("failure",)
    return Targets(name="failure", kind=kind, columns=columns, values=values, known=known)


def loss(lost, had):
    return Loss(modality="ecg", task="failure", label="", lost=lost, had=had)


def test_the_probability_is_that_of_slow_sums():
    lost, had = (5, 3), (40, 260)

    def chance(first):
        return comb(had[0], first) * comb(had[1], sum(lost) - first) / comb(sum(had), sum(lost))

    every = [chance(first) for first in range(sum(lost) + 1)]
    expected = sum(one for one in every if one <= chance(lost[0]) * (1 + 1e-9))
    assert loss(lost, had).probability == pytest.approx(expected)
    assert expected < 0.05


def test_people_are_counted_and_unknown_outcomes_are_not():
    subjects = np.array([0, 0, 1, 2, 3, 4])
    had = np.array([1, 1, 1, 1, 0, 1], bool)
    usable = np.array([0, 1, 0, 0, 0, 1], bool)  # 0 keeps a record; 3 never had one
    (one,) = losses("ecg", subjects, had, usable, [targets([1, 1, 1, 0, 1, 0])])
    assert (one.lost, one.had) == ((1, 1), (2, 2))
    hidden = targets([1, 1, 0, 0, 1, 0], known=[1, 1, 0, 1, 1, 1])
    (one,) = losses("ecg", subjects, had, usable, [hidden])
    assert (one.lost, one.had) == ((0, 1), (1, 2))
    assert losses("ecg", subjects, had, had, [hidden]) == []


def test_small_counts_are_withheld():
    assert str(loss((5, 7), (40, 260))) == "5 of 40 with failure, 7 of 260 without"
    assert "3" not in str(loss((3, 9), (40, 260))).split("with")[0]
    assert "<5 of 40 with" in str(loss((3, 9), (40, 260)))
    assert "withheld of 260" in str(loss((3, 9), (40, 260)))


def test_an_even_loss_is_no_warning():
    assert uneven([loss((5, 32), (40, 260))]) == []
    (found,) = uneven([loss((12, 3), (40, 260))])
    assert (found.code, found.level, found.task) == ("task.lost_cases", "warning", "failure")
    assert "< .001" in found.what
    assert told([loss((5, 32), (40, 260))]) == [
        "people whose ecg was excluded: 5 of 40 with failure, 32 of 260 without"
    ]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A cohort in which the records of every second case, and of no one else, are flat."""
    folder = tmp_path_factory.mktemp("lost")
    generator = np.random.default_rng(0)
    case = np.arange(PEOPLE) % 4 == 0
    split = np.where(np.arange(PEOPLE) % 5 == 4, "held_out", "train")
    for number in range(PEOPLE):
        rows = generator.normal(size=(300, 2))
        if case[number] and number % 8 == 0:
            rows[:] = 0.1
        wfdb.wrsamp(
            f"p{number}", fs=100, units=["mV"] * 2, sig_name=["I", "II"], p_signal=rows,
            fmt=["16"] * 2, adc_gain=[1000.0] * 2, baseline=[0, 0], write_dir=str(folder),
        )  # fmt: skip
    ids = [f"p{number}" for number in range(PEOPLE)]
    table = pd.DataFrame({"id": ids, "split": split, "failure": case.astype(int)})
    table.to_csv(folder / "people.csv", index=False)
    (folder / "cohort.yaml").write_text(
        "schema: medmcl/cohort@1\non_bad_record: exclude\n"
        "subjects: {table: people.csv, id: id, split: split}\n"
        "modalities: {ecg: {reader: wfdb, path: '{id}'}}\n"
        "tasks: {failure: {kind: binary, column: failure}}\n"
    )
    return folder


INPUTS = {"ecg": {"leads": ["I", "II"], "rate_hz": 100, "seconds": 3, "crop_seconds": 3}}


def test_held_out_outcomes_count_only_once_it_is_open(cohort, tmp_path):
    opened = open_cohort(cohort)
    train = prepare(opened, INPUTS, cache=tmp_path)
    every = prepare(opened, INPUTS, cache=tmp_path, splits="all")
    (seen,), (all_of_them,) = train.losses(), every.losses()
    assert (seen.lost, seen.had) == ((12, 0), (24, 72))
    assert (all_of_them.lost, all_of_them.had) == ((15, 0), (30, 90))


def test_check_says_it_of_train_and_tuning(cohort):
    found = {one.code: one for one in check_cohort(cohort, INPUTS)}
    assert "12 of 24 with failure, 0 of 72 without" in found["cohort.excluded"].what
    assert found["task.lost_cases"].level == "warning"
