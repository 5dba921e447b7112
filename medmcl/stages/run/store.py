"""What stands in a run folder, and is written and read here alone: artefacts by stage and kind.

``checkpoint/<stage>/`` holds the weights of a stage and its facts (``done.json``); ``groups/``,
``selection/``, ``poison/`` and folders of other packages hold ``<stage>.parquet``, what a stage
made beside weights, which its facts name (``kept_in``). What the run keeps of its data and probes
stands in ``NAME.json`` and ``NAME.safetensors``; ``files.json`` says which it wrote, so that one
that is gone is missed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

import numpy as np

from medmcl.core.atomic import write_atomically
from medmcl.core.config import fingerprint
from medmcl.core.errors import ArtefactError
from medmcl.core.limits import parse_json
from medmcl.core.sealed import (
    CHANGED,
    OF,
    SEAL,
    file_digest,
    plain,
    read_sealed,
    reading,
    refuse_changed,
    refuse_foreign,
    sealed,
)
from medmcl.core.suppression import placeless
from medmcl.stages.run.folder import finished_stages, on_resume

if TYPE_CHECKING:
    from torch import Tensor

    from medmcl.engine.checkpoint import Checkpoints
    from medmcl.engine.loop import Learner

log = logging.getLogger("medmcl")
MODEL = "model."
"""What the weights of a model are called in a checkpoint, before their own names."""

KEPT_IN = "kept_in"
"""Fact of a stage that made artefacts: the folders of the run that hold them."""
KEPT_AS = "kept_as"
"""Fact of such a stage: the digest of the file in each of these folders."""
STATE = "state"
"""What an adapter learned: words of a vocabulary are no paths, whatever they look like."""
LOCAL = "local.json"
"""File of a run that says where things lie on this machine. It stays when the run is shared."""
ABOUT, NOT_SHARED = (
    "about",
    ("where the files of this run lie on this machine: not for others, and not needed elsewhere"),
)
FIRST = "first_files"
"""Key of ``provenance.json``, the last of the files that a run is begun with: the others."""
FIRST_FILES = (
    "config.yaml",
    "preprocessing.json",
    "tasks.json",
    "could_name.json",
    "train_records.safetensors",
)
"""Those others: without one a run would say less than it knows, or score whom it has seen."""
WRITTEN = "files.json"
"""File of a run that says under ``files`` which others it wrote (`Store.written`)."""


class Artefact(Protocol):
    """What a stage makes beside weights: a file that is known again by its fingerprint."""

    kept_in: ClassVar[str]
    """Folder of a run that holds it."""

    @property
    def fingerprint(self) -> str:
        """Short hash of its content."""

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""

    @classmethod
    def load(cls, path: Path, *, cohort: str | None = None) -> Self:
        """Read what `save` wrote; of the cohort of this fingerprint, if one is given."""


A = TypeVar("A", bound=Artefact)


class Store:
    """A run folder.

    Args:
        path: The folder.

    Attributes:
        identity: What tells its files from those of other runs; empty where that is not known.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity: dict[str, Any] = {}
        self._kept: dict[str, list[str]] = {}

    def checkpoints(self, stage: str) -> Checkpoints:
        """Checkpoints of a stage."""
        from medmcl.engine.checkpoint import Checkpoints

        return Checkpoints(self.path / "checkpoint" / stage, {**self.identity, "stage": stage})

    def is_finished(self, stage: str) -> bool:
        """Whether a stage is done, or was skipped."""
        return self._done(stage).exists()

    def facts(self, stage: str) -> dict[str, Any]:
        """Give what a finished stage says of itself; nothing of one that is not finished.

        Raises:
            ArtefactError: It is damaged.
        """
        file = self._done(stage)
        with self._written_on_resume():
            return self._own(read_sealed(file), file, stage=stage) if file.exists() else {}

    def _own(self, tree: dict[str, Any], file: Path, **more: str) -> dict[str, Any]:
        """Give a tree without what it says of whose it is.

        Raises:
            ArtefactError: It is of another run.
        """
        of = tree.pop(OF, {})
        refuse_foreign(of, {**self.identity, **more}, file)
        return tree

    def finish(self, stage: str, facts: Mapping[str, Any]) -> None:
        """Say that a stage is done, and what it says of itself; a resumed run passes it over.

        Raises:
            ArtefactError: Weights that it saved are damaged: a run that is resumed goes on from an
                older step.
        """
        kept = self._kept.get(stage)
        if kept is not None:
            digests = {name: file_digest(self.path / name / f"{stage}.parquet") for name in kept}
            facts = {**facts, KEPT_IN: kept, KEPT_AS: digests}
        from medmcl.engine.checkpoint import KEPT_WEIGHTS

        saved = self.checkpoints(stage)
        saved.refuse_damaged("last")
        saved.refuse_damaged("best")
        said = {**placeless({**facts, KEPT_WEIGHTS: saved.digests()}), OF: saved.of}
        write_atomically(self._done(stage), json.dumps(sealed(said), indent=1))
        saved.settle()

    def forget_damaged(self, stages: Iterable[str]) -> None:
        """Take away what finished stages said of themselves where it is damaged.

        They go on from their last checkpoint, which is that of their end.
        """
        for stage in stages:
            try:
                self.facts(stage)
            except ArtefactError as error:
                log.warning("%s: %s; the stage goes on from what it saved", error.where, error.what)
                self._done(stage).unlink()

    @contextmanager
    def _written_on_resume(self) -> Iterator[None]:
        """Say of a damaged file that the run writes it anew, and which stages stay."""
        try:
            yield
        except ArtefactError as error:
            raise error.again(ArtefactError, got=self.finished(), fix=self.on_resume) from None

    def written(self, folder: str = "") -> list[str]:
        """Names of the ``.json`` files that a run wrote, sorted; of those in a folder of it.

        Raises:
            ArtefactError: What says so is damaged.
        """
        there = {f"{folder}/{one.name}" for one in (self.path / folder).glob("*.json")}
        with self._written_on_resume():
            promised = self._promised()
        return sorted(
            one.removesuffix(".json") for one in there | {*promised}
            if one.startswith(f"{folder}/") and one.endswith(".json")
        )  # fmt: skip

    def _promised(self) -> list[str]:
        file = self.path / WRITTEN
        return list(read_sealed(file).get("files", ())) if file.exists() else []

    def promise(self, name: str) -> None:
        """Say that a file is written; the whole list anew where it is damaged."""
        try:
            before = self._promised()
        except ArtefactError as error:
            log.warning("%s; written anew", error.args[0].splitlines()[0])
            before = []
        if name not in before:
            now = sealed({"files": sorted([*before, name])})
            write_atomically(self.path / WRITTEN, json.dumps(now, indent=1))

    @property
    def on_resume(self) -> str:
        """How a file that is damaged is written anew."""
        return on_resume(self.path)

    def finished(self) -> str:
        """Say which stages are done, whatever else is damaged."""
        done = finished_stages(self.path)
        return f"finished and kept: {', '.join(done) or 'no stage'}"

    def _done(self, stage: str) -> Path:
        return self.path / "checkpoint" / stage / "done.json"

    def model(self, stage: str) -> dict[str, Tensor]:
        """Weights of the model that a finished stage keeps."""
        return self._weights(stage, MODEL)

    def tower(self, stage: str, modality: str) -> dict[str, Tensor]:
        """Weights of one tower of a finished stage, of joined ones the last; none without it."""
        return self._weights(stage, f"{self._last_part(stage)}towers.{modality}.")

    def trunk(self, stage: str) -> dict[str, Tensor]:
        """Weights of what the modalities of a finished stage share."""
        return self._weights(stage, f"{self._last_part(stage)}trunk.")

    def vectors(self, stage: str, modality: str) -> Tensor | None:
        """Table of vectors, (V, E), that a finished stage filled for the codes of a modality."""
        return self.tower(stage, modality).get("encoder.table.weight")

    def scale(self, stage: str, objective: str) -> dict[str, Tensor]:
        """Weights of the logit scale that an objective of a finished stage reached."""
        return self._weights(stage, f"objectives.{objective}.scale.")

    def save_learner(self, stage: str, learner: Learner) -> None:
        """Keep the towers of a stage that takes no steps, as its only checkpoint."""
        self.checkpoints(stage).save(1, learner.state_dict(), {}, best=True)

    def _last_part(self, stage: str) -> str:
        """Give what stands before the names of weights of a stage; of joined ones the last."""
        parts = self.facts(stage).get("parts")
        return MODEL if parts is None else f"{MODEL}parts.{len(parts) - 1}."

    def _weights(self, stage: str, prefix: str) -> dict[str, Tensor]:
        saved = self.checkpoints(stage).weights(self.facts(stage).get("keep", "best"))
        return {key[len(prefix) :]: one for key, one in saved.items() if key.startswith(prefix)}

    def file(self, stage: str, kind: type[Artefact]) -> Path:
        """Where an artefact of a stage stands."""
        return self.path / kind.kept_in / f"{stage}.parquet"

    def save(self, stage: str, artefact: Artefact) -> None:
        """Keep what a stage made."""
        file = self.file(stage, type(artefact))
        file.parent.mkdir(parents=True, exist_ok=True)
        artefact.save(file)
        kept = self._kept.setdefault(stage, [])
        if file.parent.name not in kept:
            kept.append(file.parent.name)

    def kept(self, stage: str) -> list[Path]:
        """Give the files that a finished stage made beside weights; its weights are looked at, too.

        Where its facts do not name them, as of runs made before they did: those that stand there.

        Raises:
            ArtefactError: One is gone or damaged.
        """
        facts, name = self.facts(stage), f"{stage}.parquet"
        self.checkpoints(stage).refuse_damaged(facts.get("keep", "best"))
        if KEPT_IN not in facts:
            return [one / name for one in sorted(self.path.iterdir()) if (one / name).is_file()]
        files = [self.path / Path(folder).name / name for folder in facts[KEPT_IN]]
        for file in files:
            self._refuse_gone(stage, file)
        return files

    def _refuse_gone(self, stage: str, file: Path) -> None:
        digest = self.facts(stage).get(KEPT_AS, {}).get(file.parent.name)
        try:
            refuse_changed(file, digest)
        except ArtefactError as error:
            raise ArtefactError(
                error.what if error.what != CHANGED else f"is not what stage {stage} wrote",
                where=file,
                expected=f"what stage {stage} made",
                fix=f"put the file back, or delete {self._done(stage).parent} and give the same "
                "`medmcl pretrain` command with --resume: other finished stages stay",
            ) from None

    def artefact(self, stage: str, kind: type[A], cohort: str | None = None) -> A | None:
        """Read what a stage made; None if it is not finished.

        Args:
            stage: The stage.
            kind: What it made.
            cohort: Fingerprint of the cohort that it must be of; any if not given.

        Raises:
            ArtefactError: The file is gone, damaged, of another cohort, or not what the stage made.
        """
        if not self.is_finished(stage):
            return None
        file = self.file(stage, kind)
        self._refuse_gone(stage, file)
        found = kind.load(file, cohort=cohort)
        self.refuse_changed(stage, found)
        return found

    def refuse_changed(self, stage: str, artefact: Artefact) -> None:
        """Refuse an artefact that is not the one that a finished stage made.

        Raises:
            ArtefactError: Its fingerprint is another than the stage's facts say.
        """
        expected = self.facts(stage).get("fingerprint")
        if artefact.fingerprint != expected:
            raise ArtefactError(
                f"is not what stage {stage} wrote",
                where=self.file(stage, type(artefact)),
                got=f"fingerprint {artefact.fingerprint}",
                expected=f"fingerprint {expected}",
                fix=f"put the file back, or delete {self._done(stage).parent} and --resume",
            )

    def tree(self, name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read ``NAME.json``; the default where a run has none.

        Raises:
            ArtefactError: It is damaged; or there is none, and no default.
        """
        file = self.path / f"{name}.json"
        with self._written_on_resume():
            if default is not None and self._has_none(file):
                return default
            return self.with_places(name, self._own(read_sealed(file), file))

    def keeps(self, name: str) -> bool:
        """Whether a run has ``NAME.json``.

        Raises:
            ArtefactError: It had.
        """
        with self._written_on_resume():
            return not self._has_none(self.path / f"{name}.json")

    def _has_none(self, file: Path) -> bool:
        """Whether a file is not there and never was.

        Raises:
            ArtefactError: The run wrote it, or what says so is damaged.
        """
        if file.exists():
            return False
        if self._is_first(file) or file.relative_to(self.path).as_posix() in self._promised():
            raise ArtefactError("there is no such file", where=file)
        return True

    def _is_first(self, file: Path) -> bool:
        about = self.path / "provenance.json"
        first = read_sealed(about).get(FIRST, ()) if about.exists() else ()
        return file.relative_to(self.path).as_posix() in first

    def was_begun_with(self, file: Path) -> bool:
        """Whether a file is one that the run was begun with, and so has a seal.

        Also where ``provenance.json``, which says so, is damaged itself.
        """
        try:
            return self._is_first(file)
        except ArtefactError:
            return True

    def save_tree(self, name: str, tree: Mapping[str, Any]) -> None:
        """Keep plain JSON values as ``NAME.json``; where files lie as `without_places` does."""
        shared = self.without_places(name, tree) | ({OF: self.identity} if self.identity else {})
        write_atomically(self.path / f"{name}.json", json.dumps(sealed(shared), indent=1))
        self.promise(f"{name}.json")

    def without_places(self, name: str, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Give what a run folder may say of a tree to others; the whole is kept in `LOCAL`."""
        whole, shared = plain(tree), placeless(plain(tree), STATE)
        kept = self._places()
        kept.pop(name, None)
        if shared != whole:
            kept[name] = {"of": fingerprint(shared), "is": whole}
        if kept != self._places():
            write_atomically(self.path / LOCAL, json.dumps({ABOUT: NOT_SHARED, **kept}, indent=1))
        return dict(shared)

    def with_places(self, name: str, shared: dict[str, Any]) -> dict[str, Any]:
        """Give a tree as it was before `without_places`; what came without `LOCAL` as it is.

        So is one of which `LOCAL` says more than where files lie: that was changed.
        """
        kept = self._places().get(name)
        try:
            whole = dict(kept["is"]) if kept else shared
            same = fingerprint(placeless(whole, STATE)) == fingerprint(placeless(shared, STATE))
            return whole if same else shared
        except (TypeError, KeyError, ValueError):
            return shared

    def _places(self) -> dict[str, Any]:
        try:
            kept = dict(parse_json((self.path / LOCAL).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, TypeError, ValueError):
            _tell_damaged(self.path / LOCAL)
            return {}
        return {key: one for key, one in kept.items() if key != ABOUT}

    def arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """Read ``NAME.safetensors``; None where a run has none.

        Raises:
            ArtefactError: It is damaged.
        """
        from safetensors import safe_open

        file = self.path / f"{name}.safetensors"
        with self._written_on_resume():
            if self._has_none(file):
                return None
            with reading(file), safe_open(file, framework="numpy") as opened:
                arrays = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  (no mapping)
                told = opened.metadata()  # none: of a version without seals
                if told is not None:
                    said = parse_json(told[OF]) if OF in told else told
                    if said.get(SEAL) != _digest_of(arrays):
                        raise ArtefactError(CHANGED, where=file)
                    refuse_foreign(said, self.identity, file)
            return arrays

    def save_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays as ``NAME.safetensors``."""
        from safetensors.numpy import save

        whole = {key: np.ascontiguousarray(one) for key, one in arrays.items()}
        said = json.dumps({**plain(self.identity), SEAL: _digest_of(whole)})
        content = save(whole, metadata={OF: said})  # of two keys the order is left to chance
        write_atomically(self.path / f"{name}.safetensors", content)
        self.promise(f"{name}.safetensors")


@cache
def _tell_damaged(file: Path) -> None:
    said = "%s cannot be read, or is damaged: where the files of this run lay is not known from it"
    log.warning(said, file)


def _digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash arrays with their names."""
    digest = hashlib.blake2b(digest_size=16)
    for key, one in sorted(arrays.items()):
        digest.update(f"{key}\0{one.dtype.str}{one.shape}".encode())
        digest.update(np.ascontiguousarray(one).tobytes())
    return digest.hexdigest()


def refuse_schema(about: Mapping[str, Any], expected: str) -> None:
    """Refuse what is of another form; to be told as damage, within `reading`."""
    if about.get("schema") != expected:
        raise ValueError(f"schema {about.get('schema')}, expected {expected}")
