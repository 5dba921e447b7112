"""`medmcl cooccur count`, `to-meds` and `rows`: from a spec to counts, to MEDS, or to a long table.

The long table holds patients' token counts; a private release reads it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.cooccurrence.count.counter import events_at_a_time
from medmcl.cooccurrence.count.counts import Counts, Provenance, Vocabulary
from medmcl.cooccurrence.count.items import Tally, arrange
from medmcl.cooccurrence.count.parts import (
    EVENTS_WRITTEN,
    PARTS,
    VERSION,
    keeping,
    list_parts,
    refuse_shared,
    refuse_unfinished,
    work_folder,
)
from medmcl.cooccurrence.count.people import people_of_subjects, register_folder, register_key
from medmcl.cooccurrence.count.reading import Reading, Sighting, read_tokens
from medmcl.cooccurrence.count.rules import parse_window
from medmcl.cooccurrence.count.run import Means, count_shards, scan_shards
from medmcl.cooccurrence.count.spec import Spec
from medmcl.cooccurrence.count.vocabulary import (
    choose_vocabulary,
    read_vocabulary,
    refuse_unlisted,
    refuse_unread,
)
from medmcl.cooccurrence.count.workers import ray_cluster
from medmcl.core.atomic import remove_whole, working_folder, write_atomically
from medmcl.core.config import fingerprint
from medmcl.core.errors import ArtefactError, CohortError, ConfigError
from medmcl.core.file_lock import one_writer
from medmcl.core.sealed import file_digest, read_sealed, sealed
from medmcl.data.events.events import starts
from medmcl.data.events.meds import MedsDataset, open_meds
from medmcl.data.events.spec import MedsKeys
from medmcl.data.events.write import Written, write_meds

log = logging.getLogger(__name__)
_SHARD_BYTES = 32 << 20
_MOST_SHARDS = 256


SAVED = "manifest.json"
"""File of a folder that holds counts."""


@one_writer("a count is being made")
def count(
    spec: Spec,
    out: Path,
    save: Callable[[Counts, Path], Any],
    *,
    means: Means,
    resume: bool = False,
) -> tuple[Counts, Tally]:
    """Count what a spec says and save it.

    Work in progress lies in ``<out>.unfinished`` (events of patients and sums; it stays at the
    site) until the counts are saved. What was left out stands in ``<out>.counting.json``, which
    stays at the site too.

    Args:
        spec: What to count.
        out: Folder of the counts; must be new or empty.
        save: Writes counts into a folder.
        means: Workers; ``memory`` is that of the spec. Ray that is not running is started, and
            stopped at the end.
        resume: Go on with a count that was killed.

    Raises:
        ConfigError: The spec names no modality, or no pair of them to count.
        ArtefactError: Something is there already, or shards count there.
        CohortError: A source that cannot be used.
    """
    refuse_shared(work_folder(out))
    return count_claimed(spec, out, save, means, resume=resume)


def refuse_nothing(spec: Spec) -> None:
    """Refuse a spec by which nothing would be counted.

    Raises:
        ConfigError: It names no modality, or no pair of them.
    """
    if not spec.keys.modalities:
        raise ConfigError("'modalities' is missing", where=spec.file)
    if not spec.keys.rules.blocks(list(spec.keys.modalities)):
        raise ConfigError(
            "nothing would be counted but single codes",
            where=spec.file,
            got=f"{', '.join(spec.keys.modalities)}; within: false"
            + ("" if spec.keys.pairs is None else "; pairs: none"),
            expected="two modalities or more, or within: true",
        )


def count_claimed(
    spec: Spec, out: Path, save: Callable[[Counts, Path], Any], means: Means, *, resume: bool
) -> tuple[Counts, Tally]:
    """Count as `count`, for whoever holds the lock of ``out``."""
    refuse_nothing(spec)
    told, work, origin = _told(out), work_folder(out), origin_of(spec)
    refuse_used(out)
    refuse_unfinished(work, resume=resume)
    with keeping(work), ray_cluster() if means.ray else nullcontext():
        counts, tally, written = _counted(spec, work.absolute(), means)
        _save(counts, out, save)
    # Beside the folder, not in it: the folder may be shared, this may not.
    found = {
        "about": "what was read and left out at this site; no part of what is shared",
        "spec": spec.keys.model_dump(mode="json", by_alias=True),
        "sources": written,
        "tally": tally.as_dict(),
        "origin": origin,
        "counts": _digest(out / SAVED),
    }
    write_atomically(told, json.dumps(sealed(found), indent=2) + "\n")
    remove_whole(work)
    return counts, tally


def refuse_used(out: Path) -> None:
    """Refuse a folder that is not empty, unless its counts may be of a count killed at its end.

    Raises:
        ArtefactError: It is used, or what is told beside it is of counts that were moved.
    """
    told, work = _told(out), work_folder(out)
    is_new = not list_parts(work / PARTS)  # else see `_save`
    if out.exists() and any(out.iterdir()) and (is_new or not (out / SAVED).is_file()):
        raise ArtefactError("holds something already", where=out, fix="name a new folder")
    if told.exists() and is_new:
        raise ArtefactError(
            "tells of a count whose folder was moved",
            where=told,
            fix="move it too, or remove it if those counts are gone; or name a new folder",
        )


def _save(counts: Counts, out: Path, save: Callable[[Counts, Path], Any]) -> None:
    """Save counts; where some are, they must be these: the process that saved them was killed."""
    if not (out / SAVED).is_file():
        save(counts, out)
        return
    with working_folder(out) as aside:
        save(counts, aside / "counts")
        if file_digest(aside / "counts" / SAVED) != file_digest(out / SAVED):
            raise ArtefactError("holds other counts already", where=out, fix="name a new folder")


def is_saved(spec: Spec, out: Path) -> bool:
    """Whether the counts of this very spec are there; what was left of making them goes then.

    For whoever holds the lock of ``out``.
    """
    told: dict[str, Any] = {}
    with suppress(ArtefactError):
        told = read_sealed(_told(out))
    counts = _digest(out / SAVED)
    if counts is None or (told.get("origin"), told.get("counts")) != (origin_of(spec), counts):
        return False
    remove_whole(work_folder(out))
    return True


def origin_of(spec: Spec) -> str:
    """Tell what counts are of: what the spec says, the state of its sources, its vocabularies."""
    keys = spec.keys.model_dump(mode="json", by_alias=True, exclude={"about", "memory"})
    lists = {name: _digest(spec.root / one) for name, one in spec.keys.vocabulary.files.items()}
    return fingerprint([VERSION, keys, _sources_state(spec), lists])


def _digest(path: Path) -> str | None:
    return file_digest(path) if path.is_file() else None


def _told(out: Path) -> Path:
    """What was read and left out stands beside the counts."""
    return out.with_name(out.name + ".counting.json")


def to_count(
    spec: Spec, work: Path, means: Means
) -> tuple[MedsDataset, dict[str, Any], Reading, Sighting, dict[str, Vocabulary]]:
    """Give the events, what became of rows, how they are read, what is seen, and of which codes."""
    dataset, written = events_of(spec, work)
    reading, register = reading_of(spec, dataset), register_folder()
    with suppress(ArtefactError):  # said when patients get no tags
        reading = replace(reading, key=register_key(register))
    seen = scan_shards(dataset.shards, reading, means)
    # subjects that the splits list and no shard has: a shard may be lost
    listed = reading.subjects if reading.subjects is not None else dataset.subjects()
    there = np.concatenate([np.zeros(0, dtype=np.int64), *seen.subjects.values()])
    missing = int((~np.isin(listed, there)).sum())
    if missing:
        log.warning(
            "%s of %s subjects of metadata/subject_splits.parquet are in no shard under %s: they "
            "had no events, or a shard is missing",
            f"{missing:,}", f"{len(listed):,}", dataset.folder / "data",
        )  # fmt: skip
    refuse_unread(reading, seen, spec.file, tuple(spec.keys.vocabulary.files))
    vocabularies = _vocabularies(spec, seen)
    refuse_unlisted(seen, vocabularies, spec.file)
    return dataset, written, reading, seen, vocabularies


def _counted(spec: Spec, work: Path, means: Means) -> tuple[Counts, Tally, dict[str, Any]]:
    dataset, written, reading, seen, vocabularies = to_count(spec, work, means)
    counts, tally = count_shards(
        dataset.shards, reading, vocabularies, spec.keys.rules, work / PARTS,
        means=means,
    )  # fmt: skip
    if not counts.units:
        shutil.rmtree(work / PARTS)  # sums of nothing, which would stand in the way of the retry
        raise CohortError(
            "the window leaves out every event",
            where=f"{spec.file}, window",
            got=f"window {spec.keys.window}; {', '.join(str(tally).splitlines())}",
            expected="events with a date, or with a visit if the window is one",
            fix="window: record needs neither; or name the source's columns time and visit",
        )
    meds = spec.meds  # splits whose subjects are counted: those asked for, or all that are listed
    asked = tuple(sorted(set(meds.splits))) if meds and meds.splits else None
    splits = asked or (dataset.splits() if meds else None)
    subjects, draws = (np.concatenate(x) for x in zip(*seen.counted.values(), strict=True))
    provenance = Provenance(
        outside_vocabulary=tally.outside_vocabulary,
        splits=splits,
        people=people_of_subjects(subjects, draws, spec.keys.duplicates),
    )
    return replace(counts, provenance=provenance), tally, written


def convert(spec: Spec, out: Path, *, shards: int | None = None) -> Written:
    """Write the sources of a spec as MEDS 0.4.

    Raises:
        ConfigError: The source is MEDS already.
    """
    sources = [one for one in spec.keys.sources if not isinstance(one, MedsKeys)]
    if len(sources) < len(spec.keys.sources):
        raise ConfigError("the source is MEDS already", where=spec.file)
    rows = [one for source in sources for one in source.rows(spec.root)]
    size = sum(path.stat().st_size for path in spec.files)
    number = shards or min(max(size // _SHARD_BYTES, 1), _MOST_SHARDS)
    done = write_meds(rows, out, shards=number, name=spec.file.stem)
    for what, number in (("patient", done.without_subject), ("code", done.without_code)):
        if number:
            log.warning("%d rows left out: no %s", number, what)
    return done


def events_of(
    spec: Spec, work: Path, *, are_there: bool = False
) -> tuple[MedsDataset, dict[str, Any]]:
    """Give the events as MEDS, and what became of the rows they were made of.

    They are written into the work folder, if they are not there yet, whole and of these sources.

    Args:
        spec: Names the sources.
        work: The work folder.
        are_there: They were written; who reads them meanwhile is not to find others.

    Raises:
        ArtefactError: They are damaged, though they ``are_there``.
    """
    if spec.meds is not None:
        return open_meds(spec.root / spec.meds.path), {}
    folder, mark = work / "events", work / EVENTS_WRITTEN
    state = _sources_state(spec)
    known: dict[str, Any] = {}
    with suppress(ArtefactError):
        known = read_sealed(mark)
    is_whole = known.get("files") == _files_in(folder)
    if is_whole and known.get("state") == state:
        return open_meds(folder), known["written"]
    if are_there:
        raise ArtefactError(
            "events of the sources are damaged", where=folder, fix=f"remove {work} to count anew"
        )
    if mark.is_file() and not is_whole:
        log.warning("%s: the events are not what was written; they are written again", folder)
    shutil.rmtree(folder, ignore_errors=True)
    done = convert(spec, folder)
    log.info("%s", ", ".join(f"{name}: {n:,} events" for name, n in done.events.items()))
    written = {
        "events": done.events,
        "rows_without_patient": done.without_subject,
        "rows_without_code": done.without_code,
    }
    told = {"state": state, "written": written, "files": _files_in(folder)}
    write_atomically(mark, json.dumps(sealed(told)))
    return open_meds(folder), written


def _files_in(folder: Path) -> dict[str, str]:
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    return {one.relative_to(folder).as_posix(): file_digest(one) for one in files}


def _sources_state(spec: Spec) -> str:
    """Tell whether sources changed: by what the spec says, and size and time of their files."""
    read = spec.files
    if spec.meds is not None:  # counts may be made in its folder
        folder = spec.root / spec.meds.path
        inside = [("data",), ("metadata",)]
        read = [one for one in read if one.relative_to(folder).parts[:1] in inside]
    files = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in read]
    return fingerprint([[one.model_dump() for one in spec.keys.sources], files])


def reading_of(spec: Spec, dataset: MedsDataset) -> Reading:
    """Give how a spec makes tokens of the events of a dataset."""
    meds = spec.meds
    if meds is None:
        return Reading(spec.keys.modalities, "visit_id", None, spec.keys.only)
    parents = None
    if meds.roll_up is not False:
        parents = dataset.parents("" if meds.roll_up is True else meds.roll_up)
    subjects = dataset.subjects(meds.splits) if meds.splits else None
    return Reading(spec.keys.modalities, meds.visit, parents, spec.keys.only, subjects)


def _vocabularies(spec: Spec, seen: Sighting) -> dict[str, Vocabulary]:
    keys, found = spec.keys.vocabulary, {}
    if unknown := set(keys.files) - set(spec.keys.modalities):
        raise ConfigError(
            f"vocabulary.files names no modality: {min(unknown)}",
            where=spec.file,
            expected=", ".join(spec.keys.modalities),
        )
    for name in spec.keys.modalities:
        if name in keys.files:
            found[name] = read_vocabulary(spec.root / keys.files[name], keys.version)
            continue
        found[name] = choose_vocabulary(
            seen, name, min_occurrences=keys.min_occurrences, min_patients=keys.min_patients
        )
    return found


COLUMNS = ("subject", "modality", "code", "count")


def rows_of(spec: Spec, work: Path) -> tuple[pd.DataFrame, Tally]:
    """Count the tokens of each patient's whole record; every code that occurs, listed or not.

    Args:
        spec: What to count; its pairing and its rule on duplicates hold, its vocabulary does not.
        work: Folder for the events of sources that are not MEDS; it holds patients' records.

    Returns:
        A row a subject, modality and code, with the columns `COLUMNS`; and what was left out.

    Raises:
        ConfigError: The spec names no modality, or a window other than the whole record.
        CohortError: A source that cannot be used, or a modality that no event is of.
    """
    if not spec.keys.modalities:
        raise ConfigError("'modalities' is missing", where=spec.file)
    if spec.keys.window != "record":
        raise ConfigError(
            "rows are of whole records",
            where=spec.file,
            got=f"window {spec.keys.window}",
            expected="record",
            fix="--set window=record; for months or visits make the table yourself, with a column "
            "window (docs/cooccurrence_exchange.md); sliding windows (days:N) cannot be released "
            "privately",
        )
    dataset, _ = events_of(spec, work)
    reading = reading_of(spec, dataset)
    seen = scan_shards(dataset.shards, reading, Means(memory=spec.keys.memory))
    refuse_unread(reading, seen, spec.file, ())
    words = {name: Vocabulary(tuple(sorted(seen.codes[name]))) for name in reading.modalities}
    window, rules = parse_window("record"), spec.keys.rules
    sizes, size = tuple(map(len, words.values())), events_at_a_time(spec.keys.memory)
    tally, frames = Tally(), []
    for shard in dataset.shards:
        for tokens in read_tokens(shard, reading, words, size, tally):
            chunk = arrange(
                tokens, sizes, window, distinct=rules.pairing == "distinct",
                drop_duplicates=rules.drop_duplicates, tally=tally,
            )  # fmt: skip
            # A whole record leaves no patient out, so the patients are those of the events.
            subjects = starts(tokens.subject)
            for (name, listed), items in zip(words.items(), chunk.modalities, strict=True):
                codes = np.array(listed.tokens, dtype=object)[items.token]
                owners = subjects[items.patient]
                kind = np.full(len(owners), name, dtype=object)
                values = (owners, kind, codes, items.weight.astype(np.int64))
                frames.append(pd.DataFrame(dict(zip(COLUMNS, values, strict=True))))
    return pd.concat(frames, ignore_index=True), tally
