"""World of vectors: three factors of unequal ease in 64 numbers, and a caption of three words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.core.rng import numpy_generator
from medmcl.simulation.trifactor.settings import TrifactorSettings
from medmcl.simulation.trifactor.world import (
    World,
    captions,
    draw_kept,
    draw_levels,
    draw_seats,
    named_levels,
    word_prompts,
    word_tasks,
)

Array = np.ndarray
COLUMNS = 64
WIDTH = 16
"""Latent numbers of a factor."""
_GAIN = 0.5
"""Standard deviation of a weight of the mixing: at 1, tanh bends so much that a linear probe
finds 79 % of hard where it finds 86 % at 0.5 (noise 0.1, norm 0.35)."""


def vectors_world(settings: TrifactorSettings) -> World:
    """Draw latents, vectors and captions.

    The latent of a subject is the embeddings of its three levels side by side, which are random
    directions of norm ``ease``, with noise; the vector is tanh(latent A), A Gaussian. Two views are
    two draws of noise on the columns (``augment: {vector: {corruption: 0, noise: 0.7}}``).

    Ridge on the columns (2,100 train of 3,000, seeds 0 to 4) names 100 / 100 / 94 to 97 % of the
    held-out levels of easy, middle, hard; with ``ease: [1, 0.6, 0.35]`` and ``noise: 0.1`` 100 /
    97 to 100 / 84 to 88 %.
    The latter suits fresh draws of latent noise for every view; where the noise is stored, views
    share it and tell subjects apart by it, so the default stores less and makes hard weaker.

    Source: the factors of Hermann & Lampinen 2020 (arXiv 2006.12433), without pictures. Differs:
    ease is a norm. No rotation stands before A, since a Gaussian A has every direction alike.
    """
    seats = draw_seats(settings)
    levels = draw_levels(settings, seats)
    latents = _draw_latents(settings, levels, seats["like"].to_numpy())
    words, kept = named_levels(settings, levels), draw_kept(settings, seats)
    people = pd.concat([seats, words], axis=1)
    people["caption"] = captions(words, kept)
    names = [f"v{number}" for number in range(COLUMNS)]
    vectors = pd.DataFrame(_mixed(settings, latents).astype(np.float32), columns=names)
    vectors.insert(0, "subject_id", seats["subject_id"])

    def write(folder: Path) -> None:
        (folder / "tables").mkdir()
        vectors.to_parquet(folder / "tables" / "vector.parquet", index=False)

    numbers = [f"z{number}" for number in range(latents.shape[1])]
    truth = pd.DataFrame(kept, columns=[f"names_{name}" for name in settings.factors])
    return World(
        people=people,
        truth=pd.concat([truth, pd.DataFrame(latents.astype(np.float32), columns=numbers)], axis=1),
        modalities={
            "vector": {
                "reader": "table",
                "table": "tables/vector.parquet",
                "id": "subject_id",
                "columns": dict.fromkeys(names, "number"),
            },
            "caption": {"reader": "text", "column": "caption"},
        },
        tasks=word_tasks(settings),
        prompts=word_prompts(settings),
        write=write,
        about=(
            f"A vector of {COLUMNS} numbers shows three factors of {settings.level_count} levels; "
            f"their norms are {', '.join(f'{norm:g}' for norm in settings.ease)}. A caption has a "
            "word for each factor that it names. Free of any licence (CC0).",
        ),
        files={
            "tables/vector.parquet": f"`v0` to `v{COLUMNS - 1}`, a row a subject",
            "truth.parquet": f"`names_easy` and on: what the caption names; `z0` to "
            f"`z{len(numbers) - 1}`: the latent with its noise, {WIDTH} numbers a factor",
        },
    )


def _draw_latents(settings: TrifactorSettings, levels: Array, like: Array) -> Array:
    """Embeddings of the levels with noise, (N, 3 WIDTH); rows alike share their noise."""
    rng = numpy_generator(settings.seed, "trifactor", "embeddings")
    parts = []
    for axis, norm in enumerate(settings.ease):
        table = rng.standard_normal((settings.level_count, WIDTH))
        table *= norm / np.linalg.norm(table, axis=1, keepdims=True)
        parts.append(table[levels[:, axis]])
    clean = np.concatenate(parts, axis=1)
    noise = numpy_generator(settings.seed, "trifactor", "noise").standard_normal(clean.shape)
    drawn: Array = clean + settings.noise * noise[like]
    return drawn


def _mixed(settings: TrifactorSettings, latents: Array) -> Array:
    rng = numpy_generator(settings.seed, "trifactor", "mixing")
    mixing = _GAIN * rng.standard_normal((latents.shape[1], COLUMNS))
    mixed: Array = np.tanh(latents @ mixing)
    return mixed
