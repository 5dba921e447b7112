import re

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from medmcl.data.cohort.outcomes import LabelRows, build_targets
from medmcl.data.cohort.spec import TASKS
from medmcl.data.tables.files import tidy


def build(frame, rows=None, index=None, train=None, **task):
    table = tidy(pd.DataFrame(frame))
    rows = np.arange(len(table)) if rows is None else np.array(rows)
    labels = LabelRows(
        table=table,
        rows=rows,
        subjects=np.array([f"s{row}" for row in rows], dtype=object),
        train=np.ones(len(rows), bool) if train is None else np.array(train),
        index=np.array(["NaT"] * len(rows) if index is None else index, dtype="M8[ns]"),
    )
    keys = TypeAdapter(TASKS[task["kind"]]).validate_python(task)
    return build_targets("task", keys, labels, {})


def codes(findings):
    return [(finding.code, finding.level) for finding in findings]


def test_binary_labels_follow_the_samples_and_missing_cells_are_unknown():
    frame = {"x": [1, 0, None]}
    targets, findings = build(frame, rows=[2, 0, 1, 0, -1], kind="binary", column="x > 0")
    assert targets.values[:, 0].tolist() == [0, 1, 0, 1, 0]
    assert targets.known[:, 0].tolist() == [False, True, True, True, False]
    assert findings == []


def test_something_else_than_two_values_is_not_binary():
    targets, findings = build({"x": ["yes", "no"]}, kind="binary", column="x")
    assert targets is None
    assert codes(findings) == [("task.not_binary", "error")]
    assert "x == 'yes'" in findings[0].fix
    for yes, no in (("ja", "nein"), ("oui", "non"), ("Sepsis", "no")):
        _, findings = build({"x": [yes, no, no, yes, yes]}, kind="binary", column="x")
        assert f"x == '{yes}'" in findings[0].fix
    (found,) = build({"x": [1, 2, 2]}, kind="binary", column="x")[1]  # SAS or R?
    assert 'column: "x == 1" or "x == 2"' in found.fix
    (found,) = build({"x": [1, 1, -1]}, kind="binary", column="x")[1]
    assert "if -1 stands for unknown" in found.fix
    assert findings[0].scope == "task"
    assert findings[0].task == "task"
    assert codes(build({"x": [0, 2]}, kind="binary", column="x")[1])[0][0] == "task.not_binary"


def test_another_spelling_of_a_word_that_is_asked_for_is_told():
    """'Yes' was a no."""
    frame = {"x": ["yes", "Yes", "YES", "no", "no"], "g": ["B", "b", "a", "a", "a"]}
    targets, (found,) = build(frame, kind="binary", column="x == 'yes'")
    assert targets.values[:, 0].tolist() == [1, 0, 0, 0, 0]
    assert found.code == "task.two_spellings"
    assert "'x' also holds 'Yes' (1), 'YES' (1), which" in found.what
    assert "derive: {x: lower(x)}" in found.fix
    for text in ("isin(x, 'yes', 'Yes', 'YES')", "lower(x) == 'yes'", "x == 'no'"):
        assert not build(frame, kind="binary", column=text)[1]
    (found,) = build(frame, kind="multiclass", column="g")[1]
    assert "'g' holds 'B' (1), 'b' (1), which are taken as 2 values" in found.what


def test_classes_keep_their_order_and_strange_ones_are_named():
    frame = {"g": ["b", None, "a"]}
    targets, _ = build(frame, kind="multiclass", column="g", classes=["b", "a"])
    assert targets.classes == ("b", "a")
    assert targets.values[:, 0].tolist() == [0, 0, 1]
    assert targets.known[:, 0].tolist() == [True, False, True]
    assert targets.num_outputs == 2
    assert build(frame, kind="multiclass", column="g")[0].classes == ("a", "b")
    targets, findings = build(frame, kind="multiclass", column="g", classes=["b", "c"])
    assert targets is None
    assert "holds a" in findings[0].what


def test_numbers_may_be_classes():
    targets, _ = build({"g": [2.0, 1.0]}, kind="multiclass", column="g", classes=[1, 2])
    assert targets.values[:, 0].tolist() == [1, 0]


def test_each_label_has_a_column():
    frame = {"c": ["A;B", "A", "", "C"]}
    columns = {"a": "'A' in c", "b": "'B' in c"}
    targets, _ = build(frame, kind="multilabel", columns=columns)
    assert targets.values.tolist() == [[1, 1], [1, 0], [0, 0], [0, 0]]
    assert targets.known.tolist() == [[True] * 2, [True] * 2, [False] * 2, [True] * 2]


def test_a_column_of_labels_becomes_a_column_for_each():
    frame = {"c": ["{'B': 0.0, 'A': 100.0}", "A", "", "C"]}
    targets, findings = build(frame, kind="multilabel", labels="c")
    assert targets.columns == ("A", "B", "C")
    assert targets.values.tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert targets.known.tolist() == [[True] * 3, [True] * 3, [False] * 3, [True] * 3]
    assert findings == []
    train = [True, True, True, False]
    targets, findings = build(frame, kind="multilabel", labels="c", train=train)
    assert targets.columns == ("A", "B", "C")  # nobody in train has C: said, not refused
    assert codes(findings) == [("task.one_class", "warning")]
    assert "nobody has in the train split: C" in findings[0].what
    assert codes(build({"c": [0.5, 2.0]}, kind="multilabel", labels="c")[1]) == [
        ("task.not_labels", "error")
    ]
    assert codes(build({"c": ["", None]}, kind="multilabel", labels="c")[1]) == [
        ("task.not_labels", "error")
    ]


def test_a_regression_takes_numbers_with_their_unit():
    targets, _ = build({"ef": [0.5, None, 0.7]}, kind="regression", column="ef * 100", unit="%")
    assert targets.values[:, 0] == pytest.approx([50, 0, 70])
    assert targets.unit == "%"
    assert targets.columns == ("task",)
    targets, findings = build({"ef": ["0.5", "89+"]}, kind="regression", column="ef")
    assert targets is None
    assert codes(findings) == [("task.not_a_number", "error")]


def test_a_time_below_zero_is_an_error_that_names_a_subject():
    frame = {"t": [5, -3, 0], "e": [1, 0, 0]}
    _, findings = build(frame, kind="survival", time="t", event="e")
    assert codes(findings) == [("task.negative_time", "error")]
    assert "-3" in findings[0].what
    assert "subject s1" in findings[0].what


@pytest.mark.parametrize(
    ("times", "keys", "code", "what", "fixes", "never"),
    [
        ([365, 900, 1825], {"unit": "years"}, "follow_up",
         "'tasks.task.unit' is years: the median follow-up would be 900 years and the longest "
         "1,825 years",
         ["if the times are in days, the longest is 5 years: --set cohort.tasks.task.unit=days",
          "if the times are in weeks, the longest is 35 years: --set cohort.tasks.task.unit=weeks"],
         ["in months"]),
        ([40, 60, 99999], {"unit": "months"}, "follow_up",
         "1 time beyond 120 years, the longest 8,333 years, for example 99,999 months for "
         "subject s2", ["correct these times, or empty those unknown"], ["in days"]),
        ([365, 900, 43830], {"unit": "days"}, None, "", [], []),
        ([365, 900, 43831], {"unit": "days"}, "follow_up", "43,831 days for subject s2", [], []),
        ([1.5, 3, 4.9], {"unit": "days", "horizons_years": [1, 5]}, "horizon",
         "horizons of 1, 5 years beyond every follow-up, of which the longest is 4.9 days "
         "(0.0134 years)",
         ["--set 'cohort.tasks.task.horizons_years=[]'",
          "in years, the longest is 4.9 years: --set cohort.tasks.task.unit=years"], ["weeks"]),
        ([12, 30, 59], {"unit": "days", "horizons_years": [1, 3]}, "horizon",
         "59 days (0.162 years)",
         ["in months, the longest is 4.92 years: --set cohort.tasks.task.unit=months"],
         ["if the times are in days"]),
        ([365, 900, 1825], {"unit": "days", "horizons_years": [1, 4, 10]}, "horizon",
         "'tasks.task.horizons_years': horizon of 10 years beyond every follow-up, of which the "
         "longest is 1,825 days (5 years)", ["horizons_years=[1, 4]'"], []),
        ([365, 900, 1825], {"unit": "days", "horizons_years": [365, 1461]}, "horizon",
         "horizons of 365, 1461 years", ["; or, if these are days, horizons_years=[1, 4]"], []),
        ([365, 900, 1826.25], {"unit": "days", "horizons_years": [1, 5]}, None, "", [], []),
        ([300, None, None], {"unit": "years"}, "follow_up", "300 years", [], []),
        ([None, None, None], {"unit": "years", "horizons_years": [5]}, "no_labels", "", [], []),
    ],
)  # fmt: skip
def test_a_follow_up_that_nobody_can_have_and_horizons_beyond_it_are_errors(
    times, keys, code, what, fixes, never
):
    frame = {"t": times, "e": [1, 0, 1]}
    _, findings = build(frame, kind="survival", time="t", event="e", **keys)
    errors = [one for one in findings if one.level == "error" and one.code != "task.one_class"]
    assert [one.code for one in errors] == ([f"task.{code}"] if code else [])
    if code is None:
        return
    assert what in errors[0].what
    assert all(fix in errors[0].fix for fix in fixes)
    assert not any(word in errors[0].fix for word in never)


def test_dates_of_another_age_are_a_follow_up_that_nobody_can_have():
    frame = {"hf": [None, "2021-01-01"], "last": ["2199-12-31", "2022-01-01"]}
    task = {"kind": "survival", "event_date": "hf", "censor_date": "last"}
    _, findings = build(frame, index=["2020-01-01"] * 2, **task)
    (error,) = [one for one in findings if one.code == "task.follow_up"]
    assert "180 years" in error.what
    assert "correct the dates" in error.fix
    assert "unit=" not in error.fix  # it is no unit of the table that is wrong


def test_dates_of_an_event_are_no_yes_and_no_but_that_one_is_known_is():
    frame = {"t": [400, 500, 600], "died": ["2021-02-03", None, "2022-01-01"]}
    _, findings = build(frame, kind="survival", time="t", event="died")
    (error,) = [one for one in findings if one.code == "task.not_binary"]
    assert error.what.endswith("'died' holds dates, such as 2021-02-03")
    assert 'event: "not isnull(died)"' in error.fix
    targets, _ = build(frame, kind="survival", time="t", event="not isnull(died)")
    assert targets.values[:, 1].tolist() == [1, 0, 1]


def test_a_competing_event_is_kept_and_both_at_once_are_a_fault():
    keys = {"kind": "survival", "time": "t", "event": "e == 'own'", "competing": "e == 'other'"}
    frame = {"t": [1.0, 2, 3, 4], "e": ["own", "other", "none", None]}
    targets, findings = build(frame, **keys)
    assert targets.competing.tolist() == [False, True, False, False]
    assert targets.values[:3, 1].tolist() == [1, 0, 0]
    assert targets.known[:, 1].tolist() == [True, True, True, False]
    assert targets.take(np.array([1])).competing.tolist() == [True]
    assert not [one for one in findings if one.level == "error"]
    _, findings = build(frame, **{**keys, "competing": "e != 'none'"})
    fault = next(one for one in findings if one.code == "task.two_events")
    assert fault.level == "error"
    assert "1 sample with the event and a competing one" in str(fault)


def test_of_an_event_and_a_competing_one_with_dates_the_first_ends_the_time():
    rng = np.random.default_rng(0)
    days = {name: rng.integers(-40, 400, 300) for name in ("hf", "death", "last")}
    known = {
        name: rng.random(300) < share for name, share in zip(days, (0.5, 0.4, 0.9), strict=True)
    }
    frame = {
        name: [f"{np.datetime64('2020-01-01') + day}" if has else None
               for day, has in zip(days[name], known[name], strict=True)]
        for name in days
    }  # fmt: skip
    keys = {"kind": "survival", "event_date": "hf", "censor_date": "last"}
    index = ["2020-01-01"] * 300
    targets, findings = build(frame, index=index, competing_date="death", **keys)
    for row in range(300):
        hf, death, last = (days[n][row] if known[n][row] else None for n in ("hf", "death", "last"))
        if last is not None and hf is not None and hf > last:
            hf = None
        if last is not None and death is not None and death > last:
            death = None
        first = hf if hf is not None and (death is None or hf <= death) else None
        end = first if first is not None else death if death is not None else last
        ended = first is None and death is not None
        if end is None or end < 0 or (end == 0 and (first is not None or ended)):
            assert not targets.known[row].any()
            continue
        assert targets.known[row].all()
        assert targets.values[row].tolist() == [end, first is not None]
        assert targets.competing[row] == ended
    said = {one.code: one.what for one in findings}
    assert "dated after the competing event" in said["task.event_after_competing"]
    assert "competing one" in said["task.prevalent"]


def test_a_competing_event_before_the_end_of_follow_up_is_not_counted_there_in_silence():
    frame = {
        "hf": ["2020-06-01", None, None, None], "last": ["2022-01-01"] * 4,
        "death": [None, "2020-03-01", "2022-01-01", None], "cause": [0, 4, 4, 0],
    }  # fmt: skip
    keys = {"kind": "survival", "event_date": "hf", "censor_date": "last"}
    index = ["2020-01-01"] * 4
    text = "notnull(death) and cause == 4"
    _, findings = build(frame, index=index, competing=text, **keys)
    (found,) = [one for one in findings if one.code == "task.competing_earlier"]
    assert "1 competing event dated before the censoring date (death before last)" in found.what
    assert "competing_date: death" in found.fix
    targets, findings = build(frame, index=index, competing_date="death", **keys)
    assert targets.values[:, 0].tolist() == [152, 60, 731, 731]
    assert targets.competing.tolist() == [False, True, True, False]
    with pytest.raises(ValueError, match="competing_date goes with"):
        build(frame, index=index, competing_date="death", competing=text, **keys)


def test_survival_by_dates_counts_from_the_index():
    frame = {
        "hf": ["2021-01-01", None, "2019-06-01", "2020-01-01", None, "2024-01-01"],
        "last": ["2023-01-01", "2022-01-01", "2023-01-01", "2023-01-01", None, "2023-01-01"],
    }
    index = ["2020-01-01 15:00"] * 6
    task = {"kind": "survival", "event_date": "hf", "censor_date": "last", "horizons_years": [1]}
    targets, findings = build(frame, index=index, **task)
    assert targets.values[:, 0].tolist() == [366, 731, 0, 0, 0, 1096]
    assert targets.values[:, 1].tolist() == [1, 0, 0, 0, 0, 0]
    assert targets.known[:, 0].tolist() == [True, True, False, False, False, True]
    assert codes(findings) == [
        ("task.prevalent", "warning"),
        ("task.event_after_censoring", "warning"),
        ("task.no_end", "warning"),
    ]
    assert findings[0].what.startswith("2 samples")
    assert findings[2].what.startswith("1 sample without last: of the 0 with an event")
    years, _ = build(frame, index=index, unit="years", **task)
    assert years.values[0, 0] == pytest.approx(366 / 365.25)


def test_an_event_without_a_time_is_told():
    frame = {"t": [None, 5.0, 6.0, None], "e": [1, 1, 0, 0]}
    targets, (found,) = build(frame, kind="survival", time="t", event="e")
    assert targets.known[:, 0].tolist() == [False, True, True, False]
    assert found.what.startswith("1 sample with the event, but no time")


def test_censoring_before_the_index_is_a_time_below_zero():
    frame = {"hf": [None, "2021-01-01"], "last": ["2019-12-01", "2022-01-01"]}
    task = {"kind": "survival", "event_date": "hf", "censor_date": "last"}
    _, findings = build(frame, index=["2020-01-01"] * 2, **task)
    assert ("task.negative_time", "error") in codes(findings)


def test_without_index_date_a_dated_outcome_is_unknown():
    frame = {"hf": ["2021-01-01"] * 2 + [None], "last": ["2023-01-01"] * 3}
    task = {"kind": "survival", "event_date": "hf", "censor_date": "last"}
    targets, _ = build(frame, index=["NaT", "2020-01-01", "2020-01-01"], **task)
    assert targets.known[:, 0].tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("frame", "task", "words"),
    [
        ({"x": [1, 1]}, {"kind": "binary", "column": "x"}, "is 1 for all 2 labelled samples"),
        ({"x": ["a", "a"]}, {"kind": "multiclass", "column": "x", "classes": ["b", "a"]}, "is a"),
        ({"x": [1, 0], "y": [0, 0]}, {"kind": "multilabel", "columns": ["x", "y"]}, "'y' is 0"),
        ({"x": [3, 3]}, {"kind": "regression", "column": "x"}, "is 3 for all"),
        ({"t": [1, 2], "e": [0, 0]}, {"kind": "survival", "time": "t", "event": "e"}, "the event"),
    ],
)
def test_an_outcome_all_alike_is_an_error(frame, task, words):
    _, findings = build(frame, **task)
    assert codes(findings) == [("task.one_class", "error")]
    assert words in findings[0].what


def test_an_outcome_all_alike_in_train_alone_is_an_error_too():
    _, findings = build({"x": [1, 1, 0]}, train=[1, 1, 0], kind="binary", column="x")
    assert codes(findings) == [("task.one_class", "error")]
    assert "train split" in findings[0].what
    assert "x holds 1 (2)" in findings[0].what


def test_a_cohort_without_train_split_may_be_scored():
    assert build({"x": [1, 0]}, train=[False, False], kind="binary", column="x")[1] == []


def test_no_label_at_all_and_a_missing_column_are_errors():
    assert codes(build({"x": [None, ""]}, kind="binary", column="x")[1])[0][0] == "task.no_labels"
    targets, findings = build({"xx": [1]}, kind="binary", column="x")
    assert targets is None
    assert codes(findings) == [("task.missing_column", "error")]
    assert "'xx'" in findings[0].what


MIXED = {"x": ["1", "0", "yes", "0", None, "1"], "t": [1, 2, 3, 4, 5, 6]}


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ({"kind": "binary", "column": "x"}, "column"),
        ({"kind": "survival", "time": "t", "event": "x"}, "event"),
        ({"kind": "survival", "time": "t", "event": "t > 2", "competing": "x"}, "competing"),
        ({"kind": "multilabel", "columns": {"AF": "x"}}, "AF"),
    ],
)
def test_one_odd_cell_among_0_and_1_is_named_and_no_mend_loses_the_ones(task, key):
    _, (finding,) = build(MIXED, **task)
    assert finding.code == "task.not_binary"
    assert "is 0 or 1, but for 'yes' (1 row: subject s2)" in finding.what
    assert "correct the cell to 0, 1 or empty" in finding.fix
    assert f"{key}: \"isin(x, '1', 'yes')\"" in finding.fix


def test_the_mend_of_a_label_works_as_it_is_written():
    """Taken from the message, it makes every 1 and the odd yes positive, and keeps unknown."""
    _, (finding,) = build(MIXED, kind="binary", column="x")
    written = re.search(r'column: "([^"]+)"', finding.fix)[1]
    targets, findings = build(MIXED, kind="binary", column=written)
    assert findings == []
    assert targets.values[:, 0].tolist() == [1, 0, 1, 0, 0, 1]
    assert targets.known[:, 0].tolist() == [True, True, True, True, False, True]


def test_odd_cells_are_counted_by_row_and_a_no_is_never_said_to_mean_yes():
    cells = ["1"] * 6 + ["0"] * 6 + ["no", "no", "?", "yes"]
    _, (finding,) = build({"Died (y/n)": cells}, rows=[*range(16), 12, 12], kind="binary",
                          column="Died (y/n)")  # fmt: skip
    assert "'no' (2 rows: subject s12, subject s13" in finding.what
    assert "'yes' (1 row: subject s15)" in finding.what
    assert "isin(`Died (y/n)`, '1', 'yes')" in finding.fix
    codes_of_numbers = build({"x": [1, 0, 2, 1, 0]}, kind="binary", column="x")[1][0]
    assert "but for 2 (1 row: subject s2)" in codes_of_numbers.what
    assert "isin(x, 1)" in codes_of_numbers.fix


@pytest.mark.parametrize(
    ("cells", "text", "codes"),
    [
        ([1, 0, -9, 1, 0], "x", "[-9]"),
        ([1, 0, 99, 0, 9], "x", "[99, 9]"),
        (["1", "0", "ND", "0"], "x", "[ND]"),
        (["1", "0", "?", "0"], "x", '["?"]'),
        (["1", "0", "ND", "0"], "x == 1", "[ND]"),
        (["1", "0", "unknown", "0"], "x > 0", "[unknown]"),
    ],
)
def test_cells_that_look_like_codes_are_first_offered_as_missing(cells, text, codes):
    """An isin alone would make a no of everybody whose outcome is not known."""
    _, (finding,) = build({"x": cells}, kind="binary", column=text)
    stated = f"write `missing: {{x: {codes}}}` at the top level of cohort.yaml; otherwise correct"
    assert stated in finding.fix
    assert finding.fix.startswith("if ")


def test_words_that_are_neither_are_listed_with_counts():
    _, (finding,) = build({"g": ["control"] * 3 + ["case"]}, kind="binary", column="g")
    assert "it holds 'control' (3), 'case' (1)" in finding.what
    assert "g == 'case'" in finding.fix


@pytest.mark.parametrize(
    ("frame", "task", "words"),
    [
        ({"x": [0, 0, 2, None]}, {"kind": "binary", "column": "x == 1"},
         "x holds 0 (2), 2 (1), empty (1)"),
        ({"g": ["a", "b", "a"]}, {"kind": "multilabel", "columns": {"B": "g == 'B'"}},
         "g holds a (2), b (1)"),
        ({"t": [1, 2], "s": ["Dead", "alive"]},
         {"kind": "survival", "time": "t", "event": "s == 'dead'"}, "s holds Dead (1), alive (1)"),
        ({"x": list(range(20)), "y": [5] * 20}, {"kind": "binary", "column": "x > 50"},
         "12 more values"),
    ],
)  # fmt: skip
def test_an_outcome_all_alike_says_what_the_cells_hold(frame, task, words):
    _, findings = build(frame, **task)
    assert words in findings[-1].what


@pytest.mark.parametrize("text", ["x == 1", "1 == x", "x in (1, 2)", "isin(x, 1)", "x != 0"])
def test_an_odd_cell_in_a_comparison_is_named_and_no_mend_compares_with_text(text):
    """Compared with '1' as text, as the message once said, the odd yes became a no unnoticed."""
    _, (finding,) = build(MIXED, kind="binary", column=text)
    assert finding.code == "task.expression"
    assert "'x' is a number, but for 'yes' (1 row: subject s2)" in finding.what
    assert "correct the cell to a number or empty (unknown)" in finding.fix
    assert "== '1'" not in finding.fix
    meant = re.search(r"isin\(.*?\)", finding.fix)
    assert (meant is None) is (text == "x != 0")
    if meant is not None:
        targets, findings = build(MIXED, kind="binary", column=meant[0])
        assert findings == []
        assert targets.values[:, 0].tolist() == [1, 0, 1, 0, 0, 1]
        assert targets.known[:, 0].tolist() == [True, True, True, True, False, True]


@pytest.mark.parametrize(
    ("cells", "text", "listed"),
    [
        (["1", "0", "1.0", "no", "Yes"], "x == 1", "isin(x, '1', '1.0', 'Yes')"),
        (["1", "0", "0", "?", "yes"], "x == 1", None),  # whoever has ? would become a no
        (["1", "0", "0", "Yes"], "lower(x) == 1", None),  # the cell says Yes, and not yes
        (["1", "3", "0", "III"], "x == 3", None),  # what III means is not known
        (["1", "3", "0", "III"], "x >= 3", None),
        (["1", "3", "0", "III"], "x + 1 > 3", None),
    ],
)
def test_a_mend_lists_what_means_yes_only_where_that_is_no_guess(cells, text, listed):
    _, (finding,) = build({"x": cells}, kind="binary", column=text)
    assert "is a number, but for" in finding.what
    assert "correct the cell" in finding.fix
    assert (listed in finding.fix) if listed else ("isin" not in finding.fix)


def test_text_that_is_no_number_is_compared_with_what_it_holds():
    _, (finding,) = build({"x": ["yes", "no", "no"]}, kind="binary", column="x == 1")
    assert "compare with a text that it holds ('yes', 'no')" in finding.fix


def test_an_odd_cell_of_a_regression_is_named_with_its_rows_counted_once():
    cells = ["61", "89+", "70", "89+"]
    _, (finding,) = build({"age": cells}, rows=[0, 1, 1, 2], kind="regression", column="age")
    assert "'age' is a number, but for '89+' (2 rows: subject s1, row 4)" in finding.what
