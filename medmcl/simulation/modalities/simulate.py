"""The simulated cohort of many modalities: latents on a tree, each shown through its own table.

The latents of a modality are a noisy rotation of its parent's in a tree over modalities, so
neighbours in the tree share most, and two modalities further apart share less with every edge
between them. Which are neighbours is the truth that a learned pair graph has to find.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.core.rng import numpy_generator
from medmcl.simulation.folder import splits_of, whole, write_about, write_tables
from medmcl.simulation.modalities.settings import ModalitiesSettings

Array = np.ndarray


@whole("truth.json", "truth.parquet")
def simulate_modalities(folder: Path, settings: ModalitiesSettings) -> None:
    """Write a cohort folder; it appears whole or not at all.

    ``tables/m0.parquet`` and on (one row a subject who has it), ``participants.tsv`` (split,
    outcomes), ``cohort.yaml``, and apart from it ``truth.json`` (edges, root, noise modalities) and
    ``truth.parquet`` (latents).

    Raises:
        CohortError: The folder is not empty, and is no earlier simulated cohort to overwrite.
    """
    edges = draw_tree(settings)
    latents, has = draw_latents(settings, edges), draw_presence(settings)
    names = [f"m{number}" for number in range(settings.modalities)]
    subjects = np.array([f"s{number:06d}" for number in range(settings.subjects)])
    (folder / "tables").mkdir()
    for number, name in enumerate(names):
        rows = np.flatnonzero(has[:, number])
        values = show(settings, latents[:, number], number)[rows].astype(np.float32)
        table = pd.DataFrame(values, columns=[f"{name}_{k}" for k in range(settings.columns)])
        table.insert(0, "subject_id", subjects[rows])
        table.to_parquet(folder / "tables" / f"{name}.parquet", index=False)
    root = edges[0][0]
    order = numpy_generator(settings.seed, "latent tree", "splits").permutation(settings.subjects)
    people = pd.DataFrame(
        {"subject_id": subjects, "split": splits_of(order, settings, rounded=False)}
    )
    people["trait"] = latents[:, root, 0].round(4)
    hidden = {
        f"{name}_z{k}": latents[:, number, k].astype(np.float32)
        for number, name in enumerate(names)
        for k in range(settings.latent)
    }
    truth = pd.DataFrame({"subject_id": subjects, **hidden})
    joined = {number for edge in edges for number in edge}
    facts = {
        "edges": sorted(sorted([names[a], names[b]]) for a, b in edges),
        "root": names[root],
        "noise": [name for number, name in enumerate(names) if number not in joined],
        "settings": settings.model_dump(mode="json"),
    }
    write_tables(folder, people, truth, facts)
    write_about(folder, "modalities/", settings, names=names)


def draw_tree(settings: ModalitiesSettings) -> list[tuple[int, int]]:
    """Edges (parent, child) of the modalities that are related, the root's first."""
    rng = numpy_generator(settings.seed, "latent tree", "edges")
    names = rng.permutation(settings.modalities)[: settings.modalities - settings.noise_modalities]
    if settings.tree == "random":
        order = names.tolist()
        return [(order[int(rng.integers(k))], order[k]) for k in range(1, len(order))]
    order = sorted(names.tolist())
    if settings.tree == "chain":
        return list(pairwise(order))
    if settings.tree == "star":
        return [(order[0], other) for other in order[1:]]
    given = [(order[a], order[b]) for a, b in settings.tree]
    return _from_root(given, order[0])


def _from_root(edges: list[tuple[int, int]], root: int) -> list[tuple[int, int]]:
    """Edges turned away from the root, each after the one that leads to it."""
    left, reached, ordered = list(edges), {root}, []
    while left:
        a, b = next(edge for edge in left if reached & set(edge))
        left.remove((a, b))
        ordered.append((a, b) if a in reached else (b, a))
        reached |= {a, b}
    return ordered


def draw_latents(settings: ModalitiesSettings, edges: list[tuple[int, int]]) -> Array:
    """Latents of every subject and modality, (N, M, latent), standard normal each."""
    rng = numpy_generator(settings.seed, "latent tree", "latents")
    z = rng.standard_normal((settings.subjects, settings.modalities, settings.latent))
    rest = math.sqrt(1 - settings.rho**2)
    for parent, child in edges:
        rotation = np.linalg.qr(rng.standard_normal((settings.latent, settings.latent)))[0]
        z[:, child] = settings.rho * z[:, parent] @ rotation + rest * z[:, child]
    return z


def show(settings: ModalitiesSettings, latents: Array, modality: int) -> Array:
    """What a table shows of the latents (N, latent): tanh(z A) B and noise, (N, columns)."""
    rng = numpy_generator(settings.seed, "latent tree", "table", modality)
    width = settings.columns
    inward = rng.standard_normal((settings.latent, width)) / math.sqrt(settings.latent)
    outward = rng.standard_normal((width, width)) / math.sqrt(width)
    shown: Array = np.tanh(latents @ inward) @ outward
    return shown + settings.noise * rng.standard_normal(shown.shape)


def draw_presence(settings: ModalitiesSettings) -> Array:
    """Who has what, (N, M) bool; everybody has one modality at least."""
    rng = numpy_generator(settings.seed, "latent tree", "presence")
    has = rng.random((settings.subjects, settings.modalities)) >= settings.missing
    kept = rng.integers(settings.modalities, size=settings.subjects)
    nothing = np.flatnonzero(~has.any(axis=1))
    has[nothing, kept[nothing]] = True
    return has
