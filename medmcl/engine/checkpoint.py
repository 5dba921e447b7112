"""Checkpoints that are whole or absent: written aside, renamed into place, then pointed at.

``checkpoint/<stage>/step-00000400/`` holds ``weights.safetensors`` and, to go on training,
``training.pt`` (tensors and plain values only). ``last.json`` and ``best.json`` are pointers,
replaced atomically after the folder they name is complete; a process killed at any instant leaves
the previous pointer and the folder it names.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from medmcl.core.atomic import folder_aside, write_atomically
from medmcl.core.errors import ArtefactError

Pointer = Literal["last", "best"]


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors; shared memory is written once for each name."""
    from safetensors.torch import save_file

    save_file({name: w.detach().cpu().contiguous().clone() for name, w in weights.items()}, path)


def load_weights_file(path: Path) -> dict[str, Tensor]:
    """Read tensors of a safetensors file; `ArtefactError` if it is missing or broken."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise ArtefactError("there is no such file", where=path) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtefactError(
            f"is not a readable safetensors file: {error}",
            where=path,
            fix="the file is damaged; restore it, or train the stage again",
        ) from None


class Checkpoints:
    """The checkpoints of one stage: last, and best by the tuning loss."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self, step: int, weights: Mapping[str, Tensor], training: dict[str, Any], *, best: bool
    ) -> None:
        """Save this step as the last (and as the best) and drop what no pointer names."""
        target = self.folder / f"step-{step:08d}"
        if not target.exists():
            with folder_aside(target) as aside:
                save_weights(aside / "weights.safetensors", weights)
                torch.save(training, aside / "training.pt")
        if best:
            self._point("best", target.name)
        self._point("last", target.name)
        self._prune()

    def _point(self, pointer: Pointer, name: str) -> None:
        write_atomically(self.folder / f"{pointer}.json", json.dumps({"folder": name}))

    def _prune(self) -> None:
        named = {self._named(pointer) for pointer in ("last", "best")}
        for folder in self.folder.iterdir():
            stale = folder.name.startswith("step-") and folder.name not in named
            if stale or folder.name.endswith(".part"):
                if folder.is_dir():
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    folder.unlink(missing_ok=True)

    def _named(self, pointer: str) -> str | None:
        try:
            text = (self.folder / f"{pointer}.json").read_text(encoding="utf-8")
            return str(json.loads(text)["folder"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise ArtefactError(
                "is damaged", where=self.folder / f"{pointer}.json", fix="delete it and resume"
            ) from None

    def find(self, pointer: Pointer) -> Path | None:
        """Folder of the last or best checkpoint; None if there is none yet."""
        name = self._named(pointer)
        return None if name is None else self.folder / name

    def weights(self, pointer: Pointer) -> dict[str, Tensor]:
        """Weights of the last or best checkpoint."""
        found = self.find(pointer)
        if found is None:
            raise ArtefactError(
                f"has no '{pointer}' checkpoint",
                where=self.folder,
                fix="finish the run first (`medmcl pretrain … --resume`)"
                if self.done is None
                else "the stage is finished and saved no weights; one that gives embeddings keeps "
                "them with `context.run.save_learner`",
            )
        return load_weights_file(found / "weights.safetensors")

    def training(self) -> dict[str, Any] | None:
        """Training state of the last checkpoint, or None."""
        found = self.find("last")
        if found is None:
            return None
        try:
            return dict(torch.load(found / "training.pt", map_location="cpu", weights_only=True))
        except Exception as error:
            raise ArtefactError(
                f"cannot be read: {error}",
                where=found / "training.pt",
                fix="the file is damaged; delete the run folder and start again",
            ) from None

    def finish(self, facts: dict[str, Any]) -> None:
        """Mark the stage as complete; a resumed run skips it."""
        write_atomically(self.folder / "done.json", json.dumps(facts, indent=1))

    @property
    def done(self) -> dict[str, Any] | None:
        """What `finish` wrote, or None."""
        path = self.folder / "done.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
