"""Batches encoded in parts, from a recipe."""

from __future__ import annotations

import pytest
import small_squares
import torch
from small_squares import write_squares

import medmcl
from medmcl.core.errors import ConfigError
from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.record import read_metrics
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.train.checks import refuse_empty_parts

SMALL = {
    **small_squares.SMALL,
    "inputs.picture.size": 16,
    "towers.caption.encoder": {"name": "clip_text", "width": 16, "depth": 1, "heads": 2},
    "stages.contrast.batch_size": 16,
    "stages.contrast.epochs": None,
    "stages.contrast.steps": 4,
    "stages.contrast.log_every": 1,
    "stages.contrast.optimiser": {"name": "sgd", "lr": 0.1},
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    torch.set_num_threads(1)
    return write_squares(tmp_path_factory.mktemp("squares") / "cohort", people=48, side=16)


def train(squares, out, more=None, **stage):
    """Lines of the record, and the last weights."""
    changed = {f"stages.contrast.{key}": value for key, value in stage.items()}
    run = medmcl.pretrain(
        squares, recipe="clip_toy", out=out, device="cpu",
        overrides={**SMALL, **(more or {}), **changed},
    )  # fmt: skip
    kept = Checkpoints(run.path / "checkpoint" / "contrast")
    return read_metrics(run.path / "metrics.jsonl"), kept.weights("last")


def test_three_parts_train_like_the_whole_batch(squares, tmp_path):
    selector = {"kind": "clip_score", "pair": ["picture", "caption"], "share": 0.7}
    whole, weights = train(squares, tmp_path / "whole", selector=selector)
    parts, others = train(squares, tmp_path / "parts", selector=selector, accumulate=3)
    assert len(whole) == len(parts) > 4
    assert whole[-2]["kept_rows"] == parts[-2]["kept_rows"] == 4 * 11
    for one, other in zip(whole, parts, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=1e-4, atol=1e-5)


NORM = {"towers.picture.head.norm": "batch", "towers.picture.head.layers": 2}


def test_batch_norm_of_parts_is_asked_for_by_name_and_warned_of(squares, tmp_path, caplog):
    caplog.set_level("INFO")
    with pytest.raises(ConfigError, match=r"loss and gradient(.|\n)*contrast.part_norms=true"):
        train(squares, tmp_path / "run", NORM, accumulate=2, steps=1)
    assert not (tmp_path / "run").exists()
    lines, _ = train(squares, tmp_path / "run", NORM, accumulate=2, steps=1, part_norms=True)
    assert "warning: contrast: batch norm in the tower of 'image' sees" in caplog.text
    assert "tower of 'caption'" not in caplog.text
    whole, _ = train(squares, tmp_path / "whole", NORM, steps=1)
    assert abs(lines[0]["loss"] - whole[0]["loss"]) > 1e-4  # why it is refused otherwise


def test_more_parts_than_subjects_are_refused_before_the_first_step(squares, tmp_path):
    with pytest.raises(ConfigError, match="at most 36"):
        train(squares, tmp_path / "run", batch_size=64, accumulate=37)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("parts", "ratio", "ranks", "most"),
    [(10, None, 1, 10), (11, None, 1, 10), (6, None, 2, 5), (3, 0.25, 1, 2), (2, 0.25, 2, 1),
     (3, 0.01, 4, 1)],
)  # fmt: skip
def test_the_smallest_batch_of_a_process_says_how_many_parts_there_can_be(
    parts, ratio, ranks, most
):
    spec = read_recipe("clip_toy").stages[0].model_copy(update={"accumulate": parts})
    if ratio is not None:
        chosen = read_recipe("dissect_toy").stages[0].selector
        spec = spec.model_copy(update={"selector": chosen.model_copy(update={"share": ratio})})
    if parts <= most:
        refuse_empty_parts(spec, 10, ranks)
        return
    with pytest.raises(ConfigError, match=f"at most {most}") as error:
        refuse_empty_parts(spec, 10, ranks)
    assert f"--set stages.contrast.accumulate={most}" in str(error.value)


def test_the_parts_that_fit_are_found_told_and_kept(squares, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("medmcl.engine.fitting.free_memory", lambda: 900_000)
    _, found = train(squares, tmp_path / "auto", accumulate="auto")
    told = next(one for one in caplog.messages if "are encoded in" in one)
    parts = int(told.split("encoded in ")[1].split()[0])
    assert 1 < parts < 16
    _, same = train(squares, tmp_path / "said", accumulate=parts)
    assert all(torch.equal(value, found[name]) for name, value in same.items())
    monkeypatch.setattr("medmcl.engine.fitting.free_memory", lambda: 10**12)
    _, whole = train(squares, tmp_path / "whole", accumulate="auto")
    _, once = train(squares, tmp_path / "once")
    assert all(torch.equal(value, whole[name]) for name, value in once.items())
    monkeypatch.setattr("medmcl.engine.fitting.free_memory", lambda: 10)
    with pytest.raises(ConfigError, match="does not fit in memory, in however many parts"):
        train(squares, tmp_path / "none", accumulate="auto")


def test_rows_that_will_be_cut_are_counted_as_full(squares, tmp_path, caplog):
    caplog.set_level("INFO")
    for groups in (None, 2):
        more = {"steps": 1, "length_groups": groups}
        train(squares, tmp_path / str(groups), accumulate="auto", **more)
    held = [
        one.split("a row holds ")[1].split(",")[0] for one in caplog.messages if "a row h" in one
    ]
    assert len(held) == 2
    assert held[0] == held[1]


def test_memory_does_not_decide_what_batch_norm_sees(squares, tmp_path):
    with pytest.raises(ConfigError, match="batch norm sees the rows of a part, so memory"):
        train(squares, tmp_path / "run", NORM, accumulate="auto", steps=1, part_norms=True)
    assert not (tmp_path / "run").exists()  # it is told before anything begins
