"""Counts in a folder that sites can exchange: parquet for numbers, JSON for what they mean.

``manifest.json`` (`medmcl.cooccurrence.exchange.manifest`), ``vocabulary.parquet`` (index, code,
modality, tokens, pairs, patients) and one ``cells_A_B.parquet`` (i, j, pairs, patients) for each
pair of modalities, A and B being their places in the manifest. All numbers are int64. What is
loaded is checked first (`medmcl.cooccurrence.exchange.checks`); a manifest that lies is refused.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import sparse

import medmcl
from medmcl.cooccurrence.count.counts import (
    Block,
    Counts,
    Margin,
    Pair,
    Provenance,
    Vocabulary,
    exact_sum,
)
from medmcl.cooccurrence.count.people import People, named
from medmcl.cooccurrence.exchange.checks import (
    check_block_sums,
    check_cells,
    check_largest,
    check_margin_sums,
    check_whole,
    refuse_telling,
)
from medmcl.cooccurrence.exchange.manifest import (
    SCHEMA,
    BlockKeys,
    ManifestKeys,
    ModalityKeys,
    PatientsKeys,
    PeopleKeys,
    PrivateKeys,
    ThresholdKeys,
    VocabularyKeys,
)
from medmcl.cooccurrence.exchange.tables import (
    CELLS_SCHEMA,
    PEOPLE_SCHEMA,
    VOCABULARY_SCHEMA,
    cells_table,
    check_checksum,
    days_of,
    optional,
    people_table,
    read_json,
    read_table,
    sha256_of,
    vocabulary_table,
    with_checksum,
)
from medmcl.core.atomic import folder_aside
from medmcl.core.config import check
from medmcl.core.errors import ArtefactError
from medmcl.core.path_suggestions import instead_of
from medmcl.core.writing import refuse_unwritable

MANIFEST, VOCABULARY, PEOPLE = "manifest.json", "vocabulary.parquet", "people.parquet"
_SAID = (
    "window", "pairing", "units", "patients", "min_patients", "noise_sd", "sites", "nested",
    "notes",
)  # fmt: skip
"""What the manifest says of counts as they have it."""
_KNOWN_OF_IT = ("merged_from", "outside_vocabulary", "splits")


def save_counts(
    counts: Counts, folder: str | Path, *, release: ThresholdKeys | PrivateKeys | None = None
) -> Path:
    """Write counts to a new folder, all of it or nothing.

    Exact counts are written as they are: they are for sites that trust each other, or for one
    site's own later sums. To let counts leave a site, see `medmcl.cooccurrence.release.release`.

    Args:
        counts: Any counts.
        folder: Must not exist, or be empty.
        release: How the counts were made safe; only a release knows.

    Raises:
        ArtefactError: If the folder holds something, or cannot be written, or ``release`` stands
            beside counts that hold more than their cells and sums of them.
    """
    folder = Path(folder)
    if release is not None:
        refuse_telling(counts, folder)
    refuse_used(folder)
    refuse_unwritable(folder, where="counts")
    with folder_aside(folder) as aside:
        _write(counts, aside, release)
    return folder


def refuse_used(folder: Path) -> None:
    """Refuse a folder that holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArtefactError("counts are written to a new folder", where=folder, got="a used one")


def load_counts(folder: str | Path) -> Counts:
    """Read counts that `save_counts` wrote, every claim of the manifest checked.

    Raises:
        ArtefactError: If a file is missing, cut short or altered, or the manifest does not agree
            with the numbers; the message names the file and the claim.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    vocabularies, margins = _read_vocabulary(folder, manifest)
    blocks: dict[Pair, Block] = {}
    for keys in manifest.blocks:
        sizes = _sizes(folder, keys, vocabularies)
        if (keys.first, keys.second) in blocks:
            raise ArtefactError(f"{keys.first} x {keys.second} stands twice", where=folder)
        blocks[keys.first, keys.second] = _read_block(folder, keys, manifest, sizes)
    counts = Counts(
        vocabularies=vocabularies,
        margins=margins,
        blocks=blocks,
        **{name: getattr(manifest, name) for name in _SAID if name != "sites"},
        sites=_sites(manifest),
        provenance=Provenance(
            manifest.merged_from,
            manifest.outside_vocabulary,
            manifest.splits,
            _read_people(folder, manifest),
        ),
    )
    check_whole(counts, manifest, folder)
    check_checksum(folder / MANIFEST)
    return counts


def read_manifest(folder: str | Path) -> ManifestKeys:
    """The manifest of saved counts, checked for itself (not against the numbers).

    Raises:
        ArtefactError: If it is missing, no JSON, or has a key that is unknown, missing or wrong.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise _no_counts(Path(folder))
    return check(ManifestKeys, read_json(path), path, ArtefactError)


def _no_counts(folder: Path) -> ArtefactError:
    there = (
        "" if folder.exists() else f": there is no such folder{instead_of(folder, folders=True)}"
    )
    vectors = (folder / "embedding.json").is_file()
    return ArtefactError(
        f"no counts here{there}",
        where=folder,
        got="a folder of vectors, which hold no counts" if vectors else None,
        expected=f"a folder with {MANIFEST}",
        fix="name the folder that medmcl cooccur count, merge or release wrote",
    )


def _write(counts: Counts, folder: Path, release: ThresholdKeys | PrivateKeys | None) -> None:
    pq.write_table(vocabulary_table(counts), folder / VOCABULARY)
    places = {name: number for number, name in enumerate(counts.modalities)}
    blocks = []
    for (a, b), block in counts.blocks.items():
        path = folder / f"cells_{places[a]}_{places[b]}.parquet"
        table = cells_table(block)
        pq.write_table(table, path)
        keys = BlockKeys(
            first=a,
            second=b,
            file=path.name,
            sha256=sha256_of(path),
            cells=len(table),
            pairs=exact_sum(block.pairs.data),
            patients_counted=block.patients is not None,
            pairs_per_patient=block.pairs_per_patient,
        )
        blocks.append(keys)
    said = {
        "schema": SCHEMA,
        "medmcl": medmcl.__version__,
        **{name: getattr(counts, name) for name in _SAID},
        **{name: getattr(counts.provenance, name) for name in _KNOWN_OF_IT},
        "people": _write_people(counts.provenance.people, folder),
        "modalities": tuple(
            ModalityKeys(
                name=name,
                version=words.version,
                size=len(words),
                tokens=exact_sum(counts.margins[name].tokens),
                pairs=exact_sum(counts.margins[name].pairs),
            )
            for name, words in counts.vocabularies.items()
        ),
        "vocabulary": VocabularyKeys(file=VOCABULARY, sha256=sha256_of(folder / VOCABULARY)),
        "blocks": tuple(blocks),
        "release": release,
    }
    manifest = check(ManifestKeys, said, MANIFEST, ArtefactError)
    values = with_checksum(manifest.model_dump(by_alias=True, mode="json"))
    text = json.dumps(values, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _read_vocabulary(
    folder: Path, manifest: ManifestKeys
) -> tuple[dict[str, Vocabulary], dict[str, Margin]]:
    path = folder / manifest.vocabulary.file
    table = read_table(path, manifest.vocabulary.sha256, VOCABULARY_SCHEMA)
    names = np.asarray(table["modality"].to_pylist(), dtype=object)
    strange = sorted(set(names) - {keys.name for keys in manifest.modalities})
    if strange:
        raise ArtefactError(
            "holds modalities that the manifest does not name", where=path, got=", ".join(strange)
        )
    vocabularies, margins = {}, {}
    for keys in manifest.modalities:
        part = table.filter(pa.array(names == keys.name))
        index = part["index"].to_numpy()
        if len(index) != keys.size or not np.array_equal(index, np.arange(len(index))):
            raise ArtefactError(
                f"the indices of {keys.name} are not 0, 1, 2, ...",
                where=path,
                got=f"{len(index)} tokens, indices {list(map(int, index[:5]))} ...",
                expected=f"0 to {keys.size - 1}, as the manifest says",
            )
        vocabularies[keys.name] = Vocabulary(tuple(part["code"].to_pylist()), keys.version)
        margin = Margin(
            part["tokens"].to_numpy(),
            part["pairs"].to_numpy(),
            optional(part, "patients", path),
            optional(part, "most", path),
        )
        check_margin_sums(margin, keys, path)
        margins[keys.name] = margin
    return vocabularies, margins


def _sites(manifest: ManifestKeys) -> int:
    """As said, or of an older folder what its release says."""
    if manifest.sites is not None:
        return manifest.sites
    return manifest.release.sites if isinstance(manifest.release, ThresholdKeys) else 1


def _sizes(folder: Path, keys: BlockKeys, vocabularies: dict[str, Vocabulary]) -> tuple[int, int]:
    for name in (keys.first, keys.second):
        if name not in vocabularies:
            raise ArtefactError(
                "a block of a modality that is not there", where=folder, got=name,
                expected=", ".join(vocabularies),
            )  # fmt: skip
    return len(vocabularies[keys.first]), len(vocabularies[keys.second])


def _read_block(
    folder: Path, keys: BlockKeys, manifest: ManifestKeys, shape: tuple[int, int]
) -> Block:
    path = folder / keys.file
    table = read_table(path, keys.sha256, CELLS_SCHEMA)
    i, j, pairs = (table[name].to_numpy() for name in ("i", "j", "pairs"))
    patients = optional(table, "patients", path)
    if not len(table) and not keys.patients_counted:
        patients = None
    largest = optional(table, "largest", path) if len(table) else None
    check_cells(i, j, shape, path)
    check_block_sums(pairs, patients, keys, path, noisy=manifest.noise_sd is not None)
    check_largest(pairs, largest, _sites(manifest), path)

    def cells(values: np.ndarray | None) -> sparse.csr_array | None:
        return None if values is None else sparse.csr_array((values, (i, j)), shape=shape)

    return Block(
        pairs=sparse.csr_array((pairs, (i, j)), shape=shape),
        patients=cells(patients),
        pairs_per_patient=keys.pairs_per_patient,
        largest=cells(largest),
    )


def _write_people(people: tuple[People, ...], folder: Path) -> PeopleKeys | None:
    if not people:
        return None
    known = any(one.tags is not None for one in people)
    if known:
        pq.write_table(people_table(people), folder / PEOPLE)
    return PeopleKeys(
        file=PEOPLE if known else None,
        sha256=sha256_of(folder / PEOPLE) if known else None,
        sites=tuple(
            PatientsKeys(
                site=one.site,
                patients=one.patients,
                kind=one.kind,
                tags=None if one.tags is None else len(one.tags),
            )
            for one in people
        ),
    )


def _read_people(folder: Path, manifest: ManifestKeys) -> tuple[People, ...]:
    keys = manifest.people
    if keys is None:
        return ()
    table = PEOPLE_SCHEMA.empty_table()
    if keys.file is not None and keys.sha256 is not None:
        table = read_table(folder / keys.file, keys.sha256, PEOPLE_SCHEMA)
    found = []
    for number, one in enumerate(keys.sites):
        mine = table.filter(pc.equal(table["site"], number))
        tags = mine["tag"].to_numpy()
        contents, records = (optional(mine, k, folder / PEOPLE) for k in ("content", "record"))
        days = days_of(mine, folder / PEOPLE)
        if len(tags) != (one.tags or 0):
            raise ArtefactError(
                "the manifest does not tell the truth about: people",
                where=folder,
                got=f"{len(tags)} tags of site {number}",
                expected=f"{one.tags or 0}, as the manifest says",
            )
        there = None if one.tags is None else named(tags, one.kind, days, contents, records)
        if there is not None and there.site != one.site:
            raise ArtefactError(
                "the manifest does not tell the truth about: people",
                where=folder,
                got=f"other tags of site {number} than its hash is of",
                expected="the tags that were written with the counts",
            )
        found.append(there or People(one.site, one.patients, one.kind))
    return tuple(found)
