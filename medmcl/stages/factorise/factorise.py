"""The factorise stage: counts of train subjects, or vectors made elsewhere, fill lookup towers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from typing_extensions import override

from medmcl.cooccurrence.count.counts import Counts, Vocabulary
from medmcl.cooccurrence.count.tokens import count_tokens
from medmcl.cooccurrence.embed.baselines import cl, concate, within_only
from medmcl.cooccurrence.embed.factorise import factorise
from medmcl.cooccurrence.embed.pmi import claime_pmi
from medmcl.core.errors import ConfigError
from medmcl.core.split_guard import SplitGuard
from medmcl.data.events.spelling import spelt_otherwise
from medmcl.data.events.spelling import told as pairs_told
from medmcl.data.loading.prepare import Prepared
from medmcl.encoders.codes import UNKNOWN, Lookup
from medmcl.encoders.towers import Towers
from medmcl.engine.loop import Learner
from medmcl.engine.record import Stopwatch
from medmcl.modalities.codes.adapter import Codes
from medmcl.stages.cooccur.embed import load_vectors, read_facts
from medmcl.stages.factorise.spec import FactoriseSpec, counted_on
from medmcl.stages.stage import Context, Stage
from medmcl.stages.train.parts import watched_later

log = logging.getLogger(__name__)
MANY = 0.25
"""Share of the codes without a vector from which on it is said."""
FIRST = UNKNOWN + 1
"""Number of the first code of a vocabulary; padding and unknown codes are not counted."""


@dataclass(frozen=True)
class _Estimator:
    """From counts and rank to the vectors of two modalities.

    Attributes:
        factors: Makes them; the last argument says whether to shrink the singular values.
        within: Whether it reads the blocks within modalities.
    """

    factors: Callable[[Counts, int, bool], tuple[np.ndarray, np.ndarray]]
    within: bool = True


ESTIMATORS = {
    "claime": _Estimator(lambda c, rank, s: factorise(claime_pmi(c), rank, shrink=s), within=False),
    "concate": _Estimator(lambda c, rank, _: concate(c, rank)),
    "cl": _Estimator(lambda c, rank, _: cl(c, rank)),
    "within_only": _Estimator(lambda c, rank, _: within_only(c, rank)),
}
"""By the name that a recipe gives; `FactoriseSpec` knows which of them can shrink."""


class Factorise(Stage[FactoriseSpec]):
    """Fill the tables of two towers with the factors of counts, or with vectors made elsewhere."""

    @override
    def dry_run(self, prepared: Prepared, context: Context) -> None:
        spec = self.spec
        _, rank = _towers(spec, prepared, context)
        if spec.embedded is not None:
            _say_lacking(spec, prepared, _taken(spec, prepared, rank, context)[0])
            splits = read_facts(spec.embedded).get("splits")
            if splits is not None and set(splits) - {"train"}:
                log.warning(
                    "stage %s: the vectors of %s were %s: if people of this cohort are among them, "
                    "their held-out records went into the vectors that score them; count with "
                    "splits: [train]",
                    spec.name, spec.embedded, counted_on(splits),
                )  # fmt: skip
        elif len(counted_rows(spec, prepared, context)) < 2:
            raise ConfigError(
                "fewer than two train subjects have both modalities",
                where=f"stage {spec.name}",
                got=" and ".join(spec.towers),
            )

    def run(self, prepared: Prepared, context: Context) -> dict[str, Any]:
        """Count, factorise and fill the tables.

        Raises:
            LeakageError: A counted row is of `held_out`, or its subject is.
        """
        spec = self.spec
        with Stopwatch() as watch:
            towers, rank = _towers(spec, prepared, context)
            make = _counted if spec.embedded is None else _taken
            vectors, facts = make(spec, prepared, rank, context)
            for name, one in vectors.items():
                _fill(towers.tower(name).encoder, one)
        if context.world.rank == 0:
            context.run.save_learner(spec.name, Learner(towers, {}, {}))
        return {
            "keep": spec.keep,
            "rank": rank,
            "seconds": round(watch.seconds, 3),
            **facts,
        }


Made = tuple[dict[str, np.ndarray], dict[str, Any]]
"""Vectors of each modality, and facts."""


def _counted(spec: FactoriseSpec, prepared: Prepared, rank: int, context: Context) -> Made:
    """Vectors from the counts of train subjects."""
    rows = counted_rows(spec, prepared, context)
    sides = SplitGuard(splits=prepared.splits, subjects=prepared.subjects)
    sides.refuse_leak(rows, f"the counts of stage {spec.name}")
    counts = count_records(spec, prepared, rows)
    sizes = " and ".join(f"{len(v)} {name}" for name, v in counts.vocabularies.items())
    sentence = (
        f"Stage {spec.name}: {sizes} counted over {counts.patients} subjects, "
        f"{spec.estimator}, rank {rank}."
    )
    vectors = dict(
        zip(spec.towers, ESTIMATORS[spec.estimator].factors(counts, rank, spec.shrink), strict=True)
    )
    return vectors, {"rows": len(rows), "subjects": counts.patients, "sentence": sentence}


def _taken(
    spec: FactoriseSpec,
    prepared: Prepared,
    rank: int,
    context: Context,  # noqa: ARG001  (as `_counted`)
) -> Made:
    """Vectors that were made elsewhere, found by the text of each code; zeros where there is none.

    Raises:
        ConfigError: Their length is not the rank, or no code of a modality has one.
    """
    assert spec.embedded is not None
    table = load_vectors(spec.embedded)
    if table.vectors.shape[1] != rank:
        raise ConfigError(
            "the vectors have another length than the tables",
            where=f"stage {spec.name}, embedded: {spec.embedded}",
            got=f"{table.vectors.shape[1]} dimensions, tables of width {rank}",
            fix=f"set the width of both lookup encoders to {table.vectors.shape[1]}",
        )
    vectors, told = {}, []
    for name in spec.towers:
        adapter = prepared.adapters[name]
        assert isinstance(adapter, Codes)  # checked when the towers were built
        codes = adapter.vocabulary[FIRST:]
        found = np.array([-1 if (row := table.find(c)) is None else row for c in codes], dtype=int)
        own = np.zeros((len(codes), rank))
        own[found >= 0] = table.vectors[found[found >= 0]]
        if not own.any():
            raise ConfigError(
                f"none of the {len(codes)} codes of {name} has a vector",
                where=f"stage {spec.name}, embedded: {spec.embedded}",
                got=f"codes as {codes[0]!r}" if codes else "no codes",
                expected=f"codes as {table.tokens[0]!r}" if table.tokens else "a table with tokens",
            )
        told.append(f"{int(own.any(axis=1).sum())} of {len(codes)} {name}")
        vectors[name] = own
    splits = read_facts(spec.embedded).get("splits")
    sentence = (
        f"Stage {spec.name}: vectors of {' and '.join(told)} from {spec.embedded}, rank {rank}; "
        f"{counted_on(splits)}."
    )
    facts = {"rows": 0, "subjects": 0, "counted_on": splits, "sentence": sentence}
    return vectors, facts


def _say_lacking(
    spec: FactoriseSpec, prepared: Prepared, vectors: Mapping[str, np.ndarray]
) -> None:
    """Warn of codes without a vector, where they are many or spelt otherwise."""
    assert spec.embedded is not None
    known = load_vectors(spec.embedded).tokens
    for name, own in vectors.items():
        codes = prepared.adapters[name].state()["codes"][FIRST:]
        lacking = [code for code, one in zip(codes, own, strict=True) if not one.any()]
        meant = spelt_otherwise(lacking, known, prefixes=False)
        if meant or len(lacking) > MANY * len(codes):
            log.warning(
                "%s of %s %s have no vector in %s, and are read as nothing: %s%s",
                f"{len(lacking):,}", f"{len(codes):,}", name, spec.embedded,
                ", ".join(map(repr, lacking[:4])),
                f"; spelt otherwise there? {pairs_told(meant)}" if meant else "",
            )  # fmt: skip


def counted_rows(spec: FactoriseSpec, prepared: Prepared, context: Context) -> np.ndarray:
    """Samples of the train split that have both modalities, one a subject.

    Without subjects on whom a later stage that takes these vectors learns pairs.
    """
    rows = prepared.rows("train")
    rows = rows[~np.isin(prepared.subjects[rows], watched_later(spec, prepared, context))]
    rows = rows[np.logical_and.reduce([prepared.present[name][rows] for name in spec.towers])]
    first: np.ndarray = rows[np.unique(prepared.subjects[rows], return_index=True)[1]]
    return first


def count_records(spec: FactoriseSpec, prepared: Prepared, rows: np.ndarray) -> Counts:
    """Count the codes of whole records, over the vocabularies that the adapters learned."""
    tables, words = [], {}
    for name in spec.towers:
        adapter = prepared.adapters[name]
        assert isinstance(adapter, Codes)  # checked when the towers were built
        places = prepared.cohort.records[name]["place"].to_numpy()[prepared.index(name)[rows]]
        tokens = [adapter.tokens(adapter.read(place)) for place in places]
        ends = np.cumsum([0, *map(len, tokens)])
        columns = np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int64)
        ones = np.ones(len(columns), dtype=np.int64)
        table = sparse.csr_array(
            (ones, columns, ends), shape=(len(tokens), len(adapter.vocabulary))
        )
        table.sum_duplicates()
        tables.append(table[:, FIRST:])
        words[name] = Vocabulary(adapter.vocabulary[FIRST:])
    return count_tokens(
        *tables,
        within=ESTIMATORS[spec.estimator].within,
        patients=False,
        names=spec.towers,
        vocabularies=words,
    )


def _towers(spec: FactoriseSpec, prepared: Prepared, context: Context) -> tuple[Towers, int]:
    """Give empty towers, and the rank: the width of their tables."""
    shapes = {name: prepared.adapters[name].input_shape for name in spec.towers}
    towers = spec.build(context.run.recipe, shapes, context.run.seed)
    widths = {}
    for name in spec.towers:
        tower = towers.tower(name)
        if not isinstance(tower.encoder, Lookup) or tower.head is not None:
            raise ConfigError(
                f"the tower of {name} cannot be filled with factors",
                where=f"stage {spec.name}",
                got=type(tower.encoder).__name__ + ("" if tower.head is None else " with a head"),
                expected=f"towers.{name}: {{encoder: {{name: lookup, width: 50}}}}, without a head",
            )
        widths[name] = tower.encoder.width
    rank = min(widths.values())
    smallest = min(shape.vocabulary for shape in shapes.values()) - FIRST
    smallest = smallest if spec.embedded is None else rank
    if len(set(widths.values())) > 1 or rank > smallest:
        raise ConfigError(
            "the rank does not fit" if rank > smallest else "both tables have one rank",
            where=f"stage {spec.name}",
            got=", ".join(f"{name}: width {width}" for name, width in widths.items()),
            expected=f"one width, at most {smallest} (the codes of the smaller vocabulary)",
            fix=f"--set towers.{spec.towers[0]}.encoder.width={min(rank, smallest)}, and alike",
        )
    return towers, rank


@torch.no_grad()
def _fill(encoder: torch.nn.Module, vectors: np.ndarray) -> None:
    assert isinstance(encoder, Lookup)  # as `_towers` has made sure
    encoder.table.weight.zero_()
    encoder.table.weight[FIRST:] = torch.from_numpy(vectors).to(encoder.table.weight)
