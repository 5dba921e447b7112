"""Steps that are timed: a recipe's or a peer's network by medmcl's loop, and the same written plainly.

Each is a function without arguments that takes one step. Inputs are random; they lie on the host, for
a GPU in pinned memory, and each step copies them, as training does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

Step = Callable[[], None]
SEARCHES: list[float] = []
"""CPU seconds of DDP's searches of this process."""
BATCHES = {
    "masked modelling": 32,
    "ECG-CMR": 8,
    "toy": 128,
    "toy in DDP": 32,
    "ECG-CMR in DDP": 8,
    "toy towers": 128,
    "ECG-CMR towers": 8,
    "timm": 8,
    "open_clip": 4,
    "lightly": 16,
    "MONAI": 4,
}
"""Rows of a step: smaller than those of the recipes (128, 256), so that all ways fit in memory."""
ECG, CMR, WORDS, CLASSES = (12, 2500), (3, 210, 210), 49408, 1000
SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "masked modelling": {"ecg": ECG},
    "ECG-CMR": {"ecg": ECG, "cmr": CMR},
    "toy": {"ecg": (12, 400)},
    "toy in DDP": {"ecg": (12, 400)},
    "ECG-CMR in DDP": {"ecg": ECG, "cmr": CMR},
    "toy towers": {"ecg": (12, 400), "cmr": (3, 32, 32)},
    "ECG-CMR towers": {"ecg": ECG, "cmr": CMR},
    "timm": {"image": (3, 224, 224)},
    "open_clip": {"image": (3, 224, 224), "text": (77,)},
    "lightly": {"image": (3, 96, 96)},
    "MONAI": {"image": (1, 48, 56, 48)},
}
"""What goes into each case; texts are numbers of tokens."""
TOWERS: dict[str, dict[str, Any]] = {
    "timm": {"image": {"encoder": {"name": "timm", "model": "vit_small_patch16_224"}, "head": None}},
    "open_clip": {
        "image": {"encoder": {"name": "timm", "model": "vit_base_patch32_clip_224"},
                  "head": {"layers": 1, "bias": False, "out": 512}},
        "text": {"encoder": {"name": "clip_text"}, "head": {"layers": 1, "bias": False, "out": 512}},
    },
    "lightly": {"image": {"encoder": {"name": "timm", "model": "resnet18"},
                          "head": {"hidden": 512, "out": 128, "norm": "batch"}}},
    "MONAI": {"image": {"encoder": {"name": "monai3d", "network": "resnet18", "norm": "group"},
                        "head": {"hidden": 512, "out": 128}}},
}  # fmt: skip
OBJECTIVES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "timm": ("supervised", {"task": "classes", "modalities": ["image"], "view": "plain"}, ("plain",)),
    "open_clip": ("cross_modal", {"view": "plain", "scale": {"init": 14.2857, "learned": True}},
                  ("plain",)),
    "lightly": ("in_modal", {"modality": "image", "views": ["one", "two"]}, ("one", "two")),
    "MONAI": ("in_modal", {"modality": "image", "views": ["one", "two"]}, ("one", "two")),
}  # fmt: skip
"""Kind, settings and views of the peers' objective."""


def task_of(case: str, rows: int) -> Any:
    """Classes that are known of each row, where a case has any."""
    import numpy as np

    from medmcl.core.targets import Targets

    if case != "timm":
        return None
    each = np.arange(rows, dtype=float)[:, None] % CLASSES
    names = tuple(map(str, range(CLASSES)))
    return Targets(name="classes", kind="multiclass", columns=("class",), classes=names,
                   values=each, known=np.ones(each.shape, bool))  # fmt: skip


def inputs_of(case: str, rows: int) -> dict[str, Any]:
    """Random rows of a case."""
    import torch

    return {
        name: torch.randint(1, WORDS, (rows, *size), device="cpu")
        if name == "text"
        else torch.randn(rows, *size, device="cpu")
        for name, size in SIZES[case].items()
    }


def move(module: Any, device: Any) -> None:
    """Move a module to a device, in place; also to one that is not there."""
    from medmcl.engine import absent_device

    if device.type == absent_device.NAME:
        absent_device.move(module, device)
    else:
        module.to(device)


def published(case: str, rows: int, device: Any, settings: dict[str, Any]) -> Step:
    """A plain loop over the published network."""
    import torch

    from benchmarks.engine import published_networks as nets

    kinds = {
        "masked modelling": nets.MaskedModelling, "ECG-CMR": nets.Pairs,
        "timm": nets.Timm, "open_clip": nets.OpenClip, "lightly": nets.Lightly, "MONAI": nets.Monai,
    }  # fmt: skip
    inputs, net = list(inputs_of(case, rows).values()), kinds[case]()
    if device.type == "cuda":
        inputs = [x.pin_memory() for x in inputs]
    move(net, device)
    kind = torch.optim.Adam if case == "ECG-CMR" else torch.optim.AdamW
    optimiser = kind([one for one in net.parameters() if one.requires_grad], lr=1e-4)
    called = torch.compile(net) if settings.get("compile") else net
    narrow = settings.get("precision") == "bf16"

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            loss = called(*(x.to(device, non_blocking=True) for x in inputs))
        loss.backward()
        optimiser.step()

    return step


def learner_of(case: str) -> tuple[Any, dict[str, Any]]:
    """The learner of a recipe that ships, at its size, or a peer's; and its views."""
    from medmcl.core.batch import InputShape
    from medmcl.data.loading.view_settings import ViewSettings
    from medmcl.data.loading.views import View
    from medmcl.encoders import Towers
    from medmcl.engine.loop import Learner
    from medmcl.objectives import build_objective
    from medmcl.stages.recipe.file import read_recipe

    shapes = {
        name: InputShape(kind=name, shape=size, vocabulary=WORDS if name == "text" else 0)
        for name, size in SIZES[case].items()
    }
    mask: Any = {}
    if case in TOWERS:
        towers = Towers.build(shapes, TOWERS[case])
        kind, settings, names = OBJECTIVES[case]
    else:
        recipe = read_recipe("ecg_cmr_toy" if case.startswith("toy") else "ecg_cmr")
        stage: Any = recipe.stages[1 if "cmr" in shapes else 0]
        towers = Towers.build(shapes, {name: recipe.towers[name] for name in shapes})
        ((kind, one),) = stage.objectives.items()
        names, settings = ("masked",), one.settings
        mask = recipe.views["masked"].mask
        if "cmr" in shapes:
            names, settings, mask = ("plain",), {**settings, "view": "plain"}, {}
    task = task_of(case, CLASSES)
    shape = towers.shape(shapes, task and {task.name: task})
    as_they_are: Any = SimpleNamespace(kind="ecg", plain=lambda x: x)
    view = View(ViewSettings(mask=mask), dict.fromkeys(shapes, as_they_are), shape.num_tokens)
    learner = Learner(towers, {kind: build_objective(kind, settings, shape)}, {kind: 1.0})
    return learner, dict.fromkeys(names, view)


def own(case: str, count: int, device: Any, settings: dict[str, Any]) -> Step:
    """A step of medmcl's loop; or (``bare``) the least that a loop must do around the same parts."""
    import numpy as np
    import torch

    from medmcl.core.batch import Batch
    from medmcl.core.rng import RowGenerator, torch_generator
    from medmcl.encoders.tower_threads import TowerThreads
    from medmcl.engine import loop
    from medmcl.engine.compiling import compile_blocks
    from medmcl.engine.feed import Feed
    from medmcl.engine.layout import lies_channels_last
    from medmcl.engine.onednn import linear_by_onednn
    from medmcl.engine.optimiser import OptimiserSettings, build_optimiser
    from medmcl.engine.world import World

    learner, views = learner_of(case)
    rows, precision = np.arange(count), settings.get("precision", "fp32")
    if settings.get("channels_last"):
        lies_channels_last(learner)
    move(learner, device)
    module = learner if "search" not in settings else in_ddp(learner, views, case, settings)
    if settings.get("onednn"):
        linear_by_onednn(learner)
    if settings.get("compile"):
        compile_blocks(learner, case)
    if "threads" in settings:
        learner.model.threads = TowerThreads(settings["threads"])
    name: Any = "adam" if case == "ECG-CMR" else "adamw"
    plan = loop.Plan(
        stage=case, steps=10**6, steps_per_epoch=10**6, evaluate_every=10**6, log_every=50, seed=0,
        optimiser=OptimiserSettings(name=name, lr=1e-4, fused=settings.get("fused")),
        precision=precision,
    )  # fmt: skip
    task = task_of(case, count)
    batch = Batch(
        ids=torch.arange(count),
        inputs=inputs_of(case, count),
        present={name: torch.ones(count, dtype=torch.bool) for name in SIZES[case]},
        targets={} if task is None else {task.name: torch.from_numpy(task.values).float()},
        known={} if task is None else {task.name: torch.from_numpy(task.known)},
    )
    if device.type == "cuda":
        batch = batch.pinned()
    feed = Feed(sampler=None, load=lambda _: batch)  # type: ignore[arg-type]  # not asked
    optimiser = build_optimiser(learner, plan.optimiser, {})
    world = World(device=device)
    training = loop.Training(
        learner=learner, feed=feed, views=views, plan=plan, world=world, optimiser=optimiser,
        step_module=module,
    )  # fmt: skip
    state = training.state

    def bare() -> None:
        learner.train()
        optimiser.zero_grad()
        generator = RowGenerator(
            torch_generator(0, state.step, device=device), first=0, total=count
        )
        state.step += 1
        loss, _ = learner({n: view(batch, generator) for n, view in views.items()}, batch, world)
        loss.backward()
        optimiser.step()

    def step() -> None:
        training.step(rows, batch)
        if state.step % plan.log_every == 0 or plan.settles_each_step(world):
            training.outcomes.settle(state, plan.tenth)

    return bare if settings.get("bare") else step


def in_ddp(learner: Any, views: Any, case: str, settings: dict[str, Any]) -> Any:
    """The learner in DDP of one process, with or without a search for what no loss has touched.

    What masked modelling never touches (the projection) is frozen: else it could not do without.
    """
    import torch
    import torch.distributed as dist

    from medmcl.core.batch import Batch
    from medmcl.core.rng import RowGenerator, torch_generator
    from medmcl.engine.distributed import Ranked
    from medmcl.engine.world import World

    rows, device = BATCHES[case], torch.device("cpu")
    everyone = torch.ones(rows, dtype=torch.bool)
    batch = Batch(ids=torch.arange(rows), inputs=inputs_of(case, rows),
                  present=dict.fromkeys(SIZES[case], everyone))  # fmt: skip
    drawn = RowGenerator(torch_generator(0, device=device), first=0, total=rows)
    learner({n: view(batch, drawn) for n, view in views.items()}, batch, World())[0].backward()
    for weight in learner.parameters():
        weight.requires_grad_(weight.grad is not None)
    learner.zero_grad()
    dist.init_process_group("gloo", f"file://{tempfile.mktemp()}", rank=0, world_size=1)
    ranked = Ranked(learner, device)
    if not settings["search"]:
        del ranked.spare
    made = torch.nn.parallel.DistributedDataParallel(
        ranked, find_unused_parameters=settings["search"]
    )
    made.reducer = Clocked(made.reducer)
    return made


class Clocked:
    """DDP's reducer, which keeps the CPU seconds of each of its searches."""

    def __init__(self, reducer: Any) -> None:
        self.reducer = reducer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reducer, name)

    def prepare_for_backward(self, outputs: Any) -> None:
        """Search, as it does before each backward pass."""
        began = time.process_time()
        self.reducer.prepare_for_backward(outputs)
        SEARCHES.append(time.process_time() - began)
