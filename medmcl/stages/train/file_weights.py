"""Weights of local files in the towers of a stage: whether pixels and word numbers suit them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from medmcl.core.config import lookup
from medmcl.core.contracts import Adapter, KnowsInputs, Normalises, SharesVocabulary
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.limits import parse_json, whole_bytes
from medmcl.core.sealed import reading
from medmcl.encoders.encoded import ReadsPixels, StartsFromFile
from medmcl.encoders.shared.settings import TRUNK
from medmcl.encoders.shared.tower import SharedTower
from medmcl.encoders.towers import Towers
from medmcl.encoders.weights import (
    NAME_MAPS,
    LoadReport,
    load_tower,
    load_weights,
    require_projections,
)
from medmcl.modalities.text.adapter import FILE
from medmcl.stages.recipe.model_checks import OTHERWISE, differing
from medmcl.stages.run.store import Store
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
    fix = "copy it again from its source, or take it away"
    with reading(path, "is no configuration of an open_clip model", fix=fix):
        said = parse_json(whole_bytes(path, "table", ArtefactError)).get("preprocess_cfg", {})
        if not {"mean", "std"} <= set(said):
            return None
        return tuple(map(float, said["mean"])), tuple(map(float, said["std"]))


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


OF_RUNS = ("same", "run", "upcycled")
"""Name maps of files that a run wrote; others are of models with a tokeniser of their own."""
TOKENS = ("words", "codes", "merges")
"""What holds the tokens, in their order, in the state of an adapter."""
SOURCES = ("model", "clip")
"""Where a tokeniser was read from; not what it does."""


@dataclass(frozen=True, kw_only=True)
class FileTokens:
    """A tower that a file filled, where its modality has a vocabulary.

    Attributes:
        name: The modality.
        adapter: Its adapter, fitted.
        tower: The tower, or its encoder.
        prefix: What stands before the tower's parameters in the report.
        path: The weights file.
        where: Place in the recipe, for messages.
        same_name: Whether only the run's modality of that name can be meant; otherwise also the
            only one of that kind.
    """

    name: str
    adapter: Adapter
    tower: nn.Module
    prefix: str
    path: Path
    where: str
    same_name: bool

    def compare(self, report: LoadReport) -> list[str]:
        """Give what is to be said of the table of words, nothing if its tokens are the same.

        Raises:
            ConfigError: A number stands for another token than it did in the file's run.
            ArtefactError: The run's record of its preprocessing cannot be read.
        """
        size = self.adapter.input_shape.vocabulary
        tables = {
            f"{self.prefix}{key}"
            for key, value in self.tower.named_parameters()
            if value.ndim == 2 and len(value) == size > 0
        }
        if tables & set(report.loaded):
            return check_vocabulary(
                self.name, self.adapter, self.path, self.where, same_name=self.same_name
            )
        return [
            f"warning: {self.where}: the table of '{self.name}' starts from the seed: "
            f"{report.mismatched[table][0][0]:,} tokens in the file, {size:,} here"
            + (
                f"; inputs.{self.name}.vocabulary_of takes those of a run"
                if isinstance(self.adapter.settings, SharesVocabulary)
                else ""
            )
            for table in sorted(tables & set(report.mismatched))
        ]


def check_vocabulary(
    name: str, adapter: Adapter, path: Path, where: str, *, same_name: bool
) -> list[str]:
    """Compare a modality's tokens with those of the run that a weights file lies in.

    Args:
        name: The modality.
        adapter: Its adapter, fitted.
        path: The weights file.
        where: Place in the recipe, for messages.
        same_name: Whether only the run's modality of that name can be meant; otherwise also the
            only one of that kind.

    Returns:
        A warning if the file lies in no run, or in one without such a modality.

    Raises:
        ConfigError: A number stands for another token than it did in that run.
        ArtefactError: The run's record of its preprocessing cannot be read.
    """
    run = next((one for one in path.resolve().parents if (one / FILE).is_file()), None)
    if run is None:
        return [
            f"warning: {where}: {path} lies in no run (no {FILE} above it), so nobody knows "
            f"whether its numbers of tokens mean what those of '{name}' mean here"
        ]
    entries = Store(run).tree(FILE.removesuffix(".json"))
    theirs = _state(entries, name, adapter.kind, same_name=same_name)
    if theirs is None:
        return [
            f"warning: {where}: the run {run} has no such modality of {adapter.kind}, so nobody "
            f"knows whether the file's numbers of tokens mean what those of '{name}' mean here"
        ]
    ours = json.loads(json.dumps(adapter.state()))
    if _essence(ours) == _essence(theirs):
        return []
    raise ConfigError(
        f"the weights of '{name}' were learned with another vocabulary: its token numbers stand "
        "for other tokens here",
        where=where,
        got=_difference(ours, theirs),
        expected=f"the tokens of {run}",
        fix=f"inputs.{name}.vocabulary_of: {run}"
        if isinstance(adapter.settings, SharesVocabulary)
        else f"leave '{name}' out of weights: its vocabulary is learned from this cohort",
    )


def _state(
    entries: Mapping[str, Any], name: str, kind: str, *, same_name: bool
) -> Mapping[str, Any] | None:
    if name in entries and entries[name]["kind"] == kind:
        return dict(entries[name]["state"])
    alike = [one for one in entries.values() if one["kind"] == kind]
    return None if same_name or len(alike) != 1 else dict(alike[0]["state"])


def _essence(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in SOURCES}


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """How many tokens differ, and the first; or which settings."""
    key = next((one for one in TOKENS if one in ours and one in theirs), None)
    if key is None or ours.keys() != theirs.keys():
        return "another kind of tokeniser, so all tokens differ"
    pairs = list(zip_longest(ours[key], theirs[key]))
    other = [number for number, (here, there) in enumerate(pairs) if here != there]
    if not other:
        named = [one for one in ours if ours[one] != theirs[one] and one not in SOURCES]
        told = ", ".join(f"{one} {ours[one]} here, {theirs[one]} there" for one in named)
        return f"the same tokens, read with other settings: {told}"
    here, there = (("none" if one is None else repr(one)) for one in pairs[other[0]])
    return (
        f"{len(other):,} of {len(pairs):,} {'merges' if key == 'merges' else 'tokens'} differ; "
        f"the first is number {other[0]}: {here} here, {there} there"
    )
