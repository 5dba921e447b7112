"""Write a cohort's images and texts as WebDataset tar shards, with a cohort.yaml that reads them.

Shards hold one split each (``train-000000.tar``), so that whoever streams them keeps the held-out
people apart. A sample is ``KEY.png`` (the file, byte for byte), ``KEY.txt`` (UTF-8) and
``KEY.json``: who it is, and its targets as the cohort's tasks define them. Keys are running
numbers: names of files give nobody away. The same cohort gives the same bytes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medmcl.core.config import nearest
from medmcl.core.contracts import Packs, RecordRef
from medmcl.core.errors import CohortError, RecordError
from medmcl.core.findings import counted
from medmcl.core.whole_folder import whole_folder
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.spec import ModalitySpec
from medmcl.data.cohort.splits import SPLITS
from medmcl.data.loading.shard_targets import TargetFields, target_fields
from medmcl.modalities import ADAPTERS, packed_readers

FOLDER = "shards"
TABLE = f"{FOLDER}/*.tar"


@dataclass
class Written:
    """What was written, and what was not.

    Attributes:
        folder: The new cohort.
        shards: Split to number of shards.
        samples: Number of samples.
        left_out: What the shards do not hold, in words.
    """

    folder: Path
    shards: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """One modality in the shards: how its members are called, and what they hold."""

    name: str
    alone: bool
    content: Callable[[RecordRef], tuple[str, bytes]]
    """Suffix and bytes of a record."""

    def member(self, place: RecordRef) -> tuple[str, bytes]:
        suffix, content = self.content(place)
        return suffix if self.alone else f"{self.name}.{suffix}", content


def write_shards(
    cohort: Cohort, out: Path, per_shard: int = 1000, modalities: Sequence[str] = ()
) -> Written:
    """Write shards of an opened cohort.

    A sample keeps its name, unless the modality that led it is not written.

    Args:
        cohort: The cohort.
        out: Folder to make; must be new or empty.
        per_shard: Samples of a shard; the last one of a split may have fewer.
        modalities: Those to write; all with the readers image and text if not given.

    Raises:
        CohortError: A modality of another reader, a folder that is not empty, labels of subjects
            that differ from sample to sample, pairs that were made wrong (``noisy_pairs:``).
        RecordError: A file that is not there, is no image by its name, or is no text; left out and
            counted where the cohort says ``on_bad_record: exclude``.
    """
    if cohort.noise is not None:
        raise CohortError(
            "shards would hold wrong pairs, and nothing would say which",
            where=cohort.path,
            got=cohort.noise,
            fix="write them with share: 0 under noisy_pairs:, and set it for the shards",
        )
    parts = _parts(cohort, modalities)
    names = [part.name for part in parts]
    targets = target_fields(cohort, names)
    done = Written(Path(out).absolute())
    done.left_out += [
        f"modality {name} (reader {cohort.spec.modalities[name].reader})"
        for name in cohort.spec.modalities
        if name not in names
    ]
    done.left_out += targets.left_out
    if cohort.spec.keys.subgroups:
        done.left_out.append("subgroups: their columns are not targets")
    if cohort.spec.keys.choices:
        done.left_out.append("choices: their columns are not targets")
    has = cohort.samples[names].notna().any(axis=1).to_numpy()
    if not has.all():
        done.left_out.append(
            f"{counted(int((~has).sum()), 'sample')} without any of {', '.join(names)}"
        )
    writer = _Writer(cohort, parts, targets)
    with whole_folder(out, marks=["cohort.yaml", FOLDER], overwrite=False) as folder:
        (folder / FOLDER).mkdir()
        for split in SPLITS:
            rows = np.flatnonzero(has & (cohort.samples["split"] == split).to_numpy())
            for number, first in enumerate(range(0, len(rows), per_shard)):
                path = folder / FOLDER / f"{split}-{number:06d}.tar"
                writer.shard(path, rows[first : first + per_shard])
                done.shards[split] = number + 1
        (folder / "cohort.yaml").write_text(
            yaml.safe_dump(
                _tree(cohort, parts, targets), sort_keys=False, allow_unicode=True, width=100
            ),
            encoding="utf-8",
        )
    done.samples = writer.written
    if writer.lost:
        done.left_out.append(f"{counted(writer.lost, 'record')} that cannot be read")
    return done


def _parts(cohort: Cohort, wanted: Sequence[str]) -> list[_Part]:
    known = cohort.spec.modalities
    for name in wanted:
        if name not in known:
            raise CohortError(
                f"there is no modality '{name}'{nearest(name, known)}", where=cohort.path
            )
    packed = {name: one for name, one in known.items() if one.reader in one.traits.packed}
    names = [name for name in known if name in (wanted or packed)]
    other = [name for name in names if name not in packed]
    if other or not names:
        said = ", ".join(f"{n} (reader {known[n].reader})" for n in other or known)
        raise CohortError(
            "shards hold images and texts only",
            where=cohort.path,
            got=said,
            expected=f"modalities with the readers {', '.join(packed_readers())}",
            fix="name those to write: --modality NAME",
        )
    readers = [packed[name].reader for name in names]
    return [
        _Part(name, readers.count(packed[name].reader) == 1, _adapter(packed[name]).pack)
        for name in names
    ]


def _adapter(spec: ModalitySpec) -> Packs:
    kind = ADAPTERS[spec.kind]
    adapter: Packs = kind(spec.source, kind.Settings())
    return adapter


def _record_names(cohort: Cohort) -> list[str]:
    """Name the record of each sample so that reading makes the same sample of it, with its name.

    A sample that the anchor does not lead is called ``modality:record``, and will be again.
    """
    leads = cohort.samples[cohort.spec.anchor].notna()
    plain = [
        name if led else name.split(":", 1)[1]
        for name, led in zip(cohort.samples["sample"], leads, strict=True)
    ]
    return plain if len(set(plain)) == len(plain) else list(cohort.samples["sample"])


class _Writer:
    """Writes samples, one shard at a time."""

    def __init__(self, cohort: Cohort, parts: Sequence[_Part], targets: TargetFields) -> None:
        self.cohort, self.parts, self.targets = cohort, parts, targets
        self.records = _record_names(cohort)
        self.written = self.lost = 0

    def shard(self, path: Path, rows: np.ndarray) -> None:
        """Write one shard; members of a sample stand together, in the order of their suffixes."""
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for row in map(int, rows):
                files = dict(self._files(row))
                for suffix in sorted(files):
                    info = tarfile.TarInfo(f"{self.written:09d}.{suffix}")
                    info.size, info.mode = len(files[suffix]), 0o644
                    tar.addfile(info, io.BytesIO(files[suffix]))
                self.written += 1

    def _files(self, row: int) -> Iterator[tuple[str, bytes]]:
        cohort = self.cohort
        sample = cohort.samples.iloc[row]
        said = {"sample": self.records[row], "subject": sample["subject"], "split": sample["split"]}
        group = cohort.subjects["group"].get(sample["subject"])
        if isinstance(group, str):
            said["group"] = group
        told = json.dumps({**said, **self.targets.row(row)}, ensure_ascii=False)
        yield "json", told.encode("utf-8")
        for part in self.parts:
            record = sample[part.name]
            if record is None:
                continue
            try:
                yield part.member(cohort.records[part.name]["place"].loc[record])
            except RecordError:
                if cohort.spec.on_bad_record == "refuse":
                    raise
                self.lost += 1


def _tree(cohort: Cohort, parts: Sequence[_Part], targets: TargetFields) -> dict[str, Any]:
    keys = cohort.spec.keys
    subjects = {"table": TABLE, "id": "subject", "split": "split"}
    modalities = {part.name: _modality(cohort, part) for part in parts}
    pairing = {"on": "record"}
    if cohort.spec.anchor in modalities:
        pairing["anchor"] = cohort.spec.anchor
    prompts = {
        task: {label: list(texts) for label, texts in given.items()}
        for task, given in keys.prompts.items()
        if task in targets.tasks
    }
    whole: dict[str, Any] = {
        "schema": "medmcl/cohort@1",
        "about": f"{keys.about or cohort.name}; images and texts as WebDataset shards",
        "data_root": ".",
        "subjects": subjects | ({"group": "group"} if keys.subjects.group else {}),
        "modalities": modalities,
        "tasks": targets.tasks,
        "pairing": pairing,
        "on_bad_record": keys.on_bad_record,
        "prompts": prompts,
        "recipe": keys.recipe,
    }
    return {key: value for key, value in whole.items() if value not in ({}, None)}


def _modality(cohort: Cohort, part: _Part) -> dict[str, Any]:
    spec = cohort.spec.modalities[part.name]
    told = spec.source.model_dump(
        exclude_unset=True, exclude={"column", "encoding", "prefix"}, mode="json"
    )
    alone, beside = spec.traits.packed[told["reader"]]
    column = alone if part.alone else beside.format(name=part.name)
    own = {"table": TABLE, "id": "subject", "record": "sample", "path": f"{{{column}}}"}
    return {"reader": told.pop("reader"), **own, **told}
