"""From a spec to counts, on written and on real data; faults of a spec; the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from medmcl.cooccurrence import count_tokens
from medmcl.cooccurrence.count import convert, count
from medmcl.cooccurrence.release import release_threshold
from medmcl.cooccurrence.run import Means
from medmcl.cooccurrence.spec import load_spec
from medmcl.core.errors import ArtefactError, CohortError, ConfigError, OverrideError

ROWS = [
    ("p1", "2020-01-30", "DM", "a"), ("p1", "2020-02-02", "C1", "a"),
    ("p1", "2020-02-02", "C1", "a"), ("p1", "", "DM", "b"), ("p2", "2020-05-01", "HT", "c"),
    ("p2", "2020-05-03", "C2", "d"),
    ("p2", "9999-12-31", "C1", "d"),
]  # fmt: skip
SPEC = {
    "schema": "medmcl/cooccurrence@1",
    "sources": [
        {"kind": "table", "path": "e.csv", "subject": "p", "time": "t", "code": "c", "visit": "v"}
    ],
    "modalities": {"codes": {"prefix": ["DM", "HT"]}, "concepts": {"prefix": "C"}},
}


@pytest.fixture
def folder(tmp_path):
    pd.DataFrame(ROWS, columns=["p", "t", "c", "v"]).to_csv(tmp_path / "e.csv", index=False)
    return tmp_path


def written(folder, **changes):
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({**SPEC, **changes}))
    return path


def counted(spec, out, **more):
    saved = []
    counts, tally = count(
        spec, out, lambda c, path: saved.append((c, path)), means=more.pop("means", Means()), **more
    )
    assert saved == [(counts, out)]
    return counts, tally


def cells(counts):
    found = counts.cross().pairs.tocoo()
    a, b = (counts.vocabularies[name].tokens for name in ("codes", "concepts"))
    return {(a[i], b[j]): int(v) for i, j, v in zip(*found.coords, found.data, strict=True)}


@pytest.mark.parametrize(
    ("window", "expected", "left_out"),
    [
        ("record", {("DM", "C1"): 4, ("HT", "C2"): 1, ("HT", "C1"): 1}, (0, 0)),
        ("month", {("HT", "C2"): 1}, (1, 1)),
        ("days:2", {("HT", "C2"): 1}, (1, 1)),
        ("days:3", {("DM", "C1"): 2, ("HT", "C2"): 1}, (1, 1)),
        ("visit", {("DM", "C1"): 2}, (0, 0)),
    ],
)
def test_windows_end_to_end(folder, window, expected, left_out):
    spec = load_spec(written(folder), {"window": window})
    counts, tally = counted(spec, folder / "out")
    assert cells(counts) == expected
    assert (tally.without_time, tally.implausible_time) == left_out
    assert tally.duplicates == 1
    assert not (folder / "out.unfinished").exists()
    said = json.loads((folder / "out.counting.json").read_text())
    assert said["tally"]["duplicates"] == 1
    assert said["spec"]["window"] == window
    assert said["sources"]["events"] == {"e": 7}


def test_duplicates_are_dropped_if_asked(folder):
    counts, _ = counted(load_spec(written(folder, duplicates="drop")), folder / "out")
    assert cells(counts)["DM", "C1"] == 2


def test_converted_to_meds_first_the_counts_are_the_same(folder):
    convert(load_spec(written(folder)), folder / "meds", shards=2)
    meds = {"sources": [{"kind": "meds", "path": "meds", "visit": "visit_id"}]}
    for window in ("record", "visit", "days:3"):
        expected, _ = counted(load_spec(written(folder), {"window": window}), folder / window)
        mine, _ = counted(load_spec(written(folder, window=window, **meds)), folder / f"m{window}")
        assert cells(mine) == cells(expected)
    with pytest.raises(ConfigError, match="the source is MEDS already"):
        convert(load_spec(written(folder, **meds)), folder / "again")


def test_codes_are_rolled_up_by_meds_parents(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    convert(load_spec(written(folder)), folder / "meds")
    table = {"code": ["DM", "HT"], "parent_codes": [["PHE//E", "X"], ["PHE//E"]]}
    pq.write_table(pa.table(table), folder / "meds/metadata/codes.parquet")
    spec = load_spec(
        written(
            folder,
            sources=[{"kind": "meds", "path": "meds", "roll_up": "PHE//"}],
            modalities={"codes": {"prefix": "PHE//"}, "concepts": {"prefix": "C"}},
        )
    )
    counts, _ = counted(spec, folder / "out")
    assert cells(counts) == {("PHE//E", "C1"): 5, ("PHE//E", "C2"): 1}
    assert counts.nested == ()
    table["parent_codes"][0] = ["PHE//E", "PHE//F"]
    pq.write_table(pa.table(table), folder / "meds/metadata/codes.parquet")
    counts, _ = counted(spec, folder / "nested")
    assert counts.nested == ("codes",)
    with pytest.raises(ArtefactError, match="nested codes in codes"):
        release_threshold(counts)


def test_only_the_subjects_of_a_split_are_read(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    done = convert(load_spec(written(folder)), folder / "meds")
    split = {"subject_id": list(done.subjects.values()), "split": ["train", "held_out"]}
    pq.write_table(pa.table(split), folder / "meds/metadata/subject_splits.parquet")
    source = {"kind": "meds", "path": "meds", "splits": ["train"]}
    counts, tally = counted(load_spec(written(folder, sources=[source])), folder / "out")
    first = next(iter(done.subjects))
    rows = [row for row in ROWS if row[0] == first]
    assert counts.patients == 1
    assert counts.totals["codes"] + counts.totals["concepts"] == len(rows) == tally.events
    assert tally.other_splits == len(ROWS) - len(rows)
    spec = load_spec(written(folder, sources=[{**source, "splits": ["tune"]}]))
    with pytest.raises(CohortError, match="nobody is in these splits"):
        counted(spec, folder / "none")


def test_a_count_that_failed_is_resumed_and_its_events_reused(folder, monkeypatch):
    spec, out = load_spec(written(folder)), folder / "out"

    def failing(counts, path):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        count(spec, out, failing, means=Means())
    with pytest.raises(ArtefactError, match="was not finished"):
        counted(spec, out)
    monkeypatch.setattr("medmcl.cooccurrence.count.convert", None)  # events are there already
    monkeypatch.setattr("medmcl.cooccurrence.run.read_tokens", None)  # and so are their counts
    counts, _ = counted(spec, out, resume=True)
    assert cells(counts)["DM", "C1"] == 4
    with pytest.raises(ArtefactError, match="whose folder was moved"):
        counted(spec, out)
    out.mkdir()
    (out / "x").touch()
    with pytest.raises(ArtefactError, match="holds something already"):
        counted(spec, out)


def test_sources_that_changed_are_read_again(folder):
    spec, out = load_spec(written(folder)), folder / "out"
    with pytest.raises(ZeroDivisionError):
        count(spec, out, lambda *_: 1 / 0, means=Means())
    with (folder / "e.csv").open("a") as file:
        file.write("p3,2021-01-01,DM,x\np3,2021-01-01,C2,x\n")
    counts, _ = counted(spec, out, resume=True)
    assert cells(counts)["DM", "C2"] == 1


def test_every_fault_of_a_spec_is_named(folder):
    faulty = written(
        folder, windows="month", pairing="products", vocabulary={"min_ocurrences": 1},
        modalities={"codes": {"column": "x"}, "concepts": {}},
        sources=[{"kind": "table", "path": "e.csv", "subject": "p", "cod": "c"}],
    )  # fmt: skip
    with pytest.raises(ConfigError) as raised:
        load_spec(faulty)
    for part in (
        "unknown key 'windows'; did you mean 'window'",
        "did you mean 'product'",
        "did you mean 'min_occurrences'",
        "name a column and the values",
        "say what its events have in common",
        "did you mean 'code'",
        "'sources.0.code' is missing",
    ):
        assert part in str(raised.value)
    with pytest.raises(OverrideError, match="unknown window 'week'"):
        load_spec(written(folder), {"window": "week"})
    with pytest.raises(ConfigError, match="bring the others into it first"):
        load_spec(written(folder, sources=[*SPEC["sources"], {"kind": "meds", "path": "m"}]))
    with pytest.raises(ConfigError, match="'modalities' is missing"):
        counted(load_spec(written(folder, modalities={})), folder / "out")
    spec = load_spec(written(folder, vocabulary={"files": {"labs": "v.txt"}}))
    with pytest.raises(ConfigError, match="names no modality: labs"):
        counted(spec, folder / "out2")


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 << 30), ("1.5 mb", 3 << 19), (1 << 20, 1 << 20)]
)
def test_memory_is_bytes_or_text(folder, text, size):
    assert load_spec(written(folder, memory=text)).keys.memory == size
    with pytest.raises(ConfigError, match="500MB or 2GB"):
        load_spec(written(folder, memory="much"))


def test_the_command_line(folder):
    def medmcl(*words):
        return subprocess.run(
            [sys.executable, "-m", "medmcl", *map(str, words)],
            capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip

    done = medmcl("cooccur", "--help")
    assert done.returncode == 0
    assert "count" in done.stdout
    assert "to-meds" in done.stdout
    done = medmcl("cooccur", "count", "spec.yaml")
    assert done.returncode == 2
    assert "medmcl cooccur count: --out is missing" in done.stderr
    done = medmcl("cooccur", "to-meds", written(folder), "--out", folder / "meds", "--shards", 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert "e: 7 events" in done.stdout
    assert (folder / "meds" / "data" / "0.parquet").is_file()
    done = medmcl(
        "cooccur", "to-meds", written(folder), "--out", folder / "m2", "--set", "window=x"
    )
    assert done.returncode == 2
    assert "--set window=x" in done.stderr
    assert "Traceback" not in done.stderr


DATA = Path(os.environ.get("MEDMCL_DATA", "none"))


def needs(name):
    there = (DATA / name).is_dir()
    return pytest.mark.skipif(not there, reason=f"needs MEDMCL_DATA with {name}")


def as_spec(tmp_path, name, sources, modalities, **more):
    path = tmp_path / "spec.yaml"
    keys = {"sources": sources, "modalities": modalities, "data_root": str(DATA / name), **more}
    path.write_text(yaml.safe_dump({**SPEC, **keys}))
    return load_spec(path)


SYNTHEA = [
    {"kind": "table", "path": f"{name}.csv.gz", "subject": "patient_id", "time": "start",
     "code": "code", "visit": "encounter_id", "prefix": prefix}
    for name, prefix in (("conditions", "SNOMED//"), ("medications", "RXNORM//"))
]  # fmt: skip


@needs("synthea")
def test_synthea_records_are_a_product_of_tables(tmp_path):
    spec = as_spec(
        tmp_path, "synthea", SYNTHEA,
        {"conditions": {"source": "conditions"}, "medications": {"prefix": "RXNORM//"}},
        within=True, vocabulary={"min_occurrences": 16},
    )  # fmt: skip
    counts, tally = counted(spec, tmp_path / "out")
    frames = [pd.read_csv(DATA / "synthea" / f"{n}.csv.gz", dtype=str)
              for n in ("conditions", "medications")]  # fmt: skip
    assert tally.rows == sum(map(len, frames))
    tables, people = [], sorted(set(frames[0]["patient_id"]) | set(frames[1]["patient_id"]))
    for frame, (name, words) in zip(frames, counts.vocabularies.items(), strict=True):
        often = frame["code"].value_counts()
        prefix = "SNOMED//" if name == "conditions" else "RXNORM//"
        assert words.tokens == tuple(sorted(prefix + c for c in often[often >= 16].index))
        table = pd.crosstab(frame["patient_id"], prefix + frame["code"])
        table = table.reindex(index=people, columns=list(words.tokens), fill_value=0)
        tables.append(table.to_numpy())
    expected = count_tokens(*tables, within=True, names=counts.modalities)
    for pair, block in expected.blocks.items():
        assert (counts.blocks[pair].pairs.toarray() == block.pairs.toarray()).all()
        assert (counts.blocks[pair].patients.toarray() == block.patients.toarray()).all()


@needs("synthea_notes")
def test_notes_give_concepts_beside_codes(tmp_path):
    lexicon = tmp_path / "lexicon.csv"
    lexicon.write_text(
        "term,concept\nhypertension,C0020538\nanemia,C0002871\nprediabetes,C0362046\n"
    )
    sources = [
        {"kind": "table", "path": "codes.csv.gz", "subject": "patient_id", "time": "date",
         "code": "code", "visit": "encounter_id", "keep": {"kind": ["condition"]}},
        {"kind": "notes", "path": "notes.jsonl.gz", "subject": "patient_id", "time": "date",
         "visit": "encounter_id", "text": "text", "lexicon": str(lexicon), "prefix": "CUI//"},
    ]  # fmt: skip
    modalities = {"codes": {"source": "codes"}, "concepts": {"prefix": "CUI//"}}
    spec = as_spec(tmp_path, "synthea_notes", sources, modalities, window="visit")
    counts, tally = counted(spec, tmp_path / "out")
    assert set(counts.vocabularies["concepts"].tokens) <= {
        "CUI//C0020538", "CUI//C0002871", "CUI//C0362046",
    }  # fmt: skip
    assert counts.margins["concepts"].tokens.sum() > 100
    assert counts.patients <= 240
    assert tally.unassigned == 0


@needs("eicu_demo")
def test_eicu_hospitals_counted_apart_are_the_pooled_counts(tmp_path):
    join = {"table": "patient.csv.gz", "on": "patientunitstayid"}
    stay = {"kind": "table", "subject": "uniquepid", "visit": "patientunitstayid",
            "site": "hospitalid", "join": join, "offset_unit": "minutes"}  # fmt: skip
    sources = [
        {**stay, "path": "diagnosis.csv.gz", "time": "diagnosisoffset", "code": "diagnosisstring"},
        {**stay, "path": "treatment.csv.gz", "time": "treatmentoffset", "code": "treatmentstring"},
    ]
    modalities = {"diagnoses": {"source": "diagnosis"}, "treatments": {"source": "treatment"}}
    spec = as_spec(tmp_path, "eicu_demo", sources, modalities, window="visit", within=True)
    pooled, tally = counted(spec, tmp_path / "pooled")
    assert tally.without_visit == 0
    for name, words in pooled.vocabularies.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(words.tokens))
    files = {name: str(tmp_path / f"{name}.txt") for name in modalities}
    hospitals = pd.read_csv(DATA / "eicu_demo" / "patient.csv.gz", dtype=str)["hospitalid"].unique()
    half = len(hospitals) // 2
    sites = []
    for number, some in enumerate((hospitals[:half], hospitals[half:])):
        only = {"column": "site", "values": list(some)}
        spec = as_spec(
            tmp_path, "eicu_demo", sources, modalities, window="visit", within=True,
            only=only, vocabulary={"files": files},
        )  # fmt: skip
        sites.append(counted(spec, tmp_path / f"site{number}")[0])
    assert 0 < sites[0].patients < pooled.patients
    merged = sum(sites)
    assert merged.units == pooled.units
    for pair, block in pooled.blocks.items():
        assert (merged.blocks[pair].pairs != block.pairs).nnz == 0
        assert (merged.blocks[pair].patients != block.patients).nnz == 0
    for name, margin in pooled.margins.items():
        assert np.array_equal(merged.margins[name].pairs, margin.pairs)
