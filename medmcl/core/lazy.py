"""What is imported only when it is asked for: the public names of a package, and parts by name.

A part is something that a recipe or a cohort names: an encoder, an objective, an adapter. A map of
parts says where each is defined, so that whoever lists, checks or reads one loads no other.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any


def lazy(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Give ``__getattr__`` and ``__dir__`` of a package whose names are imported when asked for.

    The names are those that its source imports under ``if TYPE_CHECKING:``, so type checkers,
    editors and Python read one list. None may be called as a module of the package: once that is
    imported it would hide the name.

    Args:
        package: ``__name__`` of the package.
    """

    def get(name: str) -> Any:
        home = None if name.startswith("__") else _homes(package).get(name)
        if home is None:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, original = home
        if module == package:
            return importlib.import_module(f"{package}.{original}")
        return getattr(importlib.import_module(module), original)

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *_homes(package)})

    return get, listed


@cache
def _homes(package: str) -> dict[str, tuple[str, str]]:
    """Name to the module that it is imported from, and what it is called there."""
    tree = ast.parse(Path(str(sys.modules[package].__file__)).read_text(encoding="utf-8"))
    blocks = [one for one in tree.body if isinstance(one, ast.If)]
    lines = [line for one in blocks if _for_checkers(one) for line in one.body]
    return {
        alias.asname or alias.name: (str(line.module), alias.name)
        for line in lines
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }


def _for_checkers(block: ast.If) -> bool:
    return isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"


class Parts(MutableMapping[str, Any]):
    """Parts by name, each imported when it is looked up.

    Keys, their number and ``in`` import nothing; values and items import every part.

    Args:
        homes: Name to ``module:Name``; or to a pair of these, the second being its ``Settings``,
            where they stand apart from what is heavy to import.

    Attributes:
        settings: Name to the model of what can be set, without importing a part whose settings
            stand apart.
    """

    def __init__(self, homes: Mapping[str, str | tuple[str, str]]) -> None:
        self._homes: dict[str, Any] = dict(homes)
        self.settings: Mapping[str, Any] = _Settings(self._homes)

    def __getitem__(self, name: str) -> Any:
        home = self._homes[name]
        return _imported(home[0] if isinstance(home, tuple) else home)

    def __setitem__(self, name: str, part: Any) -> None:
        self._homes[name] = part

    def __delitem__(self, name: str) -> None:
        del self._homes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def __contains__(self, name: object) -> bool:
        return name in self._homes


class _Settings(Mapping[str, Any]):
    """The settings of parts by name."""

    def __init__(self, homes: Mapping[str, Any]) -> None:
        self._homes = homes

    def __getitem__(self, name: str) -> Any:
        home = self._homes[name]
        return _imported(home[1]) if isinstance(home, tuple) else _imported(home).Settings

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def __contains__(self, name: object) -> bool:
        return name in self._homes


def _imported(home: Any) -> Any:
    """Import what ``module:Name`` says; a part that was put in itself is given as it is."""
    if not isinstance(home, str):
        return home
    module, _, name = home.partition(":")
    return getattr(importlib.import_module(module), name)
