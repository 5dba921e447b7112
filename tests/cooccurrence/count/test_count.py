"""From a spec to counts, on written and on real data; faults of a spec; the command line."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from killed import forked
from typed import answer

from medmcl.cooccurrence import count_tokens
from medmcl.cooccurrence.count.command import convert, count, rows_of
from medmcl.cooccurrence.count.counts import Provenance
from medmcl.cooccurrence.count.parts import work_folder
from medmcl.cooccurrence.count.run import Means
from medmcl.cooccurrence.count.spec import load_spec
from medmcl.cooccurrence.exchange.folder import save_counts
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.errors import ArtefactError, CohortError, ConfigError, OverrideError
from medmcl.engine.signals import Interrupted
from medmcl.stages.cooccur.count import going_on, write_rows

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
    assert counts.provenance == Provenance(outside_vocabulary=0, splits=("train",))
    everybody = load_spec(written(folder, sources=[{"kind": "meds", "path": "meds"}]))
    assert counted(everybody, folder / "all")[0].provenance.splits == ("held_out", "train")
    spec = load_spec(written(folder, sources=[{**source, "splits": ["tune"]}]))
    with pytest.raises(CohortError, match="nobody is in these splits"):
        counted(spec, folder / "none")


def test_subjects_of_a_lost_shard_are_missed(folder, caplog):
    import pyarrow as pa
    import pyarrow.parquet as pq

    done = convert(load_spec(written(folder)), folder / "meds")
    listed = [*done.subjects.values(), 77, 78, 79]
    table = {"subject_id": listed, "split": ["train"] * 4 + ["held_out"]}
    pq.write_table(pa.table(table), folder / "meds/metadata/subject_splits.parquet")
    source = {"kind": "meds", "path": "meds"}
    counted(load_spec(written(folder, sources=[source])), folder / "out")
    assert "3 of 5 subjects of metadata/subject_splits.parquet are in no shard" in caplog.text
    caplog.clear()
    counted(load_spec(written(folder, sources=[{**source, "splits": ["train"]}])), folder / "train")
    assert "2 of 4 subjects" in caplog.text
    table = {"subject_id": list(done.subjects.values()), "split": ["train"] * 2}
    pq.write_table(pa.table(table), folder / "meds/metadata/subject_splits.parquet")
    caplog.clear()
    counted(load_spec(written(folder, sources=[source])), folder / "whole")
    assert "in no shard" not in caplog.text


def test_events_outside_the_vocabulary_are_counted_in_the_manifest(folder):
    spec = load_spec(written(folder, vocabulary={"min_occurrences": 2}))
    counts, _ = counted(spec, folder / "out")
    assert counts.provenance == Provenance(outside_vocabulary=2)  # HT and C2, once each


def test_a_year_is_a_version(folder):
    given = {"vocabulary.version": 2025}
    assert load_spec(written(folder), given).keys.vocabulary.version == "2025"
    with pytest.raises(OverrideError, match="in quotes as well"):
        load_spec(written(folder), {"vocabulary.version": 2025.1})


def test_a_kind_that_does_not_exist_names_the_nearest(folder):
    with pytest.raises(ConfigError, match=r"sources\.0\.kind' must be one of(.|\n)*mean 'meds'\?"):
        load_spec(written(folder, sources=[{"kind": "mdes", "path": "m"}]))
    with pytest.raises(ConfigError, match=r"'sources\.0\.kind' is missing"):
        load_spec(written(folder, sources=[{"path": "m"}]))


@pytest.mark.parametrize("signs", ["utf-16", "latin-1"])
def test_a_table_that_is_no_utf_8_is_refused_and_leaves_nothing(folder, signs):
    text = (folder / "e.csv").read_text()
    (folder / "e.csv").write_text(text.replace("p,t", "p,t,\xfc"), encoding=signs)
    with pytest.raises(CohortError, match="UTF-16: save it" if signs == "utf-16" else "UTF-8"):
        counted(load_spec(written(folder)), folder / "out")
    assert not (folder / "out.unfinished").exists()


def test_a_vocabulary_file_that_is_no_utf_8_is_refused(folder):
    (folder / "codes.txt").write_text("DM\nHT\n", encoding="utf-16")
    spec = load_spec(written(folder, vocabulary={"files": {"codes": "codes.txt"}}))
    with pytest.raises(CohortError, match="UTF-16: save it as UTF-8"):
        counted(spec, folder / "out")


def test_a_surprise_leaves_nothing_in_the_way(folder, monkeypatch):
    def surprised(*_, **__):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("medmcl.cooccurrence.count.command.scan_shards", surprised)
    monkeypatch.setattr("medmcl.cooccurrence.count.command.convert", surprised)
    with pytest.raises(RuntimeError):
        counted(load_spec(written(folder)), folder / "out")
    assert not (folder / "out.unfinished").exists()


def test_sigterm_ends_a_count_as_ctrl_c_does(tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left, going_on(tmp_path / "out"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert left.value.code == 143
    assert "nothing to keep" in capsys.readouterr().err
    work_folder(tmp_path / "out").mkdir()
    with pytest.raises(Interrupted, match="by SIGTERM; what was done"), going_on(tmp_path / "out"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("rule", ["keep", "drop"])
def test_duplicates_are_not_called_left_out_where_they_are_kept(folder, rule):
    told = write_rows(load_spec(written(folder, duplicates=rule)), folder / f"{rule}.csv")
    became = {"keep": "kept and counted", "drop": "left out"}[rule]
    assert told["duplicates"].startswith("1 events equal another")
    assert told["duplicates"].endswith(became)
    assert not any("equal another" in line for line in told.get("left out", ()))


def test_a_count_that_failed_is_resumed_and_its_events_reused(folder, monkeypatch):
    spec, out = load_spec(written(folder)), folder / "out"

    def failing(counts, path):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        count(spec, out, failing, means=Means())
    with pytest.raises(ArtefactError, match="was not finished"):
        counted(spec, out)
    monkeypatch.setattr(
        "medmcl.cooccurrence.count.command.convert", None
    )  # events are there already
    monkeypatch.setattr(
        "medmcl.cooccurrence.count.run.read_tokens", None
    )  # and so are their counts
    counts, _ = counted(spec, out, resume=True)
    assert cells(counts)["DM", "C1"] == 4
    with pytest.raises(ArtefactError, match="whose folder was moved"):
        counted(spec, out)
    out.mkdir()
    (out / "x").touch()
    with pytest.raises(ArtefactError, match="holds something already"):
        counted(spec, out)


def test_a_count_killed_at_its_end_goes_on_to_the_same_counts(folder):
    """At each of its last writes: counts, what tells of them, and the work folder's end."""
    spec = load_spec(written(folder))

    def run(out, **more):
        count(spec, out, save_counts, means=Means(), **more)

    def made(out):
        told = out.with_name(f"{out.name}.counting.json").read_bytes()
        return told, {one.name: one.read_bytes() for one in out.rglob("*") if one.is_file()}

    code, writes = forked(lambda: run(folder / "whole"), folder)
    assert code == 0
    whole, refused = made(folder / "whole"), 0
    for number in range(writes - 14, writes + 1):
        out = folder / f"killed-{number}"
        assert forked(lambda out=out: run(out), folder, at=number)[0] == -signal.SIGKILL
        if work_folder(out).exists():
            with pytest.raises(ArtefactError, match="add --resume"):
                run(out)
            run(out, resume=True)
            refused += 1
        assert made(out) == whole
        assert not work_folder(out).exists()
    assert refused


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
    done = answer("cooccur", "--help")
    assert done.returncode == 0
    assert "count" in done.stdout
    assert "to-meds" in done.stdout
    done = answer("cooccur", "count", "spec.yaml")
    assert done.returncode == 2
    assert "medmcl cooccur count: --out is missing" in done.stderr
    done = answer("cooccur", "to-meds", written(folder), "--out", folder / "meds", "--shards", 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert "e: 7 events" in done.stdout
    assert (folder / "meds" / "data" / "0.parquet").is_file()
    done = answer(
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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"only": {"source": "notes"}}, r"leaves out every event(.|\n)*source \['notes'\]"),
        ({"modalities": {"codes": {"prefix": "DM"}, "concepts": {"prefix": "CUI"}}},
         r"no event is of modality concepts(.|\n)*prefix \['CUI'\]"),
        ({"modalities": {"codes": {"prefix": "DM"}, "concepts": {"prefix": "CUI"}},
          "vocabulary": {"files": {"codes": "w.txt", "concepts": "w.txt"}}},
         r"no event is of modality concepts(.|\n)*prefix \['CUI'\]"),
        ({"vocabulary": {"files": {"codes": "w.txt"}}},
         r"codes lists no code that occurs(.|\n)*DM, HT(.|\n)*dm"),
    ],
)  # fmt: skip
def test_a_spec_by_which_nothing_is_counted_is_refused(folder, changes, said):
    (folder / "w.txt").write_text("dm\nCUI1\n")
    spec, out = load_spec(written(folder, **changes)), folder / "out"
    with pytest.raises(CohortError, match=said) as raised:
        counted(spec, out)
    assert "out.unfinished keeps the events" in str(raised.value)
    counts, _ = counted(load_spec(written(folder)), out)  # fixed, and without --resume
    assert cells(counts)["DM", "C1"] == 4
    assert not (folder / "out.unfinished").exists()


def test_codes_that_a_vocabulary_spells_otherwise_are_said_with_how_it_does(folder, caplog):
    (folder / "codes.txt").write_text("D.M\nHT\n")
    (folder / "concepts.txt").write_text("C1\nC2\nC3\n")
    files = {name: f"{name}.txt" for name in ("codes", "concepts")}
    _, tally = counted(load_spec(written(folder, vocabulary={"files": files})), folder / "out")
    assert tally.outside_vocabulary == 2
    (said,) = [one for one in caplog.messages if "spelt otherwise" in one]
    assert said.startswith("2 events of modality codes are left out")
    assert said.endswith("'DM' is 'D.M'")


def test_a_window_that_leaves_out_every_event_is_refused(folder):
    source = {key: value for key, value in SPEC["sources"][0].items() if key != "time"}
    spec = load_spec(written(folder, sources=[source], window="month"))
    with pytest.raises(
        CohortError, match=r"leaves out every event(.|\n)*7 events left out: no date"
    ):
        counted(spec, folder / "out")
    counts, _ = counted(load_spec(written(folder, sources=[source])), folder / "out")
    assert cells(counts)["DM", "C1"] == 4


def test_visits_that_a_source_does_not_tell_are_no_internal_error(folder):
    convert(load_spec(written(folder)), folder / "meds")
    source = {"kind": "meds", "path": "meds"}
    spec = load_spec(written(folder, sources=[source], window="visit"))
    with pytest.raises(
        CohortError, match=r"leaves out every event(.|\n)*7 events left out: no vis"
    ):
        counted(spec, folder / "out")
    told = load_spec(written(folder, sources=[{**source, "visit": "visit_id"}], window="visit"))
    assert cells(counted(told, folder / "out")[0]) == {("DM", "C1"): 2}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modalities": {"codes": {"prefix": "DM"}}}, "nothing would be counted(.|\n)*within"),
        ({"pairs": []}, "nothing would be counted(.|\n)*pairs: none"),
        ({"pairs": [["concepts", "codes"], ["codes", "concepts"]]}, "stands in both orders"),
    ],
)
def test_pairs_that_are_none_or_twice_the_same_are_refused(folder, changes, said):
    with pytest.raises(ConfigError, match=said):
        counted(load_spec(written(folder, **changes)), folder / "out")
    assert not (folder / "out.unfinished").exists()


def test_one_of_three_shared_modalities_may_be_empty_at_a_site(folder, caplog):
    (folder / "drugs.txt").write_text("RX1\n")
    modalities = {**SPEC["modalities"], "drugs": {"prefix": "RX"}}
    vocabulary = {"files": {"drugs": "drugs.txt"}}
    spec = load_spec(written(folder, modalities=modalities, vocabulary=vocabulary))
    counts, _ = counted(spec, folder / "out")
    assert counts.blocks["codes", "drugs"].pairs.nnz == 0
    assert "no event is of modality drugs" in caplog.text


def test_a_fault_after_counting_says_what_is_kept(folder):
    spec, out = load_spec(written(folder)), folder / "out"

    def refusing(counts, path):
        raise ArtefactError("cannot be saved", where=path)

    with pytest.raises(ArtefactError, match=r"out\.unfinished keeps what was counted.*--resume"):
        count(spec, out, refusing, means=Means())
    counts, _ = counted(spec, out, resume=True)
    assert cells(counts)["DM", "C1"] == 4


def test_a_faulty_source_is_one_fault_and_no_source_another(folder):
    source = {**SPEC["sources"][0], "kode": "c"}
    with pytest.raises(ConfigError) as raised:
        load_spec(written(folder, sources=[source]))
    assert str(raised.value).count("  - ") == 1
    assert "unknown key 'sources.0.kode'" in str(raised.value)
    with pytest.raises(ConfigError, match="'sources' must be at least 1 of them"):
        load_spec(written(folder, sources=[]))
    with pytest.raises(ConfigError, match="is a folder, not a file"):
        load_spec(folder)


@pytest.mark.parametrize(
    ("changes", "same_moment"),
    [({}, 2), ({"pairing": "distinct"}, 1), ({"duplicates": "drop"}, 1)],
)
def test_rows_are_the_tokens_of_each_patient(folder, changes, same_moment):
    table, tally = rows_of(load_spec(written(folder, **changes)), folder / "work")
    found = {tuple(row[:3]): row[3] for row in table.itertuples(index=False)}
    assert len(found) == len(table)
    first, second = sorted({row[0] for row in found}, key=lambda s: (s, "codes", "DM") not in found)
    dm = 1 if changes.get("pairing") == "distinct" else 2
    assert found == {
        (first, "codes", "DM"): dm, (first, "concepts", "C1"): same_moment,
        (second, "codes", "HT"): 1, (second, "concepts", "C2"): 1, (second, "concepts", "C1"): 1,
    }  # fmt: skip
    assert tally.rows == len(ROWS)
    with pytest.raises(ConfigError, match="rows are of whole records"):
        rows_of(load_spec(written(folder, window="month")), folder / "more")
