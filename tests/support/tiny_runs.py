"""Overrides that make the toy recipes run in seconds."""

TINY = {
    "stages.mdm.steps": 4,
    "stages.mmcl.steps": 6,
    "stages.simclr.steps": 4,
    "stages.contrast.epochs": 2,
    "stages.finetune-{task}-{label_fraction}.epochs": 1,
    "stages.results.bootstrap_draws": 100,
    "stages.results.draws": 1,
    "stages.results.label_fractions": [1.0],
    "stages.finetune-{task}-{label_fraction}.for_each": {
        "task": ["lvef", "infarct"],
        "label_fraction": [1.0],
    },
    "stages.results.tasks": ["lvef", "heart_failure", "infarct"],
}
STAGES = {
    "ecg_cmr_toy": ("mdm", "mmcl"),
    "ecg_cmr_no_mdm_toy": ("mmcl",),
    "ecg_mdm_toy": ("mdm",),
    "ecg_simclr_toy": ("simclr",),
    "ecg_scratch_toy": (),
    "ecg_text_toy": ("contrast",),
}
TINY_EHR = {
    "claime_toy": {"stages.results.bootstrap_draws": 100},
    "ehr_contrastive_toy": {
        "stages.contrast.epochs": None,
        "stages.contrast.steps": 8,
        "stages.results.bootstrap_draws": 100,
    },
}
"""Overrides for recipes over codes, of a `small_hospital`."""
SHORT = {"inputs.ecg.seconds": 5, "inputs.ecg.crop_seconds": 5}
"""The simulated ECGs last 5 s; the recipes for ECG and text read 10."""


def tiny(recipe: str) -> dict[str, object]:
    """Overrides that make a toy recipe run in a few seconds."""
    absent = {"mdm", "mmcl", "simclr", "contrast"} - set(STAGES[recipe])
    kept = {key: value for key, value in TINY.items() if key.split(".")[1] not in absent}
    return {**kept, **(SHORT if recipe == "ecg_text_toy" else {})}
