"""Mistakes that all records of a cohort share stop check and training alike."""

import numpy as np
import pytest
import yaml

from medmcl.core.errors import CohortError
from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import prepare
from medmcl.data.loading.reading import inspect_together
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.subjects import draw_block

COUNT = 8
INPUTS = {"ecg": {"rate_hz": 100, "seconds": 10}}
LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]


@pytest.fixture
def hearts(tmp_path):
    """Write a cohort of simulated hearts in one array; the leads are named as told."""
    signals = draw_block(HeartSettings(subjects=COUNT), 0).ecg_signal(
        HeartSettings(subjects=COUNT), np.arange(COUNT), 100, 10
    )
    np.save(tmp_path / "ecg.npy", np.stack(list(signals)).astype(np.float32))
    rows = [f"s{n},{'train' if n < 6 else 'tuning' if n < 7 else 'held_out'},{n}" for n in range(8)]
    (tmp_path / "people.csv").write_text("\n".join(["subject_id,split,row", *rows]) + "\n")

    def write(leads):
        ecg = {"kind": "ecg", "reader": "npy", "path": "ecg.npy", "row": "row", "rate_hz": 100}
        ecg |= {"units": "mV", "axes": "LS", "leads": list(leads)}
        subjects = {"table": "people.csv", "id": "subject_id", "split": "split"}
        tree = {"schema": "medmcl/cohort@1", "subjects": subjects, "modalities": {"ecg": ecg}}
        tree["on_bad_record"] = "exclude"
        (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(tree))
        return tmp_path

    return write


def shared_faults(folder):
    found = check_cohort(folder, INPUTS)
    return [one for one in found if one.scope == "cohort" and one.code.startswith("ecg.")]


def test_true_names_pass(hearts, tmp_path):
    folder = hearts(LEADS)
    assert not [
        one
        for one in check_cohort(folder, INPUTS)
        if one.scope == "cohort" and one.code[:4] == "ecg."
    ]
    prepared = prepare(open_cohort(folder), INPUTS, cache=tmp_path / "cache")
    assert prepared.usable("ecg").all()


def test_neighbours_named_alike_wrongly_stop_check_and_training(hearts, tmp_path):
    folder = hearts([*LEADS[:6], "V2", "V1", *LEADS[8:]])
    faults = [
        one
        for one in check_cohort(folder, INPUTS)
        if one.scope == "cohort" and one.code[:4] == "ecg."
    ]
    assert [one.code for one in faults] == ["ecg.swapped_leads"]
    assert faults[0].level == "error"
    assert faults[0].where == "modalities.ecg, all ECGs"
    for _ in range(2):
        with pytest.raises(CohortError, match="V1 and V2 are swapped"):
            prepare(open_cohort(folder), INPUTS, cache=tmp_path / "cache")


def test_adapters_without_such_a_check_read_nothing():
    assert inspect_together(object(), "clinic", [None] * 3) == []
