"""What of a note survives a disturbed view? Numbers, units, negations and sides, counted.

    python -m benchmarks.poison.text_views [--notes 400] [--draws 5]

Notes of the MTSamples subset (397 have a text), found by MEDMCL_DATA; the first 128 tokens of each,
as byte pairs. ``ours``: the view `disturbed` of the shipped cures, by marks: words taken (0.1),
words swapped (0.1), sentences shuffled (0.5). ``with sentences``: and whole sentences that go
(0.1). ``random``: what EDA (Wei and Zou 2019) does in the CleanCLIP pipeline: everything but
letters goes, then one of four ways is drawn for a text: a tenth of the words deleted, a tenth
swapped; words inserted, or synonyms put in their place, leave the text as it is here, as no
thesaurus is at hand.

Counted by patterns of their own, not by the lists that the views go by: runs of digits; numbers as
words; units behind either, short and written out; about, up to and their like before a number, "to"
between two, every, each; negations and what is unable, failed, held, stopped; sides and positions.
Lost: of those that a text has, how many the view has not, text by text; the last word of a text is
not counted, as the row may have cut it. Also the share of words that changed place or went, without
which nothing lost would be no news.
"""

from __future__ import annotations

import argparse
import os
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.study import Study, grid
from medmcl.core.rng import RowGenerator
from medmcl.modalities.text.adapter import Text, TextAugment, TextSettings, TextSource

COUNTS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand million dozen half quarter third fourth fifth sixth seventh eighth ninth "
    "tenth"
).replace(" ", "|")
MEASURES = (
    "mg ml mm cm kg mcg cc gm gms percent % french units? degrees? lit(?:er|re)s? grams? ounces? "
    "oz (?:centi|milli)met(?:er|re)s? (?:milli|micro)grams? millilit(?:er|re)s? tablets? tabs? "
    "capsules? caps? pills? doses? puffs? drops? teaspoons? cups? miles? blocks? pounds? "
    "inch(?:es)? feet o'clock finger-?breadths? seconds? minutes? hours? days? weeks? months? "
    "years?"
).replace(" ", "|")
PATTERNS = {
    "numbers": r"\d+",
    "number words": rf"\b(?:{COUNTS})(?:th|s)?\b",
    "units": rf"(?:\d|\b(?:{COUNTS}))[\s-]*({MEASURES})(?![a-z])",
    "bounds": r"\b(?:approximately|about|over|under|around|nearly|almost|up to|within|beyond|until|"
    r"at least|less than|more than)\s+(?=\d)|\d\s+to\s+(?=\d)|\bevery\b|\beach\b",
    "negations": r"\b(?:no|not|none|nor|neither|without|denie[sd]|negative|never|cannot|absent|"
    r"absence|unable|inability|lack(?:s|ed|ing)?|fail(?:s|ed|ing|ure)?|held|avoid(?:s|ed|ing)?|"
    r"refus(?:es?|ed|ing)|stop(?:s|ped)?|discontinued?|hardly|rarely|nowhere|non-?[a-z]{4,})\b",
    "sides": r"\b(?:left|right|(?:bi|uni|contra|ipsi)lateral(?:ly)?|upper|lower|supine|prone|"
    r"decubitus|upright|sitting|seated|standing|[a-z]+wards?|(?:anterior|posterior|superior|"
    r"inferior|medial|lateral|proximal|distal|dorsal|ventral|cranial|caudal|central|peripheral)"
    r"(?:ly)?)\b",
}
OURS = {"delete": 0.1, "swap": 0.1, "sentence_shuffle": 0.5}
VIEWS = {"ours": OURS, "with sentences": {**OURS, "sentence_drop": 0.1}}


def counts(text: str) -> dict[str, Counter[str]]:
    """Everything that each pattern finds, with how often."""
    return {
        name: Counter(re.sub(r"\s", "", one) for one in re.findall(pattern, text))
        for name, pattern in PATTERNS.items()
    }


def read(tokens: Any, numbers: list[int]) -> str:
    """Spell tokens as a text, blanks between words."""
    spelled = "".join(tokens.spelling(n) for n in numbers if n > 3)
    return spelled.replace("▁", " ").replace("</w>", " ").replace("##", "").strip()


def at_random(text: str, draw: random.Random) -> str:
    """Disturb a text without looking at what its words mean: one of four ways, drawn."""
    words = re.sub(r"[^a-z ]", " ", text.replace("-", " ")).split()
    way = draw.choice(("delete", "swap", "insert", "replace"))
    if way == "delete":
        words = [word for word in words if draw.random() >= 0.1] or words[:1]
    if way == "swap":
        for _ in range(max(1, len(words) // 10)):
            a, b = draw.randrange(len(words)), draw.randrange(len(words))
            words[a], words[b] = words[b], words[a]
    return " ".join(words)


def moved(before: str, after: str) -> float:
    """Share of pairs of neighbouring words that are no neighbours any more."""
    one, other = (list(zip(t.split(), t.split()[1:], strict=False)) for t in (before, after))
    gone = Counter(one) - Counter(other)
    return gone.total() / max(1, len(one))


def judged(texts: list[str], view: Callable[[int], list[str]], draws: int) -> dict[str, Any]:
    """Count what a view loses."""
    lost, had = Counter[str](), Counter[str]()
    change, example = 0.0, []
    for n in range(draws):
        for before, after in zip(texts, view(n), strict=True):
            then = counts(after)
            for name, found in counts(before.rpartition(" ")[0]).items():
                had[name] += found.total()
                lost[name] += (found - then[name]).total()
            change += moved(before, after) / (len(texts) * draws)
        if not n:
            example = [texts[0], view(n)[0]]
    return {
        "lost": {name: [lost[name], had[name]] for name in PATTERNS},
        "neighbours_changed": round(change, 4),
        "example": example,
    }


def parts(found: dict[str, Any]) -> dict[str, str]:
    kinds = list(next(iter(found.values()))["lost"])
    lines = []
    for view, one in found.items():
        lost = [f"{gone:,} of {there:,}" for gone, there in one["lost"].values()]
        lines.append([view, *lost, f"{100 * one['neighbours_changed']:.0f} %"])
    return {"text views": grid(["view", *kinds, "neighbours changed"], lines)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--notes", type=int, default=400)
    parser.add_argument("--draws", type=int, default=5)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Count what every view loses."""
    import torch

    file = Path(os.environ["MEDMCL_DATA"]) / "mtsamples" / "mtsamples_subset.csv.gz"
    notes = pd.read_csv(file)["transcription"].dropna().astype(str).tolist()[: given.notes]
    text = Text(TextSource(column="x"), TextSettings(max_tokens=128, tokeniser="bpe",
                                                     vocabulary=4000, marks=True))  # fmt: skip
    text.fit(notes)
    rows = torch.stack([torch.as_tensor(text.prepare(note)) for note in notes])
    texts = [read(text.tokens, row.tolist()) for row in text.plain(rows)]

    def by_marks(options: dict[str, float]) -> Callable[[int], list[str]]:
        def view(n: int) -> list[str]:
            generator = RowGenerator(torch.Generator().manual_seed(n))
            seen = text.augment(rows, TextAugment(**options), generator)
            return [read(text.tokens, row.tolist()) for row in seen]

        return view

    def anyhow(n: int) -> list[str]:
        draw = random.Random(n)
        return [at_random(one, draw) for one in texts]

    views = {**{name: by_marks(options) for name, options in VIEWS.items()}, "random": anyhow}
    return {name: judged(texts, view, given.draws) for name, view in views.items()}


STUDY = Study(__file__, parts=parts, run=run, options=options, page="poison")

if __name__ == "__main__":
    STUDY.main()
