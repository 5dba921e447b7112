"""What a simulated heart cohort says of itself: cohort.yaml and README."""

from __future__ import annotations

from typing import Any

from medmcl.simulation.heart.cmr import FIELD_MM, SLICE_MM
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
