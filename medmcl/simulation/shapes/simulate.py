"""The simulated cohort of captioned shapes: pictures, captions that name what they show.

A picture shows one to four copies of a shape in a colour, a texture and a place. Pairs with a wrong
caption, unseen combinations, rare shapes, and missing pictures or captions are settings; which they
are stands in the truth, which the cohort does not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.rng import numpy_generator
from medmcl.simulation.folder import whole, write_about, write_tables
from medmcl.simulation.shapes.captions import caption, prompts
from medmcl.simulation.shapes.draw import draw_layout, draw_picture
from medmcl.simulation.shapes.settings import ShapesSettings
from medmcl.simulation.shapes.world import ATTRIBUTES, draw_unseen, draw_world

_HIDDEN = ("unseen", "caption_of", "swapped", "noisy")


@whole("truth.json", "truth.parquet")
def simulate_shapes(folder: Path, settings: ShapesSettings) -> None:
    """Write a cohort folder; it appears whole or not at all.

    ``images/s000000.png`` and on (RGB, 8 bit), ``participants.tsv`` (split, presence, attributes of
    the picture, caption), ``cohort.yaml``, ``README.md``, and apart from it ``truth.parquet``
    (whose caption it is, swapped, noisy, unseen, where the copies lie) and ``truth.json`` (counts,
    unseen combinations, settings).

    Raises:
        CohortError: The folder is not empty, and is no earlier simulated cohort to overwrite.
        ConfigError: Too few train pairs have another picture to take a caption from.
    """
    world = draw_world(settings)
    rows = [dict(zip(ATTRIBUTES, row, strict=True)) for row in world[list(ATTRIBUTES)].to_numpy()]
    places = _write_pictures(folder / "images", settings, rows, world["has_image"].to_numpy())
    captions = np.array([_caption(settings, n, row) for n, row in enumerate(rows)], dtype=object)
    people = world[["subject_id", "split", "has_image", *ATTRIBUTES]].copy()
    people["has_image"] = people["has_image"].astype(int)
    people["caption"] = np.where(world["has_caption"], captions[world["caption_of"]], "")
    truth = world[["subject_id", *ATTRIBUTES, *_HIDDEN]].copy()
    truth["caption_of"] = world["subject_id"].to_numpy()[world["caption_of"]]
    truth.loc[~world["has_caption"], "caption_of"] = None
    write_tables(folder, people, pd.concat([truth, places], axis=1), _facts(settings, world))
    asked = prompts(settings.values, settings.named)
    write_about(folder, "shapes/", settings, attributes=ATTRIBUTES, prompts=asked)


def _write_pictures(
    folder: Path, settings: ShapesSettings, rows: list[dict[str, str]], has_image: np.ndarray
) -> pd.DataFrame:
    """Write the PNGs; give middle and radius of the copies in parts of the side."""
    from PIL import Image

    folder.mkdir()
    found = []
    for number, row in enumerate(rows):
        rng = numpy_generator(settings.seed, "shapes", "picture", number)
        layout = draw_layout(row["count"], row["position"], rng)
        found.append((*layout.middles.mean(axis=0), layout.radius))
        if has_image[number]:
            pixels = draw_picture(row, layout, settings.size, settings.pixel_noise, rng)
            picture = Image.fromarray(pixels)
            picture.save(folder / f"s{number:06d}.png")
    return pd.DataFrame(found, columns=["middle_x", "middle_y", "radius"]).round(5)


def _caption(settings: ShapesSettings, number: int, row: dict[str, str]) -> str:
    rng = numpy_generator(settings.seed, "shapes", "caption", number)
    return caption({name: row[name] for name in settings.named}, rng, settings.filler)


def _facts(settings: ShapesSettings, world: pd.DataFrame) -> dict[str, Any]:
    is_train = world["split"] == "train"
    pairs = is_train & world["has_image"] & world["has_caption"]
    values = settings.values
    return {
        "train_pairs": int(pairs.sum()),
        "swapped_pairs": int(world["swapped"].sum()),
        "noisy_pairs": int(world["noisy"].sum()),
        "unseen": [
            {"shape": values["shape"][row], "colour": values["colour"][column]}
            for row, column in np.argwhere(draw_unseen(settings))
        ],
        "caption_names": list(settings.named),
        "settings": settings.model_dump(mode="json"),
    }
