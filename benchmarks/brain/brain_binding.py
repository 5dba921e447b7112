"""Does binding modalities help on real brains? OASIS-1 and ABIDE I, with entries removed.

    python -m benchmarks.brain.brain_binding WORK [--cohorts oasis1 abide]
                                                  [--shares 0 0.2 0.4 0.6] [--repeats 5] [--minutes M]

A cell is one cohort, share of entries removed, and repeat: five folds with every method in each, a
line of WORK/COHORT.jsonl. Cells that are there are not made again, so the command goes on where it
stopped. Everything is fitted inside a fold: components, scales, towers, the graph, the best pair,
probes. Towers are small perceptrons on reduced inputs, see ``brain_binding.md``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.decomposition import PCA

from benchmarks.brain.brain_binding_page import draw, parts, score_of_nothing, summary
from benchmarks.brain.brain_binding_people import LAYOUTS, People, read_people
from benchmarks.study import Study
from medmcl.core.batch import Batch, InputShape
from medmcl.core.rng import derive_seed, numpy_generator
from medmcl.core.targets import Targets
from medmcl.engine.optimiser import OptimiserSettings, build_optimiser, rate_at, set_rate
from medmcl.evaluation import linear_probe
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.cross_validation import out_of_fold
from medmcl.evaluation.models.fusion import fuse
from medmcl.evaluation.models.scaling import Scaler, one_scale
from medmcl.evaluation.models.together import Together
from medmcl.stages.train.train_filter import keep_apart

if TYPE_CHECKING:
    from medmcl.encoders.towers import Towers
    from medmcl.objectives.pairwise.alignment import CrossModal

STEPS, LABEL_STEPS, BATCH, LEAST_BATCH = 100, 100, 128, 32
TOWER = {"encoder": {"name": "tabular_mlp", "cell_width": 4, "hidden": 64, "depth": 1, "width": 64},
         "head": {"hidden": 64, "out": 16}}  # fmt: skip
OPTIMISER = OptimiserSettings(lr=1e-3, weight_decay=0.01, warmup=0.05)
SCALE = {"init": 10.0, "learned": False}
TREE = {"learn": "tree", "score": "mi", "warm_up": 1 / 3, "every": 25, "probe_share": 0.3,
        "min_rows": 16}  # fmt: skip
SAME_PEOPLE = {**TREE, "learn": "full", "floor": -1.0}


@dataclass
class Fold:
    """Everything that is fitted without the people of a test fold.

    Attributes:
        people: Everyone, with the entries they have.
        train: Labelled rows to fit probes on.
        tuning: Labelled rows to choose penalties on.
        both: Train and tuning.
        seed: Of weights and batches.
    """

    people: People
    train: np.ndarray
    tuning: np.ndarray
    both: np.ndarray
    seed: int
    graph: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def inside(self) -> np.ndarray:
        """All rows but those of the test fold, with or without an outcome."""
        test = np.setdiff1d(self.people.labelled, self.both)
        return np.setdiff1d(np.arange(len(self.people.subjects)), test)

    @cached_property
    def vectors(self) -> dict[str, np.ndarray]:
        """Modality to (N, F): components or cells, scaled; NaN where a cell is missing."""
        found = {}
        for name, raw in self.people.raw.items():
            has = self.people.present[name]
            own = self.inside[has[self.inside]]
            if name in self.people.layout.components:
                count = min(self.people.layout.components[name], len(own) // 2)
                pca = PCA(count, svd_solver="full").fit(raw[own])
                parts = np.full((len(raw), count), np.nan)
                parts[has] = pca.transform(raw[has])
                found[name] = one_scale(parts[own])(parts)
                continue
            centre, spread = np.nanmean(raw[own], axis=0), np.nanstd(raw[own], axis=0)
            cells = (raw - centre) / np.where(spread > 0, spread, 1.0)
            found[name] = np.where(has[:, None], cells, np.nan)
        return found

    @cached_property
    def batch(self) -> Batch:
        """Everyone, as towers read it: values and presence of cells."""
        import torch

        inputs = {
            name: torch.tensor(np.stack([np.nan_to_num(x), ~np.isnan(x)], 1), dtype=torch.float32)
            for name, x in self.vectors.items()
        }
        targets = self.people.targets
        return Batch(
            ids=torch.arange(len(self.people.subjects)),
            inputs=inputs,
            present={n: torch.tensor(has) for n, has in self.people.present.items()},
            targets={targets.name: torch.tensor(targets.values, dtype=torch.float32)},
            known={targets.name: torch.tensor(targets.known)},
        )

    def towers(self, names: Sequence[str]) -> tuple[Towers, dict[str, InputShape]]:
        """New towers; a modality starts with the same weights whatever stands beside it."""
        import torch

        from medmcl.encoders.towers import Towers

        shapes = {name: _shape(x.shape[1]) for name, x in self.vectors.items() if name in names}
        built = {}
        for name, shape in shapes.items():
            torch.manual_seed(derive_seed(self.seed, "tower", name))
            built[name] = Towers.build({name: shape}, {name: TOWER}).tower(name)
        return Towers(built), shapes

    def has(self, names: Sequence[str], every: bool = False) -> np.ndarray:
        """Who has any (or every one) of some modalities, (N,) bool."""
        flags = np.stack([self.people.present[name] for name in names])
        return np.asarray(flags.all(0) if every else flags.any(0))

    def fit(self, model: Towers, objective: Any, rows: np.ndarray, steps: int) -> None:
        """Train as a stage does: the same rates, watchers and loss."""
        import torch

        from medmcl.engine.loop import Learner
        from medmcl.engine.probe_hooks import watch
        from medmcl.engine.world import World
        from medmcl.objectives.pairs.learned_pairs import LearnedPairs

        learner = Learner(model, {"one": objective}, {"one": 1.0})
        wanted = [part.probe for part in objective.modules() if isinstance(part, LearnedPairs)]
        rows, apart = keep_apart(rows, self.people.subjects[rows], wanted, (self.seed, "bind"))
        probe = self.batch[torch.from_numpy(apart)]
        optimiser = build_optimiser(learner, OPTIMISER, {})
        for group in optimiser.param_groups:
            group["fused"] = True

        def show(step: int) -> None:
            def encode() -> list[Any]:
                with torch.no_grad():
                    return [model(probe)]

            list(watch(learner.objectives, encode, step, steps, World()))

        show(0)
        view = objective.settings.view
        for step, chosen in enumerate(self._batches(rows, steps)):
            batch = self.batch[torch.from_numpy(chosen)]
            set_rate(optimiser, rate_at(step, steps, OPTIMISER))
            optimiser.zero_grad()
            loss, terms = learner({view: batch}, batch, World())
            if terms:
                loss.backward()
                optimiser.step()
            show(step + 1)

    def _batches(self, rows: np.ndarray, steps: int) -> Iterator[np.ndarray]:
        generator = numpy_generator(self.seed, "batches")
        while len(rows):
            mixed = generator.permutation(rows)
            for first in range(0, len(mixed), BATCH):
                part = mixed[first : first + BATCH]
                if len(part) < LEAST_BATCH and first:
                    continue
                if steps == 0:
                    return
                steps -= 1
                yield part

    def bind(
        self, pairs: Any, names: Sequence[str], *, every: bool = False, steps: int | None = None
    ) -> tuple[Together, CrossModal]:
        """Train towers on pairs, and embed everyone."""
        import torch

        from medmcl.objectives.pairwise.alignment import CrossModal

        model, shapes = self.towers(names)
        settings = CrossModal.Settings.model_validate({"pairs": pairs, "scale": SCALE})
        objective = CrossModal(settings, model.shape(shapes))
        rows = self.inside[self.has(names, every)[self.inside]]
        self.fit(model, objective, rows, STEPS if steps is None else steps)
        with torch.no_grad():
            pooled = model(self.batch).pooled
        present = {name: self.people.present[name] for name in pooled}
        return Together(
            vectors={n: x.numpy() for n, x in pooled.items()}, present=present
        ), objective

    def probe(self, features: np.ndarray, has: np.ndarray, fit: Any = linear_probe) -> np.ndarray:
        """Predict everyone from features; those without get the mean of those fitted on. (N,)."""
        train, tuning, both = (rows[has[rows]] for rows in (self.train, self.tuning, self.both))
        features = np.where(has[:, None], features, 0.0)
        guess = fit(features, self.people.targets, train, tuning, refit_on=both).predict(features)
        return np.where(has, guess[:, 0], guess[both, 0].mean())

    def fused(self, together: Together, fusion: Any = "mean") -> np.ndarray:
        """Predict everyone from embeddings of what they have."""
        ready = fuse(together, fusion, seed=self.seed)
        return self.probe(ready.features, ready.present, ready.fit)


def _shape(width: int) -> InputShape:
    return InputShape(kind="tabular", shape=(2, width), cardinalities=(0,) * width)


def scores(fold: Fold, share: float) -> dict[str, np.ndarray]:
    """Every method in one fold; name to predictions for everyone."""
    names = tuple(fold.people.raw)
    found = {}
    tree, objective = fold.bind(TREE, names)
    found["AutoBIND"] = fold.fused(tree)
    found["AutoBIND, learned fusion"] = fold.fused(tree, "learned")
    fold.graph = _graph(objective)
    found["full graph"] = fold.fused(fold.bind("all", names)[0])
    if share == 0:
        found["full graph, people of AutoBIND"] = fold.fused(fold.bind(SAME_PEOPLE, names)[0])
    for name in names:
        found[f"star on {name}"] = fold.fused(fold.bind({"star": name}, names)[0])
    pair = fold.graph["best_pair"]
    found["CLIP on the best pair"] = fold.fused(fold.bind([pair], pair, every=True)[0])
    found["untrained towers"] = fold.fused(fold.bind("all", names, steps=0)[0])
    for name in names:
        cells = np.nan_to_num(fold.vectors[name])
        fit = _one_scale_probe if name in fold.people.layout.components else linear_probe
        found[f"only {name}, logistic"] = fold.probe(cells, fold.has([name]), fit)
        if share == 0:
            found[f"only {name}, tower"] = supervised(fold, name)
    found["early fusion, logistic"] = early(fold, names)
    plain = Together(
        vectors={name: np.nan_to_num(x) for name, x in fold.vectors.items()},
        present=fold.people.present,
    )
    found["late fusion, product of experts"] = fold.fused(plain, "product_of_experts")
    return found | floors(fold)


def _graph(objective: CrossModal) -> dict[str, Any]:
    """The last graph, and the pair with the highest score when all had been trained alike."""
    from medmcl.objectives.pairs.learned_pairs import LearnedPairs

    assert isinstance(objective.graph, LearnedPairs)
    history = objective.graph.history
    first = next(row for row in history if row["step"] == round(TREE["warm_up"] * STEPS))
    known = {pair: score for pair, score in first["scores"].items() if score is not None}
    best = max(known, key=lambda p: known[p]) if known else max(
        history[0]["rows"], key=lambda p: history[0]["rows"][p]
    )  # fmt: skip
    last = history[-1]
    return {
        "best_pair": best.split("~"),
        "best_pair_by": "score" if known else "rows",
        "edges": [f"{a}~{b}" for a, b, _ in last["edges"]],
        "phase": last["phase"],
        "isolated": last["isolated"],
        "after_warm_up": first["scores"],
    }


def _one_scale_probe(*given: Any, **more: Any) -> Fitted:
    return linear_probe(*given, **more, scaling=one_scale)


def _as_it_is(features: np.ndarray) -> Scaler:
    return Scaler(features.mean(axis=0), np.ones(features.shape[1]))


def _as_it_is_probe(*given: Any, **more: Any) -> Fitted:
    return linear_probe(*given, **more, scaling=_as_it_is)


def early(fold: Fold, names: Sequence[str]) -> np.ndarray:
    """Logistic regression on blocks of equal summed variance and presence flags."""
    flags = np.stack([fold.people.present[name] for name in names], 1).astype(float)
    blocks = []
    for name in names:
        own = fold.both[fold.people.present[name][fold.both]]
        block = np.nan_to_num(fold.vectors[name])
        blocks.append(block / np.sqrt(max(block[own].var(axis=0).sum(), 1e-9)))
    return fold.probe(np.hstack([*blocks, flags]), fold.has(names), _as_it_is_probe)


def supervised(fold: Fold, name: str) -> np.ndarray:
    """The tower of one modality, trained with labels for a fixed number of steps."""
    import torch

    from medmcl.objectives.supervised import Supervised

    people, rows = fold.people, fold.both[fold.people.present[name][fold.both]]
    model, shapes = fold.towers([name])
    task = people.targets.take(rows)
    shape = model.shape(shapes, {task.name: task})
    settings = Supervised.Settings(task=task.name, modalities=(name,), pooling="features")
    torch.manual_seed(derive_seed(fold.seed, "head"))
    objective = Supervised(settings, shape)
    fold.fit(model, objective, rows, LABEL_STEPS)
    with torch.no_grad():
        guess = objective.predict(model(fold.batch)).numpy()[:, 0]
    return np.where(people.present[name], guess, guess[rows].mean())


def floors(fold: Fold) -> dict[str, np.ndarray]:
    """The simple baselines that the data come with."""
    layout, names = fold.people.layout, tuple(fold.people.raw)
    if layout.task == "dementia":
        return {
            "floor: table, logistic": early(fold, list(layout.groups)),
            "floor: slices, logistic": early(fold, list(layout.components)),
        }
    edges = replace(fold.people.targets, kind="regression")

    def ridge(features: np.ndarray, _: Targets, *rows: np.ndarray, **more: Any) -> Fitted:
        return linear_probe(features, edges, *rows, **more, scaling=one_scale)

    has = fold.has(names[:1])
    return {"floor: edges, ridge": fold.probe(fold.people.raw[names[0]], has, ridge)}


def run_cell(people: People, share: float, repeat: int) -> dict[str, Any]:
    """All methods over five folds; predictions centred and scaled in each fold, as tables do."""
    began = time.process_time()
    thinned = people.without(share, seed=repeat)
    done: dict[bytes, tuple[Fold, dict[str, np.ndarray]]] = {}

    def protocol(name: str) -> Callable[..., Fitted]:
        def fit(_: Any, __: Any, train: Any, tuning: Any, *, refit_on: Any) -> Fitted:
            key = refit_on.tobytes()
            if key not in done:
                seed = derive_seed(repeat, "fold", len(done))
                fold = Fold(thinned, train, tuning, refit_on, seed)
                done[key] = (fold, scores(fold, share))
            guess = done[key][1][name]
            return Fitted(predict=lambda rows: guess[rows[:, 0].astype(int), None])

        return fit

    order: dict[str, list[float]] = {}
    index = np.arange(len(people.subjects), dtype=float)[:, None]
    waiting = ["AutoBIND"]
    while waiting:
        name = waiting.pop()
        found = out_of_fold(
            index, people.targets, people.units, people.labelled, protocol=protocol(name),
            repeats=1, seed=repeat, draw=people.layout.draw,
        )  # fmt: skip
        order[name] = np.round(found.order[people.labelled, 0], 5).tolist()
        if len(order) == 1:
            waiting = [one for one in next(iter(done.values()))[1] if one != name][::-1]
    return {
        "key": [share, repeat],
        "order": order,
        "has": {n: has[people.labelled].astype(int).tolist() for n, has in thinned.present.items()},
        "graphs": [fold.graph for fold, _ in done.values()],
        "folds": [[len(f.inside), len(people.labelled) - len(f.both)] for f, _ in done.values()],
        "cpu_s": round(time.process_time() - began, 1),
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("work", type=Path)
    parser.add_argument("--cohorts", nargs="+", default=list(LAYOUTS), choices=list(LAYOUTS))
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.2, 0.4, 0.6])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=1e9)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Make the cells that are missing, and sum all of them up."""
    import torch

    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    people = {name: read_people(name) for name in given.cohorts}
    files = {name: given.work / f"{name}.jsonl" for name in given.cohorts}
    until = time.monotonic() + 60 * given.minutes
    wanted = [(n, share, r) for r in range(given.repeats) for share in given.shares for n in people]
    wanted = sorted(wanted, key=lambda one: one[1] > 0)  # all repeats with every entry come first
    for name, share, repeat in wanted:
        done = [one["key"] for one in _lines(files[name])]
        if [share, repeat] in done or time.monotonic() > until:
            continue
        row = run_cell(people[name], share, repeat)
        with files[name].open("a") as opened:
            opened.write(json.dumps(row) + "\n")
        print(name, row["key"], row["cpu_s"], "s", flush=True)
    cells = {name: _lines(file) for name, file in files.items()}
    found = {name: summary(people[name], one) for name, one in cells.items() if one}
    return {**(STUDY.kept(given.out) or {}), **found, "nothing": score_of_nothing()}


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(x) for x in file.read_text().splitlines()] if file.exists() else []


STUDY = Study(__file__, parts=parts, run=run, options=options, draw=draw)

if __name__ == "__main__":
    STUDY.main()
