"""MEDS shards: schema, whole patients, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medmcl.core.errors import CohortError
from medmcl.data.events.events import NO_TIME, NO_VISIT, Events, Labels, roll_up
from medmcl.data.events.meds import check_schema, open_meds, read_shard


def shard(path, subjects, codes=None, **columns):
    """Write a shard; times go up by a day, the first one empty."""
    count = len(subjects)
    table = {
        "subject_id": pa.array(subjects, pa.int64()),
        "time": pa.array([None, *range(1, count)][:count], pa.timestamp("us")),
        "code": pa.array(codes or [f"C//{n % 3}" for n in range(count)], pa.string()),
        **columns,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path)
    return path


def rows(events):
    visit = events.visit if events.visit is not None else [None] * len(events)
    code = [events.code.values[n] for n in events.code.number]
    return list(zip(events.subject.tolist(), events.time.tolist(), code, visit, strict=True))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_patients_come_whole_whatever_the_size(tmp_path, size):
    subjects = [5, 5, 5, 2, 9, 9, 1, 1, 1, 1]
    path = shard(tmp_path / "a.parquet", subjects)
    parts = list(read_shard(path, size=size))
    assert [row for part in parts for row in rows(part)] == [
        (s, NO_TIME if n == 0 else n, f"C//{n % 3}", None) for n, s in enumerate(subjects)
    ]
    of_part = [set(part.subject.tolist()) for part in parts]
    assert sum(map(len, of_part)) == len(set.union(*of_part))
    if size == 1:
        assert len(parts) == 4


def test_visits_are_told_apart_in_any_type(tmp_path):
    for column in (
        pa.array([7, 7, None, 8], pa.int64()),
        pa.array(["x", "x", None, "y"]),
        pa.array(["x", "x", None, "y"]).dictionary_encode(),
        pa.array([7.0, 7.0, None, 8.0]),
    ):
        path = shard(tmp_path / "a.parquet", [1, 1, 1, 2], hadm_id=column)
        (events,) = read_shard(path, size=10, visit="hadm_id", columns=("hadm_id",))
        assert events.visit[0] == events.visit[1] != events.visit[3]
        assert events.visit[2] == NO_VISIT
        assert events.columns["hadm_id"].number[2] == -1


@pytest.mark.parametrize("subjects", [[1, 2, 1], [1, 1, 2, 2, 3, 3, 1], [3, 2, 2, 3]])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_scattered_subjects_are_refused(tmp_path, subjects, size):
    path = shard(tmp_path / "a.parquet", subjects)
    with pytest.raises(CohortError, match=r"a\.parquet: the rows of a subject do not stand toget"):
        list(read_shard(path, size=size))


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("subject_id", ["1"], pa.string()),
        ("subject_id", [1], pa.int32()),
        ("time", ["2020-01-01"], pa.string()),
        ("time", [1], pa.timestamp("ns")),
        ("time", [1], pa.timestamp("us", "UTC")),
        ("code", [1], pa.int64()),
    ],
)
def test_wrong_types_are_named(tmp_path, column, values, kind):
    path = shard(tmp_path / "a.parquet", [1])
    table = pq.read_table(path)
    at = table.column_names.index(column)
    pq.write_table(table.set_column(at, column, pa.array(values).cast(kind)), path)
    with pytest.raises(CohortError, match=f"'{column}' has the wrong type") as raised:
        check_schema(path)
    assert str(kind) in str(raised.value)


def test_missing_columns_are_named(tmp_path):
    path = shard(tmp_path / "a.parquet", [1])
    pq.write_table(pq.read_table(path).rename_columns(["subject_id", "time", "codes"]), path)
    with pytest.raises(CohortError, match="no column 'code'; did you mean 'codes'"):
        check_schema(path)
    with pytest.raises(CohortError, match="no column 'hadm_id'"):
        list(read_shard(shard(tmp_path / "b.parquet", [1]), size=9, visit="hadm_id"))


@pytest.mark.parametrize("column", ["subject_id", "code"])
def test_empty_cells_are_refused(tmp_path, column):
    path = shard(tmp_path / "a.parquet", [1, 1])
    table = pq.read_table(path)
    at = table.column_names.index(column)
    holed = pa.array([None, table[column][1].as_py()], table[column].type)
    pq.write_table(table.set_column(at, column, holed), path)
    with pytest.raises(CohortError, match=f"'{column}' has empty cells"):
        list(read_shard(path, size=9))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99, None])
def test_a_shard_cut_short_or_damaged_is_refused(tmp_path, share):
    path = shard(tmp_path / "a.parquet", list(range(2000)))
    whole = path.read_bytes()
    damaged = whole[:4] + bytes(396) + whole[400:]
    path.write_bytes(damaged if share is None else whole[: int(len(whole) * share)])
    with pytest.raises(CohortError, match=r"a\.parquet: is not a whole parquet file"):
        list(read_shard(path, size=100))


def test_a_dataset_has_its_shards_and_roll_ups(tmp_path):
    with pytest.raises(CohortError, match="holds no MEDS shards"):
        open_meds(tmp_path)
    for name in ("train/1", "train/0", "held_out/0"):
        shard(tmp_path / "data" / f"{name}.parquet", [1])
    dataset = open_meds(tmp_path)
    assert [str(p.relative_to(tmp_path / "data")) for p in dataset.shards] == [
        "held_out/0.parquet", "train/0.parquet", "train/1.parquet",
    ]  # fmt: skip
    with pytest.raises(CohortError, match="no roll-ups"):
        dataset.parents()
    table = {
        "code": ["ICD//1", "ICD//2", "ICD//3"],
        "description": [None, None, None],
        "parent_codes": [["PHE//1", "OMOP//9"], ["OMOP//8"], None],
    }
    (tmp_path / "metadata").mkdir()
    pq.write_table(pa.table(table), tmp_path / "metadata" / "codes.parquet")
    assert dataset.parents("PHE//") == {"ICD//1": ("PHE//1",)}
    assert dataset.parents()["ICD//1"] == ("PHE//1", "OMOP//9")
    assert "ICD//3" not in dataset.parents()


def test_roll_up_puts_parents_in_the_place_of_codes():
    events = Events(
        np.array([1, 1, 2]), np.array([10, 20, 30]), Labels(np.array([0, 1, 0]), ["a", "b"]),
        np.array([4, 5, 6]), {"site": Labels(np.array([0, -1, 1]), ["x", "y"])},
    )  # fmt: skip
    grown = roll_up(events, {"a": ("p", "q"), "z": ("p",)})
    found = [grown.code.values[n] for n in grown.code.number]
    assert found == ["p", "q", "b", "p", "q"]
    assert grown.subject.tolist() == [1, 1, 1, 2, 2]
    assert grown.time.tolist() == [10, 10, 20, 30, 30]
    assert grown.visit.tolist() == [4, 4, 5, 6, 6]
    assert grown.columns["site"].number.tolist() == [0, 0, -1, 1, 1]


def test_an_empty_shard_has_no_events(tmp_path):
    assert list(read_shard(shard(tmp_path / "a.parquet", []), size=9)) == []


def test_no_shard_is_a_link_out_of_the_dataset(tmp_path):
    """A dataset of strangers would be counted together with patients of this hospital."""
    (tmp_path / "theirs" / "data").mkdir(parents=True)
    shard(tmp_path / "theirs" / "data" / "0.parquet", [1, 1])
    shard(tmp_path / "ours.parquet", [2, 2])
    (tmp_path / "linked").symlink_to(tmp_path / "theirs")
    assert len(open_meds(tmp_path / "linked").shards) == 1
    (tmp_path / "theirs" / "data" / "1.parquet").symlink_to(tmp_path / "ours.parquet")
    for name in ("theirs", "linked"):
        with pytest.raises(CohortError, match=r"1 shard of the dataset are links out(.|\n)*ours"):
            open_meds(tmp_path / name)
