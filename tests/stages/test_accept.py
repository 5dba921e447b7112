"""A judgement about a whole cohort stops every command until cohort.yaml accepts it."""

import json
import shutil

import pytest
import torch
from changed_files import rewrite
from tiny_runs import tiny

import medmcl
from medmcl.core.errors import CohortError

NAMES = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V3", "V2", "V4", "V5", "V6"]


@pytest.fixture
def renamed(hearts, tmp_path):
    """A cohort in which V2 and V3 are exchanged in every file; gives a function that accepts it."""
    folder = tmp_path / "cohort"
    shutil.copytree(hearts, folder)

    def write(accept):
        told = {"leads": NAMES, "accept": accept}
        rewrite(folder / "cohort.yaml", lambda tree: tree["modalities"]["ecg"].update(told))
        return folder

    return write


def about_names(findings):
    return [
        (one.level, "accepted in cohort.yaml" in one.what)
        for one in findings
        if one.code == "ecg.swapped_leads" and one.scope == "cohort"
    ]


def test_accept_lets_check_pretrain_embed_and_evaluate_pass_and_is_reported(renamed, tmp_path):
    torch.set_num_threads(1)
    overrides = {**tiny("ecg_mdm_toy"), "stages.results.tasks": ["lvef"]}
    kwargs = {"recipe": "ecg_mdm_toy", "device": "cpu", "overrides": overrides}
    folder = renamed({})
    (fault,) = [one for one in medmcl.check(folder) if one.code == "ecg.swapped_leads"
                and one.scope == "cohort"]  # fmt: skip
    assert fault.level == "error"
    assert "accept: {'*': [swapped_leads]}" in fault.fix
    with pytest.raises(CohortError, match="V2 and V3 are swapped"):
        medmcl.pretrain(folder, out=tmp_path / "no", **kwargs)
    renamed({"*": ["swapped_leads"]})
    assert about_names(medmcl.check(folder)) == [("warning", True)]
    run = medmcl.pretrain(folder, out=tmp_path / "run", **kwargs)
    assert len(run.embed(folder, device="cpu")) == len(medmcl.open_cohort(folder).records["ecg"])
    medmcl.evaluate(run.path, folder, tasks=["lvef"], out=tmp_path / "scored", device="cpu")
    for part in ("run", "scored"):
        report = json.loads((tmp_path / part / "report.json").read_text(encoding="utf-8"))
        said = [one for one in report["findings"] if one["code"] == "ecg.swapped_leads"]
        assert [one["what"].endswith("accepted in cohort.yaml") for one in said
                if one["scope"] == "cohort"] == [True]  # fmt: skip
    renamed({})
    with pytest.raises(CohortError, match="V2 and V3 are swapped"):
        run.embed(folder, device="cpu")
