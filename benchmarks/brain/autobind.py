"""Does AutoBIND find the tree, does it help, and does it say when it cannot? World T, truth known.

    python -m benchmarks.brain.autobind WORK [--only A1,A4] [--seeds 5] [--minutes M]
    python -m benchmarks.brain.autobind WORK --cost [--steps 100]

Cohorts are those of `medmcl simulate modalities`; a cell is one training of the recipe
`autobind_toy` with one policy on one cohort, a line of WORK/cells.jsonl. Cells that are there are
not made again, so the command goes on where it stopped. Scored are 1,000 held-out people: recall@1
among 1,000 candidates over the true edges, both directions.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.study import ROOT, Row, Study, number, table
from medmcl.core.rng import numpy_generator
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import Prepared, prepare
from medmcl.engine.record import Record
from medmcl.engine.signals import StopRequest
from medmcl.objectives.pairs.pairs import spanning_tree
from medmcl.simulation.modalities.simulate import ModalitiesSettings, simulate_modalities
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.recipe.resolve_modalities import for_cohort, kinds_of
from medmcl.stages.run.run import Run
from medmcl.stages.stage import Context
from medmcl.stages.train.train_filter import keep_apart

PAIRS = "stages.bind.objectives.cross_modal.pairs"
OURS = {"learn": "tree", "score": "mi", "warm_up": 1 / 3, "every": 50, "ema": 0.8,
        "probe_share": 0.2, "probe_rows": 500}  # fmt: skip
POLICIES: dict[str, dict[str, Any]] = {
    "autobind": OURS,
    "full graph": {**OURS, "learn": "full", "floor": -1.0},
    "full graph, weights by score": {**OURS, "learn": "full", "weights": "score"},
    "no warm-up, mi": {**OURS, "warm_up": 0.0},
    "no warm-up, cosine": {**OURS, "warm_up": 0.0, "score": "cosine"},
    "paper": {"learn": "tree", "score": "cosine", "warm_up": 0.0, "every": 1, "ema": 0.0,
              "probe_share": 0.2, "probe_rows": 500},
    "warm-up, margin": {**OURS, "score": "margin"},
    "warm-up, cka": {**OURS, "score": "cka"},
    "warm-up, cosine": {**OURS, "score": "cosine"},
    "star on the root": {**OURS, "learn": "star", "anchor": "ROOT", "floor": -1.0},
    "star on noise": {**OURS, "learn": "star", "anchor": "NOISE", "floor": -1.0},
}  # fmt: skip
WORLD = {"subjects": 3700, "tuning": 200 / 3700, "held_out": 1000 / 3700}


@dataclass(frozen=True)
class Cell:
    """One cohort and one policy."""

    test: str
    policy: str
    seed: int
    rho: float = 0.9
    noise_modalities: int = 0
    missing: float = 0.0
    subjects: int = 3700

    @property
    def key(self) -> list[Any]:
        """What it is told by."""
        return [self.policy, self.seed, self.rho, self.noise_modalities, self.missing,
                self.subjects]  # fmt: skip


def cells(seeds: int) -> Iterator[Cell]:
    """Every cell of every acceptance test, the most telling first."""
    for seed in range(min(seeds, 3)):
        for policy in ("autobind", "no warm-up, mi", "no warm-up, cosine"):
            yield Cell("A1" if policy == "autobind" else "A2", policy, seed, rho=0.5)
    for seed in range(seeds):
        yield Cell("A1", "autobind", seed)
        yield Cell("A4", "full graph", seed)
    for seed in range(min(seeds, 3)):
        for policy in ("autobind", "full graph", "star on the root", "star on noise"):
            yield Cell("A5", policy, seed, noise_modalities=1)
        for policy in ("autobind", "full graph"):
            yield Cell("A6", policy, seed, missing=0.4)
        yield Cell("A5", "autobind", seed, rho=0.7, noise_modalities=1)
        yield Cell("A7", "autobind", seed, subjects=300)
        for policy in ("paper", "no warm-up, mi"):
            yield Cell("A2b", policy, seed)
        for policy in ("warm-up, margin", "warm-up, cka", "warm-up, cosine"):
            yield Cell("A1b", policy, seed)
        yield Cell("A4b", "full graph, weights by score", seed)
    for seed in range(3, seeds):
        yield Cell("A1", "autobind", seed, rho=0.5)


def make_cohort(cell: Cell, folder: Path) -> tuple[Prepared, dict[str, Any]]:
    shares = {"tuning": 200 / cell.subjects, "held_out": 1000 / cell.subjects}
    shares = shares if cell.subjects > 2000 else {"tuning": 0.1, "held_out": 0.2}
    settings = ModalitiesSettings(
        subjects=cell.subjects, seed=cell.seed, rho=cell.rho, missing=cell.missing,
        noise_modalities=cell.noise_modalities, **shares,
    )  # fmt: skip
    cohort = open_cohort(simulate_modalities(folder / "cohort", settings))
    recipe = for_cohort(read_recipe("autobind_toy"), kinds_of(cohort))
    prepared = prepare(cohort, recipe.inputs, cache=folder / "cache", splits="all")
    return prepared, json.loads((folder / "cohort" / "truth.json").read_text())


def train(
    prepared: Prepared, pairs: Mapping[str, Any], folder: Path, seed: int, steps: int = 600
) -> tuple[list[dict[str, Any]], dict[str, Any], Any]:
    """Train one policy; give the history of its graph, the stage's facts, and the towers."""
    from medmcl.engine.world import World
    from medmcl.stages.run.training import run_stage
    from medmcl.stages.train.models import build_learner

    wanted = {PAIRS: dict(pairs), "stages.bind.steps": steps, "stages.bind.evaluate_every": 1000,
              "stages.bind.log_every": 1000}  # fmt: skip
    recipe = for_cohort(read_recipe("autobind_toy", wanted), kinds_of(prepared.cohort))
    spec: Any = recipe.stages[0]
    folder.mkdir(parents=True, exist_ok=True)
    with StopRequest() as stop:
        config = {"seed": seed, "precision": "fp32", "tasks": []}
        run, record = (
            Run.begun(folder, config, recipe),
            Record(folder / "metrics.jsonl", active=True),
        )
        context = Context(run=run, world=World(), record=record, stop=stop)
        facts = run_stage(spec, prepared, context)
    shapes = {name: adapter.input_shape for name, adapter in prepared.adapters.items()}
    learner = build_learner(recipe, spec, shapes, {}, seed)
    learner.load_state_dict(run.checkpoints("bind").weights("last"))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == "probe"], facts, learner.model


def recall(model: Any, prepared: Prepared, edges: list[list[str]]) -> float:
    """Mean recall@1 over edges and directions, %, on people of held_out who have both."""
    import torch

    model.eval()
    batch = prepared.batch(prepared.rows("held_out"))
    plain = {name: prepared.adapters[name].plain(x) for name, x in batch.inputs.items()}
    with torch.no_grad():
        seen = model(batch.with_inputs(plain))
    found = []
    for a, b in edges:
        both = batch.both(a, b)
        similarity = seen.pooled[a][both] @ seen.pooled[b][both].T
        own = torch.arange(len(similarity), device="cpu")
        found += [(s.argmax(1) == own).float().mean().item() for s in (similarity, similarity.T)]
    return 100 * float(np.mean(found))


def run_cell(cell: Cell) -> dict[str, Any]:
    began = time.process_time()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared, truth = make_cohort(cell, folder)
        anchor = {"ROOT": truth["root"], "NOISE": (truth["noise"] or [None])[0]}
        pairs = {k: anchor.get(v, v) if k == "anchor" else v
                 for k, v in POLICIES[cell.policy].items()}  # fmt: skip
        history, facts, model = train(prepared, pairs, folder / "run", cell.seed)
        last = history[-1]
        true = {tuple(edge) for edge in truth["edges"]}
        edges = {(a, b) for a, b, _ in last["edges"]}
        noisy = [v for k, v in last["fresh"].items() if set(k.split("~")) & set(truth["noise"])]
        return {
            "key": cell.key,
            "test": cell.test,
            "found": len(true & edges),
            "of": len(true),
            "edges": len(edges),
            "phase": last["phase"],
            "recall": recall(model, prepared, truth["edges"]),
            "weakest_true": min(last["fresh"]["~".join(edge)] or 0.0 for edge in truth["edges"]),
            "strongest_noise": max(noisy, default=None),
            "isolated_are_noise": sorted(last["isolated"]) == truth["noise"],
            "flags": [one["code"] for one in facts["findings"]],
            "trees": [
                sorted(f"{a}~{b}" for a, b, _ in row["edges"])
                for row in history
                if row["phase"] != "warm-up"
            ][:: max(1, len(history) // 20)],
            "cpu_s": round(time.process_time() - began, 1),
        }


def at_init(seeds: int) -> list[dict[str, Any]]:
    """A3: edges of the tree of encoders that never took a step, by score, correlation and seed."""
    import torch

    from medmcl.objectives.pairs.learned_pairs import SCORES, score_pairs
    from medmcl.stages.train.models import build_learner

    found = []
    for rho in (0.9, 0.7, 0.5):
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as name:
                cell = Cell("A3", "none", seed, rho=rho)
                prepared, truth = make_cohort(cell, Path(name))
                recipe = for_cohort(read_recipe("autobind_toy"), kinds_of(prepared.cohort))
                spec: Any = recipe.stages[0]
                shapes = {n: a.input_shape for n, a in prepared.adapters.items()}
                learner = build_learner(recipe, spec, shapes, {}, seed)
                rows = prepared.rows("train")
                wanted = [part.probe for part in learner.objectives.modules()
                          if hasattr(part, "probe")]  # fmt: skip
                rows = keep_apart(rows, prepared.subjects[rows], wanted, (seed, "bind"))[1]
                batch = prepared.batch(rows)
                plain = {n: prepared.adapters[n].plain(x) for n, x in batch.inputs.items()}
                with torch.no_grad():
                    seen = learner.model.eval()(batch.with_inputs(plain))
                names = tuple(sorted(shapes))
                true = {tuple(edge) for edge in truth["edges"]}
                row: dict[str, Any] = {"rho": rho, "seed": seed}
                for score, function in SCORES.items():
                    scores, _ = score_pairs(seen, names, function, 32)
                    tree = {(names[i], names[j]) for i, j in spanning_tree(scores)}
                    row[score] = len(tree & true)
                found.append(row)
    return found


def cost(steps: int) -> list[dict[str, Any]]:
    """Edges, time and memory of a step, each M and graph in a process of its own."""
    rows = []
    for size in (3, 6, 12):
        for policy in ("autobind", "full graph"):
            code = f"import json; from benchmarks.brain.autobind import cost_of; print(json.dumps(cost_of({size}, {policy!r}, {steps})))"
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
            )
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    return rows


def cost_of(size: int, policy: str, steps: int) -> dict[str, Any]:
    """Time the part of a stage after the first graph, on random tables; batch 128."""
    import torch

    from medmcl.engine.distributed import charge
    from medmcl.engine.world import World
    from medmcl.stages.train.models import build_learner

    cell = Cell("cost", policy, 0)
    with tempfile.TemporaryDirectory() as name:
        settings = ModalitiesSettings(subjects=800, modalities=size, seed=cell.seed)
        cohort = open_cohort(simulate_modalities(Path(name) / "cohort", settings))
        wanted = {PAIRS: {**POLICIES[policy], "warm_up": 0.0, "min_rows": 2, "floor": -1.0}}
        recipe = for_cohort(read_recipe("autobind_toy", wanted), kinds_of(cohort))
        prepared = prepare(cohort, recipe.inputs, cache=Path(name) / "cache")
        shapes = {n: a.input_shape for n, a in prepared.adapters.items()}
        spec: Any = recipe.stages[0]
        learner = build_learner(recipe, spec, shapes, {}, 0)
        rows = numpy_generator(0, "cost").permutation(prepared.rows("train"))
        batch = prepared.batch(rows[:128])
        probe = prepared.batch(rows[128:500])
        graph: Any = learner.objectives["cross_modal"].graph
        with torch.no_grad():
            observed = time.process_time()
            graph.observe(learner.model(probe), 0, steps)
            observed = time.process_time() - observed
        optimiser = torch.optim.AdamW(learner.parameters(), lr=1e-3)
        torch.set_num_threads(1)
        whole, loss_only = [], []
        for _ in range(steps):
            began = time.process_time()
            seen = {"plain": learner.model(batch)}
            middle = time.process_time()
            loss, terms = charge(learner.charged, seen, batch, World())
            after = time.process_time()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            whole.append(time.process_time() - began)
            loss_only.append(after - middle)
        return {
            "modalities": size,
            "policy": policy,
            "edges": len(terms),
            "step_ms": 1000 * float(np.median(whole)),
            "loss_forward_ms": 1000 * float(np.median(loss_only)),
            "similarity_mib": len(terms) * 128**2 * 4 / 2**20,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "rebuild_ms": 1000 * observed,
        }


def grouped(done: list[dict[str, Any]]) -> list[Row]:
    """One row a world and policy, over the seeds that were run."""
    keys = ["policy", "seed", "rho", "noise", "missing", "subjects"]
    frame = pd.DataFrame([{**dict(zip(keys, one["key"], strict=True)), **one} for one in done])
    found = []
    about = ["rho", "noise", "missing", "subjects", "policy"]
    for key, rows in frame.groupby(about, sort=False):
        rows = rows.sort_values("seed")
        noisy = rows.strongest_noise.dropna()
        flags = [[code.removeprefix("graph.") for code in one] for one in rows["flags"]]
        found.append({
            **dict(zip(about, key, strict=True)),
            "seeds": rows.seed.tolist(),
            "found": [f"{one.found}/{one.of}" for one in rows.itertuples()],
            "recall": rows.recall.tolist(),
            "weakest": float(rows.weakest_true.min()),
            "strongest": None if noisy.empty else float(noisy.max()),
            "flags": flags,
        })  # fmt: skip
    return found


def as_table(rows: list[Row]) -> str:
    """A table of alike rows, numbers with a digit after the point."""
    first = rows[0].items()
    return table(
        {k: number(k, ".1f") if isinstance(v, float) and k != "rho" else k for k, v in first}, rows
    )


def parts(rows: dict[str, list[Row]]) -> dict[str, str]:
    columns = {
        "rho": number("rho", "g"),
        "noise": "noise",
        "missing": number("missing", "g"),
        "people": lambda row: str(row["subjects"]),
        "policy": "policy",
        "seeds": lambda row: ", ".join(map(str, row["seeds"])),
        "true edges found": lambda row: ", ".join(row["found"]),
        "recall@1, %": lambda row: " / ".join(f"{value:.1f}" for value in row["recall"]),
        "weakest true edge": number("weakest", ".2f"),
        "strongest noise edge": number("strongest", ".2f"),
        "flags": lambda row: "; ".join(", ".join(one) or "none" for one in row["flags"]),
    }
    return {
        "cells": table(columns, rows["cells"]),
        "init": as_table(rows["init"]),
        "cost": as_table(rows["cost"]),
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--init-seeds", type=int, default=8)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--steps", type=int, default=100)


def run(given: argparse.Namespace) -> dict[str, list[Row]]:
    """Make the cells that are missing, or measure what a step costs."""
    import torch

    torch.set_num_threads(1)
    rows = STUDY.kept(given.out) or {}
    if given.cost:
        return {**rows, "cost": cost(given.steps)}
    given.work.mkdir(parents=True, exist_ok=True)
    file = given.work / "cells.jsonl"
    wanted = set(given.only.split(",")) - {""}
    until = time.monotonic() + 60 * given.minutes
    done = [json.loads(x) for x in file.read_text().splitlines()] if file.exists() else []
    if not wanted or "A3" in wanted:
        by = pd.DataFrame(at_init(given.init_seeds)).groupby("rho", sort=False)
        means = by.mean().drop(columns="seed")
        rows["init"] = [{"rho": rho, "seeds": len(by.get_group(rho)), **dict(row)}
                        for rho, row in means.iterrows()]  # fmt: skip
    for cell in cells(given.seeds):
        made = [one["key"] for one in done]
        if cell.key in made or (wanted and cell.test not in wanted) or time.monotonic() > until:
            continue
        done.append(run_cell(cell))
        with file.open("a") as opened:
            opened.write(json.dumps(done[-1]) + "\n")
        print({k: v for k, v in done[-1].items() if k != "trees"}, flush=True)
    return {**rows, "cells": grouped(done)} if done else rows


STUDY = Study(__file__, parts=parts, run=run, options=options, seeds=5)

if __name__ == "__main__":
    STUDY.main()
