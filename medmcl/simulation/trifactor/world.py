"""What a world of factors hands over to be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class World:
    """A drawn world.

    Attributes:
        people: Columns of `draw_seats`, and those that tasks, captions and readers name.
        truth: Rows as in ``people``: what the cohort does not know.
        modalities: As in cohort.yaml.
        tasks: As in cohort.yaml.
        write: Writes the files of the modalities into a folder.
        about: Paragraphs of the README.
        files: File to what it holds, for the README.
        prompts: As in cohort.yaml.
        facts: What stands in truth.json beside the settings.
    """

    people: pd.DataFrame
    truth: pd.DataFrame
    modalities: Mapping[str, Any]
    tasks: Mapping[str, Any]
    write: Callable[[Path], None]
    about: tuple[str, ...]
    files: Mapping[str, str]
    prompts: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
