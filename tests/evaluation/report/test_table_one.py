from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from medmcl.core.suppression import WITHHELD
from medmcl.evaluation.metrics.standardised import smd_categories, smd_moments
from medmcl.evaluation.report.table_one import TableOne, Variable, beside, table_one

SEX = Variable(name="sex", kind="category")
AGE = Variable(name="age", kind="number", unit="years")


def made(counts, fewest=5, variables=(SEX,)):
    """A table of subjects with the given counts: split to level to number."""
    rows = [
        (split, level)
        for split, levels in counts.items()
        for level, number in levels.items()
        for _ in range(number)
    ]
    frame = pd.DataFrame({"sex": [level for _, level in rows]}, dtype=object)
    return table_one(frame, [split for split, _ in rows], variables, fewest=fewest)


def cells(table, level, variable="sex"):
    row = next(r for r in table.rows if r.variable == variable and r.level == level)
    return [cell.text for cell in row.cells]


def test_numbers_agree_with_a_slow_computation():
    rng = np.random.default_rng(0)
    age = rng.normal(60, 10, 200)
    split = np.where(np.arange(200) < 120, "train", "held_out")
    age[3] = np.nan
    table = table_one(pd.DataFrame({"age": age}), split, [AGE])
    train, test = age[:120][np.isfinite(age[:120])], age[120:]
    row = next(r for r in table.rows if r.statistic == "mean (SD)")
    assert row.variable == "age (years)"
    assert row.cells[0].mean == pytest.approx(train.mean(), abs=0.051)
    assert row.cells[0].sd == pytest.approx(train.std(ddof=1), abs=0.051)
    expected = abs(train.mean() - test.mean()) / np.sqrt((train.var(ddof=1) + test.var(ddof=1)) / 2)
    assert row.differences == (None, pytest.approx(expected, abs=0.01))
    median = next(r for r in table.rows if r.statistic == "median [IQR]")
    assert median.cells[1].median == pytest.approx(np.median(test), abs=0.051)
    whole = table_one(pd.DataFrame({"age": age}), split, [AGE], fewest=1)
    assert whole.rows[1].cells[0].mean == pytest.approx(train.mean(), abs=1e-9)
    assert whole.rows[1].differences == (None, pytest.approx(expected))
    assert cells(table, "missing", "age (years)") == ["<5", "0 (0.0 %)"]


@pytest.mark.parametrize(
    ("mean", "sd", "decimals"), [(2017, 1.4, 0), (36.9, 0.4, 2), (7.38, 0.05, 2), (140, 3, 1)]
)
def test_differences_of_numbers_that_vary_little_beside_their_size_are_not_lost(mean, sd, decimals):
    rng = np.random.default_rng(0)
    split = np.where(np.arange(900) < 600, "train", "held_out")
    values = np.round(rng.normal(mean, sd, 900) + 0.25 * sd * (split == "held_out"), decimals)
    table = table_one(pd.DataFrame({"x": values}), split, [Variable(name="x", kind="number")])
    a, b = values[split == "train"], values[split == "held_out"]
    expected = abs(a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    row = next(r for r in table.rows if r.statistic == "mean (SD)")
    assert row.differences == (None, pytest.approx(expected, abs=0.015))
    assert float(row.cells[1].text.split(" ")[0]) == row.cells[1].mean  # no year is 2,017


def test_years_have_no_comma_and_other_numbers_have_one():
    frame = pd.DataFrame({"year": [2015, 2016, 2017, 2018] * 5, "x": [2015, 2016, 2017, 2300] * 5})
    variables = [Variable(name=name, kind="number") for name in frame]
    texts = [row.cells[0].text for row in table_one(frame, ["train"] * 20, variables).rows[1:]]
    assert texts[:2] == ["2016.50 (1.15)", "2016 [2016, 2017]"]
    assert all(text.startswith("2,") for text in texts[2:])


def test_austins_two_level_example_and_the_general_formula_agree():
    # Austin 2009, equation 2: prevalences p and q
    p, q = 0.3, 0.45
    expected = abs(p - q) / np.sqrt((p * (1 - p) + q * (1 - q)) / 2)
    assert smd_categories(np.array([70, 30]), np.array([55, 45])) == pytest.approx(expected)
    assert smd_categories(np.array([30, 70]), np.array([45, 55])) == pytest.approx(expected)


def test_several_levels_agree_with_yang_and_dalton_written_as_loops():
    a, b = np.array([20.0, 50, 30]), np.array([30.0, 30, 40])
    p, q = a / a.sum(), b / b.sum()
    s = np.empty((2, 2))
    for k in range(2):
        for m in range(2):
            if k == m:
                s[k, m] = (p[k + 1] * (1 - p[k + 1]) + q[k + 1] * (1 - q[k + 1])) / 2
            else:
                s[k, m] = -(p[k + 1] * p[m + 1] + q[k + 1] * q[m + 1]) / 2
    gap = (p - q)[1:]
    expected = np.sqrt(gap @ np.linalg.inv(s) @ gap)
    assert smd_categories(a, b) == pytest.approx(expected)
    order = [2, 0, 1]
    assert smd_categories(a[order], b[order]) == pytest.approx(expected)


def test_differences_that_do_not_exist_are_none_and_not_nan():
    assert smd_moments((1.0, 0.0), (1.0, 0.0)) == 0
    assert smd_moments((1.0, 0.0), (0.0, 0.0)) is None
    assert smd_categories(np.array([5, 0]), np.array([0, 5])) is None
    assert smd_categories(np.array([5, 0]), np.array([7, 0])) == 0
    assert smd_categories(np.array([0, 0]), np.array([7, 1])) is None


def test_a_single_small_count_hides_the_next_smallest_and_the_difference():
    table = made({"train": {"f": 50, "m": 60, "x": 3}, "held_out": {"f": 30, "m": 40, "x": 8}})
    assert cells(table, "x") == ["<5", "8 (10.3 %)"]
    assert cells(table, "f")[0] == WITHHELD
    assert cells(table, "m")[0] == "60 (53.1 %)"
    first = next(r for r in table.rows if r.variable == "sex")
    assert first.differences == (None, None)


@pytest.mark.parametrize("small", [(1, 1), (2, 2), (4, 4)])
def test_two_small_counts_that_the_total_would_give_away_hide_a_third(small):
    table = made({"train": {"a": 40, "b": 30, "c": small[0], "d": small[1]}})
    assert cells(table, "b") == [WITHHELD]
    assert cells(table, "c") == cells(table, "d") == ["<5"]


def test_two_small_counts_that_hide_each_other_hide_no_more():
    table = made({"train": {"a": 40, "b": 30, "c": 2, "d": 4}})
    assert cells(table, "b") == ["30 (39.5 %)"]


def test_hidden_missing_subjects_do_not_show_in_the_base_of_shares():
    table = made({"train": {"f": 120, "m": 80, None: 4}})
    assert cells(table, "missing") == ["<5"]
    assert cells(table, "m") == [WITHHELD]
    assert cells(table, "f") == ["120"]


def test_no_hidden_count_follows_from_what_is_shown():
    rng = np.random.default_rng(1)
    for _ in range(300):
        levels = dict(zip("abcd", rng.integers(0, 12, 4), strict=True))
        levels[None] = int(rng.integers(0, 8))
        table = made({"train": {k: int(v) for k, v in levels.items()}})
        total = sum(levels.values())
        shown = {r.level: r.cells[0] for r in table.rows if r.variable == "sex"}
        hidden = {k for k, c in shown.items() if c.count is None and c.text != "-"}
        if not hidden or total < 5:
            continue
        left = total - sum(c.count for c in shown.values() if c.count is not None)
        small = [k for k in hidden if shown[k].text == "<5"]
        possible = set()
        for values in np.ndindex(*[4] * len(small)):
            rest = left - sum(v + 1 for v in values)
            if (rest == 0 and len(small) == len(hidden)) or (rest > 0 and len(small) < len(hidden)):
                possible.add(values)
        if len(hidden) > 1:  # else nobody else is there to hide behind
            assert len(possible) > 1


def test_suppression_can_be_turned_off():
    table = made({"train": {"f": 50, "m": 2}}, fewest=1)
    assert cells(table, "m") == ["2 (3.8 %)"]
    assert not any("fewer" in note for note in table.notes)


@pytest.mark.parametrize(("places", "gone"), [(0, 2), (0, 4), (1, 3)])
def test_no_mean_tells_how_many_are_missing(places, gone):
    rng = np.random.default_rng(places + gone)
    values = rng.normal(61, 17, 220).round(places)
    values[:gone] = np.nan
    table = table_one(pd.DataFrame({"age": values}), ["train"] * 220, [AGE])
    mean = next(r for r in table.rows if r.statistic == "mean (SD)").cells[0].mean
    unit, step = 10.0**-places, 10.0 ** -len(repr(mean).partition(".")[2])
    possible = [
        n for n in range(216, 220)
        if abs(round(mean * n / unit) * unit / n - mean) <= step / 2 + 1e-12
    ]  # fmt: skip
    assert possible == [216, 217, 218, 219]


@pytest.mark.parametrize(("most", "few"), [(0, 1), (1, 2), (0, 40)])
def test_a_number_of_two_values_is_a_category_whose_few_are_hidden(most, few):
    flag = np.full(220, float(most))
    flag[:2] = few
    table = table_one(pd.DataFrame({"flag": flag}), ["train"] * 220,
                      [Variable(name="flag", kind="number")])  # fmt: skip
    assert {row.statistic for row in table.rows} == {"subjects", "count"}
    assert cells(table, str(few), "flag") == ["<5"]
    assert not any(cell.mean for row in table.rows for cell in row.cells)


def test_numbers_of_few_subjects_are_not_summarised():
    frame = pd.DataFrame({"age": [60.0, 61, 62, np.nan, np.nan, np.nan, np.nan, np.nan]})
    table = table_one(frame, ["train"] * 8, [AGE])
    assert [c.text for r in table.rows[1:] for c in r.cells] == [WITHHELD] * 3


def test_two_tables_beside_one_another_say_what_one_table_of_both_says():
    rng = np.random.default_rng(4)
    side = np.repeat(["train", "held_out"], [90, 60])
    people = pd.DataFrame({
        "age": np.where(rng.random(150) < 0.1, np.nan, rng.normal(60, 9, 150)),
        "sex": rng.choice(["f", "m"], 150), "group": rng.choice(["a", "b", "c"], 150),
    })  # fmt: skip
    people.loc[side == "train", "group"] = people["group"].replace("c", "b")
    variables = [Variable(name="age", kind="number"), SEX, Variable(name="group", kind="category")]
    whole = table_one(people, side, variables)
    kept = TableOne.read(json.loads(json.dumps(asdict(whole.column("train", "training")))))
    people["shoe"] = 1.0
    here = table_one(
        people[side == "held_out"], side[side == "held_out"],
        [*variables, Variable(name="shoe", kind="number")],
    )  # fmt: skip
    both = beside(kept, here.column("held_out", "scored"))
    assert both.splits == ("training", "scored")
    assert both.header[-1] == "SMD scored"
    compared = [row for row in both.rows if row.variable != "shoe"]
    for row, other in zip(compared, whole.rows, strict=True):
        assert (row.variable, row.level) == (other.variable, other.level)
        for cell, its in zip(row.cells, other.cells, strict=True):
            assert cell.count == its.count
            assert cell.mean == pytest.approx(its.mean)
        assert row.differences[1:] == pytest.approx(other.differences[1:])
    assert next(row for row in both.rows if row.level == "c").cells[0].count == 0
    assert "Not described of training: shoe." in both.notes
    elsewhere = table_one(people, side, [Variable(name="age", kind="number", unit="years"), SEX])
    both = beside(kept, elsewhere.column("held_out", "scored"))
    assert any("as names or units differ: age and age (years)" in one
               for one in both.notes)  # fmt: skip
    assert "Of training only: group." in both.notes


def test_nothing_that_is_held_back_comes_out_by_setting_tables_beside_one_another():
    table = made({"train": {"f": 50, "m": 60, "x": 3}, "held_out": {"f": 30, "m": 40, "x": 8}})
    both = beside(table.column("train", "training"), table.column("held_out", "scored"))
    assert cells(both, "x") == ["<5", "8 (10.3 %)"]
    assert cells(both, "f")[0] == WITHHELD
    assert next(r for r in both.rows if r.variable == "sex").differences == (None, None)


@pytest.mark.parametrize("levels", [3, 30])
def test_text_held_as_categories_is_described_as_the_same_text(levels):
    cells = pd.Series([f"ward {n % levels}" for n in range(300)], dtype=object)
    held = cells.astype("category").cat.add_categories(["of somebody left out"])
    split = ["train", "held_out", "held_out"] * 100
    asked = [Variable(name="ward", kind="category")]
    meant = table_one(pd.DataFrame({"ward": cells}), split, asked)
    assert table_one(pd.DataFrame({"ward": held}), split, asked) == meant


def test_a_subject_with_two_rows_is_refused():
    frame = pd.DataFrame({"sex": ["f", "m"]}, index=["s1", "s1"])
    with pytest.raises(ValueError, match="one row a subject"):
        table_one(frame, ["train", "train"], [SEX])


def test_many_levels_are_pooled():
    table = made({"train": {f"site {k}": 10 + k for k in range(30)}})
    levels = [r.level for r in table.rows if r.variable == "sex"]
    assert len(levels) == 12
    assert levels[-1] == "others"
    total = sum(r.cells[0].count for r in table.rows if r.variable == "sex")
    assert total == sum(10 + k for k in range(30))


def test_header_and_text_rows_have_one_width():
    table = made({"train": {"f": 50, "m": 20}, "tuning": {"f": 9, "m": 9}, "held_out": {"f": 7}})
    assert table.header[-2:] == ("SMD tuning", "SMD held_out")
    assert {len(row) for row in table.text_rows} == {len(table.header)}


def test_pooled_classes_of_an_outcome_do_not_tell_one_that_results_hide():
    """Three of a class that train lacks are pooled with others: beside six they told the three."""
    sizes = {"rare": 3, "next": 6, "late": 20} | {f"k{n}": 30 + n for n in range(11)}
    held_out = np.repeat(list(sizes), list(sizes.values()))
    trained = {"rare": 1, "late": 1, "next": 90}
    train = np.repeat(list(sizes), [trained.get(name, 40) for name in sizes])
    variable = Variable(name="grade", kind="category", is_outcome=True)
    table = table_one(
        pd.DataFrame({"grade": [*train, *held_out]}),
        ["train"] * len(train) + ["held_out"] * len(held_out), [variable],
    )  # fmt: skip
    shown = {row.level: row.cells[1].text for row in table.rows}
    assert shown["others"] == shown["next"] == WITHHELD
    assert "rare" not in shown
    assert shown["k10"].startswith("40")


@pytest.mark.parametrize("kind", ["number", "category"])
@pytest.mark.parametrize(("have", "is_told"), [(0, True), (3, False), (5, True)])
def test_who_lacks_a_value_may_be_all_but_few_of_a_level(kind, have, is_told):
    values = [None] * (50 - have) + [1.5, 2.5] * 25 + [1.5] * have
    columns = {"sex": ["f"] * (50 - have) + ["m"] * 50 + ["f"] * have, "psa": values}
    described = [Variable(name="sex", kind="category"), Variable(name="psa", kind=kind)]
    rows = table_one(pd.DataFrame(columns), ["train"] * 100, described).rows
    (lack,) = (
        r.cells[0] for r in rows if r.variable == "psa" and "missing" in (r.level, r.statistic)
    )
    assert (lack.count is not None) == is_told


def test_a_level_that_is_all_but_few_of_another_variables_is_withheld():
    smoker = ["never"] * 60 + ["current"] * 3 + ["former"] * 40
    ill = ["yes"] * 50 + ["no"] * 53
    grave = ["yes"] * 20 + ["no"] * 28 + [None] * 55  # of two of the ill nobody knows
    columns = {"smoker": smoker, "former": ["no"] * 63 + ["yes"] * 40, "ill": ill, "grave": grave,
               "near": ["a", "b"] * 50 + ["a"] * 3}  # fmt: skip
    kinds = [Variable(name=name, kind="category", is_outcome=name in ("ill", "grave"))
             for name in columns]  # fmt: skip
    found = table_one(pd.DataFrame(columns), ["train"] * 103, kinds)
    told = {(row.variable, row.level): row.cells[0].count for row in found.rows}
    assert [told["smoker", level] for level in ("never", "current", "former")] == [None, None, 40]
    assert [told["former", level] for level in ("no", "yes")] == [63, 40]
    assert [told["ill", level] for level in ("no", "yes")] == [53, 50]
    assert told["grave", "missing"] is None
    assert None in (told["grave", "yes"], told["grave", "no"])
    assert [told["near", level] for level in "ab"] == [53, 50]  # of other people than the ill
    alone = table_one(pd.DataFrame(columns), ["train"] * 103, kinds, fewest=1)
    assert all(row.cells[0].count is not None for row in alone.rows)
