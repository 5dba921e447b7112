"""The cohort definitions that ship, on the data they are for where these are at hand."""

import ast
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medmcl.core.config import read_yaml
from medmcl.core.errors import CohortError
from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import list_cohorts, open_cohort
from medmcl.data.cohort.locate import PACKAGED
from medmcl.data.cohort.manifest import parse_spec
from medmcl.data.loading.prepare import prepare

DATA = os.environ.get("MEDMCL_DATA")
SHIPPED = (
    *("abide", "acdc", "adni", "covid_cxr", "ehrshot", "eicu", "iu_xray", "mimic_cxr"),
    *("mimic_iv", "mmvp", "my_cohort", "oasis1", "omop_site", "ptbxl", "roco", "ukb_cardiac"),
)
PTBXL_COPIES = (145, 463)
ACDC_COPIES = ("patient074", "patient076")


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
    assert "on_bad_record" not in read_yaml(file)  # they are refused unless told otherwise
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
    assert [(f.code, f.where) for f in cohort.findings if f.scope == "cohort"] == [
        ("index.no_date", "modalities.ecg_exercise")
    ]
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
    known = ~table["ecg_id"].isin(PTBXL_COPIES)  # left out by name: nobody knows whose they are
    for cell in table["scp_codes"][known]:
        expected.update({meaning[code] for code in ast.literal_eval(cell) if code in meaning.index})
    targets = cohort.targets("superclass")
    assert dict(zip(targets.columns, targets.values.sum(axis=0), strict=True)) == expected
    has = cohort.samples["ecg"].notna()
    assert (targets.known.all(axis=1) == has).all()
    assert len(cohort.samples) == len(table)
    samples = cohort.samples.loc[has, ["ecg", "split"]].astype({"ecg": int})
    folds = samples.merge(table, left_on="ecg", right_on="ecg_id")
    sides = {**dict.fromkeys(range(1, 9), "train"), 9: "tuning", 10: "held_out"}
    assert (folds["strat_fold"].map(sides) == folds["split"]).all()
    assert len(folds) == known.sum() == len(table) - len(PTBXL_COPIES)


def errors(findings):
    """Code and record of every error."""
    return sorted((f.code, f.where) for f in findings if f.level == "error")


def linked(source, folder, kept=lambda path: True):
    """Copy a data folder as hard links, so that single files can be damaged."""
    for path in source.rglob("*"):
        if path.is_file() and kept(path):
            place = folder / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                place.hardlink_to(path.resolve())
            except OSError:  # another disk
                shutil.copyfile(path, place)
    return folder


def damage(path, keep=0.3):
    """Replace a link by the first part of its file."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: int(len(data) * keep)])


@pytest.fixture
def some_ptbxl(tmp_path):
    """The first 60 records and the known copies of PTB-XL, in the official layout."""
    source = Path(str(DATA)) / "ptbxl"
    table = pd.read_csv(source / "ptbxl_database.csv", dtype=str)
    rows = (np.arange(len(table)) < 60) | table["ecg_id"].astype(int).isin(PTBXL_COPIES)
    table = table[rows]
    names = {f"{name}{suffix}" for name in table["filename_lr"] for suffix in (".hea", ".dat")}
    names |= {"scp_statements.csv"}
    linked(source, tmp_path / "ptbxl", lambda path: str(path.relative_to(source)) in names)
    table.to_csv(tmp_path / "ptbxl" / "ptbxl_database.csv", index=False)
    return tmp_path / "ptbxl"


@needs("ptbxl")
def test_ptbxl_is_readable_and_checks_without_an_error():
    cohort = open_cohort("ptbxl", {"tasks.superclass": None, "prompts": {}})
    assert cohort.spec.keys.on_bad_record == "refuse"
    findings = check_cohort(cohort, limit=300)
    assert errors(findings) == []
    assert not {str(copy) for copy in PTBXL_COPIES} & set(cohort.records["ecg"].index)
    assert findings.overview.records[0].read == 300
    assert len(cohort.records["ecg"]) == len(cohort.records["clinic"]) - len(PTBXL_COPIES)


@needs("ptbxl")
def test_a_damaged_ptbxl_is_refused_by_check_and_by_pretrain(some_ptbxl, tmp_path):
    where = {"data_root": str(some_ptbxl)}
    assert errors(check_cohort(open_cohort("ptbxl", where))) == []
    copies = check_cohort(open_cohort("ptbxl", {**where, "modalities.ecg.present": None}))
    assert errors(copies) == [
        ("ecg.duplicate", "subject 16690, record 145"),
        ("ecg.duplicate", "subject 16723, record 463"),
    ]
    damage(some_ptbxl / "records100" / "00000" / "00001_lr.dat")
    cohort = open_cohort("ptbxl", where)
    found = errors(check_cohort(cohort))
    assert [code for code, _ in found] == ["ecg.unreadable"]
    assert "00001_lr" in found[0][1]
    with pytest.raises(CohortError, match=r"1 fault(?s:.*)00001_lr(?s:.*)on_bad_record=exclude"):
        prepare(cohort, {"ecg": {"rate_hz": 100}}, cache=tmp_path / "cache")
    out = open_cohort("ptbxl", {**where, "on_bad_record": "exclude"})
    prepared = prepare(out, {"ecg": {"rate_hz": 100}}, cache=tmp_path / "cache")
    assert [finding.code for finding in prepared.excluded] == ["ecg.unreadable"]


@needs("acdc")
def test_acdc_checks_without_an_error():
    cohort = open_cohort("acdc")
    assert cohort.spec.keys.on_bad_record == "refuse"
    assert errors(check_cohort(cohort)) == []
    assert len(cohort.subjects) - len(cohort.records["cmr"]) == len(ACDC_COPIES)


@needs("acdc")
def test_a_damaged_acdc_is_refused_by_check_and_by_pretrain(tmp_path):
    root = linked(Path(str(DATA)) / "acdc", tmp_path / "acdc")
    where = {"data_root": str(root)}
    copies = check_cohort(open_cohort("acdc", {**where, "modalities.cmr.present": None}))
    assert errors(copies) == [
        ("cmr.duplicate", f"subject {name}, record {name}") for name in ACDC_COPIES
    ]
    cohort = open_cohort("acdc", where)
    path = next(iter(cohort.records["cmr"]["place"].iloc[0].paths.values()))
    damage(path)
    found = errors(check_cohort(cohort))
    assert [code for code, _ in found] == ["cmr.unreadable"]
    assert path.name in found[0][1]
    with pytest.raises(CohortError, match=f"1 fault(?s:.*){path.name}"):
        prepare(cohort, {"cmr": {"frames": ["es", "ed"], "size": 32}}, cache=tmp_path / "cache")


@needs("acdc")
def test_acdc_reads_both_frames_of_every_patient(tmp_path):
    cohort = open_cohort("acdc")
    inputs = {"cmr": {"size": 32}, "parameters": {}}  # no frames: those that the files have
    prepared = prepare(cohort, inputs, cache=tmp_path, splits="all")
    patients = sorted(cohort.root.glob("patient*"))
    assert len(cohort.samples) == len(patients)
    assert prepared.inputs("cmr").shape == (len(patients) - len(ACDC_COPIES), 2, 32, 32)
    assert prepared.present["cmr"].sum() == len(patients) - len(ACDC_COPIES)
    groups = Counter(
        (path / "Info.cfg").read_text().split("Group:")[1].split()[0] for path in patients
    )
    targets = cohort.targets("group")
    assert Counter(targets.classes[int(v)] for v in targets.values[:, 0]) == groups
    table = pd.read_csv(cohort.root / "parameters.csv").set_index("patient")["EF(LV)"]
    lvef = dict(zip(cohort.samples["subject"], cohort.targets("lvef").values[:, 0], strict=True))
    assert lvef == pytest.approx({p.name: 100 * table[p.name] for p in patients})


@needs("abide")
def test_abide_checks_without_an_error_and_reads_each_persons_own_matrix(tmp_path):
    cohort = open_cohort("abide")
    findings = check_cohort(cohort, limit=80)
    assert errors(findings) == []
    pooled = [one for one in findings if one.code == "cohort.pooled"]
    table = pd.read_csv(cohort.root / "subjects.csv").set_index("sub_id")
    sizes = table["site"].value_counts()
    assert len(pooled) == (sizes < 20).any()
    assert (cohort.sites.value_counts() >= 20).all()
    institution = cohort.subjects["site"].str.extract(r"^([A-Z]+)")[0]
    assert (cohort.subjects.groupby(institution)["split"].nunique() == 1).all()
    for name, said in (("autism", table["DX_GROUP"] == 1), ("sex", table["SEX"] == 2)):
        known = said.loc[cohort.samples["subject"].astype(int)].to_numpy()
        np.testing.assert_array_equal(cohort.targets(name).values[:, 0], known)
    few = open_cohort("abide", {"subjects.where": "sub_id % 40 == 0"})
    prepared = prepare(few, {"connectome": {}}, cache=tmp_path, splits="all")
    with np.load(cohort.root / "fc_upper_int8.npz") as file:
        stored = dict(zip(file["sub_id"].tolist(), file["fc_q127"], strict=True))
    row, column = np.triu_indices(200, 1)
    rows = prepared.inputs("connectome")
    for record, matrix in zip(few.records["connectome"].index, rows, strict=True):
        np.testing.assert_allclose(matrix[0][row, column + 1] * 127, stored[int(record)], atol=1e-4)
    assert prepared.adapters["connectome"].atlas.names[0] == "7Networks_LH_Vis_1"
