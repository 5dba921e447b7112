"""What `pretrain` refuses before its first step `check` finds, too, without preparing a cohort."""

import copy

import numpy as np
import pytest
from small_squares import SMALL, write_squares

import medmcl
from medmcl.core.errors import MedmclError
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.stand_in import stand_in
from medmcl.stages.run import pretrain as pretraining

TRAIN = "stages.contrast"
MISTAKES = {
    "a view that nothing defines": {f"{TRAIN}.objectives.cross_modal.view": "augmentd"},
    "one row to contrast": {f"{TRAIN}.batch_size": 1},
    "heads that do not divide a width": {"towers.caption.encoder.heads": 3},
    "options that a network of timm refuses": {"towers.picture.encoder.options.embed_dim": 15},
    "towers that end in different widths": {"towers.picture.head.out": 8},
    "an encoder of signals for texts": {"towers.caption.encoder": {"name": "ecg_vit"}},
    "a pair of what is not there": {
        f"{TRAIN}.objectives.cross_modal.pairs": [["picture", "captio"]]},
    "nothing to learn from": {f"{TRAIN}.objectives.distil": {}},
    "routers of a tower without": {f"{TRAIN}.objectives.router": {}},
    "a task that the cohort lacks": {
        f"{TRAIN}.objectives.supervised": {"task": "colur", "modality": "picture"}},
    "weights that are nowhere": {f"{TRAIN}.weights": {"picture": {"path": "nowhere.safetensors"}}},
    "a stage that is not there": {f"{TRAIN}.selected_by": "nope"},
    "vectors that an encoder does not take": {f"{TRAIN}.vectors": {"caption": "pmi"}},
    "an objective that does not exist": {f"{TRAIN}.objectives.masked_patches": {}},
    "hidden tokens of a tower without": {
        f"{TRAIN}.objectives.masked": {"modality": "caption", "view": "augmented"}},
}  # fmt: skip


class Began(Exception):  # noqa: N818 - an event, not an error
    """A run that nothing refused."""


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squares")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDMCL_CACHE", str(folder / "cache"))
        yield write_squares(folder / "cohort", people=48)


def refused(squares, changes, out, monkeypatch):
    """What `pretrain` says before it writes a run; nothing if it would begin."""

    def begin(*_):
        raise Began

    monkeypatch.setattr(pretraining, "_write_first_files", begin)
    try:
        medmcl.pretrain(squares, recipe="clip_toy", overrides={**SMALL, **changes}, out=out,
                        device="cpu")  # fmt: skip
    except MedmclError as error:
        return error.what
    except Began:
        return ""
    raise AssertionError


def found(squares, changes):
    """The errors of `check`, which may refuse a setting itself."""
    try:
        told = medmcl.check(squares, recipe="clip_toy", overrides={**SMALL, **changes})
    except MedmclError as error:
        return [error.what]
    return [one.what for one in told if one.level == "error"]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_pretrain_refuses_check_finds(mistake, squares, tmp_path, monkeypatch):
    what = refused(squares, MISTAKES[mistake], tmp_path / "run", monkeypatch)
    assert what, "pretrain would begin"
    assert any(what in one for one in found(squares, MISTAKES[mistake])), what


def test_a_sound_recipe_is_refused_by_neither(squares, tmp_path, monkeypatch):
    assert refused(squares, {}, tmp_path / "run", monkeypatch) == ""
    assert found(squares, {}) == []


def test_whoever_gives_settings_keeps_them(squares):
    given = {**SMALL, "towers.picture.encoder.options.embed_dim": 32}
    before = copy.deepcopy(given)
    medmcl.check(squares, recipe="clip_toy", overrides=given)
    assert given == before


def test_one_record_stands_for_all_and_costs_no_memory(squares):
    inputs = {"image": {"size": 32}, "caption": {"max_tokens": 16}}
    prepared = stand_in(open_cohort(squares), inputs)
    rows = prepared.rows("train", ("image", "caption"))
    batch = prepared.batch(rows)
    assert batch.inputs["image"].shape[1:] == prepared.adapters["image"].prepared_shape
    np.testing.assert_array_equal(batch.inputs["image"][0], batch.inputs["image"][-1])
    assert prepared.inputs("image").strides[0] == 0
    assert prepared.partly == frozenset()
    assert len(set(prepared.identity("image").tolist())) == 48


def test_what_was_learned_of_a_part_is_said_to_be(squares, monkeypatch):
    monkeypatch.setattr("medmcl.data.loading.stand_in.FITTED_ON", 5)
    prepared = stand_in(open_cohort(squares), {"caption": {}})
    assert prepared.partly == {"caption"}
