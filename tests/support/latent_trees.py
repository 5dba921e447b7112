"""Small cohorts whose tree is known, and stages that learn a pair graph on them."""

import json

import torch
from begun_runs import context_in

from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import prepare
from medmcl.engine.record import read_metrics
from medmcl.engine.signals import StopRequest
from medmcl.simulation.modalities.settings import ModalitiesSettings
from medmcl.simulation.modalities.simulate import simulate_modalities
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.recipe.resolve_modalities import for_cohort, kinds_of
from medmcl.stages.run.training import run_stage
from medmcl.stages.train.models import build_learner

OURS = {"learn": "tree", "warm_up": 0.34, "every": 20, "probe_share": 0.25, "probe_rows": 300}
SMALL = {
    "kinds.tabular.tower": {
        "encoder": {"name": "tabular_mlp", "cell_width": 2, "hidden": 48, "depth": 1, "width": 32},
        "head": {"hidden": 32, "out": 16},
    },
    "stages.bind.optimiser": {"name": "adamw", "lr": 3e-3, "weight_decay": 0.0, "warmup": 0.05},
    "stages.bind.evaluate_every": 1000,
    "stages.bind.log_every": 1000,
    "stages.bind.batch_size": 96,
}
PAIRS = "stages.bind.objectives.cross_modal.pairs"


def cohort_of(folder, **settings):
    """Give (prepared, truth) of a simulated cohort; every split open."""
    chosen = {"subjects": 1800, "modalities": 5, "columns": 24, "held_out": 0.2, "tuning": 0.0}
    made = simulate_modalities(folder / "cohort", ModalitiesSettings(**{**chosen, **settings}))
    cohort = open_cohort(made)
    recipe = for_cohort(read_recipe("autobind_toy"), kinds_of(cohort))
    prepared = prepare(cohort, recipe.inputs, cache=folder / "cache", splits="all")
    return prepared, json.loads((made / "truth.json").read_text())


def recipe_of(prepared, pairs, steps, **more):
    wanted = {**SMALL, PAIRS: {**OURS, **pairs}, "stages.bind.steps": steps, **more}
    return for_cohort(read_recipe("autobind_toy", wanted), kinds_of(prepared.cohort))


def learn(prepared, folder, pairs=None, *, steps=150, seed=0, **more):
    """Train; give (history of the graph, facts of the stage, model)."""
    recipe = recipe_of(prepared, pairs or {}, steps, **more)
    spec = recipe.stages[0]
    with StopRequest() as stop:
        context = context_in(folder, recipe, stop, seed=seed)
        facts = run_stage(spec, prepared, context)
    shapes = {name: adapter.input_shape for name, adapter in prepared.adapters.items()}
    learner = build_learner(recipe, spec, shapes, {}, seed)
    learner.load_state_dict(context.run.checkpoints("bind").weights("last"))
    rows = read_metrics(folder / "metrics.jsonl")
    return [row for row in rows if row["split"] == "probe"], facts, learner.model


def edges_of(row):
    """Edges of an observation."""
    return {(a, b) for a, b, _ in row["edges"]}


def true_edges(truth):
    return {tuple(edge) for edge in truth["edges"]}


def untrained(prepared, seed):
    """Towers that never took a step."""
    recipe = recipe_of(prepared, {}, 1)
    shapes = {name: adapter.input_shape for name, adapter in prepared.adapters.items()}
    return build_learner(recipe, recipe.stages[0], shapes, {}, seed).model


@torch.no_grad()
def plainly(model, prepared, split):
    """Embeddings of a split in plain view."""
    batch = prepared.batch(prepared.rows(split))
    plain = {name: prepared.adapters[name].plain(x) for name, x in batch.inputs.items()}
    return model.eval()(batch.with_inputs(plain))


def recall(model, prepared, edges):
    """Mean recall@1 over edges and directions, on people of held_out who have both."""
    seen = plainly(model, prepared, "held_out")
    batch = seen.batch
    found = []
    for a, b in edges:
        both = batch.both(a, b)
        similarity = seen.pooled[a][both] @ seen.pooled[b][both].T
        own = torch.arange(len(similarity), device="cpu")
        found += [(s.argmax(1) == own).float().mean().item() for s in (similarity, similarity.T)]
    return sum(found) / len(found)
