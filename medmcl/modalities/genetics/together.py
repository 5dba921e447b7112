"""What many genotype records show together: quality control, and alleles counted otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from medmcl.core.findings import Finding, cohort_error, cohort_warning, first_of
from medmcl.modalities.genetics.panel import Panel
from medmcl.modalities.genetics.variants import (
    Alignment,
    Genotypes,
    Turned,
    Variants,
    compare_frequencies,
)

_SHOWN = 5


def inspect_files(
    raws: Iterable[Genotypes],
    panel: Panel,
    align: Callable[[Genotypes], Alignment],
    least: float,
    *,
    is_fitted_here: bool,
) -> list[Finding]:
    """Say what quality control left out, and how each file agrees with the panel.

    Args:
        raws: Records, of any file.
        panel: What was learned from train.
        align: Gives the alignment of a record's file.
        least: Share of the panel that a file must have.
        is_fitted_here: Whether the panel was learned from this cohort.
    """
    files: dict[str, list[Genotypes]] = {}
    for raw in raws:
        files.setdefault(raw.variants.where, []).append(raw)
    found = [_quality(panel)] if is_fitted_here else []
    for members in files.values():
        alignment = align(members[0])
        variants = members[0].variants
        if alignment.share < least:
            found.append(_too_few(variants, alignment, panel, least))
            continue
        if not is_fitted_here or len(files) > 1:
            found += _alignment(variants, alignment, panel)
        found += _frequencies(members, align, panel)
    return found


def several_alleles(raws: Iterable[Genotypes]) -> list[Finding]:
    """Say of which files variants were left out because they have more than two alleles."""
    found = {raw.variants.where: raw.variants for raw in raws if raw.variants.left_out}
    return [
        cohort_warning(
            "genetics.several_alleles",
            where,
            f"{one.left_out:,} of {len(one) + one.left_out:,} variants have more than two alleles, "
            "of which a dosage counts one: they are left out",
            "nothing, if they are not needed; else split them when the .pgen is made",
        )
        for where, one in found.items()
    ]


def _quality(panel: Panel) -> Finding:
    what = panel.summary()
    if panel.ancestry is not None:
        shrunk = ", ".join(f"{value:.2f}" for value in panel.ancestry.shrinkage[:_SHOWN])
        what += (
            f"; {panel.ancestry.count} components of ancestry, in new people {shrunk}"
            f"{', ...' if panel.ancestry.count > _SHOWN else ''} of their size in train people"
        )
    return cohort_warning(
        "genetics.quality",
        "quality control",
        what,
        "nothing, if that is meant; thresholds stand in the recipe's inputs, all ids in "
        "preprocessing.json",
    )


def _too_few(variants: Variants, alignment: Alignment, panel: Panel, least: float) -> Finding:
    count = int((alignment.columns >= 0).sum())
    others, doubtful = first_of(alignment.other_alleles), int(alignment.doubtful.sum())
    what = f"has {count:,} of the {len(panel.variants):,} variants, fewer than {least:.0%}"
    return cohort_error(
        "genetics.panel",
        variants.where,
        what
        + (f"; other alleles: {others}" if others else "")
        + (f"; {doubtful} are A/T or C/G in a file of both strands" if doubtful else ""),
        f"variants are found by id (the file: {variants.ids[0]}; needed: "
        f"{panel.variants.ids[0]}) and alleles: rename or impute them, or lower panel_share",
    )


def _alignment(variants: Variants, alignment: Alignment, panel: Panel) -> list[Finding]:
    """Say what had to be done to read a file."""
    names = np.array(panel.variants.ids, dtype=object)
    there, others = alignment.columns >= 0, set(alignment.other_alleles)
    parts = [
        ("count the other allele and were turned", names[alignment.turned]),
        ("are of the other strand and were translated", names[alignment.strand]),
        ("are A/T or C/G in a file of both strands and count as not called",
         names[alignment.doubtful]),
        ("have other alleles and count as not called", alignment.other_alleles),
        ("are not in the file and count as not called",
         [n for n in names[~there & ~alignment.doubtful] if n not in others]),
        ("lie at another place: another genome build?", alignment.moved),
    ]  # fmt: skip
    said = [f"{len(ids):,} {what} ({first_of(ids)})" for what, ids in parts if len(ids)]
    if not said:
        return []
    return [
        cohort_warning(
            "genetics.alleles",
            variants.where,
            f"of {len(names):,} variants {'; '.join(said)}",
            "nothing, if the file is sound",
        )
    ]


def _frequencies(
    members: Sequence[Genotypes], align: Callable[[Genotypes], Alignment], panel: Panel
) -> list[Finding]:
    """Look for alleles that are exchanged though their letters agree."""
    total, calls = np.zeros(len(panel.variants)), np.zeros(len(panel.variants), dtype=np.int64)
    for raw in members:
        dosage, called = align(raw).read(raw)
        total += dosage
        calls += called
    found = compare_frequencies(
        total / np.maximum(2 * calls, 1), calls, panel.frequency, panel.people
    )
    return [] if not len(found.looks_turned) else [_turned(found, members, panel)]


def _turned(found: Turned, members: Sequence[Genotypes], panel: Panel) -> Finding:
    ids = first_of([panel.variants.ids[row] for row in found.looks_turned])
    what = (
        f"{len(found.looks_turned):,} of {found.telling:,} variants whose frequency tells have "
        f"that of the other allele in train ({ids}; {len(members):,} records looked at)"
    )
    return Finding(
        code="genetics.turned",
        where=members[0].variants.where,
        what=what,
        fix="the alleles are exchanged: correct the columns of alleles"
        if found.all_turned
        else "find out which allele the file counts there; people of another ancestry look alike",
        level="error" if found.all_turned else "warning",
        scope="cohort",
    )
