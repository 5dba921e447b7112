"""The cohort definitions that ship, on the data they are for where these are at hand."""

import ast
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medmcl.core.config import read_yaml
from medmcl.data.check import check_cohort
from medmcl.data.cohort import list_cohorts, open_cohort
from medmcl.data.loading import prepare
from medmcl.data.locate import PACKAGED
from medmcl.data.manifest import parse_spec

DATA = os.environ.get("MEDMCL_DATA")
SHIPPED = ("acdc", "my_cohort", "ptbxl", "ukb_cardiac")


def needs(name):
    there = DATA is not None and (Path(DATA) / name).is_dir()
    return pytest.mark.skipif(not there, reason=f"needs MEDMCL_DATA with a folder {name}")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_definition_is_valid_and_says_where_it_comes_from(name):
    file = list_cohorts()[name]
    spec, findings = parse_spec(read_yaml(file), name)
    assert spec is not None
    assert findings == []
    assert read_yaml(file)["about"]
    readme = (PACKAGED / name / "README.md").read_text()
    for words in ("source", "licence", "access", "unverified"):
        assert words in readme.lower()


def test_ukb_cardiac_has_the_82_phenotypes_by_group_and_opens_on_a_made_up_table(tmp_path):
    spec, _ = parse_spec(read_yaml(list_cohorts()["ukb_cardiac"]), "ukb")
    groups = {n: list(t.columns) for n, t in spec.tasks.items() if t.kind == "regression"}
    sizes = {name: len(columns) for name, columns in groups.items()}
    assert sizes == {
        "lv": 6,
        "rv": 4,
        "la": 4,
        "ra": 4,
        "aorta": 6,
        "wall_thickness": 17,
        "circumferential_strain": 17,
        "radial_strain": 17,
        "longitudinal_strain": 7,
    }
    generator, count = np.random.default_rng(0), 60
    table = {name: generator.normal(size=count) for group in groups.values() for name in group}
    assert len(table) == 82
    table.update(eid=np.arange(1000000, 1000000 + count), centre=1, imaging_date="2016-05-01")
    for name in ("has_ecg", "has_cmr", "has_ecg_exercise", "cad", "af", "diabetes"):
        table[name] = generator.integers(0, 2, count)
    for name in ("cad", "af", "diabetes"):
        table[f"{name}_date"] = np.where(table[name] == 1, "2018-05-01", "")
    table["af_date"][0] = "1902-02-02"  # a special value of UK Biobank: at birth
    table.update(last_date="2022-01-01", age=60, sex="F", bmi=25, systolic_bp=120, smoking="never")
    pd.DataFrame(table).to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    cohort = open_cohort("ukb_cardiac", data_root=tmp_path)
    assert len(cohort.usable_tasks) == 15
    place = cohort.records["ecg"]["place"].iloc[0]
    assert place.paths["path"].name == f"{place.subject}_20205_2_0.xml"
    onset = cohort.targets("cad_onset")
    assert set(onset.values[onset.values[:, 1] == 1, 0]) == {730.0}
    assert cohort.targets("af_onset").known.all(axis=-1).sum() == count - 1


def test_the_columns_of_ukb_cardiac_stand_in_the_order_of_their_fields():
    spec, _ = parse_spec(read_yaml(list_cohorts()["ukb_cardiac"]), "ukb")
    field, following = {}, 24100
    for task in (task for task in spec.tasks.values() if task.kind == "regression"):
        first, last = map(int, task.about.rsplit("fields ", 1)[1].split("-"))
        assert (first, last) == (following, following + len(task.columns) - 1)
        units = task.unit.split(", ")
        assert len(units) in (1, len(task.columns))
        field.update({name: first + at for at, name in enumerate(task.columns)})
        following = last + 1
    assert following == 24182
    # by the titles in the Showcase data dictionary
    known = {
        "lv_mass": 24105,
        "rv_edv": 24106,
        "la_max": 24110,
        "ra_ef": 24117,
        "aao_distensibility": 24120,
        "dao_max_area": 24121,
        "wt_1": 24124,
        "wt_global": 24140,
        "ecc_16": 24156,
        "err_global": 24174,
        "ell_1": 24175,
        "ell_global": 24181,
    }
    assert {name: field[name] for name in known} == known


@needs("ptbxl")
def test_ptbxl_counts_agree_with_an_independent_count():
    cohort = open_cohort("ptbxl")
    table = pd.read_csv(cohort.root / "ptbxl_database.csv")
    meaning = pd.read_csv(cohort.root / "scp_statements.csv", index_col=0)
    meaning = meaning[meaning["diagnostic"] == 1]["diagnostic_class"]
    expected: Counter[str] = Counter()
    for cell in table["scp_codes"]:
        expected.update({meaning[code] for code in ast.literal_eval(cell) if code in meaning.index})
    targets = cohort.targets("superclass")
    assert dict(zip(targets.columns, targets.values.sum(axis=0), strict=True)) == expected
    assert targets.known.all()
    samples = cohort.samples[["ecg", "split"]].astype({"ecg": int})
    folds = samples.merge(table, left_on="ecg", right_on="ecg_id")
    sides = {**dict.fromkeys(range(1, 9), "train"), 9: "tuning", 10: "held_out"}
    assert (folds["strat_fold"].map(sides) == folds["split"]).all()
    assert len(folds) == len(table)


@needs("ptbxl")
def test_ptbxl_is_readable_and_checks_without_an_error():
    findings = check_cohort(open_cohort("ptbxl"), limit=40)
    assert [f for f in findings if f.level == "error"] == []


@needs("acdc")
def test_acdc_checks_without_an_error():
    findings = check_cohort(open_cohort("acdc"))
    assert [f for f in findings if f.level == "error"] == []


@needs("acdc")
def test_acdc_reads_both_frames_of_every_patient(tmp_path):
    cohort = open_cohort("acdc")
    inputs = {"cmr": {"frames": ["es", "ed"], "size": 32}, "parameters": {}}
    prepared = prepare(cohort, inputs, cache=tmp_path, splits="all")
    patients = sorted(cohort.root.glob("patient*"))
    assert len(cohort.samples) == len(patients)
    assert prepared.inputs("cmr").shape == (len(patients), 2, 32, 32)
    groups = Counter(
        (path / "Info.cfg").read_text().split("Group:")[1].split()[0] for path in patients
    )
    targets = cohort.targets("group")
    assert Counter(targets.classes[int(v)] for v in targets.values[:, 0]) == groups
    table = pd.read_csv(cohort.root / "parameters.csv").set_index("patient")["EF(LV)"]
    lvef = dict(zip(cohort.samples["subject"], cohort.targets("lvef").values[:, 0], strict=True))
    assert lvef == pytest.approx({p.name: 100 * table[p.name] for p in patients})
