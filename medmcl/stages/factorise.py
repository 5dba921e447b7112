"""The factorise stage: from the codes of train subjects, through their counts, to lookup towers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import sparse

from medmcl.cooccurrence.baselines import cl, concate, within_only
from medmcl.cooccurrence.counts import Counts, Vocabulary
from medmcl.cooccurrence.factorise import factorise
from medmcl.cooccurrence.pmi import claime_pmi
from medmcl.cooccurrence.tokens import count_tokens
from medmcl.core.errors import ConfigError
from medmcl.core.sides import Sides
from medmcl.data.loading import Prepared
from medmcl.encoders.lookup import UNKNOWN, Lookup
from medmcl.encoders.towers import Towers
from medmcl.engine.loop import Learner
from medmcl.engine.record import Stopwatch
from medmcl.modalities.codes import Codes
from medmcl.stages.recipe import FactoriseSpec
from medmcl.stages.train import Setting, build_towers

FIRST = UNKNOWN + 1
"""Number of the first code of a vocabulary; padding and unknown codes are not counted."""

ESTIMATORS: dict[str, Callable[[Counts, int], tuple[np.ndarray, np.ndarray]]] = {
    "concate": concate,
    "cl": cl,
    "within_only": within_only,
}
"""Baselines; CLAIME's own estimator is the default."""


def run_factorise(spec: FactoriseSpec, prepared: Prepared, setting: Setting) -> dict[str, Any]:
    """Count, factorise and fill the tables; give the facts that go into the record.

    Raises:
        LeakageError: A counted row is of `held_out`, or its subject is.
    """
    checkpoints = setting.checkpoints(spec.name)
    if checkpoints.done is not None:
        return checkpoints.done
    with Stopwatch() as watch:
        towers, rank = _towers(spec, prepared, setting)
        rows = counted_rows(spec, prepared)
        sides = Sides(splits=prepared.splits, subjects=prepared.subjects)
        sides.refuse_leak(rows, f"the counts of stage {spec.name}")
        counts = count_records(spec, prepared, rows)
        for name, vectors in zip(spec.towers, _factors(spec, counts, rank), strict=True):
            _fill(towers.tower(name).encoder, vectors)
    facts = {
        "stage": spec.name,
        "keep": spec.keep,
        "rows": len(rows),
        "subjects": counts.patients,
        "rank": rank,
        "seconds": round(watch.seconds, 3),
        "sentence": _sentence(spec, counts, rank, watch.seconds),
    }
    if setting.world.rank == 0:
        learner = Learner(towers, {}, {})
        checkpoints.save(1, learner.state_dict(), {}, best=True)
        checkpoints.finish(facts)
    return facts


def rehearse_factorise(spec: FactoriseSpec, prepared: Prepared, setting: Setting) -> None:
    """Refuse what cannot be factorised before anything is trained."""
    _towers(spec, prepared, setting)
    if len(counted_rows(spec, prepared)) < 2:
        raise ConfigError(
            "fewer than two train subjects have both modalities",
            where=f"stage {spec.name}",
            got=" and ".join(spec.towers),
        )


def counted_rows(spec: FactoriseSpec, prepared: Prepared) -> np.ndarray:
    """Samples of the train split that have both modalities, one a subject."""
    rows = prepared.rows("train")
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
        tables.append(_table(tokens, len(adapter.vocabulary))[:, FIRST:])
        words[name] = Vocabulary(adapter.vocabulary[FIRST:])
    return count_tokens(
        *tables,
        within=spec.estimator != "claime",
        patients=False,
        names=spec.towers,
        vocabularies=words,
    )


def _table(tokens: list[np.ndarray], width: int) -> sparse.csr_array:
    ends = np.cumsum([0, *map(len, tokens)])
    columns = np.concatenate(tokens) if tokens else np.zeros(0, dtype=np.int64)
    ones = np.ones(len(columns), dtype=np.int64)
    table = sparse.csr_array((ones, columns, ends), shape=(len(tokens), width))
    table.sum_duplicates()
    return table


def _factors(spec: FactoriseSpec, counts: Counts, rank: int) -> tuple[np.ndarray, np.ndarray]:
    if spec.estimator == "claime":
        return factorise(claime_pmi(counts), rank, shrink=spec.shrink)
    return ESTIMATORS[spec.estimator](counts, rank)


def _towers(spec: FactoriseSpec, prepared: Prepared, setting: Setting) -> tuple[Towers, int]:
    """Give empty towers, and the rank: the width of their tables."""
    shapes = {name: prepared.adapters[name].input_shape for name in spec.towers}
    towers = build_towers(setting.recipe, spec, shapes, setting.seed)
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
    if len(set(widths.values())) > 1 or rank > smallest:
        raise ConfigError(
            "the rank does not fit" if rank > smallest else "both tables have one rank",
            where=f"stage {spec.name}",
            got=", ".join(f"{name}: width {width}" for name, width in widths.items()),
            expected=f"one width, at most {smallest} (the codes of the smaller vocabulary)",
            mend=f"--set towers.{spec.towers[0]}.encoder.width={min(rank, smallest)}, and alike",
        )
    return towers, rank


@torch.no_grad()
def _fill(encoder: torch.nn.Module, vectors: np.ndarray) -> None:
    assert isinstance(encoder, Lookup)  # as `_towers` has made sure
    encoder.table.weight.zero_()
    encoder.table.weight[FIRST:] = torch.from_numpy(vectors).to(encoder.table.weight)


def _sentence(spec: FactoriseSpec, counts: Counts, rank: int, seconds: float) -> str:
    sizes = " and ".join(f"{len(v)} {name}" for name, v in counts.vocabularies.items())
    return (
        f"Stage {spec.name}: {sizes} counted over {counts.patients} subjects, "
        f"{spec.estimator}, rank {rank}; {seconds:.0f} s."
    )
