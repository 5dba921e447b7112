"""Whether a manifest tells the truth about the numbers beside it.

Margins of a release come from its cells alone, so that they tell nothing the cells do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medmcl.cooccurrence.count.counts import Block, Counts, Margin, Pair, Vocabulary, exact_sum
from medmcl.cooccurrence.exchange.manifest import (
    BlockKeys,
    ManifestKeys,
    ModalityKeys,
    PrivateKeys,
    ThresholdKeys,
    check_private,
)
from medmcl.core.errors import ArtefactError


def check_margin_sums(margin: Margin, keys: ModalityKeys, path: Path) -> None:
    """Refuse margins that do not add up to what the manifest says."""
    for what, values, said in (
        ("tokens", margin.tokens, keys.tokens),
        ("pairs", margin.pairs, keys.pairs),
    ):
        if exact_sum(values) != said:
            raise ArtefactError(
                f"the {what} of {keys.name} do not add up to the manifest",
                where=path,
                got=exact_sum(values),
                expected=said,
            )


def check_cells(i: np.ndarray, j: np.ndarray, shape: tuple[int, int], path: Path) -> None:
    """Refuse cells outside the vocabularies, and cells that stand twice."""
    for name, values, size in (("i", i, shape[0]), ("j", j, shape[1])):
        if len(values) and not (values.min() >= 0 and values.max() < size):
            raise ArtefactError(
                f"'{name}' lies outside the vocabulary",
                where=path,
                got=f"{values.min()} to {values.max()}",
                expected=f"0 to {size - 1}",
            )
    cells = i * shape[1] + j
    ordered = (np.diff(cells) > 0).all()  # as save_counts writes them
    twice = 0 if ordered else int((np.diff(np.sort(cells)) == 0).sum())
    if twice:
        raise ArtefactError("cells stand twice", where=path, got=f"{twice} of {len(i)}")


def check_block_sums(
    pairs: np.ndarray, patients: np.ndarray | None, keys: BlockKeys, path: Path, *, noisy: bool
) -> None:
    """Refuse cells that do not agree with the manifest, or that no counting can give."""
    _same("cells", len(pairs), keys.cells, path)
    _same("pairs", exact_sum(pairs), keys.pairs, path)
    _same("patients counted", patients is not None, keys.patients_counted, path)
    if not noisy:
        _none(pairs < 1, "a cell holds no pair, or fewer than none", path, pairs)
    if patients is None:
        return
    _none(patients < 1, "a cell holds pairs of no patient", path, patients)
    _none(patients > pairs, "a cell holds more patients than pairs", path, patients)


def check_largest(pairs: np.ndarray, largest: np.ndarray | None, sites: int, path: Path) -> None:
    """Refuse a largest site that adds nothing, or more than all, or less than an equal share."""
    if largest is None:
        return
    _none(largest > pairs, "one site adds more pairs than all", path, largest)
    _none(largest < -(-pairs // sites), "no site adds as much as its share", path, largest)


def check_whole(counts: Counts, manifest: ManifestKeys, folder: Path) -> None:
    """Refuse counts whose parts do not fit one another, or that are not released as said."""
    _check_people(counts, folder)
    for name in counts.modalities:
        _check_margin(name, counts, folder)
    for (a, b), block in counts.blocks.items():
        _check_block(a, b, block, counts, folder)
    for name, margin in counts.margins.items():
        if margin.most is None or margin.patients is None:
            continue
        least = -(-margin.tokens // np.maximum(margin.patients, 1))
        wrong = (margin.most > margin.tokens) | (margin.most < least)
        _none(wrong, "no patient can have so many of a token", f"{folder}, {name}", margin.most)
    if strange := sorted(set(counts.nested) - set(counts.modalities)):
        _same("nested", ", ".join(strange), ", ".join(counts.modalities), folder)
    _check_release(counts, manifest, folder)


def _check_people(counts: Counts, folder: Path) -> None:
    """A patient is a unit of the whole record and of a sliding window, and has several months."""
    if counts.patients is None or counts.units is None:
        return
    one_each = counts.window == "record" or counts.window.startswith("days:")
    if counts.patients > counts.units or (one_each and counts.patients != counts.units):
        raise ArtefactError(
            "patients and units do not go together",
            where=folder / "manifest.json",
            got=f"{counts.patients} patients, {counts.units} units, window {counts.window}",
            expected="as many patients as units" if one_each else "no more patients than units",
        )


def _check_margin(name: str, counts: Counts, folder: Path) -> None:
    margin, where = counts.margins[name], f"{folder}, {name}"
    if counts.noise_sd is None:
        _none(margin.tokens < 0, "a token occurs fewer than 0 times", where, margin.tokens)
        _none(margin.pairs < 0, "a token is in fewer than 0 pairs", where, margin.pairs)
    if margin.patients is None:
        return
    patients = margin.patients
    _none(patients < 0, "a token has fewer than 0 patients", where, patients)
    _none(patients > margin.tokens, "a token has more patients than occurrences", where, patients)
    _none((patients == 0) & (margin.tokens > 0), "a token occurs in no patient", where, patients)
    if counts.patients is not None:
        _none(patients > counts.patients, "a token has more patients than there are", where,
              patients)  # fmt: skip


def _check_symmetric(a: str, b: str, block: Block, where: str) -> None:
    if a == b and (block.pairs != block.pairs.T).nnz:
        raise ArtefactError("cells within a modality are not symmetric", where=where)


def _check_block(a: str, b: str, block: Block, counts: Counts, folder: Path) -> None:
    where = f"{folder}, {a} x {b}"
    if counts.is_released:
        return  # see refuse_telling
    _check_symmetric(a, b, block, where)
    for name, axis in ((a, 1), (b, 0)):
        inside = np.asarray(block.pairs.sum(axis=axis), dtype=np.int64)
        unseen = (counts.margins[name].tokens == 0) & (inside > 0)
        _none(unseen, f"cells of {name} that never occur", where, inside)
        patients = counts.margins[name].patients
        if patients is not None and block.patients is not None and block.patients.nnz:
            most = block.patients.max(axis=axis).toarray().ravel()
            _none(most > patients, f"a cell has more patients than its {name}", where, most)
    if a == b and counts.pairing == "product":
        own = np.asarray(block.pairs.sum(axis=1), dtype=np.int64)
        _none(own != counts.margins[a].pairs, "cells do not add up to the margin", where, own)


def _check_release(counts: Counts, manifest: ManifestKeys, folder: Path) -> None:
    release = manifest.release
    fewest = release.min_patients if isinstance(release, ThresholdKeys) else None
    withheld = counts.units is None and counts.noise_sd is None
    if release is None and (withheld or counts.min_patients is not None):
        # A sum of noisy releases is no release; suppressed cells, and units withheld, are of one.
        # Without its statement it would pass for exact counts, its absent cells for zeros.
        raise ArtefactError(
            "the manifest does not tell the truth about: release",
            where=folder,
            got=f"no release, and {'units withheld' if withheld else 'cells suppressed'}",
            expected="how the counts were made safe; or exact counts, with their units",
            fix="have the folder sent again as medmcl cooccur release wrote it",
        )
    if release is not None:
        _same("threshold", counts.min_patients, fewest, folder)
        _same("noise", counts.noise_sd is not None, isinstance(release, PrivateKeys), folder)
        refuse_telling(counts, folder)
    for (a, b), block in counts.blocks.items() if counts.min_patients else ():
        few = block.pairs.data < counts.min_patients
        where = f"{folder}, {a} x {b}"  # every patient adds a pair or more
        _none(few, "a cell holds fewer pairs than its threshold on patients", where,
              block.pairs.data)  # fmt: skip
    if isinstance(release, ThresholdKeys):
        _same("sites", release.sites, counts.sites, folder)
    if isinstance(release, PrivateKeys):
        _same("standard deviation of the noise", counts.noise_sd, release.sigma, folder)
        check_private(release, counts.modalities, folder)


def refuse_telling(counts: Counts, where: object) -> None:
    """Refuse a release that holds more than its cells: the rest could tell what they hide."""
    told = [f"patients of {name}" for name, m in counts.margins.items() if m.patients is not None]
    told += [
        f"patients of {a} x {b}" for (a, b), k in counts.blocks.items() if k.patients is not None
    ]
    told += [f"most of {name}" for name, m in counts.margins.items() if m.most is not None]
    told += [f"sites of {a} x {b}" for (a, b), k in counts.blocks.items() if k.largest is not None]
    told += [what for what in ("units", "patients") if getattr(counts, what) is not None]
    origin = counts.provenance
    told += ["events outside the vocabulary"] if origin.outside_vocabulary is not None else []
    told += ["fingerprints of the counts behind it"] if origin.merged_from else []
    told += ["tags of patients"] if origin.people else []
    if not counts.is_released:
        told.append("exact cells")
    for (a, b), block in counts.blocks.items():
        _check_symmetric(a, b, block, f"{where}, {a} x {b}")
    expected = margins_of_cells(counts.vocabularies, counts.blocks)
    for name, margin in counts.margins.items():
        for what in ("tokens", "pairs"):
            if not np.array_equal(getattr(margin, what), getattr(expected[name], what)):
                told.append(f"{what} of {name} that are not the sums of the cells")
    if told:
        raise ArtefactError(
            "a release holds nothing beside its cells and sums of them",
            where=where,
            got="; ".join(told),
            fix="make it anew from the exact counts: medmcl cooccur release, or release-private",
        )


def _same(what: str, got: object, said: object, where: object) -> None:
    if got != said:
        raise ArtefactError(
            f"the manifest does not tell the truth about: {what}",
            where=where,
            got=got,
            expected=f"{said}, as the manifest says",
        )


def _none(wrong: np.ndarray, what: str, where: object, values: np.ndarray) -> None:
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ArtefactError(
            what, where=where, got=f"{int(wrong.sum())} times, first {values[first]} (row {first})"
        )


def margins_of_cells(
    vocabularies: Mapping[str, Vocabulary], blocks: Mapping[Pair, Block]
) -> dict[str, Margin]:
    """Sums over the cells of each token, as the margins of a release.

    ``tokens`` sums the cells with all other modalities: up to a factor it is the frequency that an
    estimator wants, and with two modalities it is the row or column sum of D. ``pairs`` sums the
    cells within the modality if that block is there, otherwise it is ``tokens`` again. Patients of
    a token do not follow from cells: None.
    """
    across = {name: np.zeros(len(words), dtype=np.int64) for name, words in vocabularies.items()}
    within: dict[str, np.ndarray] = {}
    for (a, b), block in blocks.items():
        rows = np.asarray(block.pairs.sum(axis=1), dtype=np.int64)
        if a == b:
            within[a] = rows
            continue
        across[a] += rows
        across[b] += np.asarray(block.pairs.sum(axis=0), dtype=np.int64)
    return {name: Margin(across[name], within.get(name, across[name])) for name in vocabularies}
