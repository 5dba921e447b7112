"""What the simulated pictures show, who has what, and which pairs are wrong: the truth."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd

from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator
from medmcl.simulation.folder import splits_of
from medmcl.simulation.shapes.settings import ShapesSettings

Array = np.ndarray
ATTRIBUTES = ("shape", "colour", "texture", "count", "position")


def draw_world(settings: ShapesSettings) -> pd.DataFrame:
    """Draw everything but pixels and words, one row a subject.

    Columns: ``subject_id``, ``split``, the attributes of the picture, ``has_image``,
    ``has_caption``, ``unseen`` (its colour and shape are never together in train and tuning),
    ``caption_of`` (number of the row whose caption it has: its own but for swapped pairs),
    ``swapped``, and ``noisy``: swapped, and the caption names something that the picture is not.

    Raises:
        ConfigError: Too few train pairs have a partner to swap with.
    """
    world = pd.DataFrame({"subject_id": [f"s{n:06d}" for n in range(settings.subjects)]})
    world["split"] = splits_of(
        numpy_generator(settings.seed, "shapes", "splits").permutation(settings.subjects), settings
    )
    numbers = {name: _numbers(settings, name) for name in ATTRIBUTES}
    hidden = draw_unseen(settings)
    learns = world["split"].to_numpy() != "held_out"
    numbers["colour"] = _seen_colours(settings, numbers, hidden, learns)
    world["unseen"] = hidden[numbers["shape"], numbers["colour"]]
    for name in ATTRIBUTES:
        world[name] = np.array(settings.values[name])[numbers[name]]
    world["has_image"], world["has_caption"] = _presence(settings)
    world["caption_of"] = _caption_of(settings, world)
    world["swapped"] = world["caption_of"] != np.arange(settings.subjects)
    told = world[list(settings.named)].to_numpy()
    world["noisy"] = (told != told[world["caption_of"]]).any(axis=1)
    return world


def _numbers(settings: ShapesSettings, name: str) -> Array:
    """Number of the value of each picture; shapes by Zipf, the others evenly."""
    rng = numpy_generator(settings.seed, "shapes", name)
    count = len(settings.values[name])
    weights = np.arange(1, count + 1, dtype=float) ** -(
        settings.imbalance if name == "shape" else 0
    )
    return rng.choice(count, size=settings.subjects, p=weights / weights.sum())


def draw_unseen(settings: ShapesSettings) -> Array:
    """Combinations that train and tuning never show, (shapes, colours) bool.

    Every shape keeps a colour and every colour a shape that are shown. Up to half of all
    combinations such a choice exists, whatever was taken before.
    """
    hidden = np.zeros((settings.shapes, settings.colours), dtype=bool)
    for cell in numpy_generator(settings.seed, "shapes", "unseen").permutation(hidden.size):
        if hidden.sum() == settings.unseen:
            break
        row, column = divmod(int(cell), settings.colours)
        leaves_shape = (~hidden[row]).sum() > 1
        hidden[row, column] = leaves_shape and (~hidden[:, column]).sum() > 1
    return hidden


def _seen_colours(
    settings: ShapesSettings, numbers: dict[str, Array], hidden: Array, learns: Array
) -> Array:
    """Another colour for pictures of train and tuning that would show an unseen combination."""
    rng = numpy_generator(settings.seed, "shapes", "colours again")
    colours = numbers["colour"].copy()
    for row in np.flatnonzero(learns & hidden[numbers["shape"], colours]):
        colours[row] = rng.choice(np.flatnonzero(~hidden[numbers["shape"][row]]))
    return colours


def _presence(settings: ShapesSettings) -> tuple[Array, Array]:
    """Who has a picture and who a caption; nobody is without both."""
    order = numpy_generator(settings.seed, "shapes", "presence").permutation(settings.subjects)
    silent = round(settings.missing_captions * settings.subjects)
    blind = min(round(settings.missing_images * settings.subjects), settings.subjects - silent)
    return ~((order >= silent) & (order < silent + blind)), order >= silent


def _caption_of(settings: ShapesSettings, world: pd.DataFrame) -> Array:
    """Whose caption each row has; exactly the share ``noisy_pairs`` of train pairs another's."""
    owner = np.arange(settings.subjects)
    is_pair = (world["split"] == "train") & world["has_image"] & world["has_caption"]
    pairs = np.flatnonzero(is_pair)
    wanted = round(settings.noisy_pairs * len(pairs))
    if not wanted:
        return owner
    rng = numpy_generator(settings.seed, "shapes", "noisy pairs", settings.noisy_within)
    shape = world["shape"].to_numpy()
    donors = _donors(settings.noisy_within, pairs, shape)
    able = np.array([row for row in pairs if len(donors[shape[row]]) > _own(settings)], dtype=int)
    if len(able) < wanted:
        raise ConfigError(
            "too few train pairs have another picture to take a caption from",
            where="simulate shapes",
            got=f"{len(able)} pairs for {wanted} swaps, noisy_within: {settings.noisy_within}",
            fix="more subjects, a smaller noisy_pairs, or noisy_within: any",
        )
    for row in rng.permutation(able)[:wanted]:
        others = donors[shape[row]]
        if not _own(settings):
            owner[row] = rng.choice(others)
            continue
        mine = np.searchsorted(others, row)  # one of the donors is the row itself: leave it out
        drawn = int(rng.integers(len(others) - 1))
        owner[row] = others[drawn + (drawn >= mine)]
    return owner


def _own(settings: ShapesSettings) -> int:
    """How many of a row's donors are the row itself."""
    return int(settings.noisy_within != "across")


def _donors(within: str, pairs: Array, shape: Array) -> dict[str, Array]:
    """Shape of a picture to the rows, sorted, whose captions it may get."""
    kinds = cast(list[str], np.unique(shape[pairs]).tolist())
    if within == "any":
        return dict.fromkeys(kinds, pairs)
    same = {kind: shape[pairs] == kind for kind in kinds}
    return {
        kind: pairs[is_same if within == "within" else ~is_same] for kind, is_same in same.items()
    }
