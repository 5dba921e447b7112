"""Selection within batches from a recipe: DISSect on coloured squares."""

import json

import pytest
import small_squares
import torch
from read_pages import both_pages
from small_squares import write_squares

import medmcl
from medmcl.core.errors import ConfigError
from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.record import read_metrics

SMALL = {
    **small_squares.SMALL,
    "stages.contrast.batch_size": 24,
    "stages.contrast.epochs": None,
    "stages.contrast.steps": 12,
    "stages.contrast.log_every": 1,
    "stages.contrast.selector.warmup_epochs": 1,
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    torch.set_num_threads(1)
    return write_squares(tmp_path_factory.mktemp("squares") / "cohort", people=144, side=48)


def test_half_of_each_batch_takes_the_step_and_history_is_kept(squares, tmp_path):
    made = medmcl.pretrain(
        squares, recipe="dissect_toy", out=tmp_path / "run", overrides=SMALL, device="cpu"
    )
    facts = json.loads((made.path / "checkpoint" / "contrast" / "done.json").read_text("utf-8"))
    assert (facts["judged_rows"], facts["kept_rows"]) == (12 * 24, 12 * 12)
    assert 0 < facts["selection_seconds"] < facts["seconds"]
    lines = [row for row in read_metrics(made.path / "metrics.jsonl") if row["split"] == "train"]
    assert [row["kept_rows"] for row in lines] == [12 * step for step in range(1, 13)]
    saved = Checkpoints(made.path / "checkpoint" / "contrast").resume(point=False)[1]["selector"]
    assert len(saved["history"]) == 144
    assert saved["seen"].sum() == facts["rows"]
    report = both_pages(made.path)
    assert "144 of 288 rows kept" in report


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "random", "mode": "momentum"}, "unknown key 'stages.contrast.selector.mode'"),
        ({"pair": ["picture", "words"]}, "unknown tower 'words'"),
        ({"share": 0}, "share"),
        ({"kind": "diferential"}, "differential"),
    ],
)
def test_a_selector_that_cannot_be_used_is_refused(squares, tmp_path, change, words):
    plain = {"kind": "differential", "pair": ["picture", "caption"], "share": 0.5}
    own = {key: value for key, value in SMALL.items() if ".selector" not in key}
    with pytest.raises(ConfigError) as error:
        medmcl.pretrain(
            squares, recipe="dissect_toy", out=tmp_path / "run", device="cpu",
            overrides={**own, "stages.contrast.selector": {**plain, **change}},
        )  # fmt: skip
    assert words in str(error.value)
