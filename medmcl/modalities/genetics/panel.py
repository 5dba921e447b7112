"""The panel: variants that passed quality control, with what train people taught of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medmcl.core.errors import CohortError
from medmcl.core.findings import counted
from medmcl.modalities.genetics import qc
from medmcl.modalities.genetics.qc import Ancestry
from medmcl.modalities.genetics.settings import GeneticsSettings
from medmcl.modalities.genetics.variants import Alignment, Genotypes, Variants, align


@dataclass(frozen=True)
class Panel:
    """What `fit` learned.

    Attributes:
        variants: Those that are used.
        frequency: Of the counted allele in train, in (0, 1). (V,)
        people: Train people it was learned from.
        considered: Variants of the first file, before quality control.
        excluded: Rule of `genetics_qc.RULES` to the ids it left out.
        ambiguous: Ids of A/T and C/G variants that are used.
        ancestry: Components of ancestry; None where there are too few people for any.
    """

    variants: Variants
    frequency: np.ndarray
    people: int
    considered: int
    excluded: dict[str, tuple[str, ...]]
    ambiguous: tuple[str, ...]
    ancestry: Ancestry | None

    def standardise(self, dosage: np.ndarray, called: np.ndarray) -> np.ndarray:
        """Give (dosage - 2p) / sqrt(2p(1 - p)), 0 (the train mean) where not called; (..., V)."""
        p = self.frequency
        x = (dosage - 2 * p) / np.sqrt(2 * p * (1 - p))
        return np.asarray(np.where(called, x, 0.0))

    def summary(self) -> str:
        """Say in a line what was left out and why."""
        out = [
            f"{len(ids)} {qc.RULES[rule]} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"
            for rule, ids in self.excluded.items()
            if ids
        ]
        flagged = len(self.ambiguous)
        said = [f"{counted(len(self.variants), 'variant')} of {self.considered:,} used"]
        said += [f"left out: {'; '.join(out)}"] if out else []
        said += [f"{flagged} of those used are A/T or C/G"] if flagged else []
        return f"{', '.join(said)}; judged on {counted(self.people, 'train record')}"

    def state(self) -> dict[str, Any]:
        """As plain JSON values."""
        v = self.variants
        return {
            "ids": list(v.ids),
            "chromosomes": list(v.chromosomes),
            "positions": v.positions.tolist(),
            "counted": list(v.counted),
            "other": list(v.other),
            "frequency": self.frequency.tolist(),
            "people": self.people,
            "considered": self.considered,
            "excluded": {rule: list(ids) for rule, ids in self.excluded.items()},
            "ambiguous": list(self.ambiguous),
            "ancestry": None if self.ancestry is None else self.ancestry.state(),
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Panel:
        """Take back what `state` gave."""
        ancestry = state["ancestry"]
        return cls(
            variants=Variants(
                ids=tuple(state["ids"]),
                chromosomes=tuple(state["chromosomes"]),
                positions=np.asarray(state["positions"], dtype=np.int64),
                counted=tuple(state["counted"]),
                other=tuple(state["other"]),
                where="the run",
            ),
            frequency=np.asarray(state["frequency"], dtype=np.float64),
            people=int(state["people"]),
            considered=int(state["considered"]),
            excluded={rule: tuple(ids) for rule, ids in state["excluded"].items()},
            ambiguous=tuple(state["ambiguous"]),
            ancestry=None if ancestry is None else Ancestry.load(ancestry),
        )


def fit_panel(raws: Iterable[Genotypes], settings: GeneticsSettings, needs: int) -> Panel:
    """Learn a panel from train people.

    The first file says which variants there are and which allele counts; other files are aligned
    to it, and what they do not have is no call.

    Args:
        raws: Train people.
        settings: Thresholds, pruning and components.
        needs: Components that must be had; 0 = as many as the people allow.

    Raises:
        CohortError: Nobody to learn from, no variant left, or too few people for the components.
    """
    dosage, groups, variants = _matrix(raws)
    if settings.equilibrium_p > 0 and all(group is None for group in groups):
        raise CohortError(
            "Hardy-Weinberg equilibrium is to be tested, and nobody in train is a control of known "
            "ancestry",
            where=variants.where,
            fix="correct controls: or ancestry: in cohort.yaml, or set equilibrium_p: 0",
        )
    p, _ = qc.frequencies(dosage)
    excluded, kept = _exclude(dosage, groups, variants, settings)
    if not len(kept):
        raise CohortError(
            "quality control leaves no variant",
            where=variants.where,
            got="; ".join(f"{len(ids)} {qc.RULES[rule]}" for rule, ids in excluded.items() if ids),
            fix="look at the genotypes, or loosen inputs (call rate, frequency, equilibrium)",
        )
    chosen = variants.take(kept)
    panel = Panel(
        variants=chosen,
        frequency=p[kept],
        people=len(dosage),
        considered=len(variants),
        excluded=excluded,
        ambiguous=_ids(chosen, qc.ambiguous(chosen)),
        ancestry=None,
    )
    x = _standardised(dosage[:, kept], panel)
    used = np.ones(len(kept), dtype=bool)
    if settings.prune_r2 is not None:
        used = qc.prune(x, chosen, settings.prune_r2, settings.prune_window)
    if settings.prune_for == "all":
        panel, x, used = _narrowed(panel, used), x[:, used], used[used]
    ancestry = _ancestry(x, used, settings.components, needs, variants.where)
    return replace(panel, ancestry=ancestry)


def _standardised(dosage: np.ndarray, panel: Panel) -> np.ndarray:
    """Person by person, so that there is no array of doubles for everybody. (N, V) float32."""
    x = np.empty(dosage.shape, dtype=np.float32)
    for row, one in zip(x, dosage, strict=True):
        row[:] = panel.standardise(one, one >= 0)
    return x


def _matrix(raws: Iterable[Genotypes]) -> tuple[np.ndarray, list[str | None], Variants]:
    """Dosages of everybody at the variants of the first file, (N, V), `qc.NO_CALL` for none."""
    rows, groups = [], list[str | None]()
    reference: Variants | None = None
    known: dict[str, Alignment] = {}
    for raw in raws:
        if reference is None:
            reference = raw.variants
        if raw.variants.key == reference.key:
            dosage, called = raw.dosage, raw.called
        else:
            if raw.variants.key not in known:
                known[raw.variants.key] = align(raw.variants, reference)
            dosage, called = known[raw.variants.key].read(raw)
        rows.append(np.where(called, dosage, dosage.dtype.type(qc.NO_CALL)))
        groups.append(raw.group)
    if reference is None:
        raise CohortError(
            "nobody in train has genotypes that can be used",
            fix="see `medmcl check`: call rates, and who is in which split",
        )
    return np.stack(rows), groups, reference


def _exclude(
    dosage: np.ndarray, groups: list[str | None], variants: Variants, settings: GeneticsSettings
) -> tuple[dict[str, tuple[str, ...]], np.ndarray]:
    """Ids each rule leaves out (an id stands under the first), and the numbers of the others."""
    p, calls = qc.frequencies(dosage)
    rare = np.minimum(p, 1 - p)
    left = ~qc.sex_linked(variants)
    excluded = {"sex_linked": _ids(variants, ~left)}

    def leave_out(rule: str, bad: np.ndarray) -> None:
        nonlocal left
        excluded[rule] = _ids(variants, left & bad)
        left = left & ~bad

    leave_out("duplicate", qc.duplicates(variants))
    if settings.ambiguous == "exclude":
        leave_out("ambiguous", qc.ambiguous(variants))
    leave_out("call_rate", calls < settings.variant_call_rate)
    leave_out("frequency", (rare < settings.min_frequency) | (rare <= 0))
    if settings.equilibrium_p > 0:
        lowest = np.ones(len(variants))
        lowest[left] = qc.equilibrium(dosage[:, left], groups)
        leave_out("equilibrium", lowest < settings.equilibrium_p)
    return excluded, np.flatnonzero(left)


def _ids(variants: Variants, rows: np.ndarray) -> tuple[str, ...]:
    return tuple(variants.ids[row] for row in np.flatnonzero(rows))


def _narrowed(panel: Panel, used: np.ndarray) -> Panel:
    """Leave out what is in linkage."""
    variants = panel.variants.take(np.flatnonzero(used))
    return replace(
        panel,
        variants=variants,
        frequency=panel.frequency[used],
        ambiguous=_ids(variants, qc.ambiguous(variants)),
        excluded={**panel.excluded, "linkage": _ids(panel.variants, ~used)},
    )


def _ancestry(
    x: np.ndarray, used: np.ndarray, count: int, needs: int, where: str
) -> Ancestry | None:
    possible = max(0, min(count, (len(x) - 1) // 2, int(used.sum()) - 1))
    if needs and (possible < count or not count):
        raise CohortError(
            "there are too few train people or variants for the components of ancestry",
            where=where,
            got=f"{len(x):,} people, {int(used.sum()):,} variants",
            expected=f"more than {2 * count} people and {count} variants"
            if count else "components above 0",
            fix="set inputs.NAME.components to fewer",
        )  # fmt: skip
    return Ancestry.fit(x, used, possible) if possible else None
