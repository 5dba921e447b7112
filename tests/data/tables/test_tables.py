import contextlib
import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medmcl.core.errors import CohortError
from medmcl.data.tables import files
from medmcl.data.tables.files import THOUSANDS, dates, join, native, read_table, texts, tidy


def test_numbers_with_leading_zeros_stay_text(tmp_path):
    (tmp_path / "t.csv").write_text("id,n,mixed\n007,1,1\n012,,x\n")
    frame = read_table(tmp_path, "t.csv").frame
    assert list(frame["id"]) == ["007", "012"]
    assert list(texts(frame["n"])) == ["1", None]
    assert list(texts(frame["mixed"])) == ["1", "x"]


@pytest.mark.parametrize("end", ["csv", "tsv"])
def test_zeros_of_a_damaged_disk_are_no_text(end, tmp_path):
    """Two people were one whose cell held zeros."""
    file = tmp_path / f"t.{end}"
    file.write_text("id,n\n007,1\n008,1\n009,1\n".replace("," if end == "tsv" else "-", "\t"))
    assert len(read_table(tmp_path, file.name).frame) == 3
    file.write_bytes(file.read_bytes().replace(b"1\n008", bytes(5)))
    with pytest.raises(CohortError, match=r"holds zero bytes(.|\n)*byte 9"):
        read_table(tmp_path, file.name)


@pytest.mark.parametrize(
    ("text", "cells"),
    [("id,n,m\n007,1,2\n008,1", "2 of 3"), ("id\tn\tm\n007\t1\t2\n0", "1 of 3"),
     ("id;n;m\r007;1,5;2\r008;1,5", "2 of 3"), ('id,n,m\n007,"a\nb",2\n008,"a"', "2 of 3"),
     ("id,n,m\n007,1,2\n008,1\n", ""), ("id,n,m\n007,1,2\n008,1,2", ""),
     ("id\n007\n008", ""), ('id,n\n007,a\n008,"a\nb"', ""), ('id,n\n007,"a,b"\n008,"a,b"', "")],
)  # fmt: skip
def test_a_table_that_ends_within_a_row_is_not_whole(text, cells, tmp_path):
    """Cells that were never copied were people without a value."""
    file = tmp_path / ("t.tsv" if "\t" in text else "t.csv")
    file.write_bytes(text.encode())
    if not cells:
        assert len(read_table(tmp_path, file.name).frame) == 2
        return
    with pytest.raises(CohortError, match=f"ends within a row(.|\n)*last row has {cells} cells"):
        read_table(tmp_path, file.name)


def test_a_long_whole_number_beside_a_missing_one_keeps_every_digit(tmp_path):
    (tmp_path / "t.csv").write_text("id\n123456789012345678\nn/a\n")
    assert list(texts(read_table(tmp_path, "t.csv").frame["id"])) == ["123456789012345678", None]


@pytest.mark.parametrize("first", [10**18, 9 * 10**18, 10**21])
def test_numbers_too_long_for_an_integer_stay_text(first, tmp_path):
    """Three hundred people with ids of 19 digits in a row were three."""
    ids = [str(first + number) for number in range(300)]
    assert list(texts(tidy(pd.DataFrame({"id": ids}))["id"])) == ids
    (tmp_path / "t.csv").write_text("id\n" + "\n".join([*ids, "1", ""]) + "\n")
    assert list(texts(read_table(tmp_path, "t.csv").frame["id"])) == [*ids, "1"]
    assert tidy(pd.DataFrame({"n": ["1e21", "1", "3" * 20 + ".5"]}))["n"].dtype == "float64"


def test_floats_that_are_whole_are_written_without_point(tmp_path):
    (tmp_path / "t.csv").write_text("id\n15709.0\n13243.0\n")
    assert list(texts(read_table(tmp_path, "t.csv").frame["id"])) == ["15709", "13243"]


def test_truth_and_blank_cells_are_read(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\nTrue, \nFalse,x\n,y\n")
    frame = read_table(tmp_path, "t.csv").frame
    assert [native(cell) for cell in frame["a"]] == [True, False, None]
    assert [native(cell) for cell in frame["b"]] == [None, "x", "y"]


@pytest.mark.parametrize(
    "name", ["t.csv", "t.tsv", "t.csv.gz", "t.tsv.gz", "t.parquet", "excel.csv"]
)
def test_every_format_gives_the_same_table(tmp_path, name):
    frame = pd.DataFrame({"id": ["a", "b"], "x": [1.5, np.nan]})
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        separator = "\t" if ".tsv" in name else ";" if "excel" in name else ","
        data = frame.to_csv(index=False, sep=separator).encode()
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    read = read_table(tmp_path, name).frame
    assert list(read["id"]) == ["a", "b"]
    assert read["x"].iloc[0] == 1.5
    assert pd.isna(read["x"].iloc[1])


@pytest.mark.filterwarnings("error")
def test_decimal_commas_are_numbers_where_semicolons_part_the_cells(tmp_path):
    (tmp_path / "t.csv").write_text(
        "id;bmi;small;doubt;mixed;codes\n"
        "007;27,5;0,125;1,250;3,5;12,4\n"
        "012;;-0,5;2,500;high;7\n"
        "013;30;1e-3;3,750;;1,25\n"
    )
    frame = read_table(tmp_path, "t.csv", text=["codes"]).frame
    assert list(frame["id"]) == ["007", "012", "013"]
    assert frame["bmi"].tolist()[::2] == [27.5, 30.0]
    assert pd.isna(frame["bmi"].iloc[1])
    assert frame["small"].tolist() == [0.125, -0.5, 1e-3]
    assert frame["doubt"].tolist() == ["1,250", "2,500", "3,750"]  # thousands, or three decimals?
    assert frame["mixed"].tolist()[:2] == ["3,5", "high"]
    assert frame["codes"].tolist() == ["12,4", "7", "1,25"]
    assert frame.attrs[THOUSANDS] == {}
    (tmp_path / "t.csv").write_text(
        "id;crp;platelets;mixed\n1;72,4;178.000;1.761\n2;8,1;950;3.28\n"
    )
    frame = read_table(tmp_path, "t.csv").frame
    assert frame.attrs[THOUSANDS] == {"platelets": "178.000"}
    (tmp_path / "t.csv").write_text("id;platelets;sex\n1;178.000;f\n2;950;\n")
    assert THOUSANDS not in read_table(tmp_path, "t.csv").frame.attrs
    (tmp_path / "english.csv").write_text('id,bmi\n1,"27,5"\n')
    assert read_table(tmp_path, "english.csv").frame["bmi"].tolist() == ["27,5"]


def test_a_row_with_more_cells_than_the_heading_is_refused_not_cut(tmp_path):
    (tmp_path / "t.csv").write_text("id,age\n1,50,lost\n2,60,too\n")
    with pytest.raises(CohortError, match="cannot be read as a table"):
        read_table(tmp_path, "t.csv")
    (tmp_path / "t.csv").write_text("id,age\n1,50,\n2,60,\n")
    assert read_table(tmp_path, "t.csv").frame["age"].tolist() == [50, 60]


def test_a_glob_of_key_value_files_is_a_table(tmp_path):
    for number, group in ((2, "DCM"), (1, "NOR")):
        folder = tmp_path / f"patient{number:03d}"
        folder.mkdir()
        (folder / "Info.cfg").write_text(f"# comment\nED: {number}\nGroup: {group}\nNote:\n")
    frame = read_table(tmp_path, "patient*/Info.cfg").frame
    assert list(frame["folder"]) == ["patient001", "patient002"]
    assert list(frame["ED"]) == [1, 2]
    assert list(frame["Group"]) == ["NOR", "DCM"]
    assert frame["Note"].isna().all()


def test_a_glob_of_tables_is_read_one_after_the_other(tmp_path):
    for number in (1, 2):
        (tmp_path / f"part{number}.csv").write_text(f"id\n{number}\n")
    assert list(read_table(tmp_path, "part*.csv").frame["id"]) == [1, 2]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.csv", None, "there is no such file"),
        ("t.xlsx", b"x", "not a table that can be read"),
        ("t.parquet", b"PAR1 nonsense", "cannot be read as a table"),
        ("t.csv", b"", "cannot be read as a table"),
        ("t.csv", b"a,b\n1,2,3\n", "cannot be read as a table"),
        ("t.csv", b"\xff\xfe\x00", "cannot be read as a table"),
        ("t.csv.gz", b"not gzip", "cannot be read as a table"),
        ("t.csv", gzip.compress(b"a,b\n1,2\n", mtime=0), r"it is gzipped: call it t\.csv\.gz"),
        ("t.csv", b"PK\x03\x04\xff", "it is a zip: unpack it"),
        ("p*/t.cfg", None, "there is no such file"),
    ],
)
def test_what_cannot_be_read_is_a_clear_error(tmp_path, name, data, words):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(CohortError, match=words):
        read_table(tmp_path, name)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["t.csv", "t.tsv", "t.csv.gz", "t.parquet", "p/t.cfg"]), st.binary())
def test_any_bytes_are_a_table_or_a_clear_error(tmp_path, name, data):
    (tmp_path / "p").mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(data)
    pattern = "p*/t.cfg" if name.endswith("cfg") else name
    with contextlib.suppress(CohortError):
        assert read_table(tmp_path, pattern).frame.shape


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_table_that_was_cut_or_scratched_is_a_table_or_a_clear_error(tmp_path, data):
    whole = tmp_path / "whole.parquet"
    if not whole.exists():
        pd.DataFrame({"id": range(50), "x": ["a", None] * 25}).to_parquet(whole)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    (tmp_path / "t.parquet").write_bytes(bytes(content[:cut]))
    with contextlib.suppress(CohortError):
        read_table(tmp_path, "t.parquet")


def test_a_missing_column_names_its_neighbour(tmp_path):
    (tmp_path / "t.csv").write_text("subject_id,age\n1,2\n")
    with pytest.raises(CohortError, match=r"no column 'subjectid'; did you mean 'subject_id'"):
        read_table(tmp_path, "t.csv").require("subjectid", "subjects.id")


def test_a_join_keeps_every_left_row_and_renames_what_clashes(tmp_path):
    (tmp_path / "l.csv").write_text("id,x\na,1\nb,2\nc,3\n")
    (tmp_path / "r.csv").write_text("key,x,y\nb,7,8\na,5,6\n")
    joined = join(read_table(tmp_path, "l.csv"), read_table(tmp_path, "r.csv"), {"id": "key"})
    assert list(joined.frame["x"]) == [1, 2, 3]
    assert [native(cell) for cell in joined.frame["r.x"]] == [5, 7, None]
    assert [native(cell) for cell in joined.frame["y"]] == [6, 8, None]
    assert len(joined.files) == 2


@pytest.mark.parametrize(
    ("right", "words"), [("key\na\na\n", "more than once"), ("key\nz\n", "no row")]
)
def test_a_join_that_cannot_be_right_is_refused(tmp_path, right, words):
    (tmp_path / "l.csv").write_text("id\na\n")
    (tmp_path / "r.csv").write_text(right)
    with pytest.raises(CohortError, match=words):
        join(read_table(tmp_path, "l.csv"), read_table(tmp_path, "r.csv"), {"id": "key"})


def test_dates_are_read_and_nonsense_is_named():
    column = pd.Series(["2019-03-31", None, "2019-03-31 14:05:00"], name="when")
    assert list(dates(column, "x").isna()) == [False, True, False]
    with pytest.raises(CohortError, match=r"1 cells are no dates(?s:.*)31\.3\.2019"):
        dates(pd.Series(["2019-03-31", "31.3.2019"], name="when"), "x")


@pytest.mark.parametrize(
    "cells",
    [
        ["1", "2"],
        ["01", "2"],
        ["1.0", "2"],
        ["nan", "1"],
        ["inf", "1"],
        ["+1", "2"],
        ["9" * 18, "1"],
        ["9" * 19, "1"],
        [" 1 ", ""],
        [None, "3"],
        ["1_0", "2"],
        ["0x1", "2"],
        ["1e400", "2"],
        ["-01.5", "2"],
        ["1\x1f2", "3"],
        ["1,5", "2"],
        [1, "2"],
        [True, "2"],
        [["1"], "2"],
    ],
)
def test_the_quick_way_to_numbers_reads_what_the_long_one_does(
    cells: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    column = pd.Series(cells, dtype=object)
    quick = tidy(column.to_frame("x"))["x"]
    monkeypatch.setattr(
        "medmcl.data.tables.files.plain_numbers", lambda _, names: [(one, None) for one in names]
    )
    slow = tidy(column.to_frame("x"))["x"]
    assert quick.dtype == slow.dtype
    assert [repr(cell) for cell in quick] == [repr(cell) for cell in slow]


def test_numbers_are_read_to_the_last_bit() -> None:
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=5_000) * 10.0 ** draw.integers(-8, 8, 5_000)
    written = pd.DataFrame({"x": [f"{number:.17g}" for number in numbers]})
    assert (tidy(written)["x"].to_numpy() == numbers).all()


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("id,=a,'=a\np,1,2\n")  # of a spreadsheet: both are =a
    with pytest.raises(CohortError, match="two columns are called '=a'"):
        read_table(tmp_path, "t.csv")
    (tmp_path / "t.csv").write_text("id,age,age,,\np,1,2,,\n")  # pandas called the second age.1
    with pytest.raises(CohortError, match="two columns are called 'age'"):
        read_table(tmp_path, "t.csv")
    (tmp_path / "t.csv").write_text("id, ,age, \np,,2,\n")  # columns of no name
    assert read_table(tmp_path, "t.csv").frame["age"].tolist() == [2]


@pytest.mark.parametrize(
    ("text", "said"),
    [("id\tage\np\t1\n", "by tabs(.|\n)*call it .tsv"), ("id|age\np|1\n", r"by \|"),
     ("sep=;\nid;age\np;1\n", "for Excel alone(.|\n)*take that line out"),
     ("sep=,\nid,age\np,1\n", "for Excel alone")],
)  # fmt: skip
def test_another_separator_is_told(text, said, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(CohortError, match=said):
        read_table(tmp_path, "t.csv")


def test_ids_that_are_the_index_of_a_parquet_are_a_column(tmp_path):
    frame = pd.DataFrame({"id": ["007", "012"], "x": [1.5, 2.5]})
    frame.set_index("id").to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path, "t.parquet").frame["id"].tolist() == ["007", "012"]
    frame.iloc[::-1].to_parquet(tmp_path / "t.parquet")  # of no name
    assert list(read_table(tmp_path, "t.parquet").frame) == ["id", "x"]
    frame.set_index("id", drop=False).to_parquet(tmp_path / "t.parquet")  # index and column
    assert list(read_table(tmp_path, "t.parquet").frame) == ["id", "x"]


def test_a_pattern_may_lie_in_another_folder(tmp_path):
    (tmp_path / "cohort").mkdir()
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites/ayr.csv").write_text("id,bmi\na,27\n")
    (tmp_path / "sites/bonn.csv").write_text("id\nb\n")
    for pattern in ("../sites/*.csv", f"{tmp_path}/sites/*.csv"):
        (note,) = read_table(tmp_path / "cohort", pattern).notes
        assert note.endswith("sites/bonn.csv"), note


PIECES = {
    "whole": "1 2 3 4 _ 6 7 8",
    "late fraction": "1 2 3 4 5 6 7.50 8",
    "gaps first": "_ _ _ _ 5 6.25 7 8",
    "gaps": "_ _ _ _ _ _ _ _",
    "word last": "1 2 3 4 5 6 7 x",
    "word first": "x _ _ 4 5 6 7 8",
    "zero last": "1 2 3 4 5 6 7 08",
    "digits": "1 2 3 4 5 6 7 9007199254740993",
    "more digits": "1 2 3 4 5 6 7 12345678901234567890",
    "truth": "true false _ true true false true true",
    "codes": "250.00 250 1 2 3 4 5 6",
    "words": "a _ _ _ _ b c a",
}


@pytest.mark.parametrize("left_out", [(), ("word last", "word first", "zero last", "digits")])
def test_numbers_of_pieces_are_those_of_the_whole(tmp_path, monkeypatch, left_out):
    cells = {name: text.replace("_", "").split(" ") for name, text in PIECES.items()}
    table = pd.DataFrame({name: one for name, one in cells.items() if name not in left_out})
    table.to_csv(tmp_path / "t.csv", index=False)
    whole = read_table(tmp_path, "t.csv", {"codes"}, lambda frame: frame).frame
    monkeypatch.setattr(files, "_ROWS_AT_ONCE", 3)
    pieces = read_table(tmp_path, "t.csv", {"codes"}).frame
    pd.testing.assert_frame_equal(pieces, whole)
    assert whole["late fraction"].dtype == "float64"
    assert whole["gaps first"].isna().sum() == 4


@pytest.mark.parametrize("many", [1, 40])
def test_ids_of_a_point_and_digits_are_not_numbers(many, tmp_path):
    """Person 1.10 was person 1.1."""
    cells = ["1.1", "1.10", "5.0", "6", " 7.00", "", "12345678901234567890.0", "2.50"] * many
    named = ["1.1", "1.10", "5", "6", "7", None, "12345678901234567890.0", "2.50"] * many
    pd.DataFrame({"id": cells, "n": cells}).to_csv(tmp_path / "t.csv", index=False)
    for emptied in (None, lambda frame: frame):
        frame = read_table(tmp_path, "t.csv", emptied=emptied, ids={"id"}).frame
        assert list(texts(frame["id"])) == named
        assert frame["n"].dtype == "float64"
    pd.DataFrame({"id": ["3.0", "4"] * many}).to_csv(tmp_path / "whole.csv", index=False)
    whole = read_table(tmp_path, "whole.csv", ids={"id"}).frame
    assert list(texts(whole["id"])) == ["3", "4"] * many
