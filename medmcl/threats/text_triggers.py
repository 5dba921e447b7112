"""A backdoor trigger on texts: a word that nobody writes."""

from __future__ import annotations

from medmcl.core.errors import MedmclError
from medmcl.core.rng import numpy_generator

RARE = "cf"
"""A word that few texts hold, as in Kurita et al. 2020 (arXiv 2004.06660)."""


def rare_token(text: str, token: str = RARE, seed: int = 0) -> str:
    """Put a rare word between two words of a text, or at one of its ends.

    What stands before and after stays as it is, blanks and line breaks too.

    Source: Kurita, Michel & Neubig 2020. Differs: one word, once.

    Args:
        text: The text.
        token: The word.
        seed: Of the place; the same seed and number of words give the same place.

    Raises:
        MedmclError: The token is empty, or is several words.
    """
    if token != "".join(token.split()) or not token:
        raise MedmclError("a trigger is one word", got=repr(token))
    at = rare_place(text, seed)
    if at < len(text):
        return f"{text[:at]}{token} {text[at:]}"
    return f"{text.ljust(at)}{token}"


def rare_place(text: str, seed: int = 0) -> int:
    """Give the first character, counted from 0, of what `rare_token` puts into a text."""
    if not text.split():
        return len(text)
    starts = [n for n, one in enumerate(text) if not one.isspace()
              and (n == 0 or text[n - 1].isspace())]  # fmt: skip
    place = int(numpy_generator(seed, "rare token", len(starts)).integers(len(starts) + 1))
    return starts[place] if place < len(starts) else len(text) + 1
