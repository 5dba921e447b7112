"""Encoders of a run as files that open without medmcl: no ids, no paths, no rows."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import medmcl
from medmcl.core.atomic import file_aside, folder_aside, is_content
from medmcl.core.batch import InputShape
from medmcl.core.config import lookup, read_yaml
from medmcl.core.contracts import traits
from medmcl.core.errors import ArtefactError
from medmcl.core.file_lock import claimed
from medmcl.core.lazy import import_extra
from medmcl.core.limits import parse_json
from medmcl.core.rng import numpy_generator
from medmcl.core.sealed import plain
from medmcl.core.suppression import placeless
from medmcl.modalities import ADAPTERS
from medmcl.stages.recipe.model_settings import tower_settings
from medmcl.stages.run.outputs import claim_names
from medmcl.stages.run.run import Run, load, vector_width
from medmcl.stages.run.store import STATE

if TYPE_CHECKING:
    from medmcl.encoders.towers import Towers

log = logging.getLogger("medmcl")
CONFIG = "config.json"
CARD = "README.md"
TOLERANCE = 1e-4
"""How far a vector may lie from the run's own, as a share of the largest number of it."""
SHOWN = 30
"""Names of an axis that the card lists."""
TEXTS = read_yaml(Path(__file__).with_name("export_card.yaml"))
"""The card, and how what is exported is called."""
SIZES = (3, 7)
"""Rows of the batches that an exported network is compared on."""
_TOKENISERS = ("clip", "model")
"""Keys of what a text modality learned that say where its tokeniser lay."""
_FILES = re.compile(rf"{re.escape(CONFIG)}|{CARD}|model\.safetensors|.+\.(pt2|onnx)")


def export(
    run: Run | Path | str,
    out: Path | str,
    *,
    format: str = "torch",
    modality: str | None = None,
    stage: str | None = None,
    space: str = "features",
    overwrite: bool = False,
) -> Path:
    """Write the encoders of a run into a folder to share.

    Each written network is opened again and held to the run's own vectors, on two sizes of batch.

    Args:
        run: A run with a finished stage that makes towers.
        out: Folder to write.
        format: ``torch``, programs of ``torch.export``; ``onnx``; ``hf``, such programs with
            ``model.safetensors``, laid out for the Hugging Face Hub. Nothing is sent anywhere.
        modality: The modality; all that the stage has if not given.
        stage: The stage; the last one trained without labels if not given.
        space: ``features`` (before the projection head) or ``pooled`` (unit norm).
        overwrite: Whether an earlier export may be replaced.

    Returns:
        The folder.

    Raises:
        ArtefactError: The folder holds something else; an encoder cannot be written as a program of
            its own (its way depends on the numbers that it reads, as with experts), or the program
            gives other vectors.
        ConfigError: No such modality, stage, space or format.
    """
    out = Path(out)
    with claimed(out, "an export is being written"):
        _refuse_foreign(out, overwrite=overwrite)
        return _written(load(run), out, format, modality, stage, space)


def _written(
    run: Run, out: Path, format: str, modality: str | None, stage: str | None, space: str
) -> Path:
    """Write what `export` does into a folder that is claimed."""
    write = lookup(
        "--format", format, {"torch": _write_torch, "onnx": _write_onnx, "hf": _write_torch}
    )
    lookup("--space", space, ("features", "pooled"))
    if modality is not None:
        lookup("modality", modality, run.recipe.inputs, where=run.path)
    stage = run.stage_with(modality or next(iter(run.recipe.inputs)), stage)
    if run.recipe.shared is not None:
        raise ArtefactError(
            "a tower that modalities share is no program of its own", where=f"{run.path}, {stage}",
            fix="give the run itself: `medmcl embed` reads it",
        )  # fmt: skip
    towers = run.towers(stage, torch.device("cpu"))
    names = [modality] if modality is not None else list(towers.towers)
    parts = {name: _of_modality(run, towers, name, stage, space) for name in names}
    about = {"medmcl": medmcl.__version__, "format": format, **run.made_by(stage), "parts": parts}
    for tower, said in about["published"].items():
        log.warning(
            "%s began with weights of others, whose terms hold: %s", tower, json.dumps(said)
        )
    for name in names:
        if said := _told_of_people(name, parts[name]):
            log.warning(said)
    with folder_aside(out, replace=True) as aside:
        for name in names:
            network = towers.alone(name, space).eval()
            parts[name]["file"] = write(network, run.shapes[name], aside / name)
        if format == "hf":
            kept = {f"{name}.{key}": value for name in names
                    for key, value in towers.tower(name).state_dict().items()}  # fmt: skip
            with file_aside(aside / "model.safetensors") as file:
                save_file({key: one.contiguous() for key, one in kept.items()}, file)
        shared = placeless(plain(about), STATE)
        (aside / CONFIG).write_text(json.dumps(shared, indent=1), encoding="utf-8")
        (aside / CARD).write_text(_card(shared), encoding="utf-8")
    return out


def _refuse_foreign(out: Path, *, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    strange = sorted(one.name for one in out.iterdir() if is_content(one)
                     and not _FILES.fullmatch(one.name)) if out.is_dir() else []  # fmt: skip
    if strange or not _is_export(out):
        raise ArtefactError("is there already, and is no export", where=out, fix="another --out",
                            got=", ".join(strange[:3]) or None)  # fmt: skip
    claim_names(out, [CONFIG], "an export", overwrite=overwrite)


def _is_export(out: Path) -> bool:
    """Whether a folder says that medmcl exported it, as the model of somebody else does not."""
    with suppress(OSError, ValueError):
        return {"medmcl", "parts"} <= {*parse_json((out / CONFIG).read_bytes())}
    return False


def _of_modality(run: Run, towers: Towers, name: str, stage: str, space: str) -> dict[str, Any]:
    """All that somebody must know to feed the network of a modality, as JSON."""
    entry, shape = run.preprocessing[name], run.shapes[name]
    tower = tower_settings(run.recipe, run.stage(stage), name)
    return {
        "kind": entry["kind"],
        "input": {**asdict(shape), "dtype": str(_draw(shape, 1).dtype).removeprefix("torch.")},
        "output": {"space": space, "width": vector_width(towers, name, space)},
        "preparation": {
            "settings": _last_names(entry["settings"]),
            STATE: _nowhere(entry["state"]),
        },
        "tower": _last_names(tower.model_dump(mode="json", exclude_defaults=True)),
        "free_text": traits(ADAPTERS[entry["kind"]]).free_text,
        "package": ADAPTERS.package(entry["kind"]),  # whose code prepares its records
    }


def _nowhere(state: Mapping[str, Any]) -> dict[str, Any]:
    """What was learned, with the last name of where a tokeniser came from."""
    return {key: PurePath(one).name if key in _TOKENISERS else one for key, one in state.items()}


def _last_names(one: Any) -> Any:
    """Settings with the last name of each path, also of a machine that the run was copied from."""
    if isinstance(one, Mapping):
        return {key: _last_names(value) for key, value in one.items()}
    if isinstance(one, list | tuple):
        return [_last_names(value) for value in one]
    is_path = isinstance(one, PurePath) or (isinstance(one, str) and one.startswith(("/", "~/")))
    return f"\u2026/{PurePath(one).name}" if is_path and PurePath(one).name else one


def _told_of_people(name: str, part: Mapping[str, Any]) -> str:
    """Say that what was learned of a kind tells how many have what few have, where it does."""
    kind = part["kind"]
    counts = (kind in ADAPTERS.outside or not ADAPTERS[kind].measured) and not part["free_text"]
    return TEXTS["exact"].format(name=name, config=CONFIG) if counts else ""


def _draw(shape: InputShape, rows: int) -> Tensor:
    """Noise, or tokens, such as an encoder reads."""
    rng = numpy_generator(rows, "export")
    if shape.vocabulary:
        return torch.from_numpy(rng.integers(1, shape.vocabulary, (rows, *shape.shape)))
    return torch.from_numpy(rng.normal(size=(rows, *shape.shape)).astype(np.float32))


def _write_torch(network: nn.Module, shape: InputShape, path: Path) -> str:
    file = path.with_name(f"{path.name}.pt2")
    program = _program(network, shape, file)
    _forget(program, "nn_module_stack", "from_node")  # they hold addresses in memory
    whole = io.BytesIO()
    torch.export.save(program, whole)  # on a full disk its own writer aborts the process
    file.write_bytes(whole.getbuffer())
    opened = torch.export.load(file).module()
    _refuse_other_vectors(network, shape, lambda x: opened(x).numpy(), file)
    return file.name


def _write_onnx(network: nn.Module, shape: InputShape, path: Path) -> str:
    import_extra("onnx", "onnx")  # what torch writes with
    import_extra("onnxscript", "onnx")  # as well
    onnxruntime = import_extra("onnxruntime", "onnx")
    file = path.with_name(f"{path.name}.onnx")
    torch.onnx.export(
        _program(network, shape, file), (), file, input_names=["x"], output_names=["vectors"],
        external_data=False, verbose=False,
    )  # fmt: skip
    opened = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    _refuse_other_vectors(network, shape, lambda x: opened.run(None, {"x": x.numpy()})[0], file)
    return file.name


def _program(network: nn.Module, shape: InputShape, file: Path) -> torch.export.ExportedProgram:
    """One program for batches of any size.

    Raises:
        ArtefactError: What the network does depends on the numbers that it reads.
    """
    any_size = ({0: torch.export.Dim.DYNAMIC},)
    try:
        with torch.no_grad():
            program = torch.export.export(
                network, (_draw(shape, SIZES[0]),), dynamic_shapes=any_size, strict=True
            )
    except Exception as error:  # whatever torch.export meets
        raise ArtefactError(
            f"'{file.stem}' is not one program for every batch: {str(error).splitlines()[0]}",
            where=file.name,
            fix="give the run itself, which `medmcl embed` reads, or --modality for another tower",
        ) from error
    _forget(program, "stack_trace")  # it names folders of this machine
    return program


def _forget(program: torch.export.ExportedProgram, *keys: str) -> None:
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            for key in keys:
                node.meta.pop(key, None)


def _refuse_other_vectors(
    network: nn.Module, shape: InputShape, opened: Callable[[Tensor], np.ndarray], file: Path
) -> None:
    for rows in SIZES:
        x = _draw(shape, rows)
        with torch.no_grad():
            own = network(x).numpy()
            if not np.isfinite(own).all():  # a channel of it may be a flag: 0 or 1
                x = (x > 0).to(x.dtype)
                own = network(x).numpy()
            found = opened(x)
        if not np.isfinite(own).all():
            raise ArtefactError(
                "the encoder gives no finite vectors of made-up rows: what was written cannot be "
                "compared with it",
                where=file.name, expected="finite ones of noise, or of zeros and ones",
                fix="let the encoder bound what it reads, or give the run itself",
            )  # fmt: skip
        apart = float(np.abs(found - own).max() / max(1e-12, np.abs(own).max()))
        if found.shape != own.shape or not apart <= TOLERANCE:
            raise ArtefactError(
                "what was written gives other vectors than the run",
                where=file.name, got=f"{apart:.2g} of the largest number apart, of {rows} rows",
                expected=f"at most {TOLERANCE:g}", fix="another --format",
            )  # fmt: skip


def _card(about: Mapping[str, Any]) -> str:
    """What stands in the README.md of an export."""
    parts = about["parts"]
    lines = [_of_part(name, part) for name, part in parts.items()]
    lines += [
        f"- {tower} began with published weights, whose terms hold: {json.dumps(said)}."
        for tower, said in about["published"].items()
    ]
    call = TEXTS["calls"]["onnx" if about["format"] == "onnx" else "torch"]
    file = next(iter(parts.values()))["file"]
    said = {"parts": "\n".join(lines), "call": call.format(file=file), "config": CONFIG}
    return str(TEXTS["card"]).format(**{**about, **said})


def _of_part(name: str, part: Mapping[str, Any]) -> str:
    given, shape = part["input"], ", ".join(map(str, part["input"]["shape"]))
    names = ", ".join(given["names"][:SHOWN]) + ", …" * (len(given["names"]) > SHOWN)
    line = (
        f"- **{name}** ({part['kind']}), `{part['file']}`: input (B, {shape}) {given['dtype']}"
        + f", along its first axis {names}" * bool(names)
        + f"; output (B, {part['output']['width']}) float32, {part['output']['space']}."
    )
    if said := _told_of_people(name, part):
        line += f" {said}"
    if part["free_text"]:
        line += (
            f" Its words were learned from texts of a cohort, and a rare one may be a name: look "
            f"through `{CONFIG}` before you share it."
        )
    return line
