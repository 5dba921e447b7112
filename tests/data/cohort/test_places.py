"""A column of places is told row by row, and is a column like others."""

import pickle
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from medmcl.core.contracts import RecordRef
from medmcl.data.cohort.places import PlaceArray, TableRows
from medmcl.data.tables.files import natives

TABLE = pd.DataFrame({"age": [40.0, np.nan, 60.0], "sex": ["F", "M", None], "other": [1, 2, 3]})
IDS = np.array(["a", "b", "c"], dtype=object)


def no_paths(values):
    return {}


@pytest.fixture
def places():
    rows = TableRows(TABLE, ["age", "sex"], IDS, IDS, no_paths, ("/data/",))
    return PlaceArray(rows, np.arange(3))


def test_each_place_is_what_its_row_says(places):
    assert places[1] == RecordRef(
        subject="b", record="b", values={"age": None, "sex": "M"}, roots=("/data/",)
    )
    assert [one.values["age"] for one in places] == [40.0, None, 60.0]


def test_as_a_column_it_is_cut_taken_joined_and_looked_up(places):
    column = pd.Series(places, index=IDS)
    assert column["c"].record == column.iloc[2].record == "c"
    assert [one.record for one in column[np.array([True, False, True])]] == ["a", "c"]
    assert [one and one.record for one in column.reindex(["c", "x"])] == ["c", None]
    assert column.reindex(["x"]).isna().tolist() == [True]
    both = pd.concat([column.iloc[:1], column.iloc[2:]])
    assert [one.record for one in both] == ["a", "c"]
    assert column.map(lambda one: one.subject).tolist() == ["a", "b", "c"]


def test_to_another_process_go_its_own_rows_alone(places):
    sent = pickle.loads(pickle.dumps(places[1:2]))
    assert list(sent) == [places[1]]
    assert sent.cells is None
    assert places.cells.columns.tolist() == ["age", "sex"]


def test_names_keep_their_order_whatever_their_columns_hold():
    frame = TABLE.assign(flag=pd.array([True, None, False], dtype="boolean"), n=[7, 8, 9])
    names = ["sex", "age", "n", "flag"]
    rows = PlaceArray(TableRows(frame, names, IDS, IDS, no_paths, ("/",)), np.arange(3))
    assert [[*one.values.items()] for one in rows] == [
        [("sex", "F"), ("age", 40.0), ("n", 7), ("flag", True)],
        [("sex", "M"), ("age", None), ("n", 8), ("flag", None)],
        [("sex", None), ("age", 60.0), ("n", 9), ("flag", False)],
    ]
    assert [type(one) for one in rows[0].values.values()] == [str, float, int, bool]


def test_the_numbers_of_a_table_are_held_once(tmp_path):
    """Records of a hundred thousand people were lists of numbers beside the table."""
    import medmcl
    from medmcl.data.loading.prepare import train_places

    size, columns = 20_000, [f"m{n}" for n in range(10)]
    cells = np.random.default_rng(0).normal(size=(size, len(columns)))
    table = pd.DataFrame(cells, columns=columns).assign(id=[f"p{n}" for n in range(size)])
    table.assign(split="train").to_csv(tmp_path / "people.csv", index=False)
    named = ", ".join(f"{one}: number" for one in columns)
    (tmp_path / "cohort.yaml").write_text(
        "schema: medmcl/cohort@1\nsubjects: {table: people.csv, id: id, split: split}\n"
        f"modalities: {{labs: {{reader: table, columns: {{{named}}}}}}}\n"
    )
    cohort = medmcl.open_cohort(tmp_path)
    tracemalloc.start()
    places = train_places(cohort, "labs")
    seen = np.array([[*one.values.values()] for one in places])
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert (seen == cells).all()
    assert held - seen.nbytes < 100 * size  # it was 800 bytes a row


def test_words_of_a_table_are_held_once():
    words = pd.Series(["a", None, "b"], dtype=object)
    assert np.shares_memory(natives(words), words.to_numpy())
    assert [*natives(words)] == [*natives(words.astype("str"))] == ["a", None, "b"]
    assert natives(pd.Series(["a", np.nan, 1], dtype=object)) == ["a", None, 1]


def test_pages_leave_once_rows_that_lie_elsewhere_are_told(monkeypatch):
    """Two hundred rows from all over a table kept all its pages in the process."""
    left = []
    monkeypatch.setattr("medmcl.data.cohort.places.leave", lambda: left.append(1))
    many = 5 * 2**13
    frame = pd.DataFrame({"age": np.arange(many, dtype=float)})
    ids = np.arange(many).astype(str).astype(object)
    rows = PlaceArray(TableRows(frame, ["age"], ids, ids, no_paths, ("/",)), np.arange(many))
    assert [rows[row].values["age"] for row in range(5, many, 2**11)] == [*range(5, many, 2**11)]
    assert len(left) == 4
