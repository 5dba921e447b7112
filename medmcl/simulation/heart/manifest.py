"""What a simulated heart cohort says of itself: cohort.yaml and README."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from medmcl.simulation.heart.cmr import CYCLE, FIELD_MM, SLICE_MM
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.state import CONDUCTIONS

PHENOTYPES = {
    "LVEDV": "lv_edv",
    "LVESV": "lv_esv",
    "LVSV": "lv_sv",
    "LVEF": "lv_ef",
    "LVCO": "lv_co",
    "LVM": "lv_mass",
    "RVEDV": "rv_edv",
    "RVESV": "rv_esv",
    "RVEF": "rv_ef",
    "WT": "wall_thickness",
    "WT_septal": "wt_septal",
    "WT_lateral": "wt_lateral",
    "Ecc": "ecc",
}


def cohort_trees(settings: HeartSettings) -> dict[str, dict[str, Any]]:
    """File name to the tree of a cohort.yaml: the cohort, and its files where both forms lie."""
    if not settings.has_shards:
        return {"cohort.yaml": _tree(settings, _file_modalities())}
    trees = {"cohort.yaml": _tree(settings, _shard_modalities(settings))}
    if settings.num_files:
        trees["cohort_files.yaml"] = _tree(settings, _file_modalities(), "has_files == 1")
    return trees


def _tree(
    settings: HeartSettings, modalities: dict[str, Any], where: str | None = None
) -> dict[str, Any]:
    subjects = {"table": "participants.tsv", "id": "subject_id", "split": "split", "group": "site"}
    return {
        "schema": "medmcl/cohort@1",
        "about": f"simulated hearts: {settings.subjects} subjects, seed {settings.seed}, "
        f"ECG-CMR coupling {settings.coupling:g}",
        "subjects": subjects | ({"where": where} if where else {}),
        "modalities": modalities
        | {
            "clinic": {
                "reader": "table",
                "columns": {
                    "age": {"kind": "number", "unit": "years"},
                    "sex": "category",
                    "bmi": {"kind": "number", "unit": "kg/m2"},
                },
            }
        },
        "tasks": {
            "heart_failure": {
                "kind": "survival",
                "time": "hf_days",
                "event": "hf_event",
                "unit": "days",
                "horizons_years": [1, 5, 10],
            },
            "lvef": {"kind": "regression", "columns": {"LVEF": "lv_ef"}, "unit": "%"},
            "lv_mass": {"kind": "regression", "columns": {"LVM": "lv_mass"}, "unit": "g"},
            "phenotypes": {
                "kind": "regression",
                "columns": dict(PHENOTYPES),
                "about": "volumes mL, mass g, output L/min, thickness mm, EF and strain %",
            },
            "infarct": {"kind": "binary", "column": "infarct == 1"},
            "conduction": {
                "kind": "multiclass",
                "column": "conduction",
                "classes": list(CONDUCTIONS),
            },
        },
        "recipe": settings.recipe,
    }


def _file_modalities() -> dict[str, Any]:
    return {
        "ecg": {
            "reader": "wfdb",
            "path": "ecg/{subject_id}",
            "present": "has_ecg == 1",
            "leads": "12std",
            "rate_hz": 500,
            "units": "mV",
        },
        "cmr": {
            "reader": "nifti",
            "path": "cmr/{subject_id}.nii.gz",
            "present": "has_cmr == 1",
            "axes": "xyzt",
            "frames": {"es": "cine_es", "mid": "cine_mid", "ed": "cine_ed"},
            "orient": "stored",
        },
    }


def _shard_modalities(settings: HeartSettings) -> dict[str, Any]:
    size = round(FIELD_MM / settings.cmr_size, 6)
    names = {1: ["ed"], 2: ["es", "ed"]}.get(settings.cmr_frames, ["es", "mid", "ed"])
    return {
        "ecg": {
            "kind": "ecg",
            "reader": "npy",
            "path": "shards/ecg.npy",
            "row": "ecg_row",
            "present": "has_ecg == 1",
            "leads": "12std",
            "rate_hz": settings.ecg_rate_hz,
            "units": "mV",
        },
        "cmr": {
            "kind": "cmr",
            "reader": "npy",
            "path": "shards/cmr.npy",
            "row": "cmr_row",
            "present": "has_cmr == 1",
            "axes": "tyx" if settings.cmr_slices == 1 else "tzyx",
            "spacing_mm": [size, size, SLICE_MM],
            "frames": {name: f"shard_{name}" for name in names},
        },
    }


def write_yaml(path: Path, tree: dict[str, Any]) -> None:
    """Write a tree in the order of its keys."""
    text = yaml.safe_dump(tree, sort_keys=False, width=100, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def readme(settings: HeartSettings) -> str:
    """Say what lies in the folder, in which units, and how it came about."""
    lines = [
        "# Simulated hearts",
        "",
        f"{settings.subjects} subjects, none of them real: `medmcl simulate heart`, "
        f"seed {settings.seed}, ECG-CMR coupling {settings.coupling:g}. Free of any licence (CC0).",
        "",
        "One state a subject (volumes, mass, wall thickness, ejection fraction, infarct, heart "
        "rate, conduction, age, sex, BMI) draws the CMR, the phenotypes and the outcomes. The ECG "
        "is drawn by a state whose latents correlate with it by the coupling: at 1 it is the same "
        "state, at 0 somebody else's. Electrode gains, position of the heart, P waves, ectopic "
        "beats, wander and noise of the ECG, and position, surroundings, scanner and noise of the "
        "CMR have nothing to do with the state.",
        "",
        "| file | what it holds |",
        "|---|---|",
        "| `cohort.yaml` | the cohort as medmcl reads it |",
        "| `participants.tsv` | splits, presence, clinic, phenotypes, outcomes; `n/a` = missing |",
        "| `truth.parquet` | the states: of the CMR plainly, of the ECG with `ecg_` before it |",
    ]
    if settings.has_shards:
        frames = {1: "ED", 2: "ES, ED", 3: "ES, mid, ED", 4: "ES, mid, ED, mid-diastole"}
        order = frames.get(settings.cmr_frames, "evenly over the cycle from ED")
        axes = "(row, t, y, x)" if settings.cmr_slices == 1 else "(row, t, z, y, x)"
        lines += [
            f"| `shards/ecg.npy` | (row, lead, sample) in mV, {settings.ecg_rate_hz} Hz; leads I, "
            "II, III, aVR, aVL, aVF, V1 to V6; row: `ecg_row` |",
            f"| `shards/cmr.npy` | {axes}, blood near 1; frames: {order}; row: `cmr_row` |",
            "| `shards/heart_mask.npy` | where the heart is at ED; rows as in `cmr.npy` |",
        ]
    if settings.num_files:
        lines += [
            "| `ecg/` | WFDB, 12 leads, 500 Hz, 10 s, mV |",
            f"| `cmr/` | NIfTI short-axis cine (x, y, z, t), {CYCLE} frames of one beat from ED; "
            "`_mask`: 1 RV, 2 myocardium, 3 LV |",
        ]
    if settings.has_shards and settings.num_files:
        lines += [
            "| `cohort_files.yaml` | the same, read from the files of those who have them |",
            "",
            f"The first {settings.num_files} subjects lie as files too. A shard's ECG is the "
            "beginning of the file at a lower rate; its CMR shows the middle slice of the file at "
            "the same frames, with larger pixels and noise of its own.",
        ]
    lines += [
        "",
        "Columns: `lv_edv lv_esv lv_sv rv_edv rv_esv` mL, `lv_ef rv_ef ecc` %, `lv_mass` g, "
        "`lv_co` L/min, `wall_thickness wt_septal wt_lateral` mm (all read with 3 to 5 % error); "
        "`infarct` 0/1; `conduction`; `hf_days`, `hf_event`: heart failure or end of follow-up.",
    ]
    return "\n".join(lines) + "\n"
