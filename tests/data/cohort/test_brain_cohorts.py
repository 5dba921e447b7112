"""OASIS-1 and ADNI: one session a person, nothing that tells the label among the inputs."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_brains import write_brains

from medmcl.core.errors import CohortError
from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import load_cohort, open_cohort
from medmcl.data.loading.prepare import prepare
from medmcl.data.loading.simple_features import simple_table

DATA = Path(os.environ.get("MEDMCL_DATA") or "none") / "oasis1"
VIEWS = ("axial", "coronal", "sagittal")
MMSE = {"modalities.clinic.columns.MMSE": "number"}


def codes(findings, level="error"):
    return [finding.code for finding in findings if finding.level == level]


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oasis") / "data"
    return folder, write_brains(folder)


def brain_cohort(folder, **changes):
    return open_cohort("oasis1", {"data_root": str(folder), **changes})


# ------------------------------------------------------------------ OASIS-1


def test_a_second_scan_is_no_second_person(brains):
    folder, table = brains
    cohort = brain_cohort(folder)
    assert len(cohort.subjects) == 40 < len(table) == 43
    assert not [one for one in cohort.subjects.index if "MR2" in one]
    assert any("3 rows" in finding.what for finding in cohort.findings)
    everyone = brain_cohort(folder, **{"subjects.where": None})
    assert len(everyone.subjects) == 43  # what `where:` is for


def test_small_brains_pass_and_who_was_not_rated_has_no_label(brains):
    folder, table = brains
    cohort = brain_cohort(folder)
    assert codes(check_cohort(cohort)) == []
    rated = table["CDR"].notna() & table["ID"].str.endswith("MR1")
    targets = cohort.targets("dementia")
    assert targets.known.sum() == rated.sum() == 30
    assert targets.values[targets.known].sum() == (table["CDR"][rated] > 0).sum()
    for view in VIEWS:
        assert set(cohort.records[view].index) == set(table["ID"][table["has_images"] == 1])
    assert len(cohort.records["clinic"]) == 40


def test_the_official_table_has_no_column_of_images(brains, tmp_path):
    folder, table = brains
    table = table[(table["has_images"] == 1) | table["ID"].str.endswith("MR2")]
    table.drop(columns="has_images").to_csv(tmp_path / "oasis_cross-sectional.csv", index=False)
    shutil.copytree(folder / "img", tmp_path / "img")
    _, findings = load_cohort("oasis1", {"data_root": str(tmp_path)})
    assert any("has_images" in finding.what for finding in findings)
    changes = {f"modalities.{view}.present": None for view in VIEWS}
    cohort = brain_cohort(tmp_path, **changes)
    assert codes(check_cohort(cohort)) == []
    assert len(cohort.records["axial"]) == 30


def test_mmse_among_the_inputs_is_a_leak_and_a_misspelt_guard_is_told(brains):
    folder, _ = brains
    (drawn,) = [f for f in check_cohort(brain_cohort(folder)) if f.code == "task.leak"]
    assert "nWBV of 'clinic' alone tells" in drawn.what  # these brains are simulated so
    leaks = [f for f in check_cohort(brain_cohort(folder, **MMSE)) if f.code == "task.leak"]
    (leak,) = (one for one in leaks if one != drawn)
    assert "is told by MMSE, which the modality 'clinic' shows" in leak.what
    wrong = brain_cohort(folder, **{"tasks.dementia.leaky_columns": ["MMES"]})
    (told,) = [f for f in check_cohort(wrong) if f.code == "cohort.column"]
    assert "'MMES'" in told.what
    assert "MMSE" in told.what


def test_a_copy_of_another_persons_slice_and_a_damaged_one_are_found(tmp_path):
    write_brains(tmp_path / "data", people=8)
    images = tmp_path / "data" / "img"
    Image.open(images / "OAS1_0000_MR1_a.jpg").save(images / "OAS1_0001_MR1_a.jpg", quality=95)
    path = images / "OAS1_0004_MR1_c.jpg"
    path.write_bytes(path.read_bytes()[:700])
    turned = Image.open(images / "OAS1_0005_MR1_s.jpg").transpose(Image.Transpose.ROTATE_90)
    turned.save(images / "OAS1_0005_MR1_s.jpg")
    findings = check_cohort(brain_cohort(tmp_path / "data"))
    assert sorted(codes(findings)) == ["image.near_copy"] * 2 + ["image.unreadable"]
    (cut,) = [f for f in findings if f.code == "image.unreadable"]
    assert "OAS1_0004_MR1_c.jpg" in cut.where
    (side,) = [f for f in findings if f.code == "image.sideways"]
    assert "OAS1_0005_MR1_s.jpg" in side.what


def test_views_are_prepared_side_by_side_and_held_out_stays_shut(brains, tmp_path):
    folder, _ = brains
    inputs = {"axial": {"size": 24}, "sagittal": {"size": [16, 24]}, "clinic": {}}
    prepared = prepare(brain_cohort(folder), inputs, cache=tmp_path)
    rows = prepared.rows("train", ["axial", "clinic"])
    batch = prepared.batch(rows)
    assert batch.inputs["axial"].shape == (len(rows), 1, 24, 24)
    assert batch.inputs["sagittal"].shape == (len(rows), 1, 16, 24)
    assert batch.present["sagittal"].all()
    assert prepared.adapters["axial"].state()["usual"] == {"channels": 1, "shape": [52, 44]}
    simple = simple_table(prepared, "axial")
    assert len(simple.names) == 256
    assert simple.values[~prepared.present["axial"]].size == 10 * 256
    people = [set(prepared.subjects[prepared.splits == split]) for split in ("train", "held_out")]
    assert not people[0] & people[1]


@pytest.mark.skipif(not DATA.is_dir(), reason="needs MEDMCL_DATA with a folder oasis1")
def test_oasis_checks_without_an_error_and_counts_agree_with_the_table():
    cohort = open_cohort("oasis1", {"data_root": str(DATA)})
    findings = check_cohort(cohort)
    assert codes(findings) == []
    assert codes(findings, "warning") == ["cohort.left_out"]  # second scans
    table = pd.read_csv(DATA / "oasis_cross-sectional.csv")
    first = table[table["ID"].str.endswith("_MR1")]
    assert len(cohort.subjects) == len(first) == first["ID"].str[:9].nunique()
    for view in VIEWS:
        assert len(cohort.records[view]) == (first["has_images"] == 1).sum()
        assert cohort.samples[view].notna().sum() == len(cohort.records[view])
    targets = cohort.targets("dementia")
    assert targets.known.sum() == first["CDR"].notna().sum()
    assert targets.values[targets.known].sum() == (first["CDR"] > 0).sum()


# ------------------------------------------------------------------ ADNI


def adnimerge(**changes):
    """A made-up table with the columns of ADNIMERGE: six patients at baseline and later."""
    patients, visits = [f"011_S_{n:04d}" for n in range(2, 8)], ("bl", "m06", "m12")
    rows = [
        {
            "RID": int(patient[-4:]),
            "PTID": patient,
            "VISCODE": visit,
            "SITE": 11 + number % 2,
            "DX_bl": ("CN", "LMCI", "AD")[number % 3],
            "DX": ("CN", "MCI", "Dementia")[number % 3],
            "AGE": 70.3 + number,
            "PTGENDER": ("Male", "Female")[number % 2],
            "PTEDUCAT": 16,
            "APOE4": number % 3 if number else None,
            "ABETA": 900.5 + number if number < 4 else None,
            "TAU": 250.1 if number < 4 else None,
            "PTAU": 22.0 if number < 4 else None,
            "FDG": None,
            "IMAGEUID": None,
            **dict.fromkeys(("MMSE", "CDRSB", "ADAS11", "ADAS13"), 20 + later + number),
            **dict.fromkeys(("ADASQ4", "LDELTOTAL", "FAQ", "MOCA"), 3),
            **dict.fromkeys(("mPACCdigit", "mPACCtrailsB"), 1.5),
            **{f"RAVLT_{name}": 30 + later for name in ("immediate", "learning", "forgetting")},
            "TRABSCOR": 80 + later,
            **dict.fromkeys(("Ventricles", "Hippocampus", "WholeBrain", "Entorhinal"), 7e3 + later),
            **dict.fromkeys(("Fusiform", "MidTemp", "ICV"), 2e4 + number),
        }
        for number, patient in enumerate(patients)
        for later, visit in enumerate(visits)
    ]
    return pd.DataFrame(rows).assign(**changes)


def adni(folder, table, changes=None):
    table.to_csv(folder / "ADNIMERGE.csv", index=False)
    return load_cohort("adni", {"data_root": str(folder), **(changes or {})})


def test_a_made_up_adnimerge_opens_at_baseline_by_patient(tmp_path):
    cohort, findings = adni(tmp_path, adnimerge())
    assert codes(findings) == []
    assert len(cohort.subjects) == len(cohort.samples) == 6
    assert set(cohort.sites.astype(str)) == {"11", "12"}
    assert len(cohort.records["csf"]) == 4
    assert len(cohort.records["genetics"]) == 5
    assert len(cohort.records["mri"]) == len(cohort.records["pet"]) == 0
    diagnosis = cohort.targets("diagnosis")
    assert diagnosis.classes == ("CN", "MCI", "Dementia")
    assert diagnosis.values[:, 0].tolist() == [0, 1, 2, 0, 1, 2]
    found = check_cohort(cohort)
    assert codes([f for f in found if f.scope == "record"]) == []
    assert not [f for f in found if f.code in ("task.leak", "cohort.column")]


def test_visits_are_no_patients(tmp_path):
    _, findings = adni(tmp_path, adnimerge(), {"subjects.where": None})
    assert any("ravlt" in f.what.lower() or "RAVLT" in f.what for f in findings)
    assert "error" in {f.level for f in findings}


def test_what_tells_the_diagnosis_is_a_leak(tmp_path):
    shown = {"cognition": ("MMSE", "CDRSB", "ADAS13"), "demographics": ("DX_bl", "DX")}
    added = {
        f"modalities.{modality}.columns.{column}": "number" if column.isupper() else "category"
        for modality, columns in shown.items()
        for column in columns
    }
    cohort, _ = adni(tmp_path, adnimerge(), added)
    leaks = [f for f in check_cohort(cohort) if f.code == "task.leak"]
    for task in ("diagnosis", "dementia"):
        said = " ".join(leak.what for leak in leaks if leak.task == task)
        assert "told by ADAS13, CDRSB, MMSE, which the modality 'cognition' shows" in said
        assert "told by DX_bl, which the modality 'demographics' shows" in said
        assert "made of DX, which the modality 'demographics' shows" in said


def test_a_limit_of_an_assay_is_no_number(tmp_path):
    table = adnimerge()
    table["ABETA"] = table["ABETA"].astype(object)
    table.loc[table["PTID"] == "011_S_0003", "ABETA"] = ">1700"
    cohort, _ = adni(tmp_path, table)
    (found,) = [f for f in check_cohort(cohort) if f.code == "tabular.number"]
    assert ">1700" in found.what
    with pytest.raises(CohortError, match=">1700"):
        prepare(cohort, {"csf": {}}, cache=tmp_path / "cache")


def test_images_lie_where_the_table_says(tmp_path):
    import nibabel

    table = adnimerge()
    table.loc[table["PTID"] == "011_S_0004", "IMAGEUID"] = 118671.0
    table.loc[table["PTID"] == "011_S_0004", "FDG"] = 1.2
    rng = np.random.default_rng(0)
    for folder, name in (("mri", "118671"), ("pet", "011_S_0004")):
        (tmp_path / folder).mkdir()
        volume = nibabel.Nifti1Image(rng.random((18, 20, 16)).astype(np.float32), np.eye(4))
        nibabel.save(volume, tmp_path / folder / f"{name}.nii.gz")
    cohort, _ = adni(tmp_path, table)
    inputs = {"mri": {"size": [8, 8, 8]}, "pet": {"size": 16}}
    prepared = prepare(cohort, inputs, cache=tmp_path / "cache", splits="all")
    assert prepared.inputs("mri").shape == (1, 1, 8, 8, 8)
    assert prepared.inputs("pet").shape == (1, 1, 16, 16)
