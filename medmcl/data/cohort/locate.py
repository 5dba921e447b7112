"""Where a cohort lies, and where its data lie."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medmcl.core.atomic import put_back
from medmcl.core.config import nearest, read_yaml
from medmcl.core.errors import CohortError
from medmcl.core.path_suggestions import shipped

PACKAGED = shipped("cohorts")
TEMPLATE = "my_cohort"
"""The shipped folder that is there to be copied."""


def is_template(file: Path) -> bool:
    """Whether a cohort.yaml is the shipped template itself."""
    template = PACKAGED / TEMPLATE / "cohort.yaml"
    return template.is_file() and file.samefile(template)


def list_cohorts() -> dict[str, Path]:
    """Name every cohort under ``cohorts/`` here and beside the package, with its cohort.yaml."""
    found: dict[str, Path] = {}
    for folder in (Path.cwd() / "cohorts", PACKAGED):
        for file in sorted(folder.glob("*/cohort.yaml")):
            found.setdefault(file.parent.name, file)
    return found


def find_cohort(path: str | Path) -> Path:
    """Give the cohort.yaml that a path or a name means.

    Raises:
        CohortError: There is none; the error lists the names that are known.
    """
    given = Path(path).expanduser()
    put_back(given.parent if given.suffix in (".yaml", ".yml") else given)
    if given.is_file() and given.suffix not in (".yaml", ".yml"):
        raise CohortError(
            "is not a cohort.yaml", where=given, fix="give the folder that holds cohort.yaml"
        )
    if given.is_file():
        return given.absolute()
    if (given / "cohort.yaml").is_file():
        return (given / "cohort.yaml").absolute()
    known = list_cohorts()
    if str(path) in known:
        return known[str(path)]
    if given.is_dir():
        raise CohortError(
            "the folder holds no cohort.yaml",
            where=given,
            fix="copy cohorts/my_cohort/cohort.yaml there and fill it in",
        )
    raise CohortError(
        f"there is no cohort '{path}'{nearest(str(path), known)}",
        fix="give a folder with cohort.yaml, a yaml file, or one of the names (`medmcl cohorts`)",
    )


def choose_root(asked: str | Path | None, written: str | None, name: str, file: Path) -> Path:
    """Give the folder that paths start from.

    In this order: what the user asked for, ``data_root:`` of the file (relative to it),
    ``$MEDMCL_DATA/<name>`` if that is a folder, the folder of the file.
    """
    if asked is not None:
        root = Path(asked).expanduser().absolute()
    elif written is not None:
        root = (file.parent / Path(written).expanduser()).absolute()
    else:
        shared = os.environ.get("MEDMCL_DATA")
        root = Path(shared).expanduser().absolute() / name if shared else file.parent
        return root if root.is_dir() else file.parent
    if not root.is_dir():
        raise CohortError(
            "the data root is not a folder",
            where=file if asked is None else f"--set data_root={asked}",
            got=root,
            fix="give the folder that holds the data",
        )
    return root


def how_to_get(access: str | None, file: Path) -> str | None:
    """Say how to get the data of a cohort: its ``access:``, or the README beside cohort.yaml."""
    readme = file.parent / "README.md"
    if access is not None or not readme.is_file():
        return access
    return f"{readme} says how to get the data and lay them out"


def tables_of(cohort: str | Path, overrides: Mapping[str, Any]) -> Iterator[Path]:
    """Give cohort.yaml and every table that it names, as far as they are there, unread.

    Args:
        cohort: Folder, cohort.yaml or name.
        overrides: Dotted key to value; ``data_root`` is looked at.
    """
    file = find_cohort(cohort)
    yield file
    tree = read_yaml(file)
    name = file.parent.name if file.name == "cohort.yaml" else file.stem
    root = choose_root(overrides.get("data_root"), tree.get("data_root"), name, file)
    for pattern in sorted({one for one in tables_named(tree) if not Path(one).is_absolute()}):
        for folder in {root, file.parent}:
            yield from sorted(folder.glob(pattern))


def tables_named(tree: Any) -> Iterator[str]:
    """Give every table that a cohort.yaml names, as often as it does."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key == "table" and isinstance(value, str):
                yield value
            yield from tables_named(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from tables_named(value)
