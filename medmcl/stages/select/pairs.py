"""Pairs of the train split scored by their teachers, and the choice of a rule among them.

`notes_of` says what was not scored, and why scores may mislead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from medmcl.core.atomic import working_folder
from medmcl.core.config import fingerprint
from medmcl.core.contracts import ChoosesFromPool, ScoredPool
from medmcl.core.findings import counted
from medmcl.core.rng import derive_seed
from medmcl.core.suppression import placeless
from medmcl.core.writing import reserved_array
from medmcl.data.loading.prepare import Prepared
from medmcl.encoders.towers import Towers
from medmcl.engine.record import Stopwatch
from medmcl.selection.duplicates import near_duplicates
from medmcl.selection.keep import Keep
from medmcl.selection.outside import scores_of
from medmcl.selection.ranking import follow, written
from medmcl.selection.settings import SCORERS, NegClipLossSettings, TargetSpec
from medmcl.stages.run.run import Run, embed_records, vector_width
from medmcl.stages.run.train_records import learned_from
from medmcl.stages.select.spec import SelectSpec
from medmcl.stages.select.target import target_of
from medmcl.stages.select.teachers import scored_by
from medmcl.stages.train.models import temperature_of

BLOCK = 4096
"""Samples that are encoded between two writes: no more of a pool is held in memory."""


@dataclass(frozen=True, kw_only=True)
class Selected:
    """What a selection found.

    Attributes:
        keep: Scores, choice, rule and provenance.
        rows: Sample numbers of the pool, (N,), in the order of ``keep``.
        notes: What a reader must know.
        seconds: It took, embedding included.
    """

    keep: Keep
    rows: np.ndarray
    notes: tuple[str, ...]
    seconds: float

    @property
    def sentence(self) -> str:
        """What was kept of what, in a line."""
        kept, of = int(self.keep.kept.sum()), len(self.keep)
        return f"{kept:,} of {counted(of, 'pair')} kept ({100 * kept / of:.1f} %): {self.keep.rule}"

    @property
    def repeats(self) -> tuple[str, ...]:
        """How many pairs are flagged as duplicates, a line for each kind that there is."""
        lines = []
        for kind, first in self.keep.copies.items():
            again = first != np.arange(len(first))
            what = (
                "pairs are near-duplicates of earlier ones, as the teacher sees them"
                if kind == "near"
                else f"{kind.removeprefix('exact_')} records repeat an earlier one"
            )
            if again.any():
                kept = int((again & self.keep.kept).sum())
                lines.append(f"{int(again.sum()):,} {what}; {kept:,} of them kept")
        return tuple(lines)


def select_pairs(
    spec: SelectSpec,
    run: Run,
    prepared: Prepared,
    device: torch.device,
    folder: Path,
    pool: np.ndarray,
    check_interrupt: Callable[[], object] = lambda: None,
) -> Selected:
    """Score every pair of a pool, and choose by the rule.

    Args:
        spec: Teachers, scores, rule.
        run: Holds the teachers.
        prepared: The cohort, as the run prepares it.
        device: Where to encode and to score.
        folder: Where embeddings lie meanwhile: 4 bytes x D x modalities for each pair.
        pool: Train rows that have every modality, sample numbers.
        check_interrupt: Called between blocks of pairs and between scores; what it raises ends the
        work.

    Returns:
        The choice. Shares hold within what each teacher scores, so that one that is sterner than
        another is not.

    Raises:
        ConfigError: Teachers cannot score, a target is empty, or there are fewer than 2 pairs.
        LeakageError: A row, or its subject, is of held_out.
    """
    with Stopwatch() as watch, working_folder(folder / "pool") as aside:
        parts = scored_by(spec, run.stages, prepared, run.seed, pool)
        rows = np.sort(np.concatenate(list(parts.values())))
        prepared.sides.refuse_leak(rows, f"the choice of stage {spec.name}")
        kept = np.zeros(len(rows), dtype=bool)
        scores = {name: np.zeros(len(rows)) for name in spec.scores}
        near = np.arange(len(rows))
        who = np.empty(len(rows), dtype=object)
        told: dict[str, Any] = {}
        for teacher, own in parts.items():
            here = aside / teacher
            here.mkdir(parents=True)
            part = _Part(spec, run, prepared, teacher, own, here, device, check_interrupt)
            at = np.searchsorted(rows, own)
            found, chosen = part.judged()
            kept[at] = chosen
            for name, values in found.items():
                scores[name][at] = values
            who[at] = teacher
            if len(rows) <= MOST_COMPARED:
                near[at] = at[part.near()]
            told[teacher] = part.told
    exact = {f"exact_{name}": _repeated(prepared.identity(name)[rows]) for name in spec.pair}
    copies = exact if len(rows) > MOST_COMPARED else {**exact, "near": near}
    keep = Keep(
        ids=prepared.samples["sample"].astype(str).to_numpy()[rows],
        scores=scores,
        kept=kept,
        rule=written(spec.rule),
        cohort=prepared.cohort.fingerprint,
        copies=copies,
        parts=who,
        provenance={
            "cohort": prepared.cohort.name,
            "run": run.path.absolute().name,
            "config": fingerprint(placeless(run.config)),
            "seed": run.seed,
            "spec": json.loads(spec.model_dump_json()),
            "teachers": told,
        },
    )
    notes = notes_of(spec, run, prepared, rows, copies, parts)
    return Selected(keep=keep, rows=rows, notes=notes, seconds=watch.seconds)


class _Part:
    """What one teacher scores."""

    def __init__(
        self, spec: SelectSpec, run: Run, prepared: Prepared, teacher: str, rows: np.ndarray,
        folder: Path, device: torch.device, check_interrupt: Callable[[], object],
    ) -> None:  # fmt: skip
        self.spec, self.run, self.prepared, self.rows = spec, run, prepared, rows
        self.folder, self.device, self.check_interrupt = folder, device, check_interrupt
        self.learner = run.learner(teacher, device)
        self.towers = cast(Towers, self.learner.model)
        self.pooled = {one: self._vectors(prepared, one, rows, folder) for one in spec.wanted}
        self.told: dict[str, Any] = {"rows": len(rows), "scores": {}}

    def judged(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Give every score, (n,) each, and which rows are kept, (n,) bool."""
        scores: dict[str, Tensor] = {}
        choosers: dict[str, tuple[ChoosesFromPool, ScoredPool]] = {}
        for name, settings in self.spec.scores.items():
            self.check_interrupt()
            scorer, pool = SCORERS[settings.kind](settings), self._pool(name)
            if isinstance(scorer, ChoosesFromPool):
                choosers[name] = scorer, pool
                continue
            scores[name] = scores_of(settings.kind, scorer, pool)
            self.told["scores"][name] = pool.told
        nothing = {"": torch.zeros(len(self.rows), device="cpu")}
        asked = {name: partial(_chosen, one, pool) for name, (one, pool) in choosers.items()}
        kept = follow(self.spec.rule, scores or nothing, asked)
        for name, (one, pool) in choosers.items():
            scores[name] = one.tell(pool, kept).cpu()
        return {name: one.double().numpy() for name, one in scores.items()}, kept.numpy()

    def near(self) -> np.ndarray:
        """First row of each row's group of pairs that are alike on both sides, (n,) int64."""
        sides = [
            near_duplicates(self.pooled[name], self.spec.near, device=self.device).numpy()
            for name in self.spec.pair
        ]
        return _repeated(sides[0] * len(self.rows) + sides[1])

    def _pool(self, name: str) -> ScoredPool:
        where = f"stage {self.spec.name}, scores.{name}"
        return ScoredPool(
            ids=torch.from_numpy(self.rows),
            pooled=self.pooled,
            pair=self.spec.pair,
            device=self.device,
            seed=derive_seed(self.run.seed, "select", self.spec.name, name),
            temperature=partial(temperature_of, self.learner, self.spec.pair, where),
            target=partial(self._target, name, f"{where}.target"),
        )

    def _target(self, name: str, where: str, side: str, target: TargetSpec) -> np.ndarray:
        """Embeddings of one modality of the rows of a target, (M, D)."""
        place, rows = target_of(target, self.prepared, self.run.path, side, where)
        folder = self.folder / f"target-{name}"
        folder.mkdir()
        self.told[f"target of {name}"] = {"cohort": place.cohort.name, "rows": len(rows)}
        return self._vectors(place, side, rows, folder)

    def _vectors(self, place: Prepared, name: str, rows: np.ndarray, folder: Path) -> np.ndarray:
        """Embed samples, by number, in the space that the teacher's modalities share.

        Args:
            place: The cohort.
            name: The modality; every sample has it.
            rows: Sample numbers, (M,), M >= 1.
            folder: Takes ``NAME.npy``; must not hold it yet.

        Returns:
            (M, D) float32 of unit length, memory-mapped.
        """
        path, shape = folder / f"{name}.npy", (len(rows), vector_width(self.towers, name, "pooled"))
        written = reserved_array(path, np.float32, shape)
        records = place.index(name)[rows]
        for start in range(0, len(rows), BLOCK):
            self.check_interrupt()
            at = slice(start, start + BLOCK)
            written[at] = embed_records(
                self.towers, place, name, records[at], "pooled", self.device
            )
        written.flush()
        mapped: np.ndarray = np.load(path, mmap_mode="r")
        return mapped


def _chosen(chooser: ChoosesFromPool, pool: ScoredPool, left: Tensor, number: int) -> Tensor:
    return chooser.choose(pool, left, number).cpu()


def _repeated(codes: np.ndarray) -> np.ndarray:
    """Position of the first row with the same code, (N,) int64."""
    _, first, which = np.unique(codes, return_index=True, return_inverse=True)
    return np.asarray(first[which])


MOST_ALIKE = 0.9
"""Share of near-duplicates above which a teacher is warned of."""
MOST_COMPARED = 50_000
"""Rows up to which near-duplicates are looked for: the time grows with their square."""


def notes_of(
    spec: SelectSpec,
    run: Run,
    prepared: Prepared,
    rows: np.ndarray,
    copies: Mapping[str, np.ndarray],
    parts: Mapping[str, np.ndarray],
) -> tuple[str, ...]:
    """Say what a reader of a selection must know.

    Args:
        spec: The selection.
        run: Holds the teachers.
        prepared: The cohort.
        rows: The pool, sample numbers, (N,).
        copies: Kind of duplicates to the first row of each row's group, (N,).
        parts: Teacher to the rows that it scored.

    Returns:
        Lines; those that begin with ``warning: `` concern whether to believe it at all.
    """
    notes = []
    if "near" not in copies:
        notes.append(f"near-duplicates were not looked for in more than {MOST_COMPARED:,} pairs")
    again = copies["near"] != np.arange(len(rows)) if "near" in copies else np.zeros(1, bool)
    if again.mean() > MOST_ALIKE:
        notes.append(
            f"warning: {int(again.sum()):,} of {len(rows):,} pairs are near-duplicates to the "
            "teacher: it hardly tells pairs apart, as before it has learned, or after it collapsed"
        )
    able = len(prepared.rows("train", spec.wanted))
    for left, why in (
        (len(prepared.rows("train")) - able, f"without {' and '.join(spec.wanted)}"),
        (able - len(rows), "left out by --keep"),
    ):
        if left:
            notes.append(f"{counted(left, 'train sample')} {why} not scored")
    smallest = min(map(len, parts.values()))
    if len(parts) > 1:
        notes.append(
            "each teacher's scores are ranked and cut on their own, and near-duplicates looked for "
            "among the pairs of one teacher"
        )
    small = [name for name, one in spec.scores.items()
             if isinstance(one, NegClipLossSettings) and one.batch_size >= smallest]  # fmt: skip
    if small:
        notes.append(
            f"a teacher's pool is smaller than a batch of {', '.join(small)}, so it is one batch"
        )
    made_wrong = [one for one in prepared.cohort.findings if one.code == "cohort.noisy_pairs"]
    notes += [f"warning: {one.what}" for one in made_wrong]
    if len(parts) == 1:
        notes += _met(spec, run, prepared, rows)
    return tuple(notes)


def _met(spec: SelectSpec, run: Run, prepared: Prepared, rows: np.ndarray) -> list[str]:
    """Warn of a teacher that was trained on rows it scores."""
    teacher = spec.teachers[0]
    seen = learned_from(run, prepared, spec.pair)
    by = getattr(run.stages[teacher], "selected_by", None)
    if seen is not None and by is not None:
        kept = set(Keep.load(run.file(by, Keep)).kept_ids.tolist())
        seen &= prepared.samples["sample"].astype(str).isin(kept).to_numpy()
    count = len(rows) if seen is None else int(seen[rows].sum())
    if not count:
        return []
    whose = "perhaps all" if seen is None else f"{count:,}"
    return [
        f"warning: the teacher was trained on {whose} of the rows it scores, and what it learned "
        "by heart scores high; teachers without a fold (`without_fold`) score rows that they never "
        "saw"
    ]
