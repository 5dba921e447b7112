"""Captions of figures and tables, which are data: ``captions.yaml`` beside the code that draws."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from medmcl.core.config import read_yaml

Text = str | list[str | dict[str, str]]


class Caption(TypedDict):
    """What a figure or a table is called, and how to read it."""

    title: str
    aid: str
    lead: NotRequired[str]


def caption(file: str, name: str, /, **values: Any) -> Caption:
    """Give a caption with its values written in.

    In the file each is ``NAME: {title, aid}``; of a figure with ``lead``, what a screen reader
    says first. A text is one sentence or more, with ``{value}`` where a value stands; or a list, in
    which ``VALUE: text`` stands only where that value is given, and is neither 0 nor empty.

    Args:
        file: The module that asks (``__file__``): captions stand in its folder.
        name: Which.
        values: By the names that its texts use.
    """
    texts = _read(Path(file).parent)[name]
    return cast(Caption, {part: _said(text, values) for part, text in texts.items()})


def _said(text: Text, values: Mapping[str, Any]) -> str:
    said: list[str] = []
    for one in [text] if isinstance(text, str) else text:
        needs = {} if isinstance(one, str) else one
        if all(values[value] for value in needs):
            said += [one] if isinstance(one, str) else one.values()
    return " ".join(sentence.format(**values) for sentence in said)


@cache
def _read(folder: Path) -> dict[str, dict[str, Text]]:
    return read_yaml(folder / "captions.yaml")
