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

from medmcl.core.config import nearest, yaml_text
from medmcl.core.contracts import Packs, RecordRef
from medmcl.core.errors import CohortError, RecordError
from medmcl.core.findings import counted
from medmcl.core.targets import Targets
from medmcl.core.whole_folder import whole_folder
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.spec import ModalitySpec
from medmcl.data.cohort.splits import SPLITS
from medmcl.modalities import ADAPTERS, packed_readers

_PREFIX = "target"


@dataclass(frozen=True)
class TargetFields:
    """The targets of every sample.

    Attributes:
        tasks: The ``tasks:`` of a cohort.yaml over these fields.
        left_out: Tasks that are not written, and why.
        columns: Field to its value for each sample, None where unknown.
    """

    tasks: dict[str, dict[str, Any]]
    left_out: list[str]
    columns: dict[str, list[Any]]

    def row(self, sample: int) -> dict[str, Any]:
        """Give the fields of one sample; what is unknown has none."""
        cells = {name: values[sample] for name, values in self.columns.items()}
        return {name: cell for name, cell in cells.items() if cell is not None}


def target_fields(cohort: Cohort, modalities: Sequence[str]) -> TargetFields:
    """Evaluate every task that can be, over the subjects or the modalities that are written.

    Raises:
        CohortError: Labels of a subject that differ from sample to sample.
    """
    found = TargetFields({}, [], {})
    for name in cohort.spec.tasks:
        if name not in cohort.usable_tasks:
            found.left_out.append(f"task {name}: it has faults")
            continue
        targets = cohort.targets(name)
        if targets.modality is not None and targets.modality not in modalities:
            found.left_out.append(f"task {name}: of {targets.modality}, which is not written")
            continue
        if targets.modality is None:
            _require_agreeing(cohort, targets)
        _add(cohort, found, targets)
    return found


def _add(cohort: Cohort, found: TargetFields, targets: Targets) -> None:
    task = cohort.spec.tasks[targets.name]
    told = task.model_dump(include={"of", "about"}, exclude_defaults=True)
    many = len(targets.columns) > 1
    fields = {
        column: f"{_PREFIX}.{targets.name}" + (f".{column}" if many else "")
        for column in targets.columns
    }
    for number, (column, key) in enumerate(fields.items()):
        values, known = targets.values[:, number], targets.known[:, number]
        kind = _kind(targets, column)
        found.columns[key] = [
            _cell(kind, targets, value) if k else None
            for value, k in zip(values, known, strict=True)
        ]
    quoted = {column: f"`{key}`" for column, key in fields.items()}
    if targets.kind == "survival":
        told |= {"time": quoted["time"], "event": quoted["event"], "unit": targets.unit}
        told |= {"horizons_years": list(targets.horizons_years)} if targets.horizons_years else {}
        if targets.competing is not None:
            key = f"{_PREFIX}.{targets.name}.competing"
            known = targets.complete
            found.columns[key] = [
                bool(one) if k else None for one, k in zip(targets.competing, known, strict=True)
            ]
            told["competing"] = f"`{key}`"
    elif targets.kind in ("multilabel", "regression"):
        told["columns"] = quoted
    else:
        told["column"] = next(iter(quoted.values()))
    if targets.kind == "multiclass":
        told["classes"] = list(targets.classes)
    if targets.kind == "regression" and targets.unit:
        told["unit"] = targets.unit
    found.tasks[targets.name] = {"kind": targets.kind, **told}


def _kind(targets: Targets, column: str) -> str:
    if targets.kind == "survival":
        return "truth" if column == "event" else "number"
    return {"multiclass": "class", "regression": "number"}.get(targets.kind, "truth")


def _cell(kind: str, targets: Targets, value: float) -> Any:
    if kind == "class":
        return targets.classes[int(value)]
    return bool(value) if kind == "truth" else float(value)


def _require_agreeing(cohort: Cohort, targets: Targets) -> None:
    """Refuse labels of subjects that differ within one, as those counted from a record's date."""
    rows = np.concatenate([targets.values, targets.known], axis=1)
    first: dict[str, np.ndarray] = {}
    for subject, row in zip(cohort.samples["subject"], rows, strict=True):
        if not np.array_equal(first.setdefault(subject, row), row):
            raise CohortError(
                "labels of a subject differ from sample to sample",
                where=f"tasks.{targets.name}, subject {subject}",
                fix=f"leave the task out: --set cohort.tasks.{targets.name}=null",
            )


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
            yaml_text(_tree(cohort, parts, targets), allow_unicode=True, width=100),
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
        site = cohort.sites.get(sample["subject"])
        if isinstance(site, str):
            said["site"] = site
        told = json.dumps({**said, **self.targets.row(row)}, ensure_ascii=False)
        yield "json", told.encode("utf-8")
        for part in self.parts:
            record = sample[part.name]
            if record is None:
                continue
            try:
                yield part.member(cohort.records[part.name]["place"].loc[record])
            except RecordError:
                if cohort.spec.keys.on_bad_record == "refuse":
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
        "subjects": subjects | ({"group": "site"} if keys.subjects.group else {}),
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
