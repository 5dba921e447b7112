import ast
import contextlib
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmcl.core.errors import CohortError
from medmcl.data.cohort.codes import CodeMap, parse_codes
from medmcl.data.expressions.expression import evaluate
from medmcl.data.expressions.syntax import columns_of
from medmcl.data.tables.files import tidy

FRAME = tidy(
    pd.DataFrame(
        {
            "age": [50, None, 70, 0],
            "name": ["Anna", "bob", None, "ANN"],
            "Group": ["DCM", "NOR", None, "HCM"],
            "EF (LV)": [0.5, 0.6, None, 0.1],
            "codes": ["{'NORM': 100.0, 'SR': 0.0}", '["MI"]', None, "MI;SR"],
            "ok": ["True", "False", None, "True"],
            "code": ["0123", "0456", None, "0123"],
        }
    )
)
MAPS = {
    "scp": CodeMap("scp", {"NORM": frozenset({"NORM"}), "MI": frozenset({"MI"})}),
    "icd": CodeMap("icd", {"0123": frozenset({"heart"})}),
}


def result(text: str) -> list:
    """Values with None where unknown."""
    values = evaluate(text, FRAME, MAPS)
    return [v if k else None for v, k in zip(values.data.tolist(), values.known, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age > 50", [False, None, True, False]),
        ("50 <= age < 70", [True, None, False, False]),
        ("age > 60 and False", [False] * 4),
        ("age > 60 or True", [True] * 4),
        ("not age > 60", [True, None, False, True]),
        ("Group == 'DCM'", [True, False, None, False]),
        ("Group != 'DCM'", [False, True, None, True]),
        ("Group in ['DCM', 'HCM']", [True, False, None, True]),
        ("Group not in ('DCM',)", [False, True, None, True]),
        ("isin(Group, 'DCM', 'NOR')", [True, True, None, False]),
        ("isin(age, [50, 70])", [True, None, True, False]),
        ("isnull(age)", [False, True, False, False]),
        ("notnull(age) and age > 60", [False, False, True, False]),
        ("nullif(age, 70)", [50.0, None, None, 0.0]),
        ("nullif(age, 70, 0) == 50", [True, None, None, None]),
        ("nullif(Group, 'NOR') == 'DCM'", [True, None, None, False]),
        ("notnull(Group) and nullif(Group, 'NOR') == 'DCM'", [True, None, False, False]),
        ("'NORM' in nullif(codes, '[\"MI\"]')", [True, None, None, False]),
        ("`EF (LV)` * 100", [50.0, 60.0, None, 10.0]),
        ('col("EF (LV)") > .2', [True, True, None, False]),
        ("EF (LV)", [0.5, 0.6, None, 0.1]),
        ("age % 40 + 2 ** 3", [18.0, None, 38.0, 8.0]),
        ("1 / age > 0", [True, None, True, None]),
        ("log(age) > 4", [False, None, True, None]),
        ("abs(-age)", [50.0, None, 70.0, 0.0]),
        ("min(age, 60)", [50.0, None, 60.0, 0.0]),
        ("max(60, min(age, 65))", [60.0, None, 65.0, 60.0]),
        ("lower(name) == 'ann'", [False, False, None, True]),
        ("contains(lower(name), 'ann')", [True, False, None, True]),
        ("startswith(name, 'A')", [True, False, None, True]),
        ("startswith(name, 'nn')", [False, False, None, False]),
        ("'NORM' in scp[codes]", [True, False, None, False]),
        ("'SR' in scp[codes]", [False, False, None, False]),
        ("'SR' in codes", [True, False, None, True]),
        ("not 'MI' in scp[codes]", [True, False, None, False]),
        ("isin(age, '50', '7')", [True, None, False, False]),
        ("age != '70'", [True, None, False, True]),
        ("'60' > age", [True, None, False, True]),
        ("ok", [True, False, None, True]),
        ("ok == 1", [True, False, None, True]),
        ("code == '0123'", [True, False, None, True]),
        ("'heart' in icd[code]", [True, False, None, True]),
        ("name == 'it`s'", [False, False, None, False]),
        ("name == '" + "(" * 99 + "'", [False, False, None, False]),
        ("(" * 60 + "age" + ")" * 60 + " > 1e9", [False, None, False, False]),
    ],
)
def test_an_expression_means_what_it_says(text, expected):
    assert result(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("agee > 3", "did you mean 'age'"),
        ("scpp[codes]", "is not a map"),
        ("scp", "write scp[column]"),
        ("age > 'old'", "is text"),
        ("Group > 3", "'Group' is text (for example 'DCM')"),
        ("Group + 1", "is not a number"),
        ("age == None", "isnull"),
        ("age is None", "isnull"),
        ("open('x')", "no function 'open'"),
        ("age.mean()", "no function"),
        ("().__class__", "not a form"),
        ("[x for x in age]", "not a form"),
        ("lambda: 1", "not a form"),
        ("(age := 3)", "not a form"),
        ("f'{age}'", "not a form"),
        ("age & 1", "write and, or, not"),
        ("age >", "is not an expression"),
        ("", "must be a text"),
        ("scp[codes] == 'MI'", "set of codes"),
        ("1" + "0" * 400 + " > age", "too large"),
        ("-" * 200 + "age", "nested too deeply"),
        ("(" * 2000 + "age" + ")" * 2000, "nested too deeply: 2,000 levels, at most 60"),
        ("(" * 61 + "age" + ")" * 61, "nested too deeply: 61 levels"),
        ("age > 1" + " or age > 1" * 400, "too long: 4,407 characters, at most 4,000"),
    ],
)
def test_what_is_not_known_is_refused_by_name(text, words):
    with pytest.raises(CohortError, match=re.escape(words)):
        evaluate(text, FRAME, MAPS, "tasks.x")


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("age = 1", "at '= 1'", "write == for =; known are comparisons, and/or/not"),
        ("Group == DCM", "there is no column 'DCM'", "put words in quotes: 'DCM'"),
        ("has_cmr == 1", "there is no column 'has_cmr'", "correct the name; or add 'has_cmr'"),
        ("grp == 'DCM'", "there is no column 'grp'; did you mean 'Group'", "column 'Group' if"),
        ("age > limit", "there is no column 'limit'", "or add 'limit' to the table"),
        ("isin(Group, DCM, 'NOR')", "no column 'DCM'", "put words in quotes: 'DCM'"),
        ("Group in ['NOR', DCM]", "no column 'DCM'", "put words in quotes: 'DCM'"),
        ("Group == Groop", "did you mean 'Group'", "write the column 'Group'; or put words"),
        ("age > 1 AND NOT ok", "at 'AND NOT ok'", "write and for AND, not for NOT; known"),
        ("age > 1 && ok || !ok", "& ok || !ok'", "and for &&, or for ||, not for !; known"),
        ("age <> 1", "at '<> 1'", "write != for <>; known"),
        ("`EF (LV)` => 1", "at '=> 1'", "write >= for =>; known"),
        ("Group %in% c('D=C')", "% c('D=C')", "write in for %in%, ['a', 'b'] for c(; known"),
        ("age IS NOT NULL", "at ", "write notnull(column) for IS NOT NULL; known"),
        ("Group == \u2018DCM\u2019", "at '\u2018DCM", "write a straight quote for \u2018"),
        ("code == 0123", "leading zeros", "write '007' (a code, in quotes) for 0123; known"),
        ("Group == 'a && b", 'at "\'a && b"', "write only comparisons"),
        ("(age > 1 and ok", "'(' was never closed, at '(age > 1 and ok'", "write only"),
        ("age > 1 and", "invalid syntax, at its end", "write only comparisons"),
        ("EF (LV) > 1", "the column 'EF (LV)' is no plain word", "`EF (LV)`"),
        ("ef (lv) = 1", "the column 'EF (LV)' is no plain word", "`EF (LV)`"),
        ("age is null", "'is' is not known", "isnull(age)"),
        ("age == null", "'null' is not known", "isnull(column)"),
        ("ok == true", "'true' is not known", "write True"),
        ("age > 3,5", "is not a form", "3.5"),
        ("isna(age)", "no function 'isna'", "isin, isnull, notnull"),
        ("Group == 'DCM' or 'NOR'", "is text, and not true or false", "whole comparison"),
    ],
)
def test_a_typical_mistake_is_named_with_its_fix(text, what, fix):
    with pytest.raises(CohortError) as caught:
        evaluate(text, FRAME, MAPS, "tasks.x")
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert caught.value.where == "tasks.x"
    assert caught.value.got == text


def test_a_mistake_inside_quotes_is_none():
    assert result("name == 'a = b && (c AND d <> e'") == [False, False, None, False]


def test_a_table_of_many_columns_is_not_listed_whole():
    frame = pd.DataFrame({f"column_{n}": [0] for n in range(500)})
    with pytest.raises(CohortError, match="and 460 more"):
        evaluate("nope > 1", frame)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.text("age()[]'`<>=+-*/ inotdrcol.,\"\\", max_size=30))
def test_any_text_is_an_expression_or_a_clear_error(text):
    with contextlib.suppress(CohortError):
        assert len(evaluate(text, FRAME, MAPS).known) == len(FRAME)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text("{}[]()'\",;:|1a ", max_size=30))
def test_any_cell_gives_codes_or_a_clear_error(cell):
    try:
        codes = parse_codes(cell)
    except CohortError:
        return
    assert all(isinstance(code, str) for code in codes)


NUMBER = st.sampled_from(["a", "b", "0", "1", "2.5"])
LINK = st.builds("{} {} {}".format, NUMBER, st.sampled_from(["<", ">=", "==", "!="]), NUMBER)
LOGIC = st.recursive(
    LINK,
    lambda inner: st.one_of(
        st.builds("not ({})".format, inner),
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("({}) or ({})".format, inner, inner),
    ),
    max_leaves=6,
)
CELL = st.none() | st.integers(-2, 3)


def slow(node: ast.expr, row: dict):
    """Kleene's logic, one row at a time."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return row[node.id]
    if isinstance(node, ast.UnaryOp):
        value = slow(node.operand, row)
        return None if value is None else not value
    if isinstance(node, ast.BoolOp):
        values = [slow(value, row) for value in node.values]
        decisive = isinstance(node.op, ast.Or)
        if any(value is decisive for value in values):
            return decisive
        return None if None in values else not decisive
    left, right = slow(node.left, row), slow(node.comparators[0], row)
    if left is None or right is None:
        return None
    work = {"Lt": "<", "GtE": ">=", "Eq": "==", "NotEq": "!="}[type(node.ops[0]).__name__]
    return {"<": left < right, ">=": left >= right, "==": left == right, "!=": left != right}[work]


@settings(max_examples=150, deadline=None)
@given(LOGIC, st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5))
def test_logic_with_missing_cells_is_that_of_kleene(text, cells):
    rows = [{"a": a, "b": b} for a, b in cells]
    frame = pd.DataFrame(rows, dtype="Float64")
    values = evaluate(text, frame)
    got = [bool(v) if k else None for v, k in zip(values.data, values.known, strict=True)]
    assert got == [slow(ast.parse(text, mode="eval").body, row) for row in rows]


def test_unknown_numbers_hold_no_nan():
    values = evaluate("log(age) / 0", FRAME)
    assert np.isfinite(values.data).all()
    assert not values.known.any()
    assert math.isfinite(evaluate("age", FRAME).data[1])


def test_the_columns_an_expression_reads_are_named_once():
    text = "`EF (LV)` > 0 and age > 1 and 'MI' in scp[codes] and lower(name) == 'x' and age < 3"
    assert sorted(columns_of(text, FRAME.columns)) == ["EF (LV)", "age", "codes", "name"]


def test_a_broken_cell_of_codes_is_named_with_its_column_and_row():
    frame = pd.DataFrame({"codes": ["NORM", "{'NORM': "]})
    with pytest.raises(CohortError, match="column codes, row 1"):
        evaluate("'NORM' in codes", frame)
