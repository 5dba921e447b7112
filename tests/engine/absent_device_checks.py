"""Every recipe that ships, at its real size, on a GPU that is not there: it is not waited for.

Of stages that differ in numbers, or in which of the encoders learn what, the first is run.
Run by test_absent_device.py, in a process of its own.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from every_kind import ways, write_cohort, write_files
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorDeviceMismatchError,
    FakeTensorMode,
)

from benchmarks.engine import gpu
from medmcl.core import host
from medmcl.core.batch import GROUPS, Batch, Embeddings, InputShape
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ConfigError
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.stand_in import stand_in
from medmcl.data.loading.views import View
from medmcl.encoders import Towers
from medmcl.engine.absent_device import Counts, HostRead, absent, device, move
from medmcl.engine.record import Record
from medmcl.engine.signals import StopRequest
from medmcl.engine.world import World
from medmcl.objectives import build_objective
from medmcl.objectives.pairwise.tiles import Ranks, rows_in_ring
from medmcl.stages.join.spec import JoinSpec
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.recipe.inspect import gpu_needs
from medmcl.stages.recipe.resolve_modalities import for_cohort
from medmcl.stages.run.run import Run
from medmcl.stages.stage import Context
from medmcl.stages.train import train
from medmcl.stages.train.checks import refuse_parts
from medmcl.stages.train.rehearse import Footprint, StageFootprint, plausible, rehearse
from medmcl.stages.train.spec import TrainSpec

device()  # before any test takes a backward pass
RECIPES = sorted(
    (path.stem for path in (Path(__file__).parents[2] / "configs").glob("*.yaml")),
    key=lambda name: (name.endswith("_toy"), name),
)
DONE = set()
"""What has been rehearsed: encoders, and what stages learn."""
EVERY_STEP = {
    # a selector chooses on the host, from a number a row
    "medmcl.engine.selecting.keep_rows",
    "medmcl.stages.train.parts.build_selector.<locals>.<lambda>",
    "medmcl.selection.pools.Pool._look",
    "medmcl.selection.pools.Pool._refuse",
    # routers: which tokens are padding, which found room (one read a layer), how many were charged
    "medmcl.encoders.shared.tower.places_of",
    "medmcl.encoders.shared.experts._dispatch",
    "medmcl.objectives.router.RouterBalance.forward",
    # torch-geometric takes lists of edges, and how many there are differs from batch to batch
    "medmcl.encoders.graph.network.edge_list",
}
"""Who asks for values in each step, and why it cannot be known without."""
NOW_AND_THEN = {
    "medmcl.engine.outcomes.Outcomes.settle",  # every log interval
    "medmcl.engine.loop._means",  # once a tuning loss
    "medmcl.stages.train.train.describe_geometry",  # each tuning batch: what the record says of it
    "medmcl.objectives.supervised.Supervised._require_fitted.<locals>.<genexpr>",  # once a stage
    "medmcl.stages.run.run.embed_records.<locals>.encode",  # embeddings are what was asked for
    "medmcl.encoders.shared.moe.ExpertMLPs.one_by_one",  # embedding in float32: no grouped product
}
"""Who asks for values now and then."""


def told(x: torch.Tensor, asked_by: str) -> np.ndarray:
    """Every flag is up, every number 1; tokens are spread evenly over experts."""
    assert asked_by in EVERY_STEP | NOW_AND_THEN, f"{asked_by} waits for the device"
    if asked_by.endswith("one_by_one"):
        frame = sys._getframe()
        while frame.f_code.co_name != "one_by_one":
            frame = frame.f_back
        each, more = divmod(len(frame.f_locals["x"]), len(x))
        return np.full(len(x), each) + (np.arange(len(x)) < more)
    return plausible(x, asked_by)


def tried_out(network, axes, encoder):
    with FakeTensorMode(allow_non_fake_inputs=True):
        return network(torch.zeros(1, *axes, device="cpu"))


def on_device(view, batch, generator, call=View.__call__, **how):
    """Crops, noise and masks: whatever a view does is done where the model is."""
    assert {x.device for x in batch.inputs.values()} == {torch.device(device().type, 0)}
    return call(view, batch, generator, **how)


def built_once(build=JoinSpec.build):
    """Teachers are built to know how wide they are, and each is three times a ViT."""
    known = {}

    def once(spec, recipe, shapes, seed):
        key = recipe.name, spec.name, repr(shapes)
        if key not in known:
            known[key] = build(spec, recipe, shapes, seed)
        return known[key]

    return once


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    write_files(folder)
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_tunes_and_embeds_where_nothing_can_be_read_back(name, files, monkeypatch):
    for encoder in ("timm_image", "monai3d"):  # what a row of zeros gives: by its shape alone
        monkeypatch.setattr(f"medmcl.encoders.image.{encoder}.try_out", tried_out)
    for metric in ("effective_rank", "uniformity", "alignment"):  # of ones they tell nothing
        monkeypatch.setattr(train, metric, lambda *_: 0.0)
    monkeypatch.setattr(View, "__call__", on_device)
    monkeypatch.setattr(JoinSpec, "build", built_once())
    recipe = read_recipe(name)
    for kinds in ways(recipe):
        cohort = open_cohort(write_cohort(files, recipe, kinds))
        known = for_cohort(recipe, kinds).expanded(cohort.usable_tasks)
        prepared = None
        for stage in known.stages:
            if not isinstance(stage, TrainSpec) or float(stage.label_fraction) < 1:
                continue
            task, anew = taught(stage), built(stage, known) - DONE
            parts = f"{name}_toy" not in RECIPES and encodes_in_parts(stage, known)
            parts = {charged(stage)} - DONE if parts else set()
            if task in DONE and not anew and not parts:
                continue
            prepared = prepared or stand_in(cohort, known.inputs)
            context = context_of(files, known)
            if task not in DONE or anew:
                DONE.update({task, *anew})
                found = rehearse(stage, prepared.for_learning, context, told, steps=1)
                assert found.peak > found.held > 4 * found.parameters
                assert found.rows == min(stage.batch_size, found.rows) > 1
            if parts:  # they see no more of a stage than what is charged for
                DONE.update(parts)
                cut = stage.model_copy(update={"accumulate": 2})
                rehearse(cut, prepared.for_learning, context, told, batch_size=16, steps=1,
                         only_trains=True)  # fmt: skip


def context_of(files, recipe):
    run = Run.begun(files / "run", {"seed": 0, "precision": "bf16"}, recipe)
    return Context(run=run, world=World(), record=Record(files, active=False), stop=StopRequest())


def built(stage, recipe):
    """What encoders and views a stage has, of any size."""
    own = [recipe.towers.get(name, {}).get("encoder", {}) for name in stage.towers]
    views = [view for name, view in recipe.views.items() if name in repr(stage.objectives)]
    encoders = {(one.get("name"), one.get("model"), of_any_size(recipe.shared)) for one in own}
    return encoders | set(map(of_any_size, views))


def taught(stage):
    """What a stage learns, and from which labels, whatever the numbers."""
    return of_any_size((stage.objectives, stage.selector and stage.selector.kind, stage.task,
                        stage.frozen, stage.teacher is None, stage.groups))  # fmt: skip


def charged(stage):
    kinds = {name: one.settings.get("loss") for name, one in stage.objectives.items()}
    return repr((kinds, stage.selector and stage.selector.kind, stage.task, stage.teacher is None,
                 stage.groups is None))  # fmt: skip


def of_any_size(settings):
    return re.sub(r"\d+(\.\d+)?(e-?\d+)?", "", repr(settings))


def encodes_in_parts(stage, recipe):
    try:
        refuse_parts(recipe, stage.model_copy(update={"accumulate": 2}))
    except ConfigError:
        return False
    return True


def test_a_batch_in_parts_computes_more_and_holds_less(files):
    recipe = read_recipe("clip_toy")
    (kinds,) = ways(recipe)
    cohort = open_cohort(write_cohort(files, recipe, kinds))
    known = for_cohort(recipe, kinds).expanded(cohort.usable_tasks)
    stage = next(one for one in known.stages if isinstance(one, TrainSpec))
    prepared = stand_in(cohort, known.inputs).for_learning
    found = []
    for parts in (1, 4):
        cut = stage.model_copy(update={"accumulate": parts})
        found.append(rehearse(cut, prepared, context_of(files, known), told, batch_size=64,
                              steps=1, only_trains=True))  # fmt: skip
    whole, cut = found
    assert cut.peak - cut.held < (whole.peak - whole.held) / 2
    assert 1.2 * whole.flops < cut.flops < 1.5 * whole.flops  # forward twice, backward once


def test_rows_of_like_length_are_put_together_without_a_look_at_the_device():
    own = {"text": {"encoder": {"name": "text_transformer"}, "head": None}}
    towers = Towers.build({"text": InputShape(kind="text", shape=(8,), vocabulary=9)}, own)
    towers.length_groups = 2
    flags = torch.tensor([True, False, True, True])
    batch = Batch(
        ids=torch.arange(4), inputs={"text": torch.ones(4, 8, dtype=torch.int64)},
        present={"text": flags}, lengths={"text": torch.tensor([2, 8, 3, 7])},
    )  # fmt: skip
    flops = []
    for given in (batch, replace(batch, lengths={})):
        counts = Counts()
        with absent(told, counts) as place:
            move(towers, place)
            seen = towers(given.to(place))
            seen.features["text"].sum().backward()
        assert seen.tokens["text"].shape == (4, 8, 128)
        flops.append(counts.flops)
    assert flops[0] < flops[1] * (3 + 3 + 7) / 24


IN_RING = {
    "cross_modal": {},
    "in_modal": {"modality": "ecg", "views": ["plain", "plain_2"]},
    "centrobind": {},
}


@pytest.mark.parametrize("grouped", [False, True])
def test_a_rank_that_has_some_of_the_rows_knows_which_without_a_look_at_the_device(grouped):
    shape = ModelShape(
        inputs=dict.fromkeys(("ecg", "cmr"), InputShape(kind="ecg", shape=(2, 3))),
        widths={}, num_tokens={}, patch={}, tasks={}, teacher_widths={},
    )  # fmt: skip
    flags, groups = torch.tensor([[1, 1, 0, 1, 1, 1]]).bool(), torch.tensor([0.0, 1, 1, 1, 0, 0])
    targets = {GROUPS: groups[:, None]} if grouped else {}
    batch = Batch(
        ids=torch.arange(6), inputs=dict.fromkeys(("ecg", "cmr"), torch.ones(6, 0)),
        present=dict.fromkeys(("ecg", "cmr"), flags[0]), targets=targets,
        known={name: torch.ones(6, 1, dtype=torch.bool) for name in targets},
    )  # fmt: skip
    with absent(told) as place:
        of_two = Ranks(
            1, 2, (2, 4), total=lambda x: x,
            pass_on=lambda own, rows: lambda: [x.new_empty(rows, *x.shape[1:]) for x in own],
        )  # fmt: skip
        there = replace(batch.to(place), own=slice(2, 6))
        for kind, settings in IN_RING.items():
            objective = build_objective(kind, settings, shape)
            move(objective, place)
            points = {n: torch.ones(4, 4, device=place, requires_grad=True) for n in there.inputs}
            seen = Embeddings(batch=there, pooled=points)
            with rows_in_ring(of_two):
                terms = objective(dict.fromkeys(objective.views, seen), there)
            assert [one.count for one in terms.values()] == [5] * len(terms) != []
            sum(one.value for one in terms.values()).backward()


WRONG = {
    lambda x: x.cpu(): HostRead,
    lambda x: x.to("cpu", non_blocking=True): HostRead,
    lambda x: torch.ones(3, 2).copy_(x): HostRead,
    lambda x: x.sum().item(): DataDependentOutputException,
    lambda x: bool(x[0, 0]): DataDependentOutputException,
    lambda x: x.tolist(): DataDependentOutputException,
    lambda x: x[x > 0]: DynamicOutputShapeException,
    lambda x: x.nonzero(): DynamicOutputShapeException,
    lambda x: x + torch.ones(3, 2): FakeTensorDeviceMismatchError,
    lambda x: torch.nn.Linear(2, 2)(x): FakeTensorDeviceMismatchError,
}
"""What a GPU would be waited for, or would refuse."""


def test_what_is_read_back_or_left_elsewhere_is_seen():
    def never(x, asked_by):
        raise AssertionError(asked_by)

    present = torch.tensor([True, False, True])
    batch = Batch(ids=torch.arange(3), inputs={"x": torch.ones(3, 2)}, present={"x": present})
    with absent(never) as place:
        there = batch.to(place)
        assert len(there.rows("x")) == 2
        assert len(there[1:].rows("x")) == 1
        x = there.inputs["x"]
        for wrong, error in WRONG.items():
            with pytest.raises(error):
                wrong(x)
        with pytest.raises(AssertionError, match="test_what_is_read_back"):
            host.read(x)
        with torch.autocast(place.type, dtype=torch.bfloat16):
            assert torch.nn.functional.linear(x, x).dtype == torch.bfloat16
            assert torch.softmax(x.bfloat16(), 1).dtype == torch.float32


def test_operations_and_memory_are_counted_as_by_hand():
    counts = Counts()
    with absent(told, counts) as place:
        a = torch.ones(30, 20, device=place, requires_grad=True)
        b = torch.ones(20, 10, device=place)
        assert counts.now == 4 * (30 * 20 + 20 * 10)
        counts.begin()
        (a @ b).sum().backward()
        assert counts.flops == 2 * 2 * 30 * 20 * 10  # forth, and back to a alone
        assert counts.now == 4 * (2 * 30 * 20 + 20 * 10)
        assert counts.peak > counts.now
        counts.begin()
        q = torch.ones(2, 3, 50, 8, device=place)
        torch.nn.functional.scaled_dot_product_attention(q, q, q)
        assert counts.flops == 2 * 2 * 2 * 3 * 50 * 50 * 8
        assert counts.peak < counts.now + 4 * 2 * 3 * 50 * 50  # no matrix of tokens by tokens


def test_check_says_which_batch_fits_a_gpu(files, monkeypatch):
    recipe = read_recipe("mcl_toy")
    (kinds,) = ways(recipe)
    write_cohort(files, recipe, kinds)
    lines = gpu_needs(files, "mcl_toy", {"stages.base.batch_size": 128})
    assert [line.split(":")[0] for line in lines] == [
        "base",
        "stage_1",
        "stage_2",
        "distilled",
    ]
    assert "a step of 128 rows in bf16" in lines[0]
    (kinds,) = ways(read_recipe("clip_toy"))
    write_cohort(files, read_recipe("clip_toy"), kinds)
    small = {"stages.contrast.batch_size": 8}
    cut = small | {"stages.contrast.length_groups": 2}  # counted as full: the record may be short
    assert gpu_needs(files, "clip_toy", cut) == gpu_needs(files, "clip_toy", small)
    with monkeypatch.context() as patch:
        patch.setattr(
            "medmcl.stages.train.rehearse.rehearse", Mock(side_effect=NotImplementedError)
        )
        (line,) = gpu_needs(files, "clip_toy", small)
    assert line.startswith("stage contrast: what a step takes of a GPU cannot be counted")
    one = StageFootprint("s", Footprint(64, 0, 0, 0, 3 * 10**9), Footprint(32, 0, 0, 0, 2 * 10**9))
    assert one.rows_in(16) == 64 + int((16 - 1.5 - 3) * 32)
    assert one.rows_in(2) == 0


TIMED = [
    (case, way)
    for case in ("masked modelling", "ECG-CMR", "InfoNCE")
    for way, settings in gpu.ways_of(case).items()
    if not (gpu.needs_open_clip(case, way) or "compile" in settings or way.endswith("float32"))
]


@pytest.mark.parametrize(("case", "way"), TIMED)
def test_steps_that_are_timed_on_a_gpu_do_not_wait_for_it(case, way):
    rows = gpu.TINY[case]
    found = gpu.counted(case, way, rows)  # refuses whoever asks for values
    if case == "InfoNCE":  # logits, and products with them back to both sides; tiles are made twice
        assert found["tflop"] * 1e12 == (8 if "tile" in way else 6) * rows**2 * gpu.WIDTH
    else:
        assert found["tflop"] > 0 < found["counted_gb"]
