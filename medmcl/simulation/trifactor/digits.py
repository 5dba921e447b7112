"""World of digits: a written digit behind gratings, which are easier to see than the digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator
from medmcl.simulation.trifactor.settings import TrifactorSettings
from medmcl.simulation.trifactor.world import World, draw_seats

Array = np.ndarray
SIDE = 28
"""Pixels along a side of a picture."""
_DIGIT = 6
"""Row and column at which the digit begins, of 16 by 16 pixels."""
GROUND, INK, SWING = 80, 140, 35
"""Grey where nothing is, what the darkest stroke adds to it, and what a grating adds at most."""
_CYCLES = (5.0, 8.5)
"""Waves of a grating across the picture: of the first eight, and of the others."""


def digits_world(settings: TrifactorSettings) -> World:
    """Choose digits and draw bits.

    Source: RandBit of Chen, Luo & Li 2021 (arXiv 2011.02803). Differs: a bit is a grating laid over
    the picture, there or not, as the interference of a scanner is, no further channel: crops and
    noise leave it, and an encoder that pools over places sees it; digits are the 1,797 of
    scikit-learn (8 by 8, each used once), doubled in size, no MNIST.

    Raises:
        ConfigError: There are too few digits.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    seats = draw_seats(settings)
    chosen = _choose(settings, labels)
    bits = _draw_bits(settings)[seats["like"].to_numpy()]
    names = [f"bit_{number + 1}" for number in range(settings.bits)]
    people = pd.concat([seats, pd.DataFrame(bits, columns=names)], axis=1)
    people["digit"] = labels[chosen]

    def write(folder: Path) -> None:
        from PIL import Image

        (folder / "images").mkdir()
        for subject, digit, row in zip(seats["subject_id"], chosen, bits, strict=True):
            picture = draw_digit(pixels[digit].reshape(8, 8), row)
            Image.fromarray(picture).save(folder / "images" / f"{subject}.png")

    bit_task = {"bit_1": {"kind": "binary", "column": "bit_1"}} if names else {}
    return World(
        people=people,
        truth=pd.DataFrame({"digit_row": chosen}),
        modalities={"image": {"reader": "image", "path": "images/{subject_id}.png"}},
        tasks={"digit": {"kind": "multiclass", "column": "digit", "classes": list(range(10))}}
        | bit_task,
        write=write,
        about=(
            f"A picture shows a digit and {settings.bits} random bits: each is a fine grating over "
            "the whole picture, there (1) or not (0).",
            "The digits are those of scikit-learn's `load_digits`: Alpaydin & Kaynak, Optical "
            "Recognition of Handwritten Digits, UCI repository, CC BY 4.0.",
        ),
        files={
            "images/": f"PNG, grey, 8 bit, {SIDE} by {SIDE}",
            "truth.parquet": "`digit_row`: its row in `load_digits`",
        },
    )


def draw_digit(digit: Array, bits: Array) -> Array:
    """Draw a digit (8, 8) of 0 to 16 and a grating for every bit that is 1, (28, 28) uint8."""
    picture = np.full((SIDE, SIDE), float(GROUND))
    inside = slice(_DIGIT, _DIGIT + 16)
    picture[inside, inside] += np.kron(digit, np.ones((2, 2))) * INK / 16
    for number in np.flatnonzero(bits):
        picture += SWING * grating(int(number))
    return picture.round().clip(0, 255).astype(np.uint8)


def grating(number: int) -> Array:
    """Waves of -1 to 1 of one bit, (28, 28): eight directions, then the same, finer."""
    angle = np.pi * (3 * number % 8 + 0.5 * (number // 8)) / 8
    across = np.linspace(0, 2 * np.pi * _CYCLES[number // 8], SIDE, endpoint=False)
    return np.sin(np.cos(angle) * across[:, None] + np.sin(angle) * across)


def _draw_bits(settings: TrifactorSettings) -> Array:
    """Fair bits, (N, bits) of 0 and 1."""
    rng = numpy_generator(settings.seed, "trifactor", "bits")
    return rng.integers(2, size=(settings.rows, settings.bits))


def _choose(settings: TrifactorSettings, labels: Array) -> Array:
    """Rows of the digits, (N,), each once; those of a pair show different digits."""
    if settings.rows > len(labels):
        raise ConfigError(
            "there are not so many digits",
            where="simulate trifactor",
            got=f"{settings.rows:,} ({settings.subjects:,} subjects, {settings.pairs:,} pairs)",
            expected=f"{len(labels):,} at most, two of each pair counted",
            fix=f"fewer subjects or pairs: --subjects {max(len(labels) - 2 * settings.pairs, 1)}",
        )
    order = numpy_generator(settings.seed, "trifactor", "digits").permutation(len(labels))
    chosen, rest = list(order[: settings.subjects]), list(order[settings.subjects :])
    for _ in range(settings.pairs):
        one = rest.pop(0)
        place = next((n for n, other in enumerate(rest) if labels[other] != labels[one]), None)
        if place is None:
            raise ConfigError(
                "the digits that are left for pairs are all alike",
                where="simulate trifactor",
                got=f"{settings.subjects:,} subjects, {settings.pairs:,} pairs",
                fix="fewer subjects or pairs",
            )
        chosen += [one, rest.pop(place)]
    return np.array(chosen)
