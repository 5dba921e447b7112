"""Time to quality beside a peer: masked modelling by medmcl, and by the published network in a plain loop.

``python -m benchmarks.engine.quality`` trains both on the same ECGs of simulated hearts (2 s at 100 Hz,
cut anew at random each time, 32 rows), three seeds, ten minutes. Each run is a process of its
own, and the ways take turns. One function judges all: it hides the same patches of the same signals of
the tuning split, asks for the whole, in float32, and is not timed. What is timed are CPU seconds of
steps; compiling is in them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine.curves import PUBLISHED, WAYS, recipe_of
from benchmarks.study import Row, Study, made_at, number, table

SEEDS = 3
PEOPLE, ROWS, STEPS, EVERY = 1000, 32, 80, 8
SAMPLES, PATCH, KEPT = 200, 50, 9
"""Of a crop, a patch; patches of 48 that are seen."""
LR, DECAY, BETAS, WARM = 5e-4, 0.05, (0.9, 0.95), 0.1
PEERS = {"published, float32": "fp32", "published, bf16": "bf16"}
FIRST = "published, float32"
OURS = ("float32 as it is", "bf16")
"""Of `curves.WAYS`; compiling costs more than so few steps win back."""
SETTINGS: dict[str, Any] = {
    **PUBLISHED,
    "inputs.ecg.normalise": "lead_groups",
    "views.masked.augment.ecg": {"crop": True},
    "stages.mdm.batch_size": ROWS,
    "stages.mdm.steps": STEPS,
    "stages.mdm.evaluate_every": 1000,
    "stages.mdm.optimiser": {
        "name": "adamw", "lr": LR, "betas": list(BETAS), "weight_decay": DECAY, "warmup": WARM
    },
}  # fmt: skip
Rebuild = Callable[[Any, Any], Any]
"""Signals (B, L, S) and an order of patches, of which the first are seen, to patches (B, T, P)."""


def judged(rebuild: Rebuild, signals: Any) -> float:
    """Give the loss of signals (N, L, S), of which the same patches are hidden for everybody."""
    import torch

    from benchmarks.engine.published_networks import LEADS, distance

    drawn = torch.Generator().manual_seed(0)
    order = torch.rand(len(signals), LEADS * SAMPLES // PATCH, generator=drawn).argsort(1)
    with torch.no_grad():
        return float(distance(rebuild(signals, order), signals))


def used() -> float:
    """CPU seconds of this process and of its children, a compiler."""
    return sum(os.times()[:4])


def by_medmcl(cohort: Path, way: str, seed: int, out: Path, judge: bool = True) -> None:
    """Pretrain, and write a row each few steps; or (not ``judge``) write the signals that it reads."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(out.with_suffix(".compiled"))
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # the compiler is a child, and is counted

    import torch

    import medmcl
    from medmcl.engine import loop

    torch.set_num_threads(1)
    precision, settings = WAYS[way]
    recipe = recipe_of(["mdm"], SETTINGS, out)
    tuning = torch.from_numpy(np.load(cohort.with_suffix(".npz"))["tuning"]) if judge else None
    rows: list[Row] = []
    spent, plain = 0.0, loop.Training.step

    def timed(training: Any, *given: Any) -> None:
        nonlocal spent
        if not judge:
            return written(training)
        began = used()
        plain(training, *given)
        spent += used() - began
        if training.state.step % EVERY == 0:
            learner = training.learner.eval()
            rows.append({"step": training.state.step, "seconds": round(spent, 3),
                         "loss": judged(lambda x, order: rebuilt(learner, x, order), tuning)})  # fmt: skip

    def written(training: Any) -> None:
        feed = training.feed
        here = {
            "train": np.sort(np.concatenate(list(feed.sampler(0)))),
            "tuning": np.concatenate(feed.tuning),
        }
        found = {name: feed.load(one).inputs["ecg"].numpy() for name, one in here.items()}
        found["tuning"] = found["tuning"][..., :SAMPLES]
        np.savez(cohort.with_suffix(".npz"), **found)
        raise SystemExit

    loop.Training.step = timed  # type: ignore[method-assign]  # for this process
    medmcl.pretrain(
        cohort, recipe=recipe, out=out, seed=seed, device="cpu", precision=precision,
        overrides={f"stages.mdm.{key}": value for key, value in settings.items()
                   if key != "channels_last"},
    )  # fmt: skip
    out.with_suffix(".json").write_text(json.dumps(rows), "utf-8")


def rebuilt(learner: Any, x: Any, order: Any) -> Any:
    """Ask medmcl's network for the patches of signals, in float32."""
    import torch

    from medmcl.core.batch import Batch

    hidden = torch.ones_like(order, dtype=torch.bool).scatter_(1, order[:, :KEPT], False)
    everyone = torch.ones(len(x), dtype=torch.bool)
    batch = Batch(ids=torch.arange(len(x)), inputs={"ecg": x}, present={"ecg": everyone})
    seen = learner.model(batch.with_inputs(batch.inputs, {"ecg": hidden}))
    tokens, mask = seen.tokens["ecg"], seen.batch.masks["ecg"]
    return learner.charged["masked"][0].rebuild(tokens, mask)


def plainly(cohort: Path, way: str, seed: int, out: Path) -> None:
    """Train the published network as one would write it, and write a row each few steps."""
    import torch

    from benchmarks.engine.published_networks import MaskedModelling

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    known = {name: torch.from_numpy(x) for name, x in np.load(cohort.with_suffix(".npz")).items()}
    signals, rows = known["train"], []
    net = MaskedModelling(samples=SAMPLES, patch=PATCH, kept=KEPT)
    trained = [one for one in net.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(
        [{"params": [one for one in trained if one.ndim > 1]},
         {"params": [one for one in trained if one.ndim < 2], "weight_decay": 0.0}],
        lr=LR, betas=BETAS, weight_decay=DECAY,
    )  # fmt: skip
    warm = math.ceil(WARM * STEPS)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: (
            (step + 1) / warm
            if step < warm
            else 0.5 * (1 + math.cos(math.pi * (step - warm) / (STEPS - warm)))
        ),
    )
    spent, order = 0.0, torch.empty(0, dtype=torch.int64)
    for step in range(1, STEPS + 1):
        began = used()
        if len(order) < ROWS:
            order = torch.randperm(len(signals))
        batch, order = signals[order[:ROWS]], order[ROWS:]
        firsts = torch.randint(batch.shape[-1] - SAMPLES + 1, (ROWS,)).tolist()
        x = torch.stack([one[:, t : t + SAMPLES] for one, t in zip(batch, firsts, strict=True)])
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=PEERS[way] == "bf16"):
            loss = net(x)
        loss.backward()
        optimiser.step()
        schedule.step()
        spent += used() - began
        if step % EVERY == 0:
            rows.append({"step": step, "seconds": round(spent, 3),
                         "loss": judged(net.rebuild, known["tuning"])})  # fmt: skip
    out.with_suffix(".json").write_text(json.dumps(rows), "utf-8")


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Train each way in turn with some seeds."""
    import medmcl

    os.environ["OMP_NUM_THREADS"] = "1"
    context = get_context("spawn")
    rows = [row for row in STUDY.kept(given.out) or () if given.more]
    done = {row["seed"] for row in rows}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cohort = medmcl.simulate("heart", folder / "hearts", {"subjects": PEOPLE, "form": "shards"})
        first = (cohort, "float32 as it is", 0, folder / "look", False)
        jobs: list[tuple[Any, tuple[Any, ...]]] = [(by_medmcl, first)]
        jobs += [
            (
                plainly if way in PEERS else by_medmcl,
                (cohort, way, seed, folder / f"{seed}-{place}"),
            )
            for seed in range(given.seeds)
            if seed not in done
            for place, way in enumerate([*PEERS, *OURS])
        ]
        for target, job in jobs:
            process = context.Process(target=target, args=job)
            process.start()
            process.join()
            if job is first:
                continue
            found = json.loads(job[3].with_suffix(".json").read_text("utf-8"))
            rows = [*rows, *({"seed": job[2], "way": job[1], **row} for row in found)]
        yield rows


def options(parser: argparse.ArgumentParser) -> None:
    """Whether kept rows stay."""
    parser.add_argument("--more", action="store_true", help="seeds that are kept stay")


def parts(rows: list[Row]) -> dict[str, str]:
    """Last loss, and the CPU seconds until the peer's last loss is reached."""
    seeds = sorted({row["seed"] for row in rows})
    ways = [way for way in (*PEERS, *OURS) if any(row["way"] == way for row in rows)]
    of = {(w, s): [r for r in rows if (r["way"], r["seed"]) == (w, s)] for w in ways for s in seeds}
    ends = {way: [of[way, seed][-1]["loss"] for seed in seeds] for way in ways}
    aim = max(ends[FIRST])
    told = []
    for way in ways:
        until = [
            next((r["seconds"] for r in of[way, seed] if r["loss"] <= aim), None) for seed in seeds
        ]
        reached = [one for one in until if one is not None]
        told.append({
            "way": way if way in PEERS else f"medmcl, {way}", "losses": ", ".join(f"{x:.4f}" for x in ends[way]),
            "until": statistics.fmean(reached) if len(reached) == len(seeds) else "not by all",
            "each": ", ".join("never" if one is None else f"{one:.1f}" for one in until),
            "all": statistics.fmean(of[way, seed][-1]["seconds"] for seed in seeds),
        })  # fmt: skip
    columns = {
        "": "way",
        f"loss, {len(seeds)} seeds": "losses",
        f"CPU s to a loss of {aim:.4f}": number("until", ".1f"),
        "of each seed": "each",
        "CPU s of all steps": number("all", ".1f"),
    }
    return {"time to quality": f"{table(columns, told)}\n\n{made_at(rows)}"}


def draw(rows: list[Row], path: Path) -> None:
    """Loss against CPU seconds: a line is the mean of the seeds."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": path.stem, "font.size": 9}):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for way in dict.fromkeys(row["way"] for row in rows):
            own = [row for row in rows if row["way"] == way]
            steps = sorted({row["step"] for row in own})
            means = [
                [statistics.fmean(r[key] for r in own if r["step"] == step) for step in steps]
                for key in ("seconds", "loss")
            ]
            name = way if way in PEERS else f"medmcl, {way}"
            axes.plot(*means, "--" if way in PEERS else "-", marker=".", label=name)
        axes.set(xlabel="CPU seconds of steps, one thread", ylabel="loss of the tuning split")
        axes.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None})


STUDY = Study(__file__, parts=parts, run=run, options=options, draw=draw, seeds=SEEDS, page="steps")

if __name__ == "__main__":
    STUDY.main()
