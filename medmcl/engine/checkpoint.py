"""Checkpoints that are whole or absent: written aside, brought to disk, renamed, then pointed at.

``checkpoint/<stage>/step-00000400/`` holds ``weights.safetensors``, to go on training
``training.pt`` (tensors and plain values only), and ``whole.json``: the digests of both, the name
of the best step so far, and of which run, stage and step it is. ``last.json`` and ``best.json``
are pointers, replaced after the folder they name is complete; where one is damaged, the folders say
what it said. The step before the last stays until the stage is done and what it keeps has been read
again, so that a run whose last step is damaged goes on from an older one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from medmcl.core.atomic import file_aside, folder_aside, remove_whole, write_atomically
from medmcl.core.errors import ArtefactError
from medmcl.core.sealed import (
    file_digest,
    read_sealed,
    reading,
    refuse_changed,
    refuse_foreign,
    sealed,
)

log = logging.getLogger("medmcl")
Pointer = Literal["last", "best"]
WEIGHTS, TRAINING, WHOLE = "weights.safetensors", "training.pt", "whole.json"
DONE = "done.json"
"""File of a stage that is done."""
KEPT_WEIGHTS = "kept_weights"
"""Fact of such a stage: `Checkpoints.digests` at its end."""


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors; shared memory is written once for each name."""
    from safetensors.torch import save_file

    alone: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, w in weights.items():
        own = w.detach().cpu().contiguous()
        storage = own.untyped_storage()
        is_part = storage.nbytes() != own.nbytes or storage.data_ptr() in places
        alone[name] = own.clone() if is_part else own
        places.add(storage.data_ptr())
    with file_aside(path) as aside:
        save_file(alone, aside)


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
    """The checkpoints of one stage: last, and best by the tuning loss.

    Args:
        folder: Where they stand.
        of: The run and stage whose they are, as plain values; a step of others is refused.
    """

    def __init__(self, folder: Path, of: Mapping[str, Any] | None = None) -> None:
        self.folder, self.of = folder, dict(of or {})

    def save(
        self, step: int, weights: Mapping[str, Tensor], training: dict[str, Any], *, best: bool
    ) -> None:
        """Save this step as the last (and as the best); drop all but the last two and the best."""
        target = self.folder / f"step-{step:08d}"
        known = target if best else self.find("best")
        if not self._is_whole(target):  # a process that was killed may have saved it
            with folder_aside(target, replace=True) as aside:
                save_weights(aside / WEIGHTS, weights)
                with (aside / TRAINING).open("wb") as file:  # of a path, torch does not say why
                    torch.save(training, file)
                about = {
                    "files": {name: file_digest(aside / name) for name in (WEIGHTS, TRAINING)},
                    "best": None if known is None else known.name,
                    "of": {**self.of, "step": target.name},
                }
                (aside / WHOLE).write_text(json.dumps(sealed(about)), encoding="utf-8")
        if best:
            self._point("best", target.name)
        self._point("last", target.name)
        self._prune(before=True)

    def settle(self) -> None:
        """Drop the step before the last: of a stage that is done, and said so."""
        if self.folder.is_dir():
            self._prune(before=False)

    def _point(self, pointer: Pointer, name: str) -> None:
        write_atomically(self.folder / f"{pointer}.json", json.dumps(sealed({"folder": name})))

    def _point_at(self, folder: Path) -> None:
        """Let the pointers say what a step says: a killed process may have come between."""
        best = self._best_at(folder)
        if best is None:
            (self.folder / "best.json").unlink(missing_ok=True)
        else:
            self._point("best", best.name)
        self._point("last", folder.name)

    def _prune(self, *, before: bool) -> None:
        last = self.find("last")
        kept = {last, self.find("best")}
        if before and last is not None:
            older = [one for one in self._steps() if one.name < last.name][:1]
            kept |= {*older, *(self._best_at(one) for one in older)}
        for folder in self.folder.iterdir():
            stale = folder.name.startswith("step-") and folder not in kept
            if stale or folder.name.endswith(".part"):
                remove_whole(folder)

    def _steps(self) -> list[Path]:
        """Folders of steps that are there, the newest first."""
        return sorted(self.folder.glob("step-*"), reverse=True)

    def _best_at(self, folder: Path) -> Path | None:
        """The best step when one was saved, as its folder says it."""
        name = self._about(folder)["best"]
        return None if name is None else self.folder / str(name)

    def find(self, pointer: Pointer) -> Path | None:
        """Folder of the last or best checkpoint; None if there is none yet.

        Where the pointer is gone or damaged, the newest step whose folder can be read says it.
        """
        file = self.folder / f"{pointer}.json"
        try:
            return self.folder / str(read_sealed(file)["folder"])
        except (ArtefactError, KeyError):
            pass
        for folder in self._steps():
            try:
                return folder if pointer == "last" else self._best_at(folder)
            except ArtefactError:
                continue
        if file.exists():
            raise self._lost(ArtefactError("is damaged, and no step is there", where=file))
        return None

    def weights(self, pointer: Pointer) -> dict[str, Tensor]:
        """Weights of the last or best checkpoint.

        Raises:
            ArtefactError: There are none; or they are not what was written.
        """
        self.refuse_damaged(pointer)
        found = self.find(pointer)
        if found is None:
            raise ArtefactError(
                f"has no '{pointer}' checkpoint",
                where=self.folder,
                fix="the stage is finished and saved no weights; one that gives embeddings keeps "
                "them with `context.run.save_learner`"
                if (self.folder / DONE).exists()
                else "finish the run first (`medmcl pretrain … --resume`)",
            )
        return load_weights_file(found / WEIGHTS)

    def refuse_damaged(self, pointer: Pointer) -> None:
        """Refuse weights that are not what was written; nothing where there are none.

        Raises:
            ArtefactError: Names the file, what is still good, and how to go on.
        """
        found = self.find(pointer)
        if found is not None:
            try:
                refuse_changed(found / WEIGHTS, self._about(found)["files"].get(WEIGHTS))
                self._refuse_others(found)
            except ArtefactError as error:
                raise self._lost(error) from None

    def digests(self) -> dict[str, str]:
        """Digests of the last and best weights by the name of their step, in the order of steps."""
        found = {one for one in (self.find("last"), self.find("best")) if one is not None}
        return {one.name: self._digest(one) for one in sorted(found)}

    def _digest(self, folder: Path) -> str:
        return self._about(folder)["files"].get(WEIGHTS) or file_digest(folder / WEIGHTS)

    def _refuse_others(self, folder: Path) -> None:
        """Refuse weights with which a stage that is done did not end."""
        done = self.folder / DONE
        kept = read_sealed(done).get(KEPT_WEIGHTS) if done.exists() else None
        if kept is not None and kept.get(folder.name) != self._digest(folder):
            raise ArtefactError(
                "is not what the stage ended with: it was put here from elsewhere",
                where=folder / WEIGHTS,
            )

    def resume(self, *, point: bool) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Weights and training state of the newest step that is whole; None if none was saved.

        Args:
            point: Whether the pointers are to name it, where it is not the last.

        Raises:
            ArtefactError: None of those that are there is whole.
        """
        last = self.find("last")
        if last is None:
            return None
        rest = [one for one in self._steps() if one != last]
        older = [one for one in rest if one.name < last.name]
        faults: list[ArtefactError] = []
        for folder in (last, *older, *(one for one in rest if one not in older)):
            try:
                state = self._state(folder)
            except ArtefactError as error:
                faults.append(error)
                continue
            if faults:
                said = (faults[0].where, faults[0].what, folder.name)
                log.warning("%s: %s; going on from %s", *said)
            if point and (folder / WHOLE).exists():
                self._point_at(folder)
            return state
        raise self._lost(faults[0])

    def _state(self, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read a step from which training goes on.

        Raises:
            ArtefactError: A file of it, or the weights of the best step by then, are damaged.
        """
        files = self._about(folder)["files"]
        for name in (WEIGHTS, TRAINING):
            refuse_changed(folder / name, files.get(name))
        best = self._best_at(folder)
        if best is not None:
            refuse_changed(best / WEIGHTS, self._about(best)["files"].get(WEIGHTS))
        with reading(folder / TRAINING):
            state = torch.load(folder / TRAINING, map_location="cpu", weights_only=True)
            return load_weights_file(folder / WEIGHTS), dict(state)

    def _lost(self, error: ArtefactError) -> ArtefactError:
        """Say what is still good where a stage has lost its weights, and how to go on with it."""
        others = sorted(
            one.parent.name for one in self.folder.parent.glob(f"*/{DONE}")
            if one.parent != self.folder
        )  # fmt: skip
        return error.again(
            ArtefactError,
            got=f"finished and kept: {', '.join(others) or 'no other stage'}",
            fix=f"put the file back; or delete {self.folder} and give the same `medmcl pretrain` "
            "command with --resume: this stage alone is then trained again",
        )

    def _about(self, folder: Path) -> dict[str, Any]:
        """What a step says of itself; of one that was saved before steps did, nothing.

        Raises:
            ArtefactError: It is damaged, or of another run, stage or step.
        """
        file = folder / WHOLE
        if not file.exists():
            return {"files": {}, "best": None}
        about = read_sealed(file)
        refuse_foreign(about.get("of", {}), {**self.of, "step": folder.name}, file)
        return about

    def _is_whole(self, folder: Path) -> bool:
        """Whether a step is there with the files that it says it has."""
        try:
            files = self._about(folder)["files"]
            for name in (WEIGHTS, TRAINING):
                refuse_changed(folder / name, files.get(name))
        except ArtefactError:
            return False
        return True
