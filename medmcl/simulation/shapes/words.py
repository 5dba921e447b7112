"""Words of the captioned shapes: what each value of an attribute is called.

No word stands for two values, and none of the fillers names a value, so a caption can be read back.
"""

from __future__ import annotations

from pathlib import Path

from medmcl.core.config import read_yaml

_WORDS = read_yaml(Path(__file__).with_name("words.yaml"))
SHAPES: dict[str, list[tuple[str, str]]] = _WORDS["shapes"]
"""Shape to its names, singular and plural."""
COLOURS: dict[str, list[str]] = _WORDS["colours"]
TEXTURES: dict[str, list[str]] = _WORDS["textures"]
COUNTS: dict[str, list[str]] = _WORDS["counts"]
POSITIONS: dict[str, list[str]] = _WORDS["positions"]
FILLERS: tuple[str, ...] = tuple(_WORDS["fillers"])
