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
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.study import Row, Study, number, table

TURNS, WARM = 3, 1
Step = Callable[[], None]
BATCHES = {
    "masked modelling": 32,
    "ECG-CMR": 8,
    "toy": 128,
    "toy in DDP": 32,
    "open_clip": 4,
    "lightly": 16,
}
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
    "toy in DDP": {"without the search": {"search": False}, "with the search": {"search": True}},
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
    "toy in DDP": {"ecg": (12, 400)},
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
        recipe = read_recipe("ecg_cmr_toy" if case.startswith("toy") else "ecg_cmr")
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
    module = learner if "search" not in settings else in_ddp(learner, views, case, settings)
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
            module, learner, rows, batch, feed, views, plan, optimiser, state, world, outcomes
        )
        if state.step % plan.log_every == 0 or plan.settles_each_step(world):
            outcomes.settle(state, plan.tenth)

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
    batch = Batch(ids=torch.arange(rows), inputs=inputs_of(case, device),
                  present={"ecg": torch.ones(rows, dtype=torch.bool)})  # fmt: skip
    drawn = RowGenerator(torch_generator(0, device=device), first=0, total=rows)
    learner({n: view(batch, drawn) for n, view in views.items()}, batch, World())[0].backward()
    for weight in learner.parameters():
        weight.requires_grad_(weight.grad is not None)
    learner.zero_grad()
    dist.init_process_group("gloo", f"file://{tempfile.mktemp()}", rank=0, world_size=1)
    ranked = Ranked(learner, device)
    if not settings["search"]:
        del ranked.spare
    return torch.nn.parallel.DistributedDataParallel(
        ranked, find_unused_parameters=settings["search"]
    )


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
    count = 25 if case.startswith("toy") else 1
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


SUBJECTS, SEEDS = 3000, 3
STAGES = {"mdm": "masked modelling", "mmcl": "contrastive"}
CURVES: dict[str, tuple[str, dict[str, Any]]] = {
    "float32 as it is": ("fp32", {}),
    "float32": ("fp32", {"onednn": True, "channels_last": True, "optimiser.fused": True}),
    "bf16": ("bf16", {"channels_last": True, "optimiser.fused": True}),
}
"""Precision, and settings of both stages; masked modelling has no convolutions."""


def curves() -> Iterator[list[Row]]:
    """Train the toy of ECG-CMR on simulated hearts with three seeds, each way in turn."""
    import medmcl

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as made:
        cohort = medmcl.simulate(
            "heart", Path(made) / "hearts", {"subjects": SUBJECTS, "form": "shards"}
        )
        for seed in range(SEEDS):
            for way in CURVES:
                out = Path(made) / f"{way} {seed}"
                rows += [
                    {"seed": seed, "way": way, **row} for row in learned(cohort, way, seed, out)
                ]
            yield rows


def learned(cohort: Path, way: str, seed: int, out: Path) -> list[Row]:
    """Pretrain; give the tuning losses of each stage, and the CPU seconds of the steps until then."""
    import torch

    import medmcl
    from medmcl.engine import loop
    from medmcl.stages.recipe.file import read_recipe

    torch.set_num_threads(1)
    precision, settings = CURVES[way]
    others = [one.name for one in read_recipe("ecg_cmr_toy").stages if one.name not in STAGES]
    recipe = out.with_suffix(".yaml")
    recipe.write_text(json.dumps({"extends": "ecg_cmr_toy", "drop": others}), "utf-8")
    spent: dict[str, list[float]] = {name: [0.0] for name in STAGES}
    plain = loop.step

    def timed(*given: Any) -> Any:
        began = time.process_time()
        done = plain(*given)
        seconds = spent[next(one.stage for one in given if isinstance(one, loop.Plan))]
        seconds.append(seconds[-1] + time.process_time() - began)
        return done

    loop.step = timed  # type: ignore[assignment]  # for this run
    try:
        medmcl.pretrain(
            cohort, recipe=recipe, out=out, seed=seed,
            overrides={f"stages.{n}.{key}": value for n in STAGES for key, value in settings.items()
                       if (n, key) != ("mdm", "channels_last")},
            device="cpu", precision=precision,
        )  # fmt: skip
    finally:
        loop.step = plain
    told = map(json.loads, (out / "metrics.jsonl").read_text("utf-8").splitlines())
    return [
        {"stage": one["stage"], "step": one["step"], "loss": one["loss"],
         "seconds": spent[one["stage"]][one["step"]]}
        for one in told if one["split"] == "tuning"
    ]  # fmt: skip


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
    ranked = {row["way"]: row["seconds"] for row in rows["steps"] if row["case"] == "toy in DDP"}
    without, searched = ranked.get("without the search"), ranked.get("with the search")
    found["search"] = (
        f"{1000 * (searched - without):.1f} of {1000 * searched:.1f} ms"
        if searched
        else "not measured"
    )
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
    """Loss of the tuning split at the end, and the CPU seconds until float32's loss is reached."""
    if not rows:
        return "Not measured."
    told, seeds = [], sorted({row["seed"] for row in rows})
    for stage, title in STAGES.items():
        last: dict[tuple[str, int], Row] = {}
        for row in rows:
            if row["stage"] == stage:
                last[row["way"], row["seed"]] = row
        ends = {w: [last[w, seed]["loss"] for seed in seeds] for w in CURVES}
        first = next(iter(CURVES))
        for way, seen in ends.items():
            worst = [last[first, seed]["loss"] + np.ptp(ends[first]) for seed in seeds]
            until = [
                next(
                    (r["seconds"] for r in rows
                     if (r["stage"], r["way"], r["seed"]) == (stage, way, seed)
                     and r["loss"] <= worst[seed]), float("nan"))
                for seed in seeds
            ]  # fmt: skip
            told.append({
                "stage": title, "way": way, "losses": ", ".join(f"{x:.4f}" for x in seen),
                "difference": statistics.fmean(seen) - statistics.fmean(ends[first]),
                "range": float(np.ptp(seen)), "until": statistics.fmean(until),
                "all": statistics.fmean(last[way, seed]["seconds"] for seed in seeds),
            })  # fmt: skip
    columns = {
        "stage": "stage",
        "": "way",
        "tuning loss, three seeds": "losses",
        "mean beside float32 as it is": number("difference", "+.4f"),
        "range of the seeds": number("range", ".4f"),
        "CPU s to float32's last loss": number("until", ".1f"),
        "CPU s of all steps": number("all", ".1f"),
    }
    return table(columns, told)


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
