"""Fine-tuning and the probe with a tenth of the labels see the same people."""

import pandas as pd
import pytest
import torch
from short_runs import unreported
from tiny_runs import tiny

from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.protocol.setting import Setting
from medmcl.simulation.kinds import simulate

pytestmark = pytest.mark.usefixtures("cache")

FINETUNE = "stages.finetune-{task}-{label_fraction}"
MISSING = {"missing_ecg": 0.2, "missing_clinic": 0.2}


@pytest.mark.parametrize("missing", [{}, MISSING], ids=["complete", "patchy"])
def test_fine_tuning_and_the_probe_see_the_same_tenth_of_the_labels(missing, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    folder = simulate("heart", tmp_path / "h", {"subjects": 300, "form": "shards", **missing})
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    table.loc[::5, "lv_ef"] = None  # labels are missing too
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    trained, probed = set(), []
    batch, keep = Prepared.batch, Setting.keep

    def watched_batch(self, rows, tasks=(), modalities=None):
        if tasks:
            train = self.splits[rows] == "train"
            trained.update(self.subjects[rows][train].tolist())
        return batch(self, rows, tasks, modalities)

    def watched_keep(self, rows, fraction, draw):
        chosen = keep(self, rows, fraction, draw)
        if fraction < 1 and draw == 0:
            probed.append(set(self.subjects[chosen].tolist()))
        return chosen

    monkeypatch.setattr(Prepared, "batch", watched_batch)
    monkeypatch.setattr(Setting, "keep", watched_keep)
    run = unreported(
        folder, recipe="ecg_mdm_toy", out=tmp_path / "run",
        overrides={
            **tiny("ecg_mdm_toy"),
            f"{FINETUNE}.for_each": {"task": ["lvef"], "label_fraction": [0.1]},
            f"{FINETUNE}.batch_size": 4, f"{FINETUNE}.epochs": 6, f"{FINETUNE}.patience": None,
            "stages.results.tasks": ["lvef"], "stages.results.label_fractions": [0.1],
        },
    )  # fmt: skip
    assert run.facts("finetune-lvef-0.1")["rows"] == len(trained) > 5
    assert len(probed) > 1
    assert all(people == trained for people in probed)
