"""Tables of events in every format, times of every kind, and the MEDS that is made of them."""

import gzip
import json
from collections import Counter
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medmcl.core.errors import ArtefactError, CohortError
from medmcl.data.events import write as events_write
from medmcl.data.events.meds import open_meds, read_shard
from medmcl.data.events.tables import EventTable, header_of, offsets, parse_times, read_events
from medmcl.data.events.write import number_of, write_meds

FRAME = pd.DataFrame(
    {
        "who": ["b", "a", "b", " a "],
        "when": ["2020-01-02T03:04:05", "2020-01-01", None, "2019-12-31 23:59:59.5"],
        "what": ["10", "20,5", 'say "x"', "010"],
        "enc": ["v1", None, "v1", "v2"],
    }
)
COLUMNS = {"subject": "who", "time": "when", "code": "what", "visit": "enc"}


def write(path):
    name = path.name
    opened = gzip.open if name.endswith(".gz") else open
    if ".parquet" in name:
        FRAME.to_parquet(path)
    elif ".jsonl" in name:
        with opened(path, "wt") as file:
            for row in FRAME.to_dict("records"):
                kept = {k: v for k, v in row.items() if isinstance(v, str)}
                file.write(json.dumps(kept) + "\n\n")
    else:
        with opened(path, "wt", encoding="utf-8-sig") as file:
            FRAME.to_csv(file, index=False, sep="\t" if ".tsv" in name else ",")
    return path


def events(path, **more):
    table = EventTable(path=path, name="t", columns=COLUMNS, **more)
    return pa.concat_tables(read_events(table)).to_pylist()


def written_table(path, text, encoding="utf-8", **columns):
    """A small table of other columns than `COLUMNS`, written as it is given."""
    path.write_text(text, encoding=encoding)
    columns = {"subject": "p", "code": "c", **columns}
    return EventTable(path=path, name="e", columns=columns)


@pytest.mark.parametrize(
    "name", ["t.csv", "t.csv.gz", "t.tsv", "t.tsv.gz", "t.jsonl", "t.jsonl.gz", "t.parquet"]
)
def test_all_formats_give_the_same_events(tmp_path, name):
    found = events(write(tmp_path / name), prefix="X//")
    assert [row["subject"] for row in found] == ["b", "a", "b", "a"]
    assert [row["code"] for row in found] == ["X//10", "X//20,5", 'X//say "x"', "X//010"]
    assert [row["visit"] for row in found] == ["v1", None, "v1", "v2"]
    assert found[0]["time"] == datetime(2020, 1, 2, 3, 4, 5)
    assert found[2]["time"] is None
    assert found[3]["time"] == datetime(2019, 12, 31, 23, 59, 59, 500_000)
    assert found[0]["site"] is None


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_wrong_column_is_named(tmp_path, name):
    table = EventTable(path=write(tmp_path / name), name="t", columns={**COLUMNS, "code": "waht"})
    with pytest.raises(CohortError, match="no column 'waht'; did you mean 'what'"):
        list(read_events(table))


def test_damaged_and_missing_files_are_named(tmp_path):
    with pytest.raises(CohortError, match="no such file"):
        events(tmp_path / "none.csv")
    (tmp_path / "t.docx").write_text("x")
    with pytest.raises(CohortError, match="no table of events"):
        events(tmp_path / "t.docx")
    whole = write(tmp_path / "t.csv.gz").read_bytes()
    (tmp_path / "t.csv.gz").write_bytes(whole[:-12])
    with pytest.raises(CohortError, match="cannot be read as a table of events"):
        events(tmp_path / "t.csv.gz")
    (tmp_path / "u.csv").write_text("who,when,what,enc\na,2020-01-01,x,v\na,2020-01-01,x,v,extra\n")
    with pytest.raises(CohortError, match="cannot be read as a table of events"):
        events(tmp_path / "u.csv")
    (tmp_path / "t.jsonl").write_text('{"who": "a"}\nnot json\n')
    with pytest.raises(CohortError, match="line 2"):
        events(tmp_path / "t.jsonl")


def test_rows_are_kept_dropped_and_joined(tmp_path):
    path = write(tmp_path / "t.csv")
    assert len(events(path, keep={"enc": ("v1",)})) == 2
    assert [r["visit"] for r in events(path, drop={"enc": ("v1",)})] == [None, "v2"]
    other = pd.DataFrame({"key": ["v1", "v2"], "stay_of": ["P1", "P2"], "h": [56, 59]})
    other.to_csv(tmp_path / "stays.csv", index=False)
    table = EventTable(
        path=path, name="t", join=(tmp_path / "stays.csv", "enc", "key"),
        columns={"subject": "stay_of", "code": "what", "site": "h"},
    )  # fmt: skip
    found = pa.concat_tables(read_events(table)).to_pylist()
    assert [(r["subject"], r["site"]) for r in found] == [
        ("P1", "56"), (None, None), ("P1", "56"), ("P2", "59"),
    ]  # fmt: skip
    pd.concat([other, other]).to_csv(tmp_path / "stays.csv", index=False)
    with pytest.raises(CohortError, match="a key stands twice"):
        list(read_events(table))


def column(*cells):
    return pa.chunked_array([pa.array(cells)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0001-01-01", datetime(1, 1, 1)),
        ("9999-12-31 23:59:59.999999", datetime(9999, 12, 31, 23, 59, 59, 999_999)),
        ("2020-02-29T01:02", datetime(2020, 2, 29, 1, 2)),
        ("2020-02-29T01:02:03Z", datetime(2020, 2, 29, 1, 2, 3)),
        ("2020-02-29 01:02:03.123456789+02:00", datetime(2020, 2, 29, 1, 2, 3, 123_456)),
        ("2020-02-29T01:02:03-0500", datetime(2020, 2, 29, 1, 2, 3)),
        (" ", None),
        (None, None),
    ],
)
def test_times_are_read_to_the_microsecond(text, expected):
    assert parse_times(column(text, "2020-01-01"), "here")[0].as_py() == expected


@pytest.mark.parametrize(
    "text", ["yesterday", "2020-13-01", "2020-02-30", "01.02.2020", "20200101"]
)
def test_what_is_no_date_is_refused_by_name(text):
    with pytest.raises(CohortError, match="1 cells are no dates") as raised:
        parse_times(column("2020-01-01", text, None), "table, column")
    assert repr(text) in str(raised.value)


def test_offsets_may_be_negative():
    found = offsets(column("-1441", "0.5", None), "minutes", "here")
    assert found[0].as_py() == datetime(1969, 12, 30, 23, 59)
    assert found[1].as_py() == datetime(1970, 1, 1, 0, 0, 30)
    assert found[2].as_py() is None
    for bad in ("soon", "1e300"):
        with pytest.raises(CohortError, match="offsets are no numbers"):
            offsets(column(bad), "days", "here")


def random_rows(count=3000, people=120, seed=0):
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "who": [f"p{n}" for n in draw.integers(0, people, count)],
            "when": np.datetime64("2020-01-01") + draw.integers(0, 900, count),
            "what": [f"c{n}" for n in draw.integers(0, 30, count)],
            "enc": [f"v{n}" for n in draw.integers(0, 400, count)],
        }
    )
    frame["when"] = frame["when"].astype(str)
    frame.loc[draw.random(count) < 0.05, "when"] = None
    return frame


def written(tmp_path, frame, **more):
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = EventTable(path=tmp_path / "t.csv", name="t", columns=COLUMNS, **more)
    done = write_meds([("t", read_events(table))], tmp_path / "meds", shards=5)
    return done, open_meds(tmp_path / "meds")


def moment(text):
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def test_meds_is_valid_sorted_and_whole(tmp_path):
    meds = pytest.importorskip("meds", reason="meds, an oracle, is not installed")
    frame = random_rows()
    done, dataset = written(tmp_path, frame)
    assert len(dataset.shards) == 5
    people, everything = [], []
    for path in dataset.shards:
        table = pq.read_table(path)
        meds.DataSchema.validate(table)
        rows = table.to_pylist()
        order = [(r["subject_id"], r["time"] or datetime.min, r["code"]) for r in rows]
        assert order == sorted(order)
        people.append({r["subject_id"] for r in rows})
        everything += [(r["subject_id"], r["time"], r["code"], r["visit_id"]) for r in rows]
        list(read_shard(path, size=50))
    assert sum(map(len, people)) == len(set.union(*people)) == frame["who"].nunique()
    expected = [(done.subjects[r.who], moment(r.when), r.what, r.enc) for r in frame.itertuples()]
    assert Counter(everything) == Counter(expected)
    meds.CodeMetadataSchema.validate(pq.read_table(tmp_path / "meds/metadata/codes.parquet"))
    head = json.loads((tmp_path / "meds/metadata/dataset.json").read_text())
    assert head["meds_version"] == "0.4.1"
    names = pq.read_table(tmp_path / "meds/metadata/medmcl_subjects.parquet").to_pylist()
    assert {r["subject"]: r["subject_id"] for r in names} == done.subjects
    assert not (tmp_path / "meds" / ".unsorted").exists()


def test_numbers_stay_and_names_are_hashed_alike_everywhere():
    assert number_of("123") == 123
    assert number_of("-5") == -5
    assert number_of("0123") != 123
    assert number_of("11.0") == number_of(" 11") == 11  # as tables of events are read
    name = number_of("p1")
    assert name > 10**18
    assert number_of(str(name)) == name  # a table of rows has it for a name
    assert 0 <= number_of("p1") < 2**63
    assert number_of("p1") == number_of("p1") != number_of("p2")


def test_two_patients_never_become_one(tmp_path, monkeypatch):
    monkeypatch.setattr(events_write, "number_of", lambda name: 1)
    with pytest.raises(CohortError, match="two patients get the same number"):
        written(tmp_path, random_rows(50))


def test_rows_without_patient_or_code_are_counted(tmp_path):
    frame = random_rows(40)
    frame.loc[:2, "who"] = None
    frame.loc[2:5, "what"] = None
    done, _ = written(tmp_path, frame)
    assert (done.without_subject, done.without_code) == (3, 3)
    assert done.events == {"t": 34}


@pytest.mark.parametrize("there", [True, False])
def test_a_source_that_cannot_be_read_leaves_nothing_behind(tmp_path, there):
    """The command can be given again once the source is fixed."""
    if there:
        (tmp_path / "meds").mkdir()
    random_rows(50).to_csv(tmp_path / "t.csv", index=False)
    table = EventTable(path=tmp_path / "t.csv", name="t", columns=COLUMNS)
    bad = replace(table, columns={**COLUMNS, "code": "kode"})
    sources = [[("t", read_events(one))] for one in (table, bad)]
    with pytest.raises(CohortError, match="no column 'kode'"):
        write_meds([*sources[0], *sources[1]], tmp_path / "meds", shards=2)
    assert not (tmp_path / "meds").exists() or not list((tmp_path / "meds").iterdir())
    assert write_meds([("t", read_events(table))], tmp_path / "meds", shards=2).events


def test_nothing_to_write_and_a_full_folder_are_refused(tmp_path):
    with pytest.raises(CohortError, match="there are no events"):
        written(tmp_path, random_rows(0))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(ArtefactError, match="holds something already"):
        write_meds([], tmp_path / "full", shards=1)


def test_codes_and_ids_are_tidied_and_it_is_said(tmp_path, caplog):
    table = written_table(tmp_path / "e.csv", "p,c\n1.0, DM\n2,HT\n3.0,C1 \n4.5,C2\n")
    with caplog.at_level("INFO"):
        (rows,) = read_events(table)
    assert rows["subject"].to_pylist() == ["1", "2", "3", "4.5"]
    assert rows["code"].to_pylist() == ["DM", "HT", "C1", "C2"]
    assert "2 codes had blanks around them" in caplog.text
    assert "2 ids written as 11.0" in caplog.text


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_a_csv_without_commas_is_split_at_what_it_has(tmp_path, sign):
    text = "p,t,c\n1,2020-01-02,DM\n".replace(",", sign)
    (rows,) = read_events(written_table(tmp_path / "e.csv", text, time="t"))
    assert rows["code"].to_pylist() == ["DM"]
    assert header_of(tmp_path / "e.csv") == ["p", "t", "c"]


@pytest.mark.parametrize(("suffix", "sign"), [("csv", ","), ("tsv", "\t")])
def test_zeros_of_a_damaged_disk_are_no_text(tmp_path, suffix, sign):
    """They were part of a code, and lines between them none of their own."""
    text = "p,c\n1,D\0\0\0\0\n2,HT\n".replace(",", sign)
    with pytest.raises(CohortError, match="holds zero bytes"):
        list(read_events(written_table(tmp_path / f"e.{suffix}", text)))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_utf_16_is_one_clear_error(tmp_path, suffix):
    path = tmp_path / f"e.{suffix}"
    table = written_table(path, "p,c\n1,DM\n", "utf-16")
    with pytest.raises(CohortError, match=r"table of events(.|\n)*UTF-16: save it"):
        list(read_events(table))
    with pytest.raises(CohortError, match=r"UTF-16: save it as UTF-8"):
        header_of(path)


@pytest.mark.parametrize(
    ("cell", "said"),
    [("31.03.2019", "write year, month, day"), ("3/31/2019 10:00", "write year, month, day"),
     ("20190331", "with hyphens: 2019-03-31")],
)  # fmt: skip
def test_a_date_in_another_form_says_how_to_write_it(tmp_path, cell, said):
    table = written_table(tmp_path / "e.csv", f"p,t,c\n1,{cell},DM\n", time="t")
    with pytest.raises(CohortError, match=said):
        list(read_events(table))
