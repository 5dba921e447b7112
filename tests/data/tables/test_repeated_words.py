"""Columns of text whose cells repeat are held as codes, and say what the same cells as text say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medmcl.data.tables.files import natives, read_table, texts
from medmcl.data.tables.repeated_words import Gathered, is_repeated

ROWS = 2**14 + 500  # more than a block


def _drawn(words, rows=ROWS):
    return np.random.default_rng(0).choice(np.array(words, dtype=object), rows)


@pytest.mark.parametrize("rows", [12, ROWS])
def test_cells_of_a_csv_are_what_they_were(tmp_path, rows):
    cells = _drawn(["never", " former", "former", "n/a", "", "  "], rows)
    pd.DataFrame({"id": range(rows), "smoking": cells}).to_csv(tmp_path / "a.csv", index=False)
    column = read_table(tmp_path, "a.csv").frame["smoking"]
    meant = [None if one in ("n/a", "", "  ") else one.strip() for one in cells]
    assert is_repeated(column)
    assert list(column.cat.categories) == list(dict.fromkeys(one for one in meant if one))
    assert list(natives(column)) == list(texts(column)) == meant
    assert natives(column)[rows - 1] == meant[-1]
    assert natives(column)[2:9] == meant[2:9]


def test_words_that_come_in_later_blocks_are_words_like_others():
    gathered = Gathered()
    pieces = [pd.Series(["a", None], dtype="str")] + [
        pd.Series([one] * 5_000, dtype="str") for one in "abacada"
    ]
    for one in pieces:
        gathered.add(one)
    column = gathered.column()
    assert is_repeated(column)
    assert column.dtype.categories.tolist() == ["a", "b", "c", "d"]
    assert texts(column).tolist() == ["a", None, *(x for one in "abacada" for x in [one] * 5_000)]


@pytest.mark.parametrize(("words", "rows"), [(90, 20_000), (70, 40_000), (5_000, 70_000)])
def test_words_of_all_blocks_together_are_more_than_the_codes_of_one_tell_apart(words, rows):
    cells = _drawn([*map(str, range(words)), None], rows)
    gathered = Gathered()
    for start in range(0, rows, 2_000):
        gathered.add(pd.Series(cells[start : start + 2_000], dtype="str"))
    assert texts(gathered.column()).tolist() == cells.tolist()


@pytest.mark.parametrize("distinct_first", [False, True])
def test_a_column_that_repeats_in_some_blocks_alone_stays_text(distinct_first):
    alike, distinct = ["a"] * ROWS, [f"w{n}" for n in range(ROWS)]
    first, second = (distinct, alike) if distinct_first else (alike, distinct)
    gathered = Gathered()
    for one in (first, second):
        gathered.add(pd.Series(one, dtype="str"))
    column = gathered.column()
    assert not is_repeated(column)
    assert column.tolist() == first + second


@pytest.mark.parametrize("kind", ["str", object])  # as pandas 3 and pandas 2 read text
def test_a_missing_cell_of_such_a_column_is_no_word_and_its_text_is_as_it_was_read(kind):
    alike = [None, "a"] * (ROWS // 2)
    distinct = [None, *(f"w{n}" for n in range(ROWS - 1))]
    gathered = Gathered()
    for one in (alike, distinct):
        gathered.add(pd.Series(one, dtype=kind))
    column = gathered.column()
    assert column.dtype == pd.Series(alike, dtype=kind).dtype
    assert texts(column).tolist() == alike + distinct


def test_a_column_takes_a_byte_a_cell_not_a_pointer(tmp_path):
    frame = pd.DataFrame({"id": range(ROWS), "ward": _drawn([*"abc"])})
    frame.to_csv(tmp_path / "a.csv", index=False)
    column = read_table(tmp_path, "a.csv").frame["ward"]
    assert column.memory_usage(index=False, deep=True) < 1.1 * ROWS


@pytest.mark.parametrize(
    ("cells", "meant"),
    [
        ([3, 1, None, 3], [3, 1, None, 3]),
        ([1.5, 2.0, None, 2.0], [1.5, 2.0, None, 2.0]),
        ([True, False, None, True], [True, False, None, True]),
        (["7", "8", None, "7"], [7, 8, None, 7]),
        (["007", "8", None, "8"], ["007", "8", None, "8"]),
        ([pd.Timestamp("2010-01-02"), None] * 2, ["2010-01-02", None] * 2),
    ],
)
def test_categories_of_a_parquet_file_are_read_as_their_cells(tmp_path, cells, meant):
    pd.DataFrame({"x": pd.Categorical(cells)}).to_parquet(tmp_path / "a.parquet")
    assert list(natives(read_table(tmp_path, "a.parquet").frame["x"])) == meant


def test_codes_stay_as_they_stand(tmp_path):
    pd.DataFrame({"code": ["250.00", "250", "250.00 ", ""] * 3}).to_csv(tmp_path / "a.csv")
    column = read_table(tmp_path, "a.csv", text=("code",)).frame["code"]
    assert texts(column).tolist() == ["250.00", "250", "250.00", None] * 3
