"""Weights from a local file: read without pickle from strangers, renamed, fitted, reported."""

from __future__ import annotations

import argparse
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.config import lookup, refuse_absent
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.findings import first_of
from medmcl.core.path_suggestions import require_file
from medmcl.core.writing import size
from medmcl.encoders.encoded import Encoder, ResizesWeights
from medmcl.encoders.name_maps import (
    NameMap,
    authors_ecg,
    authors_image,
    open_clip,
    open_clip_projection,
    run_names,
    same,
    timm_names,
    upcycled,
)
from medmcl.encoders.towers import Tower

WRAPPERS = ("model", "state_dict", "model_state_dict", "module")
SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of a weights file.

    Attributes:
        loaded: Names of the module that took a value from the file.
        missing: Names of the module that the file does not have; they keep their first values.
        unexpected: Names of the file (as mapped) that the module does not have.
        mismatched: Names with another shape, and (shape in the file, shape in the module).
        resized: Names whose positions were brought to the module's grid.
        share: Share of the module's numbers that came from the file.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    resized: tuple[str, ...]
    share: float

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} tensors loaded ({self.share:.1%} of the encoder's numbers)"]
        for title, names in (
            ("not in the file", self.missing),
            ("in the file but not in the encoder", self.unexpected),
            ("resized", self.resized),
        ):
            if names:
                lines.append(f"{title}: {first_of(names, SHOWN)}")
        if self.mismatched:
            shapes = [f"{name} {old} -> {new}" for name, (old, new) in self.mismatched.items()]
            lines.append(f"of another shape: {first_of(shapes, SHOWN)}")
        return "; ".join(lines)


def load_weights(
    module: nn.Module, path: str | Path, names: NameMap | None = None, *, least: float = 0.5
) -> LoadReport:
    """Load what fits from a file into ``module``, and say what did not.

    Args:
        module: An encoder.
        path: Local .safetensors, or .pth/.pt/.ckpt read with ``weights_only=True``.
        names: From the file's names to the module's; see `NAME_MAPS`. None: they are the same.
        least: Smallest share of the module's numbers that must come from the file.

    Returns:
        The report; nothing that was left out is left unsaid.

    Raises:
        ArtefactError: The file cannot be read, or less than ``least`` of the module fits it.
    """
    source = Path(path)
    return fit_weights(module, (names or same)(read_weights(source), module), source, least=least)


def fit_weights(
    module: nn.Module, given: Mapping[str, Tensor], source: Path, *, least: float
) -> LoadReport:
    """Load what fits of tensors by the module's names, as `load_weights` does with a file's."""
    own = module.state_dict()
    taken, resized, mismatched = {}, [], {}
    for name, target in own.items():
        value = given.get(name)
        if value is None:
            continue
        if value.shape != target.shape:
            value, old = _resized(name, value, module), value
            if value.shape == target.shape:
                resized.append(name)
            else:
                value = old
        if value.shape == target.shape:
            taken[name] = value
        else:
            mismatched[name] = (tuple(value.shape), tuple(target.shape))
    numbers = sum(tensor.numel() for tensor in own.values())
    report = LoadReport(
        loaded=tuple(taken),
        missing=tuple(name for name in own if name not in given),
        unexpected=tuple(name for name in given if name not in own),
        mismatched=mismatched,
        resized=tuple(resized),
        share=sum(tensor.numel() for tensor in taken.values()) / max(1, numbers),
    )
    if report.share < least:
        raise ArtefactError(
            "the weights do not fit the encoder",
            where=source,
            got=str(report),
            expected=f"at least {least:.0%} of its numbers",
            fix="choose the name map that fits the file, and the encoder's sizes that fit it",
        )
    module.load_state_dict({**own, **taken})
    return report


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, by name, onto the CPU.

    Raises:
        ArtefactError: There is no such file, it is damaged, or it holds more than plain values.
    """
    tensors = _unwrap(read_content(path))
    if not tensors:
        raise ArtefactError(
            "holds no named tensors",
            where=path,
            expected=f"tensors by name, or such a table under {', '.join(WRAPPERS)}",
        )
    return tensors


def read_content(path: Path, objects: str | None = None) -> Any:
    """Read what a file of weights holds, tensors on the CPU, whatever they stand under.

    Args:
        path: The file.
        objects: What to do about one that holds Python objects, for the message.

    Raises:
        ArtefactError: As `read_weights`.
    """
    require_file(path, ArtefactError)
    _refuse_stand_in(path)
    try:
        return _read(path)
    except Exception as error:  # the readers raise many kinds for damaged files
        said = str(error)
        strange = _named_in(path)
        if isinstance(error, pickle.UnpicklingError):
            found = re.search(r"GLOBAL (\S+)", said)
            strange = found[1] if found else strange
        if not strange:
            raise ArtefactError(
                "is no weights file that can be read",
                where=path,
                got=said.splitlines()[0].partition(". ")[0][:160] if said else type(error).__name__,
                fix=_COPY_AGAIN,
            ) from None
        raise ArtefactError(
            "holds Python objects, which may run code when they are read",
            where=path,
            got=strange,
            fix=objects or "let somebody who trusts it save its tensors alone, as .safetensors",
        ) from None


def _named_in(path: Path) -> str:
    """What a whole pickle names first of Python; empty where it is none. Nothing of it is run."""
    words: list[str] = []
    with suppress(Exception), path.open("rb") as file:  # of a file that is none there are many
        for code, value, _ in pickletools.genops(file):
            if code.name in ("GLOBAL", "INST"):
                return str(value).replace(" ", ".")
            if code.name == "STACK_GLOBAL":
                return ".".join(words[-2:])
            if isinstance(value, str):
                words.append(value)
    return ""


_COPY_AGAIN = "copy it again from its source: it may have been cut off"
_STAND_INS = {
    b"": ("is empty", _COPY_AGAIN),
    b"version https://git-lfs": ("is a pointer of Git LFS, not the weights", "git lfs pull"),
    b"<!doctype html": ("is a web page, not the weights", "download the file itself"),
    b"<html": ("is a web page, not the weights", "download the file itself"),
}
"""What downloads leave in place of a file, by how it begins."""


def _refuse_stand_in(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(24).lower()
    for begins, (what, fix) in _STAND_INS.items():
        if head.startswith(begins) and (begins or not head):
            raise ArtefactError(what, where=path, fix=fix)
    if all(32 <= one < 127 or one in b"\t\r\n" for one in head):
        raise ArtefactError(
            "is a text, not a file of weights",
            where=path,
            got=head.decode().partition("\n")[0],
            expected="a file of .safetensors, or of torch.save: .pth, .pt, .ckpt, .bin",
        )


def _refuse_packed(path: Path) -> None:
    """Refuse an archive whose members are larger than itself: torch packs none."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        held = sum(one.file_size for one in archive.infolist())
    if held > path.stat().st_size:
        raise ArtefactError(
            "is no file of torch: what it holds is packed",
            where=path,
            got=f"{size(held)} in {size(path.stat().st_size)}",
            fix="copy it again from its source",
        )


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path, device="cpu")
    _refuse_packed(path)
    # The authors' own checkpoints keep their command line beside the weights: plain values.
    with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
        warnings.simplefilter("ignore")  # other protocols of pickle: whoever reads says what fails
        return torch.load(path, map_location="cpu", weights_only=True)


def _unwrap(content: Any) -> dict[str, Tensor]:
    for _ in range(3):
        if not isinstance(content, Mapping):
            return {}
        inner = next(
            (content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None
        )
        if inner is None:
            break
        content = inner
    return {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }


def _resized(name: str, value: Tensor, module: nn.Module) -> Tensor:
    """Bring positions to the module's grid; whatever else has another shape stays as it is."""
    if isinstance(module, ResizesWeights):
        return module.resized(name, value)
    if name == "positions" and isinstance(module, Encoder):
        return resize_positions(value, module.grid)
    return value


def resize_positions(positions: Tensor, grid: tuple[int, ...] | None) -> Tensor:
    """Bring positions (T, E) to ``grid``; as they are if it cannot.

    Of leads and time they are interpolated along time; of tokens in a row, which are counted from
    the first, the last are left out.

    Source:
        Bicubic as in Touvron et al. 2021 (DeiT) and Turgut et al. 2025 (code). Differs: none.
    """
    if grid is not None and len(grid) == 1:
        return positions[: grid[0]]
    if grid is None or len(grid) != 2 or positions.ndim != 2 or len(positions) % grid[0]:
        return positions
    width = positions.shape[1]
    image = positions.float().reshape(1, grid[0], -1, width).permute(0, 3, 1, 2)
    image = functional.interpolate(image, size=grid, mode="bicubic", align_corners=False)
    return image.permute(0, 2, 3, 1).reshape(-1, width).to(positions.dtype)


NAME_MAPS: dict[str, Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]] = {
    "same": same,
    "run": run_names,
    "upcycled": upcycled,
    "timm": timm_names,
    "open_clip": open_clip,
    "authors_ecg": authors_ecg,
    "authors_image": authors_image,
}


PROJECTIONS = {"open_clip": open_clip_projection}
"""Name maps whose files hold projections, and what takes one out."""
WHOLE = frozenset(PROJECTIONS)
"""Name maps that must fill the whole encoder: half of a tower that others trained means nothing."""


def load_tower(tower: Tower, path: str | Path, names: str, *, head: bool = False) -> LoadReport:
    """Load a tower from a file, and say what did not fit.

    Args:
        tower: Its encoder takes what the file has; a ``open_clip`` file must fill all of it.
        path: Local file, as `medmcl.encoders.weights.load_weights` reads it.
        names: Name in `NAME_MAPS`.
        head: Whether the projection comes from the file as well.

    Returns:
        What became of the file; ``share`` is of the encoder.

    Raises:
        ConfigError: There is no such name map, it knows no projections, or the tower has no head
            of that form.
        ArtefactError: The file cannot be read, does not fit, or has no projection.
    """
    source = Path(path)
    mapped = lookup("name map", names, NAME_MAPS)
    if head:
        require_projections(names)
    state = read_weights(source)
    if head:
        _load_head(tower, PROJECTIONS[names](state, tower.encoder), source)
    least = 1.0 if names in WHOLE else 0.5
    return fit_weights(tower.encoder, mapped(state, tower.encoder), source, least=least)


def require_projections(names: str, where: object = None) -> None:
    """Refuse a name map whose files hold no projection that a head could take."""
    fix = "leave out head: true; the head then starts from the seed"
    what = f"the name map '{names}' knows no projections"
    refuse_absent(names, PROJECTIONS, what, where=where, fix=fix)


def _load_head(tower: Tower, found: dict[str, Tensor], source: Path) -> None:
    if not found:
        raise ArtefactError(
            "holds no projection of this tower", where=source, fix="leave out head: true"
        )
    matrices = [found[name] for name in sorted(found) if name.endswith(".weight")]
    if not matrices or any(matrix.ndim != 2 for matrix in matrices):
        raise ArtefactError(
            "the projection is no matrix",
            where=source,
            got=", ".join(f"{name} {tuple(value.shape)}" for name, value in found.items()),
        )
    own = {} if tower.head is None else tower.head.state_dict()
    has = {name: tuple(value.shape) for name, value in own.items()}
    bias = any(name.endswith(".bias") for name in found)
    # Of its two kinds of two layers, open_clip puts GELU into the one without biases.
    activation = "relu" if bias else "gelu"
    fits = has == {name: tuple(value.shape) for name, value in found.items()}
    if len(matrices) > 1:
        fits = fits and tower.head is not None and tower.head.activation == activation
    if not fits:
        form = f"layers: {len(matrices)}, bias: {str(bias).lower()}, out: {len(matrices[-1])}"
        if len(matrices) > 1:
            form += f", hidden: {len(matrices[0])}, activation: {activation}"
        raise ConfigError(
            "the tower's head is not the projection of the file",
            where=source,
            got=", ".join(f"{name} {shape}" for name, shape in has.items()) or "no head",
            expected=f"a map from {matrices[0].shape[1]} features: head: {{{form}}}",
        )
    tower.head.load_state_dict(found)  # type: ignore[union-attr]  # its names are not empty
