"""The same patients are known again however they are counted; others of the same names are not."""

import numpy as np
import pandas as pd
import pytest
import yaml

from medmcl.cooccurrence.count.command import count
from medmcl.cooccurrence.count.people import overlap, shared_patients
from medmcl.cooccurrence.count.run import Means
from medmcl.cooccurrence.count.spec import load_spec
from medmcl.cooccurrence.exchange.folder import load_counts, save_counts
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


def test_people_of_the_same_numbers_at_another_hospital_are_others(tmp_path):
    one = counted(tmp_path, events(0), "one")
    other = counted(tmp_path, events(1, range(117)), "other", keep={"type": ["dx"]})
    mine, theirs = (load_counts(place).provenance.people[0] for place in (one, other))
    assert len(np.intersect1d(mine.tags, theirs.tags)) == 117
    assert not overlap(mine, theirs)
    assert shared_patients(mine, theirs) == 0
    release_folders([one], tmp_path / "r1")
    release_folders([other], tmp_path / "r2")
