"""A column of places is told row by row, and is a column like others."""

import pickle

import numpy as np
import pandas as pd
import pytest

from medmcl.core.contracts import RecordRef
from medmcl.data.cohort.places import PlaceArray, TableRows

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
