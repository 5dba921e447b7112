"""Cohorts of images with text: the layouts they are published in, and what is wrong with some."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medmcl.core.errors import CohortError
from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import load_cohort, open_cohort
from medmcl.data.cohort.locate import PACKAGED
from medmcl.data.loading.prepare import prepare

DATA = Path(os.environ.get("MEDMCL_DATA") or "none") / "covid_cxr"
FRONTAL = ("PA", "AP", "AP Supine")
INPUTS = {"image": {"size": 16}, "caption": {"max_tokens": 16}}


def codes(findings, level="error"):
    """Codes of findings, but that a made-up folder is too small for some tasks."""
    found = sorted(finding.code for finding in findings if finding.level == level)
    return [code for code in found if code != "task.one_class"]


def draw(path, seed):
    """A picture of its own: noise in blocks, so that no two are copies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 255, (12, 12)).astype(np.uint8)
    Image.fromarray(blocks).resize((48, 48), Image.Resampling.BICUBIC).save(path)


def opened(name, folder, **changes):
    cohort, findings = load_cohort(name, {"data_root": str(folder), **changes})
    assert codes(findings) == []
    return cohort


def known(cohort, task, name=None):
    """Sample to its label, where it is known."""
    targets = cohort.targets(task)
    column = 0 if name is None else targets.columns.index(name)
    rows = targets.known[:, column]
    values = targets.values[rows, column].astype(int)
    return dict(zip(cohort.samples["sample"][rows], values.tolist(), strict=True))


# ------------------------------------------------------------------ MIMIC-CXR

SIDES = ("train", "train", "train", "train", "train", "validate", "test", "test")
VIEWS = ("PA", "LATERAL", "AP")
EDEMA = (1.0, 0.0, None, -1.0, 1.0, 0.0, 1.0, 0.0)
REPORT = "FINAL REPORT\n INDICATION: cough\n\n FINDINGS: Clear {}.\n\n IMPRESSION: Normal."


@pytest.fixture
def mimic(tmp_path):
    """Eight patients, a study each, three images a study, in the layout of PhysioNet."""
    images, labels = [], []
    for number, side in enumerate(SIDES):
        subject, study = 10000032 + 1000000 * number, 50414267 + number
        folder = tmp_path / "files" / f"p{str(subject)[:2]}" / f"p{subject}"
        for view in VIEWS:
            dicom = f"{number:08x}-{view[:2].lower()}"
            draw(folder / f"s{study}" / f"{dicom}.jpg", len(images))
            images.append((dicom, subject, study, view, 21800506, side))
        (folder / f"s{study}.txt").write_text(REPORT.format(number))
        findings = dict.fromkeys(("Atelectasis", "Cardiomegaly", "Consolidation"), number // 2 % 2)
        labels.append(
            {
                "subject_id": subject,
                "study_id": study,
                **findings,
                "Edema": EDEMA[number],
                "No Finding": 1.0 if number == 2 else None,
                "Pleural Effusion": float(number % 2),
                "Pneumonia": None if number == 1 else float(number % 2),
            }
        )
    columns = ["dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate", "split"]
    table = pd.DataFrame(images, columns=columns)
    stem = f"{tmp_path}/mimic-cxr-2.0.0-"
    table.drop(columns=["ViewPosition", "StudyDate"]).to_csv(f"{stem}split.csv.gz", index=False)
    table.drop(columns="split").to_csv(f"{stem}metadata.csv.gz", index=False)
    pd.DataFrame(labels).to_csv(f"{stem}chexpert.csv.gz", index=False)
    return tmp_path


def test_mimic_pairs_frontal_images_with_the_sections_of_their_report(mimic):
    cohort = opened("mimic_cxr", mimic)
    assert codes(check_cohort(cohort)) == []
    assert len(cohort.samples) == 16  # no lateral view
    assert cohort.samples[["image", "caption"]].notna().all(axis=None)
    sides = cohort.samples.groupby("split")["subject"].nunique().to_dict()
    assert sides == {"train": 5, "tuning": 1, "held_out": 2}
    prepared = prepare(cohort, INPUTS, cache=mimic / "cache", splits="all")
    assert prepared.inputs("image").shape == (16, 1, 16, 16)
    words = [prepared.adapters["caption"].tokens.words[n] for n in prepared.inputs("caption")[0]]
    assert words[1] == "clear"
    assert "normal" in words
    assert not {"indication", "cough", "final"} & set(words)


def test_mimic_labels_tell_not_mentioned_from_uncertain(mimic):
    cohort = opened("mimic_cxr", mimic)
    edema = known(cohort, "findings", "Edema")
    assert {int(name[:8], 16): value for name, value in edema.items()} == {
        # 2 is not mentioned, 3 is uncertain
        **{0: 1, 1: 0, 2: 0, 4: 1, 5: 0, 6: 1, 7: 0},
    }
    effusion = known(cohort, "findings", "Pleural Effusion")
    assert {int(n[:8], 16): v for n, v in effusion.items()} == {n: n % 2 for n in range(8)}
    assert len(known(cohort, "pneumonia")) == 14  # of who is not mentioned nothing is known
    assert sum(known(cohort, "no_finding").values()) == 2


def test_mimic_reports_without_sections_are_counted_and_missing_ones_are_refused(mimic):
    (mimic / "files/p10/p10000032/s50414267.txt").write_text("No acute process.")
    findings = check_cohort(opened("mimic_cxr", mimic))
    assert codes(findings) == []
    assert codes(findings, "warning").count("text.whole") == 2  # the study's two images
    (mimic / "files/p10/p10000032/s50414267.txt").write_text(" \n")
    assert codes(check_cohort(opened("mimic_cxr", mimic))) == ["text.empty"] * 2
    (mimic / "files/p10/p10000032/s50414267.txt").unlink()
    cohort = opened("mimic_cxr", mimic)
    assert codes(check_cohort(cohort)) == ["text.missing_file"] * 2
    with pytest.raises(CohortError, match="s50414267"):
        prepare(cohort, INPUTS, cache=mimic / "cache")


def test_a_mimic_study_without_labels_is_no_no(mimic):
    path = mimic / "mimic-cxr-2.0.0-chexpert.csv.gz"
    pd.read_csv(path).iloc[1:].to_csv(path, index=False)
    cohort = opened("mimic_cxr", mimic)
    assert len(cohort.records["image"]) == 14
    assert 0 not in {int(name[:8], 16) for name in known(cohort, "findings", "Edema")}


# ------------------------------------------------------------------ ROCOv2


def test_roco_takes_the_split_from_names_and_the_modality_from_concepts(tmp_path):
    concepts = ("C1306645", "C0040405;C0817096", "C0041618", "C0024485", "C0002978", "C0032743")
    counts = {"train": 6, "valid": 2, "test": 7}
    for split, count in counts.items():
        ids = [f"ROCOv2_2023_{split}_{number:06d}" for number in range(1, count + 1)]
        for number, name in enumerate(ids):
            draw(tmp_path / "images" / f"{name}.jpg", 10 * count + number)
        captions = [f'Image {n}, a "quoted", longer\ncaption' for n in ids]
        table = pd.DataFrame({"ID": ids, "Caption": captions})
        table.to_csv(tmp_path / f"{split}_captions.csv", index=False)
        manual = [concepts[number % 6] for number in range(count)]
        for kind in ("concepts_manual", "concepts"):
            table = pd.DataFrame({"ID": ids, "CUIs": manual})
            table.to_csv(tmp_path / f"{split}_{kind}.csv", index=False)
    cohort = opened("roco", tmp_path)
    assert codes(check_cohort(cohort)) == []
    sides = {"train": "train", "valid": "tuning", "test": "held_out"}
    assert cohort.samples["split"].value_counts().to_dict() == {
        sides[split]: count for split, count in counts.items()
    }
    modalities = {"X-ray": 4, "CT": 3, "ultrasound": 2, "MRI": 2, "angiography": 2}
    assert {n: sum(known(cohort, "modality", n).values()) for n in modalities} == modalities
    prepared = prepare(cohort, INPUTS, cache=tmp_path / "cache", splits="all")
    assert prepared.present["image"].all()
    assert prepared.present["caption"].all()


# ------------------------------------------------------------------ IU X-ray


def indiana(folder, path):
    """Nine studies; 1 has two frontal images, 2 no impression, 3 no text, 4 was not coded."""
    coded = {
        2: "Cardiomegaly;Pulmonary Artery",
        4: "No Indexing",
        5: "Opacity;Calcified Granuloma",
        6: "Pulmonary Atelectasis;Pleural Effusion",
    }
    reports, views = [], []
    for uid in range(1, 10):
        problems = coded.get(uid, "normal")
        reports.append(
            {
                **{"uid": uid, "MeSH": problems, "Problems": problems, "image": "Xray Chest"},
                **{"indication": "cough", "comparison": "None."},
                "findings": None if uid == 3 else f"Heart size {uid} normal.",
                "impression": None if uid in (2, 3) else "No acute disease.",
            }
        )
        names = [f"{uid}_IM-{uid:04d}-1001.dcm.png", f"{uid}_IM-{uid:04d}-2001.dcm.png"]
        views += [(uid, names[0], "Frontal"), (uid, names[1], "Lateral")]
        if uid == 1:
            views.append((uid, "1_IM-0001-3001.dcm.png", "Frontal"))
    for number, (_, name, _) in enumerate(views):
        draw(folder / path / name, number)
    table = pd.DataFrame(views, columns=["uid", "filename", "projection"])
    table.to_csv(folder / "indiana_projections.csv", index=False)
    pd.DataFrame(reports).to_csv(folder / "indiana_reports.csv", index=False)


def test_iu_xray_pairs_every_frontal_image_with_both_parts_of_the_report(tmp_path):
    indiana(tmp_path, "images/images_normalized")
    cohort = opened("iu_xray", tmp_path, **{"subjects.split": {"everyone": "train"}})
    assert codes(check_cohort(cohort)) == []
    assert len(cohort.records["image"]) == 10
    assert sorted(set(map(str, range(1, 10))) - set(cohort.records["caption"].index)) == ["3"]
    first = cohort.samples[cohort.samples["subject"] == "1"]
    assert first["caption"].tolist() == ["1", "1"]
    abnormal = known(cohort, "abnormal")
    assert {name[0] for name, value in abnormal.items() if value} == {"2", "5", "6"}
    assert {name[0] for name, value in abnormal.items() if not value} == {"1", "3", "7", "8", "9"}
    assert sum(known(cohort, "problems", "Cardiomegaly").values()) == 1
    prepared = prepare(cohort, INPUTS, cache=tmp_path / "cache", splits="all")
    texts = [cohort.records["caption"].loc[uid, "place"] for uid in ("1", "2")]
    read = [prepared.adapters["caption"].read(place) for place in texts]
    assert read == ["Heart size 1 normal.\nNo acute disease.", "Heart size 2 normal."]


OTHERS = ("Opacity/lung", "Pulmonary Atelectasis", "Pleural Effusion", "Calcified Granuloma/lung")
XML = """<?xml version="1.0"?><eCitation><MedlineCitation><Article><Abstract>
<AbstractText Label="INDICATION">cough</AbstractText>
<AbstractText Label="FINDINGS">Clear.</AbstractText>
<AbstractText Label="IMPRESSION"/></Abstract></Article></MedlineCitation>
<MeSH>{terms}</MeSH>
<parentImage id="CXR{uid}_IM-0001-1001"/><parentImage id="CXR{uid}_IM-0001-2001"/></eCitation>"""


def test_the_xml_of_open_i_becomes_the_two_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for uid in range(1, 6):
        path = tmp_path / "ecgen-radiology" / f"{uid}.xml"
        path.parent.mkdir(exist_ok=True)
        terms = ("normal", "Cardiomegaly/mild", "Cardiomegaly/borderline", *OTHERS)
        coded = terms[:1] if uid == 1 else terms[1:3] if uid < 4 else terms[3:]
        marked = "".join(f"<major>{term}</major>" for term in coded)
        path.write_text(XML.format(uid=uid, terms=marked))
        for view in (1001, 2001):
            draw(tmp_path / "NLMCXR_png" / f"CXR{uid}_IM-0001-{view}.png", 10 * uid + view)
    readme = (PACKAGED / "iu_xray" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})  # what the README says to run
    changes = dict(re.findall(r'--set "?cohort\.(modalities\.image\.\w+)=([^"`]+)', readme))
    assert changes == {
        "modalities.image.present": "null",
        "modalities.image.path": "NLMCXR_png/{filename}",
    }
    cohort = opened("iu_xray", tmp_path, **{**changes, "modalities.image.present": None})
    assert codes(check_cohort(cohort)) == []
    assert len(cohort.samples) == 10
    enlarged = known(cohort, "problems", "Cardiomegaly")
    assert {name[3] for name, value in enlarged.items() if value} == {"2", "3"}
    assert len(enlarged) == 10
    assert set(pd.read_csv("indiana_reports.csv")["Problems"]) >= {"normal", "Cardiomegaly"}


# ------------------------------------------------------------------ COVID-19, made up and real


def collection(folder, images=12):
    """A table with the columns of the collection; a CT, a lateral view, one without a view."""
    views = {3: "Axial", 4: "L", 5: None}
    rows = [
        {
            "image": f"img224/{number:03d}.jpg",
            "patientid": f"{number // 2}a",
            "sex": "FM"[number % 2],
            "age": 50 + number,
            "finding": ("COVID-19", "todo", "Pneumonia")[number % 3],
            "survival": ("Y", "N", None)[number % 3],
            "went_icu": ("Y", "N", "Would have been stated")[number % 3],
            "view": views.get(number, FRONTAL[number % 3]),
            "modality": "CT" if number == 3 else "X-ray",
            "location": "Town",
            "clinical_notes": f"Note number {number} of fever.",
            **dict.fromkeys(("temperature", "neutrophil_count", "lymphocyte_count"), 38.5),
        }
        for number in range(images)
    ]
    for number, row in enumerate(rows):
        draw(folder / row["image"], number)
    table = pd.DataFrame(rows)
    table.to_csv(folder / "metadata.csv", index=False)
    return table


def test_covid_reads_frontal_xrays_and_what_is_not_known_is_no_label(tmp_path):
    table = collection(tmp_path)
    cohort = opened("covid_cxr", tmp_path)
    findings = check_cohort(cohort)
    assert codes(findings) == []
    kept = set(table["image"]) - {f"img224/{number:03d}.jpg" for number in (3, 4, 5)}
    for name in ("image", "caption", "clinic", "labs"):
        assert set(cohort.records[name].index) == kept
    finding = table.set_index("image")["finding"]
    assert known(cohort, "covid") == {
        name: int(finding[name] == "COVID-19") for name in kept if finding[name] != "todo"
    }
    assert len(known(cohort, "intensive_care")) == sum(
        n not in (3, 4, 5) for n in range(12) if n % 3 < 2
    )
    leaks = [one for one in findings if one.code == "task.leak"]
    assert len(leaks) == 3
    assert all("clinical_notes" in one.what for one in leaks)


def test_covid_takes_patients_of_two_hospitals_and_ids_that_are_all_numbers(tmp_path):
    """As in the whole collection, of which a part may have no letter in any id."""
    table = collection(tmp_path)
    table["patientid"] = np.repeat([17, 339, 285, 287, 340, 20], 2)
    table.loc[:1, "location"] = ["Pamplona", "Milan"]
    table.to_csv(tmp_path / "metadata.csv", index=False)
    cohort = opened("covid_cxr", tmp_path)
    assert set(cohort.subjects.index) == {"17", "285", "287", "20"}
    assert list(cohort.subjects.index[cohort.sites.isna()]) == ["17"]
    told = [one.what for one in cohort.findings if one.code == "cohort.several_groups"]
    assert told == ["1 subject with rows of several sites, for example 17: the site is not known"]
    assert codes(check_cohort(cohort)) == []
    prepared = prepare(cohort, INPUTS, cache=tmp_path / "cache")
    assert prepared.excluded == []
    assert "17" in set(prepared.samples["subject"].astype(str))
    _, findings = load_cohort(
        "covid_cxr", {"data_root": str(tmp_path), "subjects.group_varies": "refuse"}
    )
    (fault,) = [one for one in findings if one.level == "error"]  # as it was shipped before
    assert "location" in f"{fault.what} {fault.fix}"


@pytest.mark.parametrize("fault", ["cut", "missing", "html", "no bytes"])
def test_a_bad_record_is_named_by_check_refused_by_prepare_and_counted_where_told(tmp_path, fault):
    collection(tmp_path)
    path = tmp_path / "img224" / "007.jpg"
    if fault == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif fault == "missing":
        path.unlink()
    else:
        path.write_text("<html>404: not found</html>" if fault == "html" else "")
    code = "image.missing_file" if fault == "missing" else "image.unreadable"
    cohort = opened("covid_cxr", tmp_path)
    (found,) = [one for one in check_cohort(cohort) if one.level == "error"]
    assert found.code == code
    assert "007.jpg" in found.where
    with pytest.raises(CohortError, match=r"1 fault(?s:.*)007\.jpg(?s:.*)on_bad_record=exclude"):
        prepare(cohort, INPUTS, cache=tmp_path / "cache")
    told = opened("covid_cxr", tmp_path, on_bad_record="exclude")
    prepared = prepare(told, INPUTS, cache=tmp_path / "cache")
    assert [one.code for one in prepared.excluded] == [code]
    assert prepared.exclusions().startswith("excluded 1 records of 18")


@pytest.fixture(scope="module")
def covid():
    if not DATA.is_dir():
        pytest.skip("needs MEDMCL_DATA with a folder covid_cxr")
    return open_cohort("covid_cxr", {"data_root": str(DATA)})


def test_covid_checks_without_an_error_and_counts_agree_with_the_table(covid):
    assert codes(check_cohort(covid)) == []
    table = pd.read_csv(DATA / "metadata.csv")
    xrays = table[table["view"].isin(FRONTAL) & (table["modality"] == "X-ray")]
    xrays = xrays[~xrays["patientid"].isin(["339", "340"])].set_index("image")
    assert set(covid.records["image"].index) == set(xrays.index)
    assert set(covid.records["caption"].index) == set(xrays.index[xrays["clinical_notes"].notna()])
    sides = covid.samples.set_index("sample")["split"].reindex(xrays.index)
    assert (sides.groupby(xrays["patientid"]).nunique() == 1).all()
    told = xrays[xrays["finding"] != "todo"]
    expected = told["finding"].str.contains("COVID-19").astype(int).to_dict()
    assert known(covid, "covid") == expected
    assert sum(known(covid, "intensive_care").values()) == (xrays["went_icu"] == "Y").sum()
    assert sum(known(covid, "death").values()) == (xrays["survival"] == "N").sum()


def test_patients_entered_twice_are_found_where_they_are_not_left_out(covid):
    where = "isin(patientid, '17', '20', '285', '339', '287', '340')"
    cohort = open_cohort("covid_cxr", {"data_root": str(DATA), "subjects.where": where})
    copies = [one for one in check_cohort(cohort) if one.code == "image.duplicate"]
    people = {re.findall(r"subject (\w+)", f"{one.where} {one.what}")[0] for one in copies}
    assert people == {"285", "339", "287", "340"}
