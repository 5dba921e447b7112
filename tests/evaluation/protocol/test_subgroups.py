from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_targets import targets_of

from medmcl.evaluation import auroc, evaluate_task, linear_probe
from medmcl.evaluation.protocol.subgroups import (
    COUNTS_WITHHELD,
    FEWEST_EVENTS,
    FEWEST_SUBJECTS,
    RANKED,
    WITHHELD,
    held_back,
    in_order,
    left_out,
    pooled,
)

N = 1200
RNG = np.random.default_rng(1)
SPLIT = np.array(["train"] * 500 + ["tuning"] * 200 + ["held_out"] * 500)
SUBJECTS = np.arange(N)
X = RNG.normal(size=(N, 3))
Y = (RNG.random((N, 1)) < 1 / (1 + np.exp(-X[:, :1]))) + 0.0
TARGETS = targets_of("binary", Y)
HELD = np.flatnonzero(SPLIT == "held_out")
SEX = np.where(RNG.random(N) < 0.4, "F", "M").astype(object)


def subgroups(groups, targets=TARGETS):
    done = evaluate_task(
        {"x": X, "other": X[:, 1:]}, targets, SPLIT, SUBJECTS, bootstrap_draws=100, subgroups=groups
    )
    return done.subgroups


def test_the_page_says_what_is_held_back_and_what_is_rounded():
    page = Path(__file__).parents[3] / "docs" / "evaluation.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    said = text.split("## Whom it holds for")[1].split(" ## ")[0]
    assert f"Groups of under {FEWEST_SUBJECTS} people, or of under {FEWEST_EVENTS} with" in said
    assert "neither estimate nor interval" in said
    assert "withheld**, but for AUROC and C-index, which are shown rounded to two digits" in said
    assert RANKED == ("auroc", "c_index", "c_index_ipcw")
    assert "rounded to two digits" in COUNTS_WITHHELD


def test_each_group_has_the_metric_of_its_rows_beside_everyone():
    rows = subgroups({"sex": SEX})
    p = linear_probe(
        X, TARGETS, np.flatnonzero(SPLIT == "train"), np.flatnonzero(SPLIT == "tuning")
    ).predict(X)[:, 0]  # fmt: skip
    shown = {(r.group, r.metric): r for r in rows}
    assert [r.group for r in rows if r.metric == "auroc"] == ["everyone", "F", "M"]
    assert {r.method for r in rows} == {"x"}
    for sex in ("F", "M"):
        inside = HELD[SEX[HELD] == sex]
        row = shown[sex, "auroc"]
        assert row.value == pytest.approx(auroc(Y[inside, 0], p[inside]))
        assert (row.n, row.events) == (len(inside), int(Y[inside].sum()))
        assert row.low < row.value < row.high
        assert shown[sex, "calibration_slope"].direction == "target"


def test_small_groups_show_nothing_and_cannot_be_told_by_subtraction():
    band = np.full(N, "old", dtype=object)
    band[HELD[:7]] = "young"
    band[HELD[7:100]] = "middle"
    every = subgroups({"age": band})
    rows = {r.group: r for r in every if r.metric == "auroc"}
    assert rows["young"].suppressed
    assert "fewer than 20" in rows["young"].note
    middle = rows["middle"]  # what cannot be subtracted is shown, in two digits, without counts
    assert middle.note == COUNTS_WITHHELD
    assert (middle.n, middle.events, middle.subjects) == (None, None, None)
    assert all(one == round(one, 2) for one in (middle.value, middle.low, middle.high))
    (slope,) = [r for r in every if (r.group, r.metric) == ("middle", "calibration_slope")]
    assert slope.suppressed
    assert slope.note == WITHHELD
    assert rows["old"].n == 400
    everyone = rows["everyone"].n
    hidden = [r for r in rows.values() if r.n is None]
    assert everyone - rows["old"].n >= 20
    assert len(hidden) == 2


def test_few_events_are_held_back_too():
    values = Y.copy()
    group = np.where(np.arange(N) % 2, "a", "b").astype(object)
    values[HELD[group[HELD] == "a"]] = 0.0
    values[HELD[group[HELD] == "a"][:3]] = 1.0
    rows = {row.group: row for row in subgroups({"g": group}, replace(TARGETS, values=values))}
    assert rows["a"].suppressed
    assert (
        rows["b"].events is rows["b"].n is None
    )  # else the events of a follow from those of everyone


def test_sites_that_are_all_too_small_are_said_to_be_left_out():
    tiny = np.array([f"s{k % 40}" for k in range(N)], dtype=object)
    groups = {"sex": SEX, "site": tiny, "one": np.full(N, "a", dtype=object)}
    done = evaluate_task(
        {"x": X}, TARGETS, SPLIT, SUBJECTS, bootstrap_draws=50, subgroups=groups
    )  # fmt: skip
    assert {row.attribute for row in done.subgroups} == {"everyone", "sex"}
    assert left_out(done.setting, done.subgroups, groups) == [
        "subgroups by site left out: each has fewer than 20 scored subjects"
    ]


def test_few_people_with_an_event_are_not_made_many_by_their_rows():
    """Three people of a group have the event, in two records each; of b half have it."""
    values, people = Y.copy(), SUBJECTS.copy()
    group = np.where(np.arange(N) % 2, "a", "b").astype(object)
    inside = HELD[group[HELD] == "a"]
    values[inside] = 0.0
    values[inside[:6]] = 1.0
    people[inside[3:6]] = people[inside[:3]]
    task = replace(TARGETS, values=values)
    done = evaluate_task({"x": X}, task, SPLIT, people, bootstrap_draws=50, subgroups={"g": group})
    rows = {r.group: r for r in done.subgroups}
    assert rows["a"].suppressed
    apart = evaluate_task(
        {"x": X}, task, SPLIT, SUBJECTS, bootstrap_draws=50, subgroups={"g": group}
    )
    assert not {r.group: r for r in apart.subgroups}["a"].suppressed


@pytest.mark.parametrize("rare", [0.0, 1.0])
def test_of_many_labels_the_rarest_decides(rare):
    values = np.concatenate([Y, (X[:, 1:2] > 0) + 0.0], axis=1)
    group = np.where(np.arange(N) % 2, "a", "b").astype(object)
    inside = HELD[group[HELD] == "a"]
    values[inside, 1] = 1 - rare
    for few, is_suppressed in ((4, True), (5, False)):
        values[inside[:few], 1] = rare
        many = targets_of("multilabel", values)
        rows = {r.group: r for r in subgroups({"g": group}, many)}
        assert rows["a"].suppressed == is_suppressed


def test_few_people_of_a_class_are_held_back_and_a_class_of_nobody_is_not_counted():
    values = np.digitize(X[:, :1], [-0.4, 0.4]).astype(float)
    group = np.where(np.arange(N) % 2, "a", "b").astype(object)
    inside = HELD[group[HELD] == "a"]
    values[inside] = np.where(values[inside] == 2, 1.0, values[inside])
    values[inside[:4]] = 2.0

    def shown(values):
        task = targets_of("multiclass", values, classes=("low", "mid", "high", "never"))
        return {r.group: r for r in subgroups({"g": group}, task)}

    rows = shown(values)
    assert rows["a"].suppressed
    assert rows["b"].events is rows["b"].n is None  # else those of a follow from everyone
    assert not rows["everyone"].suppressed
    values[inside[:8]] = 2.0
    rows = shown(values)
    assert not rows["a"].suppressed
    assert rows["a"].value is not None


def test_small_sites_are_pooled_before_anything_is_shown():
    sites = np.array([f"s{k // 100}" for k in range(N)], dtype=object)
    sites[HELD] = "big"
    for number in range(4):
        sites[HELD[12 * number : 12 * number + 12]] = f"tiny{number}"
    rows = {r.group: r for r in subgroups({"site": sites}) if r.metric == "auroc"}
    assert set(rows) == {"everyone", "big", "other sites (<20)"}
    assert rows["other sites (<20)"].n == 48
    assert (pooled(np.array(["a"] * 30 + ["b"]), np.arange(31)) == "a").sum() == 30


@pytest.mark.parametrize("seed", range(30))
def test_what_is_held_back_is_never_one_group_nor_few_people(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 60, size=rng.integers(2, 8)).tolist()
    least = [int(rng.integers(0, n // 2 + 1)) for n in sizes]
    reasons = held_back(sizes, least)
    out = [k for k, reason in enumerate(reasons) if reason]
    for k, (n, e) in enumerate(zip(sizes, least, strict=True)):
        if n < 20 or e < 5:
            assert reasons[k]
    if out and len(out) < len(sizes):
        assert len(out) > 1
        assert sum(sizes[k] for k in out) >= 20
        assert sum(least[k] for k in out) >= 5
    assert held_back([100, 100], [None, None]) == ["", ""]


def test_groups_that_are_all_just_too_small_are_not_told_by_their_sum():
    """40 and 33 people with 8 events together, neither of whom may have 5, have 4 and 4."""
    reasons = held_back([43, 40, 33], [15, 4, 4])
    assert all(reasons)
    assert reasons[0] == WITHHELD
    assert held_back([43, 40, 33], [15, 4, 3])[0] == ""  # 3 and 4, whichever


def test_subgroups_of_one_group_and_of_no_rows_are_left_out():
    assert {r.attribute for r in subgroups({"sex": np.full(N, "F", dtype=object)})} == {"everyone"}


def test_bands_of_numbers_stand_in_their_order():
    names = [">=100", "60 to <70", "<50", "70 to <100", "50 to <60", "male", "female"]
    expected = ["<50", "50 to <60", "60 to <70", "70 to <100", ">=100", "female", "male"]
    assert sorted(names, key=in_order) == expected
