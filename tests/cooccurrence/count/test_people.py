"""The same patients are known again however they are counted; others of the same names are not."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from medmcl.cooccurrence.count.command import count
from medmcl.cooccurrence.count.people import named, overlap, shared_patients
from medmcl.cooccurrence.count.run import Means
from medmcl.cooccurrence.count.spec import load_spec
from medmcl.cooccurrence.exchange.folder import load_counts, save_counts
from medmcl.cooccurrence.exchange.merging import merge
from medmcl.cooccurrence.exchange.tables import sha256_of, with_checksum
from medmcl.cooccurrence.release.register import Register
from medmcl.core.errors import ArtefactError
from medmcl.stages.cooccur.release import release_folders


def events(seed, patients=range(120)):
    """An admission, which is the first event of all, and diagnoses on days of a month."""
    draw = np.random.default_rng(seed)
    rows = []
    for patient in range(120):
        start = pd.Timestamp("2001-01-01") + pd.Timedelta(days=int(draw.integers(3000)))
        rows.append((f"{patient}", start, "ADM", "adm"))
        days = draw.integers(1, 30, 8)
        rows += [(f"{patient}", start + pd.Timedelta(days=int(day)), f"C{k}", "dx")
                 for k, day in enumerate(days) if draw.random() < 0.6]  # fmt: skip
    table = pd.DataFrame(rows, columns=["patient", "date", "code", "type"])
    return table[table["patient"].astype(int).isin(patients)]


def counted(folder, table, name, vocabulary=None, more=None, **source):
    """Counts of a table, under a name."""
    table.to_csv(folder / f"{name}.csv", index=False)
    first = {"kind": "table", "path": f"{name}.csv", "subject": "patient", "code": "code"}
    sources = [first | {"time": "date", "prefix": "X//"} | source]
    if more is not None:
        more.to_csv(folder / f"{name}-more.csv", index=False)
        sources.append(sources[0] | {"path": f"{name}-more.csv", "prefix": "Y//"})
    spec = {
        "schema": "medmcl/cooccurrence@1",
        "sources": sources,
        "within": True,
        "modalities": {"codes": {"prefix": "X//C"}},
        "vocabulary": vocabulary or {},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    count(load_spec(folder / f"{name}.yaml"), folder / name, save_counts, means=Means())
    return folder / name


def later(table):
    """Laboratory values of the same patients, some of them before everything else."""
    found = table.assign(code="L", type="lab")
    return found.assign(date=found["date"] - pd.Timedelta(days=400))


HOW = {
    "a filter": {"keep": {"type": ["dx"]}},
    "a filter that drops": {"drop": {"type": ["adm"]}},
    "a source more": {"more": later},
    "a vocabulary": {"vocabulary": {"min_patients": 60}},
    "no times": {"time": None},
}


@pytest.mark.parametrize("how", HOW)
def test_three_patients_who_are_left_out_are_not_read_off_counts_made_otherwise(how, tmp_path):
    """With a filter or another source all were other people, and a difference showed three."""
    table, settings = events(0), dict(HOW[how])
    if "more" in settings:
        settings["more"] = settings["more"](table)
    if settings.get("time", "") is None:
        whole = table.drop(columns="date")
        before = counted(tmp_path, table, "all")
        fewer = whole[whole["patient"].astype(int) > 2].assign(date="")
        after = counted(tmp_path, fewer, "less")
    else:
        before = counted(tmp_path, table, "all")
        after = counted(tmp_path, table[table["patient"].astype(int) > 2], "less", **settings)
    release_folders([before], tmp_path / "r1")
    with pytest.raises(ArtefactError, match=r"show few patients(.|\n)*groups of 3 patients"):
        release_folders([after], tmp_path / "r2")


def test_three_patients_are_not_read_off_counts_of_a_rare_setting(tmp_path):
    """By one event in eighty nothing told that they were the same patients."""
    table = events(0)
    visits = table[table["type"] == "dx"].groupby("patient").head(3).assign(type="rare")
    days = np.tile(np.arange(80), len(visits))
    values = visits.loc[visits.index.repeat(80)].assign(code="L", type="lab")
    values["date"] += pd.to_timedelta(days, unit="D")
    whole = pd.concat([visits, values]).sort_values(["patient", "date"])
    release_folders([counted(tmp_path, whole, "all")], tmp_path / "r1")
    fewer = whole[whole["patient"].astype(int) > 2]
    after = counted(tmp_path, fewer, "less", keep={"type": ["rare"]})
    with pytest.raises(ArtefactError, match=r"show few patients(.|\n)*groups of . patients"):
        release_folders([after], tmp_path / "r2")


def test_counts_and_registers_of_an_earlier_format_are_refused_by_name(tmp_path, register):
    """One event a patient stood there: not read as if there were none, and nothing goes past it."""
    place = counted(tmp_path, events(0), "old")
    release_folders([place], tmp_path / "r1")
    (entry,) = (register / "releases").iterdir()
    other = counted(tmp_path, events(1), "new")
    for folder in (place, entry):
        table = pq.read_table(folder / "people.parquet").drop_columns("days")
        event = pa.array(np.ones(len(table), dtype=np.uint64))
        pq.write_table(table.append_column("event", event), folder / "people.parquet")
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["people"]["sha256"] = sha256_of(folder / "people.parquet")
        (folder / "manifest.json").write_text(json.dumps(with_checksum(manifest)))
    with pytest.raises(
        ArtefactError, match=r"earlier medmcl, which drew one event(.|\n)*count again"
    ):
        load_counts(place)
    keys = Register.here().read()
    entries = [one.model_copy(update={"sha256": sha256_of(entry / "manifest.json")})
               for one in keys.releases]  # fmt: skip
    Register.here()._write(keys.model_copy(update={"releases": tuple(entries)}))
    with pytest.raises(ArtefactError, match=r"earlier medmcl(.|\n)*under a new register"):
        release_folders([other], tmp_path / "r2")
    assert not (tmp_path / "r2").exists()


def moved(table):
    """All dates of a patient later, as a de-identified extract has them: longer than a record."""
    days = 40 + table["patient"].astype(int) % 7
    return table.assign(date=table["date"] + pd.to_timedelta(days, unit="D"))


def other_names(table):
    return table.assign(patient=table["patient"] + "0")


def renumbered(table):
    """The same numbers, each another patient's."""
    return table.assign(patient=((table["patient"].astype(int) * 7 + 5) % 120).astype(str))


OTHERS = {
    "other dates": moved,
    "other names": other_names,
    "other numbers": renumbered,
    "other names and dates": lambda table: moved(other_names(table)),
    "other order within days": lambda table: moved(table.iloc[::-1]),
}


@pytest.mark.parametrize("how", OTHERS)
def test_a_patient_is_not_read_off_the_same_table_with_other_dates_or_names(how, tmp_path):
    """Each gave the patient who was left out in every cell."""
    table = events(0)
    before = counted(tmp_path, table, "all")
    fewer = OTHERS[how](table[table["patient"] != "0"])
    after = counted(tmp_path, fewer, "less")
    one, other = (load_counts(place).provenance.people[0] for place in (before, after))
    assert shared_patients(one, other) == 119
    release_folders([before], tmp_path / "r1")
    with pytest.raises(ArtefactError, match=r"show few patients(.|\n)*groups of 1 patients"):
        release_folders([after], tmp_path / "r2")


def test_a_site_is_not_read_off_sums_of_recounts_with_other_dates(tmp_path):
    """A + B + C less A + B, both with other dates or names, was C."""
    tables = [events(seed) for seed in range(3)]
    sites = [counted(tmp_path, table, f"s{k}") for k, table in enumerate(tables)]
    fewer = tables[0][tables[0]["patient"].astype(int) > 20]
    again = [counted(tmp_path, moved(fewer), "a0"), counted(tmp_path, other_names(tables[1]), "a1")]
    with pytest.raises(ArtefactError, match="added twice"):
        merge(sites[0], again[0])
    release_folders(sites, tmp_path / "r1", other_people=True)
    with pytest.raises(ArtefactError, match="show one site by itself"):
        release_folders(again, tmp_path / "r2", other_people=True)


def test_one_event_and_one_code_are_no_sign(tmp_path):
    """Other people, of whom half have the same single code, and those with other dates."""
    draw = np.random.default_rng(0)
    first, second = (
        pd.DataFrame(
            {
                "patient": [str(k) for k in range(60)],
                "date": pd.Timestamp("2001-01-01")
                + pd.to_timedelta(draw.integers(3000, size=60), unit="D"),
                "code": [f"C{k}" for k in draw.integers(30, size=60)],
                "type": "dx",
            }
        )
        for _ in range(2)
    )
    places = [counted(tmp_path, table, name)
              for name, table in [("a", first), ("b", second), ("c", moved(first))]]  # fmt: skip
    a, b, c = (load_counts(place).provenance.people[0] for place in places)
    assert not overlap(a, b)
    assert shared_patients(a, c) == 60


def test_counts_that_older_versions_wrote_are_read(tmp_path):
    """They have neither days nor contents: names tell who is who."""
    counts = load_counts(counted(tmp_path, events(0), "new"))
    new = counts.provenance.people[0]
    old = named(new.tags, "subjects")
    there = replace(counts, provenance=replace(counts.provenance, people=(old,)))
    read = load_counts(save_counts(there, tmp_path / "old")).provenance.people[0]
    assert read.contents is None
    assert shared_patients(read, new) == 120


def test_people_of_the_same_numbers_at_another_hospital_are_others(tmp_path):
    one = counted(tmp_path, events(0), "one")
    other = counted(tmp_path, events(1, range(117)), "other", keep={"type": ["dx"]})
    mine, theirs = (load_counts(place).provenance.people[0] for place in (one, other))
    assert len(np.intersect1d(mine.tags, theirs.tags)) == 117
    assert not overlap(mine, theirs)
    assert shared_patients(mine, theirs) == 0
    release_folders([one], tmp_path / "r1")
    release_folders([other], tmp_path / "r2")
