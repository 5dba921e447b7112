import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from medmcl.core.errors import ArtefactError
from medmcl.stages.run.outputs import (
    REPORT,
    ROWS_AT_ONCE,
    claim_file,
    claim_report_folder,
    claim_table,
    write_table,
)


@pytest.mark.parametrize("name", REPORT)
def test_a_report_is_only_written_over_when_asked(name, tmp_path):
    claim_report_folder(tmp_path / "new", overwrite=False)
    (tmp_path / "metrics.jsonl").touch()
    claim_report_folder(tmp_path, overwrite=False)
    (tmp_path / name).touch()
    with pytest.raises(ArtefactError, match=rf"{name}[\s\S]*--overwrite"):
        claim_report_folder(tmp_path, overwrite=False)
    claim_report_folder(tmp_path, overwrite=True)


def test_tables_that_a_report_would_take_away_are_no_place_for_one(tmp_path):
    (tmp_path / "training.csv").write_text("mine")
    with pytest.raises(ArtefactError, match=r"of which a report may take the names[\s\S]*training"):
        claim_report_folder(tmp_path, overwrite=False)
    claim_report_folder(tmp_path, overwrite=True)


def test_the_report_of_a_run_stays(tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ArtefactError, match="another --out"):
        claim_report_folder(tmp_path, overwrite=True)


def test_a_file_is_only_written_over_when_asked(tmp_path):
    path = tmp_path / "e.parquet"
    claim_file(path, overwrite=False)
    path.touch()
    with pytest.raises(ArtefactError, match="--overwrite"):
        claim_file(path, overwrite=False)
    claim_file(path, overwrite=True)
    with pytest.raises(ArtefactError, match="is a folder"):
        claim_file(tmp_path, overwrite=True)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".CSV"])
def test_a_table_is_written_in_the_format_that_its_suffix_says(suffix, tmp_path):
    path = tmp_path / "new" / f"e{suffix}"
    claim_table(path, overwrite=False)
    index = pd.MultiIndex.from_tuples([("s1", "r1"), ("s2", "r2")], names=["subject", "record"])
    table = pd.DataFrame({"quality": ["ok", "ecg.nan"], "e0": [0.1, float("nan")]}, index=index)
    write_table(table, path)
    read = {".parquet": pd.read_parquet, ".tsv": lambda p: pd.read_csv(p, sep="\t")}
    back = read.get(suffix, pd.read_csv)(path)
    pd.testing.assert_frame_equal(back, table.reset_index())
    assert path.read_bytes().startswith(b"PAR1") == (suffix == ".parquet")
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    with pytest.raises(ArtefactError, match="--overwrite"):
        claim_table(path, overwrite=False)


def test_vectors_are_written_some_rows_at_a_time_and_as_they_are(tmp_path):
    drawn = np.random.default_rng(0).normal(size=(10_000, 3)).astype(np.float32)
    drawn[7] = np.nan
    table = pd.DataFrame(drawn, columns=["e0", "e1", "e2"]).assign(quality="ok")
    table.index = pd.Index([f"r{row}" for row in range(len(table))], name="record")
    table.attrs["medmcl"] = {"made_by": "me"}
    pieces = [table.iloc[first : first + ROWS_AT_ONCE] for first in range(0, 10_000, ROWS_AT_ONCE)]
    write_table(iter(pieces), tmp_path / "e.parquet")
    write_table(table, tmp_path / "whole.parquet")
    back = pd.read_parquet(tmp_path / "e.parquet")
    pd.testing.assert_frame_equal(back, table.reset_index(), check_exact=True)
    assert back.attrs == table.attrs
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "whole.parquet"), back)
    about = pq.read_metadata(tmp_path / "e.parquet")
    assert [about.row_group(n).num_rows for n in range(about.num_row_groups)] == [4096, 4096, 1808]
    codes = {
        about.row_group(0).column(n).path_in_schema: about.row_group(0).column(n).encodings
        for n in range(about.num_columns)
    }
    assert "RLE_DICTIONARY" in codes["quality"]
    assert "RLE_DICTIONARY" not in codes["e0"]  # it took half as much again


@pytest.mark.parametrize("name", ["e.xlsx", "e", "e.csv.gz"])
def test_a_suffix_that_is_not_known_is_refused_with_those_that_are(name, tmp_path):
    with pytest.raises(ArtefactError, match=r"\.parquet, \.csv, \.tsv"):
        claim_table(tmp_path / name, overwrite=True)
