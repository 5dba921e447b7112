"""The tokeniser of an earlier run, for one that goes on with its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medmcl.core.errors import ConfigError

FILE = "preprocessing.json"


def tokens_of_run(folder: Path, name: str | None = None) -> Mapping[str, Any]:
    """Give the fitted state of a text modality of a run.

    Args:
        folder: The run folder.
        name: The modality; None: the only one of texts.

    Raises:
        ConfigError: No such run, no text modality, several and no name, or not that name.
    """
    file = folder / FILE
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        states = {key: one["state"] for key, one in dict(entries).items() if one["kind"] == "text"}
    except OSError:
        raise ConfigError(
            f"is not the folder of a run (it has no {FILE})",
            where=f"vocabulary_of: {folder}",
            fix="give the folder that `medmcl pretrain --out` named",
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError("is damaged", where=file, got=error) from None
    if not states:
        raise ConfigError(
            "that run has no text modality",
            where=f"vocabulary_of: {folder}",
            got=", ".join(f"{key} ({one['kind']})" for key, one in entries.items()) or "none",
        )
    if name is None and len(states) > 1:
        raise ConfigError(
            "that run has several text modalities",
            where=f"vocabulary_of: {folder}",
            got=", ".join(states),
            fix="name one of them: vocabulary_name",
        )
    if name is not None and name not in states:
        raise ConfigError(
            f"that run has no text modality '{name}'",
            where=f"vocabulary_of: {folder}",
            expected=", ".join(states),
        )
    found = states[name] if name is not None else next(iter(states.values()))
    return dict(found)
