"""Counting over shards: in parallel, in bounded memory, going on where a killed run stopped."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from medmcl.cooccurrence.count.counter import DEFAULT_MEMORY, PairCounter, events_at_a_time
from medmcl.cooccurrence.count.counts import Counts, Vocabulary
from medmcl.cooccurrence.count.items import Tally
from medmcl.cooccurrence.count.parts import (
    SHARED,
    VERSION,
    Part,
    PartWriter,
    Shard,
    absorb_parts,
    hash_shard,
    list_parts,
)
from medmcl.cooccurrence.count.reading import Reading, Sighting, read_tokens, scan
from medmcl.cooccurrence.count.rules import Rules, nested_modalities
from medmcl.cooccurrence.count.vocabulary import refuse_shared_subjects
from medmcl.cooccurrence.count.workers import cluster_has, run_jobs
from medmcl.core.config import fingerprint
from medmcl.core.errors import ArtefactError
from medmcl.data.loading import shared_work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Means:
    """What counting may use; none of it changes the result.

    Attributes:
        memory: Bytes for sums and buffers, of all workers together.
        workers: Processes, or tasks on Ray. If not given 1; on Ray, the CPUs of the cluster.
        ray: Use a Ray cluster instead of processes.
        fast: Use numba; where it is installed, if not given.
    """

    memory: int = DEFAULT_MEMORY
    workers: int | None = None
    ray: bool = False
    fast: bool | None = None

    @property
    def each(self) -> int:
        """Bytes of one worker."""
        return max(self.memory // self.tasks, 1)

    @property
    def tasks(self) -> int:
        """Workers, 1 if nothing is said."""
        return max(self.workers or 1, 1)

    def settled(self) -> Means:
        """Give the same with the number of workers; asks the Ray cluster for its CPUs."""
        cpus = cluster_has("CPU") if self.ray and not self.workers else 0
        return replace(self, workers=cpus) if cpus else self


@dataclass(frozen=True)
class _Task:
    """What a worker is told."""

    reading: Reading
    rules: Rules
    vocabularies: Mapping[str, Vocabulary]
    means: Means
    settings: str


def scan_shards(shards: Sequence[Path], reading: Reading, means: Means | None = None) -> Sighting:
    """Look at all shards: their codes, and that no subject is in two.

    Raises:
        CohortError: A damaged or unsorted shard, or a subject in two.
    """
    means = (means or Means()).settled()
    size = events_at_a_time(means.each)
    jobs = [(share, reading, size) for share in _shares(shards, means.tasks)]
    seen = Sighting()
    for one in run_jobs(scan, jobs, workers=means.tasks, ray=means.ray):
        seen += one
    refuse_shared_subjects(seen)
    return seen


def count_shards(
    shards: Sequence[Path],
    reading: Reading,
    vocabularies: Mapping[str, Vocabulary],
    rules: Rules,
    folder: Path,
    *,
    means: Means | None = None,
) -> tuple[Counts, Tally]:
    """Count the co-occurrences in shards; every subject is in one of them.

    Args:
        shards: Files of events (see `data.events_meds`).
        reading: How events become tokens.
        vocabularies: Of each modality.
        rules: What to count.
        folder: Where finished parts are kept; empty, or that of a killed run, which goes on. Shards
            that changed are counted again.
        means: Memory, workers.

    Raises:
        ArtefactError: The folder holds parts of another count; or the parts that workers wrote do
            not hold every shard once.
    """
    means = (means or Means()).settled()
    settings = _settings(reading, vocabularies, rules)
    task = _Task(reading, rules, vocabularies, means, settings)
    folder.mkdir(parents=True, exist_ok=True)
    hashed = [hash_shard(path) for path in shards]
    parts = _usable_parts(folder, hashed, settings)
    done = {one for part in parts for one in part.shards}
    left = {shard.path: shard for shard in hashed if shard.hash not in done}
    if parts:
        log.info("going on: %d of %d shards are counted", len(shards) - len(left), len(shards))
    _count_left(left, task, folder)
    counter = PairCounter(vocabularies, rules, memory=means.memory, fast=means.fast)
    finished = list_parts(folder)
    _refuse_incomplete(finished, hashed, settings, folder)
    absorb_parts(counter, finished)
    nested = nested_modalities(reading.parents, vocabularies)
    return replace(counter.counts(), nested=nested), counter.tally


def count_share(
    shards: Sequence[Path],
    reading: Reading,
    vocabularies: Mapping[str, Vocabulary],
    rules: Rules,
    folder: Path,
    share: shared_work.Shard,
    *,
    means: Means | None = None,
) -> shared_work.Parts:
    """Count a share of the shards, for `count_shards` to find their parts; say how all stand.

    The same share started twice counts once: the second waits, and what one that was killed has
    not written is counted again. The rest as for `count_shards`.

    Raises:
        ArtefactError: The folder is gone, in which `count.shares` said that shards count.
    """
    means = (means or Means()).settled()
    task = _Task(reading, rules, vocabularies, means, _settings(reading, vocabularies, rules))
    hashed = [hash_shard(path) for path in shards]
    own = [one for number, one in enumerate(hashed) if share.has(number)]
    named = f"{share.of:05d}-{share.number:05d}-"
    with shared_work.claim(folder / f"share-{named}", "a share is being counted", harmless=True):
        done = _done(folder)
        left = {one.path: one for one in own if one.hash not in done}
        _count_left(left, task, folder, named)
    done = _done(folder)
    missing = sum(one.hash not in done for one in hashed)
    return shared_work.Parts(own=len(own), of=len(hashed), missing=missing)


def _done(folder: Path) -> set[str]:
    """Give what is counted; the folder goes as a whole when all counts are saved."""
    done = {one for part in list_parts(folder) for one in part.shards}
    if not (folder / SHARED).is_file():  # looked for last: else nothing might be all there was
        raise ArtefactError(
            "is gone: who added up the counts, or somebody else, removed it",
            where=folder,
            fix="give the same command again",
        )
    return done


def _count_left(left: Mapping[Path, Shard], task: _Task, folder: Path, named: str = "") -> None:
    """Count shards that no part holds yet, into parts whose names begin as ``named``."""
    jobs = [
        ([left[path] for path in share], task, _new_part(folder, number, named))
        for number, share in enumerate(_shares(list(left), task.means.tasks))
    ]
    run_jobs(count_part, jobs, workers=task.means.tasks, ray=task.means.ray)


def count_part(shards: Sequence[Shard], task: _Task, path: Path) -> None:
    """Count some shards into a part; the function that processes and Ray map."""
    means, words = task.means, task.vocabularies
    counter = PairCounter(words, task.rules, memory=means.each, fast=means.fast)
    size = events_at_a_time(means.each)
    writer = PartWriter(path, task.settings)
    for shard in shards:
        for tokens in read_tokens(shard.path, task.reading, words, size, counter.tally):
            counter.add(tokens)
        writer.after(shard, counter, last=shard is shards[-1])


def _usable_parts(folder: Path, shards: Sequence[Shard], settings: str) -> list[Part]:
    """Give the parts that count; those of shards that changed, or counted twice, are removed."""
    left = {shard.hash for shard in shards}
    kept = []
    for part in list_parts(folder):
        if part.settings != settings:
            raise ArtefactError(
                "was counted with other settings",
                where=part.path,
                expected="the same window, pairing, modalities, vocabulary and roll-up",
                fix=f"set them back, or remove {folder} to count anew",
            )
        if left.issuperset(part.shards):
            kept.append(part)
            left.difference_update(part.shards)
            continue
        changed = len(set(part.shards) - left)
        log.warning(
            "%s: %d of its %d shards changed, are gone or are in another part; what no part holds "
            "is counted again",
            part.path.name, changed, len(part.shards),
        )  # fmt: skip
        part.path.unlink()
    return kept


def _refuse_incomplete(
    parts: Sequence[Part], shards: Sequence[Shard], settings: str, folder: Path
) -> None:
    """Refuse parts that do not hold every shard once, counted with these settings.

    A worker of a cluster may have written elsewhere, or one that was taken for dead over another.

    Raises:
        ArtefactError: They do not.
    """
    ours = [part for part in parts if part.settings == settings]
    counted = Counter(one for part in ours for one in part.shards)
    asked = Counter(shard.hash for shard in shards)
    lost = [shard.path.name for shard in shards if shard.hash not in counted]
    more = (counted - asked).total()
    if lost or more or len(ours) < len(parts):
        raise ArtefactError(
            "does not hold every shard once",
            where=folder,
            got=f"{len(lost)} of {len(shards)} missing ({', '.join(lost[:3])}), {more} too many, "
            f"{len(parts) - len(ours)} parts of another count",
            fix="see that all workers write to this folder and no other count does; remove it",
        )


def _settings(reading: Reading, vocabularies: Mapping[str, Vocabulary], rules: Rules) -> str:
    """Give a hash of all that changes the result."""
    named = {
        "version": VERSION,
        "rules": asdict(rules),
        "modalities": [[name, rule.model_dump()] for name, rule in reading.modalities.items()],
        "visit": reading.visit,
        "only": None if reading.only is None else reading.only.model_dump(),
        "subjects": None if reading.subjects is None else reading.subjects.tolist(),
        "parents": None if reading.parents is None else dict(reading.parents),
        "vocabularies": [[name, v.tokens, v.version] for name, v in vocabularies.items()],
    }
    return fingerprint(named)


def _shares(paths: Sequence[Path], workers: int) -> list[list[Path]]:
    """Deal files out by size, the largest first, each to who has least."""
    shares: list[list[Path]] = [[] for _ in range(max(workers, 1))]
    loads = [0] * len(shares)
    for path in sorted(paths, key=lambda one: -one.stat().st_size):
        least = loads.index(min(loads))
        shares[least].append(path)
        loads[least] += path.stat().st_size
    return [share for share in shares if share]


def _new_part(folder: Path, number: int, named: str = "") -> Path:
    """Give a name that no part has."""
    taken = len(list_parts(folder))
    while (path := folder / f"part-{named}{taken + number:05d}.npz").exists():
        taken += 1
    return path
