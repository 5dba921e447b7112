"""Text that a spreadsheet would run is written so that it does not, and read back as it was."""

import csv
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmcl.data.tables.files import read_table
from medmcl.data.tables.spreadsheet import csv_text, holds_shielded, shielded, unshielded
from medmcl.evaluation.protocol.results import Result, load_results, save_results
from medmcl.stages.evaluate.coefficients import write_model
from medmcl.stages.factorise.vector_files import read_vectors
from medmcl.stages.run.outputs import write_table

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1",
            '=HYPERLINK("http://x","y")', "'=1", "''@x", "-", "=\"a\"\"b"]  # fmt: skip
PLAIN = ["-5", "+5.5e3", "-.5", "", "a=1", "x", "'", "it's", "'quoted'", "3-4", "\u2212x"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text(text):
    assert shielded(text)[0] == "'"
    assert unshielded(shielded(text)) == text


@pytest.mark.parametrize("cell", [*PLAIN, -5, -0.5, None, float("-inf"), True])
def test_numbers_and_other_text_stay(cell):
    assert shielded(cell) is cell


@given(st.text(alphabet="=+-@'\t\r\n19.e a\uff0b", max_size=6))
def test_what_was_written_is_read_back(text):
    written = shielded(text)
    assert written == text or unshielded(written) == text
    assert not written or written[0] not in "=@\t\r\n\uff0b"


@given(st.text(alphabet="=+-@';\t\r\n19.e a\uff0b", max_size=8))
def test_no_part_of_a_text_is_a_formula_where_semicolons_part_cells(text):
    written = shielded(text)
    assert unshielded(written) == text
    for part in re.split("[;\r\n]", written):
        number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", part)
        assert number or not part.startswith(("=", "+", "-", "@", "\uff0b"))


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_that_medmcl_wrote_is_read_back_and_holds_no_formula(suffix, tmp_path):
    texts = [one for one in FORMULAS if one == one.strip()]  # tables are read without outer spaces
    table = pd.DataFrame({"=id": texts, "n": -np.arange(len(texts)) / 2}).set_index("=id")
    write_table(table, tmp_path / f"t{suffix}")
    with (tmp_path / f"t{suffix}").open(newline="") as file:
        rows = list(csv.reader(file, delimiter="," if suffix == ".csv" else "\t"))
    assert all(row[0][0] == "'" for row in rows)
    assert [float(row[1]) for row in rows[1:]] == table["n"].tolist()
    back = read_table(tmp_path, f"t{suffix}").frame
    assert back["=id"].tolist() == texts
    assert back["n"].tolist() == table["n"].tolist()


def test_a_shielded_cell_is_seen_where_a_file_is_cut_into_parts(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text("a\nit's,b\n'=1\n")
    for size in range(1, 9):
        monkeypatch.setattr("medmcl.data.tables.spreadsheet._CHUNK", size)
        assert holds_shielded(path)
    path.write_text("a\nit's,'b' c\n=1,'\u00fc' d\n")
    assert not holds_shielded(path)


RESULT = Result(
    task="t", target="=x", kind="binary", metric="auroc", direction="higher", method="@m",
    protocol="p", label_fraction=1.0, train_subjects=1, train_events=1, tuning_subjects=1,
    split="held_out", value=-0.5, low=None, high=None, n=1, events=1, seeds=1, seed_spread=None,
    note="-1 is odd",
)  # fmt: skip


def test_results_are_read_back_as_they_were(tmp_path):
    rows = [RESULT, replace(RESULT, target="plain", method="-1")]
    save_results(tmp_path / "results.csv", rows)
    text = (tmp_path / "results.csv").read_text()
    assert ",'=x," in text
    assert ",'-1 is odd," in text
    assert ",-0.5," in text
    assert load_results(tmp_path / "results.csv") == rows


def test_every_part_of_a_report_and_the_model_are_written_so(tmp_path):
    assert csv_text([{"@a": "=1", "b": -1.5}]).split() == ["'@a,b", "'=1,-1.5"]
    write_model(tmp_path, [{"level": "=1", "weight": -1.5}], [])
    (written,) = tmp_path.iterdir()
    assert written.read_text().split() == ["level,weight", "'=1,-1.5"]


def test_vectors_keep_the_ids_of_their_people(tmp_path):
    ids = [f"=p{number}" for number in range(4)]
    table = pd.DataFrame({"subject": ids, "e0": np.arange(4.0) - 2, "e1": 1.0})
    write_table(table.set_index("subject"), tmp_path / "v.csv")
    read = read_vectors("v", tmp_path / "v.csv", "subject")
    assert list(read.subjects) == ids
