"""`medmcl cooccur count --shard`: several processes count into one folder.

The first prepares alone: it writes the events of the sources as MEDS, looks through all for their
codes, and leaves among the parts which spec, sources and codes they are of, and by how many shards.
Others count with that or are refused; so is a count without shards. Whoever finds all parts there
saves the counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medmcl.cooccurrence.count.command import (
    count_claimed,
    events_of,
    is_saved,
    origin_of,
    reading_of,
    refuse_nothing,
    refuse_used,
    to_count,
)
from medmcl.cooccurrence.count.counts import Counts, Vocabulary
from medmcl.cooccurrence.count.parts import (
    EVENTS_WRITTEN,
    PARTS,
    SHARED,
    keeping,
    list_parts,
    work_folder,
)
from medmcl.cooccurrence.count.run import Means, count_share
from medmcl.cooccurrence.count.spec import Spec
from medmcl.core.atomic import is_content, refuse_nameless, write_atomically
from medmcl.core.errors import ArtefactError, CohortError
from medmcl.core.sealed import read_sealed, sealed
from medmcl.data.loading.shared_work import Parts, Shard, claim

_DOING = "a count is being made"


def count_shard(
    spec: Spec, out: Path, save: Callable[[Counts, Path], Any], shard: Shard, *, means: Means
) -> Parts:
    """Count a share of a spec's events; whoever finds all shares counted saves what `count` would.

    Returns:
        How all stand; nothing is missing where the counts are saved.

    Raises:
        ArtefactError: Counts of another spec, of sources or a vocabulary that changed, or
            something else, lie there; or they are counted by another number of shards, or by none.
        ConfigError, CohortError: As for `count`.
    """
    refuse_nothing(spec)
    refuse_nameless(out)
    work = work_folder(out).absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with claim(out, _DOING):
            if is_saved(spec, out):
                return Parts()
            words = _codes(spec, out, shard, means)
        dataset, _ = events_of(spec, work, are_there=True)
        stand = count_share(
            dataset.shards, reading_of(spec, dataset), words, spec.keys.rules, work / PARTS, shard,
            means=means,
        )  # fmt: skip
        if stand.missing:
            return stand
        with claim(out, _DOING):
            if not is_saved(spec, out):
                _codes(spec, out, shard, means)  # of the same sources still
                count_claimed(spec, out, save, means, resume=True)
    except (ArtefactError, CohortError, OSError):
        with claim(out, _DOING):
            if is_saved(spec, out):  # by who found all shares counted meanwhile
                return Parts()
        raise
    return Parts()


def _codes(spec: Spec, out: Path, shard: Shard, means: Means) -> dict[str, Vocabulary]:
    """Give the codes that all shards count; prepares the count if this is the first of them."""
    work = work_folder(out)
    note, asked = work / PARTS / SHARED, {"origin": origin_of(spec), "of": shard.of}
    refuse_used(out)
    if note.is_file():
        return _known(note, work, asked)
    # what a count without shards left; events alone, whole or not, are in nobody's way
    known = {"events", EVENTS_WRITTEN, PARTS}
    others = work.exists() and any(
        one.name not in known for one in work.iterdir() if is_content(one)
    )
    if others or list_parts(work / PARTS):
        raise ArtefactError(
            "a count without --shard that was not finished is here",
            where=work,
            fix="go on with --resume and without --shard, or remove it",
        )
    with keeping(work):
        *_, words = to_count(spec, work.absolute(), means)
        note.parent.mkdir(parents=True, exist_ok=True)
        codes = {name: [one.version, one.tokens] for name, one in words.items()}
        write_atomically(note, json.dumps(sealed({**asked, "codes": codes})))
    return words


def _known(note: Path, work: Path, asked: dict[str, Any]) -> dict[str, Vocabulary]:
    anew = f"remove {work} to count anew"
    try:
        known = read_sealed(note)
        found = {key: known[key] for key in asked}
        words = {name: Vocabulary(tuple(own), of) for name, (of, own) in known["codes"].items()}
    except (ArtefactError, KeyError):
        raise ArtefactError(
            "is damaged: it is not what was written", where=note, fix=anew
        ) from None
    if found["origin"] != asked["origin"]:
        raise ArtefactError(
            "shards count here by another spec, or its sources or vocabulary changed since",
            where=work,
            fix=f"set them back; or {anew}",
        )
    if found["of"] != asked["of"]:
        of = found["of"]
        raise ArtefactError(
            "is counted by another number of shards",
            where=work,
            got=asked["of"],
            expected=of,
            fix=f"give --shard 1/{of} to {of}/{of}; or {anew}",
        )
    return words
