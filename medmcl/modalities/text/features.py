"""Terms of a text for a plain model: runs of characters within words."""

from __future__ import annotations

from medmcl.modalities.text.tokens import normalise

SIZES = (2, 3, 4, 5)
"""Characters of a term; short ones bear abbreviations and endings, long ones whole stems."""


def text_terms(text: str, lowercase: bool = True) -> list[str]:
    """Give every run of 2 to 5 characters of each word, a space at either end of the word.

    Words shorter than a run are terms as they are. As often as they occur, in order.

    Source:
        Damashek 1995, Science 267:843 (n-grams of characters); within words as scikit-learn's
        ``analyzer="char_wb"``. Differs: a short word is one term, not one for each size.

    Example:
        >>> text_terms("ST up")[:6]
        [' s', 'st', 't ', ' st', 'st ', ' st ']
    """
    terms: list[str] = []
    for word in normalise(text, lowercase).split():
        padded = f" {word} "
        for size in SIZES:
            if size > len(padded):
                break
            terms.extend(padded[start : start + size] for start in range(len(padded) - size + 1))
    return terms
