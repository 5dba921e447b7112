"""What stands in a run folder, and is written and read here alone: artefacts by stage and kind.

``checkpoint/<stage>/`` holds the weights of a stage and its facts (``done.json``); ``groups/``,
``selection/``, ``poison/`` and folders of other packages hold ``<stage>.parquet``, what a stage
made beside weights, which its facts name (``kept_in``). What the run keeps of its data and probes
stands in ``NAME.json`` and ``NAME.safetensors``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

import numpy as np

from medmcl.core.atomic import write_atomically
from medmcl.core.errors import ArtefactError

if TYPE_CHECKING:
    from torch import Tensor

    from medmcl.engine.checkpoint import Checkpoints
    from medmcl.engine.loop import Learner

MODEL = "model."
"""What the weights of a model are called in a checkpoint, before their own names."""

KEPT_IN = "kept_in"
"""Fact of a stage that made artefacts: the folders of the run that hold them."""


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
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: dict[str, list[str]] = {}

    def checkpoints(self, stage: str) -> Checkpoints:
        """Checkpoints of a stage."""
        from medmcl.engine.checkpoint import Checkpoints

        return Checkpoints(self.path / "checkpoint" / stage)

    def is_finished(self, stage: str) -> bool:
        """Whether a stage is done, or was skipped."""
        return self._done(stage).exists()

    def facts(self, stage: str) -> dict[str, Any]:
        """Give what a finished stage says of itself; nothing of one that is not finished."""
        file = self._done(stage)
        return _read_json(file) if file.exists() else {}

    def finish(self, stage: str, facts: Mapping[str, Any]) -> None:
        """Say that a stage is done, and what it says of itself; a resumed run passes it over."""
        if stage in self._kept:
            facts = {**facts, KEPT_IN: self._kept[stage]}
        self._done(stage).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._done(stage), json.dumps(dict(facts), indent=1))

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
        """Give the files that a finished stage made beside weights.

        Where its facts do not name them, as of runs made before they did: those that stand there.

        Raises:
            ArtefactError: One is gone.
        """
        folders, name = self.facts(stage).get(KEPT_IN), f"{stage}.parquet"
        if folders is None:
            return [one / name for one in sorted(self.path.iterdir()) if (one / name).is_file()]
        files = [self.path / Path(folder).name / name for folder in folders]
        for file in files:
            self._refuse_gone(stage, file)
        return files

    def _refuse_gone(self, stage: str, file: Path) -> None:
        if not file.is_file():
            raise ArtefactError(
                "there is no such file",
                where=file,
                expected=f"what stage {stage} made",
                fix=f"put the file back, or delete {self._done(stage).parent} and --resume",
            )

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
        return default if default is not None and not file.exists() else _read_json(file)

    def save_tree(self, name: str, tree: Mapping[str, Any]) -> None:
        """Keep plain JSON values as ``NAME.json``."""
        write_atomically(self.path / f"{name}.json", json.dumps(dict(tree), indent=1))

    def arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """Read ``NAME.safetensors``; None where a run has none.

        Raises:
            ArtefactError: It is damaged.
        """
        from safetensors.numpy import load_file

        file = self.path / f"{name}.safetensors"
        with reading(file):
            return dict(load_file(file)) if file.exists() else None

    def save_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays as ``NAME.safetensors``."""
        from safetensors.numpy import save

        content = save({key: np.ascontiguousarray(one) for key, one in arrays.items()})
        write_atomically(self.path / f"{name}.safetensors", content)


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Say of whatever goes wrong that a file is damaged: damaged files raise many kinds of errors.

    Raises:
        ArtefactError: Names the file.
    """
    try:
        yield
    except ArtefactError:
        raise
    except FileNotFoundError:
        raise ArtefactError("there is no such file", where=file) from None
    except Exception as error:
        raise ArtefactError(f"is damaged: {error}", where=file) from None


def refuse_schema(about: Mapping[str, Any], expected: str) -> None:
    """Refuse what is of another form; to be told as damage, within `reading`."""
    if about.get("schema") != expected:
        raise ValueError(f"schema {about.get('schema')}, expected {expected}")


def _read_json(path: Path) -> dict[str, Any]:
    with reading(path):
        return dict(json.loads(path.read_text(encoding="utf-8")))
