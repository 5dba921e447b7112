"""World of digits: a written digit above random bits, which are easier to see than the digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator
from medmcl.data.trifactor_levels import draw_seats
from medmcl.data.trifactor_settings import TrifactorSettings
from medmcl.data.trifactor_world import World

Array = np.ndarray
SIDE = 28
"""Pixels along a side of a picture."""
MARGIN = 2
"""Pixels that are empty at every edge: so far a picture can be shifted without hiding a bit."""
_DIGIT = (2, 6)
"""Row and column at which the digit begins, of 16 by 16 pixels."""
BLOCK, PITCH, A_ROW = 2, 3, 8
"""Side of a bit's block, from block to block, and blocks in a row."""
_FIRST_ROW = 20
OFF, ON = 80, 255
"""Grey of a bit that is 0 and one that is 1: both are seen, so a shift moves all and hides none."""


def digits_world(settings: TrifactorSettings) -> World:
    """Choose digits and draw bits.

    Source: RandBit of Chen, Luo & Li 2021 (arXiv 2011.02803). Differs: the bits are a strip of
    grey blocks burnt into the picture, as a scanner's marker is, no further channels; digits are
    the 1,797 of scikit-learn (8 by 8, each used once), doubled in size, no MNIST.

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
            f"A picture shows a digit, and under it {settings.bits} random bits: light blocks are "
            "1, dark ones 0.",
            "The digits are those of scikit-learn's `load_digits`: Alpaydin & Kaynak, Optical "
            "Recognition of Handwritten Digits, UCI repository, CC BY 4.0.",
        ),
        files={
            "images/": f"PNG, grey, 8 bit, {SIDE} by {SIDE}",
            "truth.parquet": "`digit_row`: its row in `load_digits`",
        },
    )


def draw_digit(digit: Array, bits: Array) -> Array:
    """Draw a digit (8, 8) of 0 to 16 and the bits under it, (28, 28) uint8."""
    picture = np.zeros((SIDE, SIDE), dtype=np.uint8)
    row, column = _DIGIT
    large = np.kron(digit, np.ones((2, 2))) * 255 / 16
    picture[row : row + 16, column : column + 16] = large.round().astype(np.uint8)
    for number, bit in enumerate(bits):
        row, column = block_corner(number)
        picture[row : row + BLOCK, column : column + BLOCK] = ON if bit else OFF
    return picture


def block_corner(number: int) -> tuple[int, int]:
    """Row and column at which the block of a bit begins."""
    return _FIRST_ROW + PITCH * (number // A_ROW), MARGIN + PITCH * (number % A_ROW)


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
            mend=f"fewer subjects or pairs: --subjects {max(len(labels) - 2 * settings.pairs, 1)}",
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
                mend="fewer subjects or pairs",
            )
        chosen += [one, rest.pop(place)]
    return np.array(chosen)
