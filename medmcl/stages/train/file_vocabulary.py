"""Whether the word table in a weights file numbers words as the cohort's vocabulary does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from torch import nn

from medmcl.core.contracts import Adapter, SharesVocabulary
from medmcl.core.errors import ConfigError
from medmcl.encoders.weights import LoadReport
from medmcl.modalities.text.adapter import FILE
from medmcl.stages.run.store import Store

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
