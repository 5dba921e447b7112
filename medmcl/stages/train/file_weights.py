"""Weights of local files in the towers of a stage, and whether the pixels suit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.config import lookup
from medmcl.core.contracts import Adapter, KnowsInputs, Normalises
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.limits import parse_json
from medmcl.encoders.encoded import ReadsPixels, StartsFromFile
from medmcl.encoders.shared.settings import TRUNK
from medmcl.encoders.shared.tower import SharedTower
from medmcl.encoders.towers import Towers
from medmcl.encoders.weights import NAME_MAPS, load_tower, load_weights, require_projections
from medmcl.stages.recipe.model_checks import OTHERWISE, differing
from medmcl.stages.train.file_vocabulary import OF_RUNS, FileTokens
from medmcl.stages.train.spec import TrainSpec, WeightsSpec


def load_files(towers: Towers, spec: TrainSpec, adapters: Mapping[str, Adapter]) -> list[str]:
    """Load what encoders and a stage's ``weights`` name; give what is to be said of it.

    A tower that goes on from an earlier stage has its weights from there.

    Raises:
        ConfigError: No such tower or name map, another head than the file's, or a table of words
            that are numbered otherwise.
        ArtefactError: A file that cannot be read, or does not fit.
    """
    lines = []
    for name in spec.towers:
        if name not in spec.start_from and name not in spec.weights:
            encoder = towers.tower(name).encoder
            if getattr(encoder, "pretrained", False):
                lines += other_pixels(name, encoder, adapters[name])
            for one in towers.tower(name).modules():
                if isinstance(one, StartsFromFile):
                    try:
                        lines += [f"{spec.name}: {line}" for line in one.start_weights()]
                    except ArtefactError as error:
                        where = f"towers.{name}.encoder.weights, {error.where}"
                        raise error.again(ArtefactError, where=where) from None
                    lines += other_inputs(name, one, adapters[name])
    for name, source in spec.weights.items():
        if name == TRUNK and isinstance(towers, SharedTower):
            lines += _load_shared(towers, spec, source, adapters)
            continue
        tower = towers.tower(name)
        report = load_tower(tower, source.path, source.names, head=source.head)
        parts = "encoder and projection" if source.head else "encoder"
        lines.append(f"{spec.name}: {name} {parts} from {source.path}: {report}")
        wanted = pixels_of_file(source) if isinstance(tower.encoder, ReadsPixels) else None
        lines += other_pixels(name, tower.encoder, adapters[name], wanted)
        if source.names in OF_RUNS:
            lines += FileTokens(
                name=name, adapter=adapters[name], tower=tower.encoder, prefix="",
                path=source.path, where=f"stage {spec.name}, weights.{name}", same_name=False,
            ).compare(report)  # fmt: skip
    return lines


def other_inputs(name: str, encoder: StartsFromFile, adapter: Adapter) -> list[str]:
    """Warn where records are prepared otherwise than the weights of a file know them."""
    if not isinstance(encoder.settings, KnowsInputs):
        return []
    known = type(adapter.settings).model_validate(encoder.settings.inputs())
    said = differing(adapter.settings, known)
    return [f"warning: inputs.{name} {OTHERWISE}: {said}"] if said else []


def provenance(towers: Towers) -> dict[str, Any]:
    """Say whose weights the towers started from, by modality; those of a published model only."""
    return {
        name: dict(one.provenance)
        for name in towers.towers
        for one in towers.tower(name).modules()
        if isinstance(one, StartsFromFile) and one.provenance
    }


def other_weights(towers: Towers, spec: TrainSpec) -> dict[str, Any]:
    """Say which towers started from weights of no model card: whom these have seen is not known."""
    pretrained = [
        name for name in spec.towers
        if name not in spec.start_from and getattr(towers.tower(name).encoder, "pretrained", False)
    ]  # fmt: skip
    return {name: {} for name in (*pretrained, *spec.weights)}


def _load_shared(
    towers: SharedTower, spec: TrainSpec, source: WeightsSpec, adapters: Mapping[str, Adapter]
) -> list[str]:
    where = f"stage {spec.name}, weights.{TRUNK}"
    refuse_source(TRUNK, source, where)
    report = load_weights(towers, source.path, lookup("name map", source.names, NAME_MAPS))
    lines = [f"{spec.name}: the shared tower from {source.path}: {report}"]
    for name in spec.towers if source.names in OF_RUNS else ():
        lines += FileTokens(
            name=name, adapter=adapters[name], tower=towers.tower(name),
            prefix=f"towers.{name}.", path=source.path, where=where, same_name=True,
        ).compare(report)  # fmt: skip
    return lines


def refuse_source(name: str, source: WeightsSpec, where: str) -> None:
    """Refuse what can be told of weights from a file before it is read.

    Raises:
        ConfigError: There is no such name map, or a head is asked for where none can come from it.
    """
    lookup("name map", source.names, NAME_MAPS, where=where)
    if source.head and name == TRUNK:
        raise ConfigError(
            "heads come with the rest of a shared tower", where=where, fix="leave out head: true"
        )
    if source.head:
        require_projections(source.names, where)


Pixels = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of each channel, of values in 0 to 1."""


def pixels_of_file(source: WeightsSpec) -> Pixels | None:
    """Give the pixels of an open_clip model, if its configuration lies beside it; else None.

    Its image tower may be one of timm's that timm itself feeds with other pixels, as BiomedCLIP's.

    Raises:
        ArtefactError: The configuration cannot be read.
    """
    path = Path(source.path).parent / "open_clip_config.json"
    if source.names != "open_clip" or not path.is_file():
        return None
    try:
        said = parse_json(path.read_bytes()).get("preprocess_cfg", {})
        if not {"mean", "std"} <= set(said):
            return None
        return tuple(map(float, said["mean"])), tuple(map(float, said["std"]))
    except (ValueError, AttributeError, TypeError) as error:
        raise ArtefactError(
            "is no configuration of an open_clip model",
            where=path,
            got=f"{error}"[:200],
            fix="copy it again from its source, or take it away",
        ) from None


def other_pixels(
    name: str, encoder: object, adapter: Adapter, wanted: Pixels | None = None
) -> list[str]:
    """Warn where a model was trained on pixels that were normalised in another way."""
    if wanted is None and isinstance(encoder, ReadsPixels):
        wanted = encoder.trained_pixels()
    if wanted is None or not isinstance(adapter.settings, Normalises):
        return []
    given = adapter.settings.mean_and_std or ((0.0,) * 3, (1.0,) * 3)
    if np.allclose(wanted, given, atol=1e-3):
        return []
    return [
        f"warning: {name}: weights from a file, and pixels with mean {_some(given[0])} and "
        f"deviation {_some(given[1])} taken out; the model's are {_some(wanted[0])} and "
        f"{_some(wanted[1])} (inputs.{name}.normalise)"
    ]


def _some(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in values) + "]"
