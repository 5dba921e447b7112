"""World of pictures: colour, texture and shape, rendered, and a caption that names them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.core.rng import numpy_generator
from medmcl.simulation.shapes.draw import Layout, draw_picture
from medmcl.simulation.trifactor.settings import TrifactorSettings
from medmcl.simulation.trifactor.world import (
    World,
    captions,
    draw_kept,
    draw_levels,
    draw_seats,
    draw_unseen,
    levels_of,
    named_levels,
    word_prompts,
    word_tasks,
)

Array = np.ndarray
_RADIUS = 2 / 7
"""In parts of the side: a shape of 128 pixels in a picture of 224."""
_TILT = math.radians(45)
_GROUND = 0.5


def pictures_world(settings: TrifactorSettings) -> World:
    """Draw combinations, places and captions; pixels are drawn as they are written.

    Source: Trifeature of Hermann & Lampinen 2020 (arXiv 2006.12433): size, turn, place, ground
    and the split by combination. Differs: levels are those of `medmcl.simulation.shapes.draw` (its
    colours vary a little), a texture turns with its shape and its size goes with the picture's,
    pixels have a little noise, each subject draws a combination (the paper renders each equally
    often), ``size`` is 32 (224).
    """
    seats = draw_seats(settings)
    levels = draw_levels(settings, seats)
    words, kept = named_levels(settings, levels), draw_kept(settings, seats)
    people = pd.concat([seats, words], axis=1)
    people["caption"] = captions(words, kept)
    middles = _draw_middles(settings)[seats["like"].to_numpy()]

    def write(folder: Path) -> None:
        _write_pictures(folder / "images", settings, people, middles)

    truth = pd.DataFrame(kept, columns=[f"names_{name}" for name in settings.factors])
    hidden = draw_unseen(settings)
    truth["unseen"] = hidden[tuple(levels.T)]
    truth[["middle_x", "middle_y"]] = middles.round(5)
    return World(
        people=people,
        truth=truth,
        modalities={
            "image": {"reader": "image", "path": "images/{subject_id}.png"},
            "caption": {"reader": "text", "column": "caption"},
        },
        tasks=word_tasks(settings),
        prompts=word_prompts(settings),
        write=write,
        about=_about(settings),
        files={
            "images/": f"PNG, RGB, 8 bit, {settings.size} by {settings.size}",
            "truth.parquet": "`names_colour` and on: what the caption names; `unseen`: held_out "
            "alone shows this combination; `middle_x`, `middle_y` in parts of the side",
        },
        facts={"unseen": _unseen_words(settings, hidden)},
    )


def _draw_middles(settings: TrifactorSettings) -> Array:
    """Places at which no shape is cut, (N, 2) in parts of the side."""
    rng = numpy_generator(settings.seed, "trifactor", "places")
    return rng.uniform(_RADIUS, 1 - _RADIUS, (settings.rows, 2))


def _write_pictures(
    folder: Path, settings: TrifactorSettings, people: pd.DataFrame, middles: Array
) -> None:
    from PIL import Image

    folder.mkdir()
    names = list(settings.factors)
    shown = [dict(zip(names, row, strict=True)) for row in people[names].to_numpy()]
    rows = zip(people["subject_id"], people["like"].tolist(), shown, middles, strict=True)
    for number, (subject, like, values, middle) in enumerate(rows):
        rng = numpy_generator(settings.seed, "trifactor", "picture", like)
        layout = Layout(middle[None], _RADIUS)
        clean = draw_picture(values, layout, settings.size, 0.0, rng, tilt=_TILT, ground=_GROUND)
        grain = numpy_generator(settings.seed, "trifactor", "grain", number)
        noise = 255 * settings.pixel_noise * grain.standard_normal(clean.shape, dtype=np.float32)
        pixels = (clean + noise).round().clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{subject}.png")


def _unseen_words(settings: TrifactorSettings, hidden: Array) -> list[list[str]]:
    words = list(levels_of(settings).values())
    return [[words[axis][k] for axis, k in enumerate(cell)] for cell in np.argwhere(hidden)]


def _about(settings: TrifactorSettings) -> tuple[str, ...]:
    table = [f"{name}: {', '.join(words)}" for name, words in levels_of(settings).items()]
    shown = (
        f"{settings.unseen:g} of the combinations are in held_out alone, which has no others."
        if settings.unseen
        else "Every split shows all combinations."
    )
    return (
        "A picture shows one shape, turned by up to 45 degrees, in some place of a grey ground. "
        "Free of any licence (CC0).",
        "; ".join(table) + ".",
        shown,
    )
