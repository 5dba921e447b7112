"""Files of vectors that are damaged in ways that only their texts and names show."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medmcl.core.errors import ConfigError, MedmclError
from medmcl.stages.factorise.vector_files import read_vectors


def test_two_columns_of_one_name_are_refused_by_it(tmp_path):
    table = pa.table([["a", "b"], [0.1, 0.2], [0.3, 0.4]], names=["subject", "e0", "e0"])
    pq.write_table(table, tmp_path / "v.parquet")
    with pytest.raises(MedmclError, match="cannot be read: Multiple matches"):
        read_vectors("v", tmp_path / "v.parquet", "subject")
    frame = pd.DataFrame({"e0": [0.1, 0.2], "subject": ["a", "b"]}).set_index("subject")
    frame.index.name = "e0"
    frame.to_parquet(tmp_path / "w.parquet")
    with pytest.raises(MedmclError, match="e0"):
        read_vectors("w", tmp_path / "w.parquet", "subject")


def test_texts_that_are_no_utf_8_are_refused(tmp_path):
    frame = pd.DataFrame({"subject": ["s001", "s002"], "e0": np.float32([0.1, 0.2])})
    frame.to_parquet(tmp_path / "v.parquet", compression=None)
    whole = (tmp_path / "v.parquet").read_bytes()
    (tmp_path / "v.parquet").write_bytes(whole.replace(b"s002", b"s0\xff2"))
    with pytest.raises(MedmclError, match="cannot be read"):
        read_vectors("v", tmp_path / "v.parquet", "subject")


def test_a_column_of_arrays_is_the_vector(tmp_path):
    vectors = np.arange(8, dtype=np.float32).reshape(4, 2)
    frame = pd.DataFrame({"mrn": ["a", "b", "c", "d"], "embedding": [*vectors]})
    frame.loc[2, "embedding"] = None
    frame.to_parquet(tmp_path / "v.parquet")
    read = read_vectors("v", tmp_path / "v.parquet", "mrn")
    assert read.columns == ("e0", "e1")
    assert read.subjects.tolist() == ["a", "b", "d"]
    assert read.values.tolist() == vectors[[0, 1, 3]].tolist()
    frame.at[3, "embedding"] = [1.0, 2.0, 3.0]
    frame.to_parquet(tmp_path / "v.parquet")
    with pytest.raises(MedmclError, match="arrays of 'embedding' differ in length"):
        read_vectors("v", tmp_path / "v.parquet", "mrn")


def test_an_archive_keeps_what_its_ids_are_called(tmp_path):
    np.savez(tmp_path / "v.npz", ids=["a", "b"], vectors=np.eye(2))
    assert read_vectors("v", tmp_path / "v.npz", "mrn").id_column == "ids"


def test_columns_that_count_the_rows_are_no_numbers_of_a_vector(tmp_path):
    """What pandas leaves of an index, in order, drawn anew or filtered."""
    ids = [f"p{k}" for k in range(12)]
    frame = pd.DataFrame({"subject": ids, "e0": np.arange(12) % 5, "e1": np.linspace(0, 1, 12)})
    frame["level_0"] = range(12)
    frame["row"] = np.random.default_rng(0).permutation(12) + 1
    frame["line"] = np.arange(12) * 3 + 7
    frame.to_csv(tmp_path / "v.csv", index=False)
    found = read_vectors("v", tmp_path / "v.csv", "id")
    assert found.columns == ("e0", "e1")
    assert found.notes == ("column 'level_0', 'row', 'line' left out: it counts the rows",)
    frame[["subject", "row"]].to_csv(tmp_path / "one.csv", index=False)
    assert read_vectors("one", tmp_path / "one.csv", "id").columns == ("row",)


@pytest.mark.parametrize(
    ("separator", "told"), [(";", "parted by semicolons"), ("\t", "parted by tabs")]
)
def test_cells_that_are_parted_otherwise_are_told(separator, told, tmp_path):
    frame = pd.DataFrame({"subject": ["a", "b"], "e0": [0.5, 1.0]})
    frame.to_csv(tmp_path / "v.csv", index=False, sep=separator, decimal=",")
    with pytest.raises(ConfigError, match=told):
        read_vectors("v", tmp_path / "v.csv", "id")


def test_what_an_archive_leaves_open_is_asked(tmp_path):
    ids, x = np.array(["a", "b"]), np.eye(2)
    np.savez(tmp_path / "two.npz", ids=ids, train=x, test=x)
    with pytest.raises(ConfigError, match="several tables") as caught:
        read_vectors("v", tmp_path / "two.npz", "id")
    assert "train, test" in str(caught.value)
    np.savez(tmp_path / "named.npz", ids=ids, tokens=x, vectors=2 * x)
    assert read_vectors("v", tmp_path / "named.npz", "id").values[0, 0] == 2
    np.savez(tmp_path / "object.npz", ids=ids.astype(object), vectors=x)
    with pytest.raises(MedmclError, match=r"dtype=str"):
        read_vectors("v", tmp_path / "object.npz", "id")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"id": ["a", "b"], "vector": [[0.0, 1.0], [1.0, 0.0]], "label": [0, 1]}, "take them out"),
        ({"e0": [0.5, 1.5], "name": ["0a", "b"]}, "call it so, if it is 'name'"),
        ({"name": pd.Series([], dtype="str")}, "name it so"),
    ],
)
def test_a_column_too_many_or_of_another_name_is_told(columns, told, tmp_path):
    pd.DataFrame(columns).to_parquet(tmp_path / "v.parquet")
    with pytest.raises(ConfigError, match=told):
        read_vectors("v", tmp_path / "v.parquet", "id")
