"""What a training step costs beside the published networks, written plainly, on one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.engine.steps

Each way to take a step is a process of its own; they step in turn, so that other work on the
machine falls on all, and ratios are of the same turn. CPU seconds. ``--gpu`` adds rows of a GPU,
``--peers`` those beside open_clip and lightly where they are installed, ``--curves`` those of three
seeds to the same validation loss.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.study import Row, Study, number, table

TURNS, WARM = 3, 1
Step = Callable[[], None]
BATCHES = {"masked modelling": 32, "ECG-CMR": 8, "toy": 128, "open_clip": 4, "lightly": 16}
"""Rows of a step: smaller than those of the recipes (128, 256), so that all ways fit in memory."""
BF16 = {"precision": "bf16"}
FAST = {"fused": True, "channels_last": True, "huge_pages": True}
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "masked modelling": {
        "published, float32": {"own": False},
        "published, float32, huge pages": {"own": False, "huge_pages": True},
        "published, bf16": {"own": False, **BF16},
        "medmcl as it is": {},
        "medmcl, float32": {**FAST, "onednn": True},
        "medmcl, bf16": {**FAST, **BF16},
        "medmcl, bf16, compiled": {**FAST, **BF16, "compile": True},
    },
    "toy": {"bare loop": {"bare": True}, "medmcl's loop": {}},
}
WAYS["ECG-CMR"] = WAYS["masked modelling"]
PEERS = {
    "theirs, float32": {"own": False},
    "theirs, float32, huge pages": {"own": False, "huge_pages": True},
    "theirs, bf16": {"own": False, **BF16},
    "medmcl as it is": {},
    "medmcl, float32": {**FAST, "onednn": True},
    "medmcl, bf16": {**FAST, **BF16},
}
ECG, CMR, WORDS = (12, 2500), (3, 210, 210), 49408
SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "masked modelling": {"ecg": ECG},
    "ECG-CMR": {"ecg": ECG, "cmr": CMR},
    "toy": {"ecg": (12, 400)},
    "open_clip": {"image": (3, 224, 224), "text": (77,)},
    "lightly": {"image": (3, 96, 96)},
}
"""What goes into each case; texts are numbers of tokens."""
TOWERS: dict[str, dict[str, Any]] = {
    "open_clip": {
        "image": {"encoder": {"name": "timm", "model": "vit_base_patch32_clip_224"},
                  "head": {"layers": 1, "bias": False, "out": 512}},
        "text": {"encoder": {"name": "clip_text"}, "head": {"layers": 1, "bias": False, "out": 512}},
    },
    "lightly": {"image": {"encoder": {"name": "timm", "model": "resnet18"},
                          "head": {"hidden": 512, "out": 128, "norm": "batch"}}},
}  # fmt: skip
OBJECTIVES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "open_clip": ("cross_modal", {"view": "plain", "scale": {"init": 14.2857, "learned": True}},
                  ("plain",)),
    "lightly": ("in_modal", {"modality": "image", "views": ["one", "two"]}, ("one", "two")),
}  # fmt: skip
"""Kind, settings and views of the peers' objective."""


def inputs_of(case: str, device: Any) -> dict[str, Any]:
    """Random rows of a case."""
    import torch

    rows = BATCHES[case]
    return {
        name: torch.randint(1, WORDS, (rows, *size), device=device)
        if name == "text"
        else torch.randn(rows, *size, device=device)
        for name, size in SIZES[case].items()
    }


def published(case: str, precision: str, device: Any) -> Step:
    """A plain loop over the published network."""
    import torch

    from benchmarks.engine import published_networks as nets

    kinds = {
        "masked modelling": nets.MaskedModelling, "ECG-CMR": nets.Pairs,
        "open_clip": nets.OpenClip, "lightly": nets.Lightly,
    }  # fmt: skip
    inputs, net = inputs_of(case, device).values(), kinds[case]().to(device)
    kind = torch.optim.Adam if case == "ECG-CMR" else torch.optim.AdamW
    optimiser = kind([one for one in net.parameters() if one.requires_grad], lr=1e-4)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = net(*inputs)
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
        recipe = read_recipe("ecg_cmr_toy" if case == "toy" else "ecg_cmr")
        stage: Any = recipe.stages[1 if case == "ECG-CMR" else 0]
        towers = Towers.build(shapes, {name: recipe.towers[name] for name in shapes})
        ((kind, one),) = stage.objectives.items()
        names, settings = ("masked",), one.settings
        mask = recipe.views["masked"].mask
        if case == "ECG-CMR":
            names, settings, mask = ("plain",), {**settings, "view": "plain"}, {}
    shape = towers.shape(shapes)
    as_they_are: Any = SimpleNamespace(kind="ecg", plain=lambda x: x)
    view = View(ViewSettings(mask=mask), dict.fromkeys(shapes, as_they_are), shape.num_tokens)
    learner = Learner(towers, {kind: build_objective(kind, settings, shape)}, {kind: 1.0})
    return learner, dict.fromkeys(names, view)


def own(case: str, device: Any, settings: dict[str, Any]) -> Step:
    """A step of medmcl's loop; or (``bare``) the least that a loop must do around the same parts."""
    import numpy as np
    import torch

    from medmcl.core.batch import Batch
    from medmcl.core.rng import RowGenerator, torch_generator
    from medmcl.engine import loop
    from medmcl.engine.compiling import compile_blocks
    from medmcl.engine.feed import Feed
    from medmcl.engine.layout import lies_channels_last
    from medmcl.engine.onednn import linear_by_onednn
    from medmcl.engine.optimiser import OptimiserSettings, build_optimiser
    from medmcl.engine.outcomes import Outcomes
    from medmcl.engine.state import Progress
    from medmcl.engine.world import World

    learner, views = learner_of(case)
    rows, precision = np.arange(BATCHES[case]), settings.get("precision", "fp32")
    learner.to(device)
    if settings.get("channels_last"):
        lies_channels_last(learner)
    if settings.get("onednn"):
        linear_by_onednn(learner)
    if settings.get("compile"):
        compile_blocks(learner, case)
    name: Any = "adam" if case == "ECG-CMR" else "adamw"
    plan = loop.Plan(
        stage=case, steps=10**6, steps_per_epoch=10**6, evaluate_every=10**6, log_every=50, seed=0,
        optimiser=OptimiserSettings(name=name, lr=1e-4, fused=settings.get("fused")),
        precision=precision,
    )  # fmt: skip
    batch = Batch(
        ids=torch.arange(len(rows)),
        inputs=inputs_of(case, torch.device("cpu")),
        present={name: torch.ones(len(rows), dtype=torch.bool) for name in SIZES[case]},
    )
    feed = Feed(sampler=None, load=lambda _: batch)  # type: ignore[arg-type]  # not asked
    optimiser = build_optimiser(learner, plan.optimiser, {})
    state, world, outcomes = Progress(), World(device=device), Outcomes()

    def bare() -> None:
        learner.train()
        optimiser.zero_grad()
        generator = RowGenerator(
            torch_generator(0, state.step, device=device), first=0, total=len(rows)
        )
        state.step += 1
        loss, _ = learner({n: view(batch, generator) for n, view in views.items()}, batch, world)
        loss.backward()
        optimiser.step()

    def step() -> None:
        loop.step(
            learner, learner, rows, batch, feed, views, plan, optimiser, state, world, outcomes
        )
        if state.step % plan.log_every == 0 or plan.settles_each_step(world):
            outcomes.settle(state, plan.tenth)

    return bare if settings.get("bare") else step


def works(case: str, way: str, device: str, pipe: Connection) -> None:
    """Take steps when asked, and tell what they took: CPU seconds, or seconds of a GPU."""
    settings = WAYS.get(case, PEERS)[way]
    os.environ["THP_MEM_ALLOC_ENABLE"] = str(int(settings.get("huge_pages", False)))

    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    place = torch.device(device)
    if settings.get("own", True):
        step = own(case, place, settings)
    else:
        step = published(case, settings.get("precision", "fp32"), place)
    count = 25 if case == "toy" else 1
    while pipe.recv():
        torch.cuda.synchronize() if place.type == "cuda" else None
        began = time.perf_counter() if place.type == "cuda" else time.process_time()
        for _ in range(count):
            step()
        torch.cuda.synchronize() if place.type == "cuda" else None
        ended = time.perf_counter() if place.type == "cuda" else time.process_time()
        peak = torch.cuda.max_memory_allocated() / 1e9 if place.type == "cuda" else None
        pipe.send(((ended - began) / count, peak))


def in_turn(case: str, device: str = "cpu") -> list[Row]:
    """Let all ways of a case step in turn; the first is what the others are set beside."""
    context = get_context("spawn")
    pipes, ways = [], list(WAYS.get(case, PEERS))
    for way in ways:
        here, there = context.Pipe()
        context.Process(target=works, args=(case, way, device, there), daemon=True).start()
        pipes.append(here)
    seen: list[list[tuple[float, Any]]] = []
    for turn in range(WARM + TURNS):
        times = []
        for pipe in pipes:
            pipe.send(True)
            times.append(pipe.recv())
        if turn >= WARM:
            seen.append(times)
    for pipe in pipes:
        pipe.send(False)
    rows = []
    for number_, way in enumerate(ways):
        ratios = [turn[0][0] / turn[number_][0] for turn in seen]
        rows.append({
            "case": case, "way": way, "rows": BATCHES[case],
            "seconds": statistics.median(turn[number_][0] for turn in seen),
            "times": statistics.median(ratios), "least": min(ratios), "most": max(ratios),
            "peak_gb": seen[-1][number_][1],
        })  # fmt: skip
    return rows


CURVE_STEPS, CURVE_ROWS = 80, 512
FREE = "bf16, fused"


def curves() -> Iterator[list[Row]]:
    """Train the toy with three seeds in float32 as it is, and in bf16 with what is fast."""
    rows: list[Row] = []
    for seed in range(3):
        rows += [
            {"seed": seed, "way": way, "loss": learned(seed, way)} for way in ("float32", FREE)
        ]
        yield rows


def waves(rows: int, seed: int) -> Any:
    """Twelve leads of three sine waves each and noise, (rows, 12, 400)."""
    import torch

    source = torch.Generator().manual_seed(seed)
    rate, phase = torch.rand(2, rows, 3, 1, generator=source)
    times = torch.linspace(0, 1, 400)
    parts = torch.sin(6.28 * ((2 + 18 * rate) * times + phase))
    gains = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    noise = 0.2 * torch.randn(rows, 12, 400, generator=source)
    return torch.einsum("lk,bkt->blt", gains, parts) / 2 + noise


def learned(seed: int, way: str) -> float:
    """The loss of rows that no step has seen, always under the same masks, in float32."""
    import torch

    from medmcl.core.batch import Batch
    from medmcl.core.rng import RowGenerator, torch_generator
    from medmcl.engine.loop import autocast
    from medmcl.engine.world import World

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    learner, views = learner_of("toy")
    place, free = torch.device("cpu"), way == FREE
    optimiser = torch.optim.AdamW(learner.parameters(), lr=2e-3, fused=free)
    ramp = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, CURVE_STEPS)
    source = torch.Generator().manual_seed(seed)

    def loss_of(x: Any, *key: Any) -> Any:
        rows = len(x)
        batch = Batch(ids=torch.arange(rows), inputs={"ecg": x},
                      present={"ecg": torch.ones(rows, dtype=torch.bool)})  # fmt: skip
        drawn = RowGenerator(torch_generator(*key, device=place), first=0, total=rows)
        return learner({n: view(batch, drawn) for n, view in views.items()}, batch, World())[0]

    train, other = waves(CURVE_ROWS, 1), waves(256, 2)
    for step in range(CURVE_STEPS):
        chosen = torch.randint(CURVE_ROWS, (64,), generator=source)
        optimiser.zero_grad()
        with autocast("bf16" if free else "fp32", place):
            loss = loss_of(train[chosen], seed, "curve", step)
        loss.backward()
        optimiser.step()
        ramp.step()
    learner.eval()
    with torch.no_grad():
        return float(loss_of(other, 0, "judged"))


def run(given: argparse.Namespace) -> Iterator[dict[str, list[Row]]]:
    """Measure what is asked for; rows of the rest stay as they are kept."""
    kept = Path(__file__).with_suffix(".json")
    rows = json.loads(kept.read_text())["rows"] if kept.exists() else {}
    os.environ["OMP_NUM_THREADS"] = "1"
    if given.curves:
        for found in curves():
            yield {**rows, "curves": found}
        return
    if given.gpu:
        found = [row for case in ("masked modelling", "ECG-CMR") for row in in_turn(case, "cuda")]
        yield {**rows, "gpu": found}
        return
    if given.peers:
        peers = [row for case in TOWERS for row in in_turn(case)]
        yield {**rows, "peers": peers}
        return
    steps: list[Row] = []
    for case in given.cases or WAYS:
        steps += in_turn(case)
        others = [
            row for row in rows.get("steps", ()) if row["case"] not in {s["case"] for s in steps}
        ]
        yield {**rows, "steps": [*others, *steps]}


def options(parser: argparse.ArgumentParser) -> None:
    """Which cases, and the two parts that are measured for themselves."""
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(WAYS)}; default: all")
    parser.add_argument("--gpu", action="store_true", help="on the GPU of this machine")
    parser.add_argument("--peers", action="store_true", help="beside open_clip and lightly")
    parser.add_argument("--curves", action="store_true", help="three seeds to a validation loss")


def parts(rows: dict[str, list[Row]]) -> dict[str, str]:
    columns = {
        "": "way",
        "seconds a step": number("seconds", ".3g"),
        "times as fast": number("times", ".2f"),
        "least to most": lambda row: f"{row['least']:.2f} to {row['most']:.2f}",
    }
    found = {
        case: table(columns, [row for row in rows["steps"] if row["case"] == case])
        for case in ("masked modelling", "ECG-CMR")
    }
    toy = {row["way"]: row for row in rows["steps"] if row["case"] == "toy"}
    over = 1 / toy["medmcl's loop"]["times"] - 1 if toy else float("nan")
    found["overhead"] = f"{100 * over:.1f} %"
    found["curves"] = curve_table(rows.get("curves", []))
    for case in TOWERS:
        peers = [row for row in rows.get("peers", ()) if row["case"] == case]
        found[case] = table(columns, peers) if peers else "Not measured."
    gpu = {
        **columns,
        "peak, GB": number("peak_gb", ".3g"),
        "": lambda r: f"{r['case']}: {r['way']}",
    }
    found["a GPU"] = (
        table(gpu, rows["gpu"]) if rows.get("gpu") else "Not measured: none was at hand."
    )
    return found


def curve_table(rows: list[Row]) -> str:
    if not rows:
        return "Not measured."
    loss = {w: [r["loss"] for r in rows if r["way"] == w] for w in ("float32", FREE)}
    first = statistics.fmean(loss["float32"])
    told = [
        {"way": way, "losses": ", ".join(f"{x:.4f}" for x in seen),
         "difference": statistics.fmean(seen) - first, "range": max(seen) - min(seen)}
        for way, seen in loss.items()
    ]  # fmt: skip
    return table({"": "way", "three seeds": "losses", "mean beside float32": number("difference", "+.4f"),
                  "range of the seeds": number("range", ".4f")}, told)  # fmt: skip


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
