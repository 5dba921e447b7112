"""What is embedded by what: records of a cohort, and the tower of a run or a published model."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import pandas as pd

from medmcl.core.contracts import Adapter, RecordRef, TakesWhole
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.findings import counted
from medmcl.core.limits import parse_json, refuse_odd_file
from medmcl.core.progress import Bar, progress
from medmcl.core.sealed import reading
from medmcl.data.check.check import Checked, check_cohort
from medmcl.data.cohort.cohort import Cohort, at_hand, load_cohort
from medmcl.data.loading.prepare import Prepared, cache_folder, prepare
from medmcl.encoders.published.card import Card, read_card, split_model
from medmcl.stages.recipe.settings import only_cohort_overrides
from medmcl.stages.run.outputs import PROVENANCE, ROWS_AT_ONCE, said_beside
from medmcl.stages.run.run import EMBED_BATCH, embed_records, vector_width

if TYPE_CHECKING:
    import torch
    from torch import nn

    from medmcl.encoders.towers import Towers

log = logging.getLogger("medmcl")
MODEL_BATCH = 32
"""Records of a published model that are encoded at once; they may be cut into windows."""
_ROWS = "\0rows"
MARKED = 64
"""Records, spread evenly, by whose files vectors tell the cohort that they are of."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Records of one modality of a cohort, and the towers that embed them.

    Attributes:
        towers: In evaluation mode.
        prepared: The cohort, prepared for them.
        modality: What is embedded.
        space: ``features`` or ``pooled``.
        device: Where.
        made_by: Whose towers they are; with the cohort it decides every number.
        batch: Records that are encoded at once: how they are grouped moves the last bits.
        whole: Whether all pieces of a record are taken, each once; see `TakesWhole`.
    """

    towers: Towers = field(repr=False)
    prepared: Prepared = field(repr=False)
    modality: str
    space: str
    device: torch.device
    made_by: Mapping[str, Any]
    batch: int = EMBED_BATCH
    whole: bool = False
    noun: ClassVar[str] = "record"
    """What a row of the table is."""

    @property
    def total(self) -> int:
        """Rows of the table."""
        return len(self.prepared.cohort.records[self.modality])

    @cached_property
    def records(self) -> np.ndarray:
        """Numbers of the records that can be embedded, (N,)."""
        return np.flatnonzero(self.prepared.usable(self.modality))

    @property
    def width(self) -> int:
        """E or D."""
        return vector_width(self.towers, self.modality, self.space)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What its table says of itself."""
        cohort = self.prepared.cohort
        return {
            "made_by": dict(self.made_by),
            "cohort": cohort.name,
            "cohort_fingerprint": cohort.fingerprint,
            "records": self._marks(),
            "modality": self.modality,
            "space": self.space,
            "device": self.device.type,
        }

    def _marks(self) -> list[list[str]]:
        """Some records and what tells their files."""
        listed = self.prepared.cohort.records[self.modality.split(" + ")[0]]
        step = -(-max(1, len(listed)) // MARKED)
        return marks_of(listed.iloc[::step])

    @cached_property
    def identity(self) -> str:
        """Hash of all that decides its numbers: `fingerprint` of it, but not all of it at once."""
        said = json.dumps({**self.provenance, "of": [_ROWS]}, sort_keys=True, default=str)
        before, after = said.split(json.dumps(_ROWS))
        digest, left = hashlib.blake2b(before.encode(), digest_size=8), iter(self.whom)
        while some := [*islice(left, ROWS_AT_ONCE)]:
            digest.update(f"{json.dumps(some)[1:-1]}, ".encode())
        digest.update(f"{self.batch}{after}".encode())
        return digest.hexdigest()

    @property
    def whom(self) -> Iterable[Any]:
        """Which rows the table has, and what stands for each."""
        index = self.prepared.cohort.records[self.modality].index
        return chain(map(str, index), map(int, self.records))

    @cached_property
    def faults(self) -> Mapping[str, str]:
        """Record to why it cannot be embedded."""
        return self.prepared.faults(self.modality)

    def vectors(self, records: np.ndarray, bar: Bar | None = None) -> np.ndarray:
        """Embed some of `records`, (N, width) float32; grouped alike they are alike to the bit.

        ``bar`` is told how many are done, if one is shown.
        """
        found = embed_records(
            self.towers, self.prepared, self.modality, records, self.space, self.device,
            self.batch, bar,
        )  # fmt: skip
        if self.in_pieces:
            adapter = self.prepared.adapters[self.modality]
            listed = self.prepared.cohort.records[self.modality]["place"]
            for row, number in enumerate(records):
                if str(listed.index[number]) in self.in_pieces:
                    found[row] = self.of_all_pieces(listed.iloc[number], adapter)
        return found

    @cached_property
    def in_pieces(self) -> Mapping[str, str]:
        """Records of which the prepared rows do not hold each piece once."""
        adapter = self.prepared.adapters[self.modality.split(" + ")[0]]
        if not self.whole or not isinstance(adapter, TakesWhole):
            return {}
        return self.prepared.warned(self.modality, lambda code: code == adapter.pieces)

    def of_all_pieces(self, place: RecordRef, adapter: Adapter) -> np.ndarray:
        """The mean over all pieces that an adapter makes of a record, (width,) float32."""
        import torch

        pieces = torch.from_numpy(cast(TakesWhole, adapter).prepare_whole(adapter.read(place)))
        encoder = self.towers.tower(self.modality).encoder
        total = torch.zeros(self.width, device="cpu")
        with torch.no_grad():
            for part in pieces.split(self.batch):
                total += encoder(part.to(self.device)).features.float().sum(0).cpu()
        return (total / len(pieces)).numpy()

    def table(self) -> pd.DataFrame:
        """Give the table of all records; see `Run.embed`."""
        return pd.concat(self.tables([self.vectors(self.records)]))

    def tables(self, parts: Iterable[np.ndarray]) -> Iterator[pd.DataFrame]:
        """Give the table of all records, `ROWS_AT_ONCE` rows at a time.

        Args:
            parts: Vectors of `records`, some at a time, in order.
        """
        given, left, rows = iter(parts), np.empty((0, self.width), np.float32), self.records
        for first in range(0, max(1, self.total), ROWS_AT_ONCE):
            here = slice(first, min(first + ROWS_AT_ONCE, self.total))
            full = np.full((self.width, here.stop - first), np.nan, dtype=np.float32).T
            while len(rows) and rows[0] < here.stop:
                left = left if len(left) else next(given)
                count = min(len(left), int(np.searchsorted(rows, here.stop)))
                full[rows[:count] - first] = left[:count]
                rows, left = rows[count:], left[count:]
            names = [f"e{number}" for number in range(self.width)]
            frame = pd.DataFrame(full, copy=False, columns=names)
            frame.index, columns = self.about(here)
            for place, (name, cells) in enumerate(columns.items()):
                frame.insert(place, name, cells)
            frame.attrs[PROVENANCE] = self.provenance
            yield frame
            del frame, full  # else two pieces were held

    def about(self, rows: slice) -> tuple[pd.MultiIndex, dict[str, Any]]:
        """Give the index of some rows of the table, and the columns before the vectors."""
        listed = self.prepared.cohort.records[self.modality].iloc[rows]
        quality = [self.faults.get(str(one), "ok") for one in listed.index]
        index = pd.MultiIndex.from_arrays(
            [listed["subject"].astype(str), listed.index.astype(str)], names=["subject", "record"]
        )
        return index, {"quality": quality}


def embedding_of_model(
    model: str,
    cohort: Cohort | str | Path,
    *,
    beside: Path,
    variant: str | None = None,
    preparation: str | None = None,
    modality: str | None = None,
    device: str = "auto",
    overrides: Mapping[str, Any] | None = None,
) -> Embedding:
    """Give what a published model makes of a cohort, its records prepared as the card says.

    Args:
        model: ``NAME[:VARIANT]:FILE``.
        cohort: Cohort, folder or name. Records with faults get a quality flag.
        beside: Folder beside which prepared records are cached.
        variant: The variant, if ``model`` does not name it.
        preparation: Another of the card's preparations.
        modality: Modality of the cohort; its only one of the card's kind if not given.
        device: ``auto``, ``cpu`` or ``cuda``.
        overrides: Cohort overrides.

    Raises:
        ConfigError: There is no such model, variant, preparation or modality.
        ArtefactError: The file cannot be read, or is of another model.
        CohortError: The cohort cannot be used.
    """
    name, weights = split_model(model, variant)
    from medmcl.encoders.published.model import load_model

    loaded = load_model(name, weights, preparation=preparation)
    usual = {} if isinstance(cohort, Cohort) else {"on_bad_record": "exclude"}
    opened = at_hand(cohort, {**usual, **only_cohort_overrides(overrides or {})})
    return embedding_of_net(
        loaded.net,
        loaded.card,
        loaded.settings(preparation),
        opened,
        beside=beside,
        modality=modality,
        device=device,
        made_by=loaded.provenance,
    )


def check_for_model(
    model: str, cohort: str | Path, overrides: Mapping[str, Any] | None = None
) -> Checked:
    """Find what a published model would say of a cohort's records, before they are embedded.

    Args:
        model: ``NAME[:VARIANT]``, by its card alone, or with ``:FILE``, which is read, too.
        cohort: Folder, cohort.yaml or name. A faulty record is a warning: its row gets a flag.
        overrides: Cohort overrides.

    Raises:
        ConfigError: There is no such model or variant, or nothing in the cohort that it reads.
        ArtefactError: The file cannot be read, or is of another model.
    """
    name, _, rest = model.partition(":")
    card = read_card(name)
    if not rest or rest in card.variants:
        settings = card.settings(rest or card.default)
    else:
        called, weights = split_model(model)
        from medmcl.encoders.published.model import load_model

        settings = load_model(called, weights).settings()
    usual = {"on_bad_record": "exclude", **only_cohort_overrides(overrides or {})}
    opened, findings = load_cohort(cohort, usual)
    if opened is None:
        return Checked(findings)
    chosen = _modality_for(card, opened, None)
    with progress("reading records", sum(map(len, opened.records.values()))) as bar:
        return check_cohort(opened, {chosen: settings}, progress=bar)


def embedding_of_net(
    net: nn.Module,
    card: Card,
    settings: Mapping[str, Any],
    cohort: Cohort,
    *,
    beside: Path,
    modality: str | None,
    device: str,
    made_by: Mapping[str, Any],
) -> Embedding:
    """Give what the net of a card makes of a cohort, whatever its weights; ``settings`` prepare.

    The rest as of `embedding_of_model`.
    """
    from medmcl.encoders.published.encoder import CardNet
    from medmcl.encoders.towers import Tower, Towers
    from medmcl.engine.world import pick_device

    chosen = _modality_for(card, cohort, modality)
    with progress("reading records", len(cohort.records[chosen])) as bar:
        prepared = prepare(
            cohort, {chosen: settings}, cache=cache_folder(beside), splits="all", progress=bar
        )
    warned = prepared.warned(chosen, lambda code: code in card.told)
    for record, said in [*warned.items()][:1]:
        count = counted(len(warned), "record")
        log.warning("warning: %s: %s, the first %s: %s", card.title, count, record, said)
    shape = prepared.adapters[chosen].input_shape
    encoder = CardNet(net, card, shape, card.probe)
    where = pick_device(device)
    return Embedding(
        towers=Towers({chosen: Tower(encoder, None, shape.shape)}).to(where).eval(),
        prepared=prepared,
        modality=chosen,
        space="features",
        device=where,
        made_by=made_by,
        batch=MODEL_BATCH,
        whole=True,
    )


def _modality_for(card: Card, cohort: Cohort, asked: str | None) -> str:
    """Name the modality of a cohort that a model can read: the one asked for, or the only one."""
    kind = card.input.modality
    fitting = [name for name, one in cohort.spec.modalities.items() if one.kind == kind]
    if asked is not None and asked in fitting:
        return asked
    if asked is None and len(fitting) == 1:
        return fitting[0]
    have = ", ".join(f"{name} ({one.kind})" for name, one in cohort.spec.modalities.items())
    raise ConfigError(
        f"{card.title} reads {kind}, "
        + (f"and '{asked}' is none of it" if asked else "of which the cohort has ")
        + ("" if asked else f"several: {', '.join(fitting)}" if fitting else "none"),
        where=f"cohort {cohort.name}",
        got=have or "no modality",
        fix=f"--modality {fitting[0]}" if fitting else f"name a cohort with a modality of {kind}",
    )


def marks_of(records: pd.DataFrame) -> list[list[str]]:
    """Give subject, id and mark, a hash of how its files begin or of its cells, of each record."""
    columns = (records.index, records["subject"], records["place"])
    found = [
        [str(who), str(record), _mark(place)] for record, who, place in zip(*columns, strict=True)
    ]
    return [one for one in found if one[2]]


def _mark(place: RecordRef) -> str:
    """Hash of the first bytes of files, or of cells where there is no file; empty of neither."""
    parts = [] if place.paths else [str(one).encode() for one in sorted(place.values.items())]
    for path in map(str, sorted(place.paths.values())):
        own = [Path(path + suffix) for suffix in ("", ".hea", ".dat", ".mat")]
        inside = sorted(Path(path).rglob("*")) if Path(path).is_dir() else []
        for file in [one for one in (*own, *inside) if one.is_file()][:4]:
            with suppress(OSError), file.open("rb") as content:
                parts.append(b"%d %s" % (file.stat().st_size, content.read(1 << 16)))
    return hashlib.blake2b(b"\0".join(parts), digest_size=6).hexdigest() if parts else ""


def provenance_of_table(path: Path) -> dict[str, Any]:
    """Give what a table of embeddings says of who made it; empty where it says nothing.

    ``medmcl embed`` writes it into a parquet file, and of a text table beside it. What is not as it
    writes it says nothing, of which there is a warning.

    Raises:
        ArtefactError: It is no file, but a pipe or a device.
    """
    import pyarrow.parquet as pq

    refuse_odd_file(path, ArtefactError)
    try:
        if path.suffix.lower() != ".parquet":
            said = said_beside(path)
        else:
            try:
                kept = pq.read_schema(path).metadata or {}
            except (OSError, ValueError):  # no table: whoever reads its vectors says so
                return {}
            with reading(path):
                said = parse_json(kept.get(b"PANDAS_ATTRS", b"{}")).get(PROVENANCE, {})
        if not _is_provenance(said):
            raise ArtefactError(
                "what it says of who made it is not as medmcl writes it", where=path
            )
    except ArtefactError as error:
        _tell_unknown(path, f"{error.where}: {error.what}")
        return {}
    return said


@cache
def _tell_unknown(path: Path, why: str) -> None:
    log.warning("warning: %s; so it is not known whose vectors %s holds", why, path)


def _is_provenance(said: Any) -> bool:
    """Whether a value has the form of `Embedding.provenance`, as far as it is read."""
    if not isinstance(said, dict) or not _is_maker(said.get("made_by", {})):
        return False
    marks = said.get("records", [])
    return all(isinstance(said.get(key, ""), str) for key in ("cohort", "cohort_fingerprint")) and (
        isinstance(marks, list)
        and all(_is_texts(one) and len(one) == len(("subject", "record", "mark")) for one in marks)
    )


def _is_maker(said: Any) -> bool:
    """Whether a value has the form of `Embedding.made_by`, as far as it is read."""
    if not isinstance(said, dict):
        return False
    seen, began = said.get("seen", {}), said.get("published", {})
    return (
        isinstance(seen, dict)
        and _is_texts([*seen.values()])
        and _is_texts(said.get("clean", []))
        and isinstance(began, dict)
        and all(map(_is_maker, began.values()))
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
