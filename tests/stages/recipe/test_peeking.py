"""Early stopping and the best checkpoint: held_out rows are refused, and change nothing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from begun_runs import context_in
from tiny_runs import tiny

import medmcl
from medmcl.core.errors import ArtefactError, LeakageError
from medmcl.data.loading.prepare import prepare
from medmcl.engine.record import read_metrics
from medmcl.engine.signals import StopRequest
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.run.training import run_stage
from medmcl.stages.train import parts

STAGE = "finetune-lvef-1.0"


def begin(hearts, folder, splits="all"):
    """A cohort with every split open, a stage that stops early, and what it shares with others."""
    torch.set_num_threads(1)
    recipe = read_recipe("ecg_mdm_toy", tiny("ecg_mdm_toy"))
    (spec,) = [one for one in recipe.expanded(["lvef"]).stages if one.name == STAGE]
    spec = spec.model_copy(
        update={"start_from": {}, "epochs": 6.0, "evaluate_every": 0.5, "patience": 2}
    )
    cohort = medmcl.open_cohort(hearts)
    prepared = prepare(cohort, {"ecg": recipe.inputs["ecg"]}, cache=folder / "cache", splits=splits)
    return spec, prepared, context_in(folder, recipe, StopRequest(), tasks=["lvef"])


@pytest.mark.parametrize(
    ("splits", "error"), [("all", LeakageError), (("train", "tuning"), ArtefactError)]
)
def test_choosing_on_held_out_rows_is_refused(hearts, tmp_path, monkeypatch, splits, error):
    spec, prepared, context = begin(hearts, tmp_path, splits)
    held, real = np.flatnonzero(prepared.splits == "held_out"), parts.rows_of

    def peek(rows):
        """Let the stage choose on these rows."""
        monkeypatch.setattr(
            parts,
            "rows_of",
            lambda split, *how: rows() if split == "tuning" else real(split, *how),
        )

    peek(lambda: prepared.rows("held_out"))
    with pytest.raises(error, match="held_out"):
        run_stage(spec, prepared, context)
    peek(lambda: held)
    with pytest.raises(LeakageError, match=r"early stopping.*would see rows of held_out"):
        run_stage(spec, prepared, context)


def test_training_on_held_out_rows_is_refused(hearts, tmp_path, monkeypatch):
    spec, prepared, context = begin(hearts, tmp_path)
    mixed = np.append(prepared.rows("train"), prepared.rows("held_out")[:1])
    monkeypatch.setattr(parts, "training_rows", lambda *_: mixed)
    with pytest.raises(LeakageError, match=r"weights of stage.*rows of held_out"):
        run_stage(spec, prepared, context)


def test_held_out_labels_and_records_change_neither_the_stop_nor_the_best_step(hearts, tmp_path):
    found = []
    for name in ("as it is", "changed"):
        (tmp_path / name).mkdir()
        spec, prepared, context = begin(hearts, tmp_path / name)
        if name == "changed":
            prepared = spoil(prepared)
        facts = run_stage(spec, prepared, context)
        losses = [
            (row["split"], row["step"], row["loss"])
            for row in read_metrics(tmp_path / name / "metrics.jsonl")
        ]
        found.append(
            ({k: v for k, v in facts.items() if k not in ("seconds", "data_wait_seconds")}, losses)
        )
    assert found[0] == found[1]
    assert found[0][0]["best_tuning_loss"] is not None
    assert [row for row in found[0][1] if row[0] == "tuning"]


def spoil(prepared):
    """The same with other records and labels in held_out, all else as it was."""
    held = np.flatnonzero(prepared.splits == "held_out")
    stored = prepared.stored["ecg"]
    rows = np.array(stored.rows)
    number = prepared.index("ecg")[held]
    rows[number[number >= 0]] = rows[number[number >= 0]][..., ::-1] + 3.0
    other = replace(prepared, stored={"ecg": replace(stored, rows=rows)})
    whole = other.cohort.targets

    def changed(name):
        task = whole(name)
        values = task.values.copy()
        values[held] = values[held][::-1] * 5 + 100
        return replace(task, values=values)

    cohort = prepared.cohort
    other.cohort = SimpleNamespace(
        targets=changed, records=cohort.records, spec=cohort.spec, subjects=cohort.subjects,
        sides=cohort.sides,
    )  # fmt: skip
    return other
