"""Vectors as they are given: files and tables by the name that results call them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

from medmcl.core.atomic import working_folder
from medmcl.core.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def vectors_by_name(given: Any) -> Iterator[dict[str, Path]]:
    """Give files of vectors by name; tables in memory are written for the length of the block.

    Args:
        given: Name to file or DataFrame; a DataFrame (``embeddings``); a file (called by its stem),
            ``NAME=FILE``, or several of these.

    Raises:
        ConfigError: Two are called alike, a name is empty, or a table cannot be written.
    """
    named = named_vectors(given)
    with working_folder(Path(gettempdir()) / "medmcl-vectors") as folder:
        found = {}
        for number, (name, one) in enumerate(named.items()):
            if not name.strip():
                raise ConfigError("a name is empty", where="--embeddings", got=str(one))
            if not _is_table(one) and not isinstance(one, str | Path):
                raise ConfigError(
                    "is neither a table nor a file",
                    where=f"embeddings {name}",
                    got=type(one).__name__,
                    expected="a DataFrame indexed by subject, or the path of a file",
                    fix="pd.DataFrame(vectors, index=pd.Index(ids, name='subject'))",
                )
            found[name] = folder / f"{number}.parquet" if _is_table(one) else Path(one)
            if _is_table(one):
                _write(one, found[name], name)
        yield {name: path.absolute() for name, path in found.items()}


def named_vectors(given: Any) -> dict[str, Any]:
    """Give files and tables of vectors by name; see `vectors_by_name`."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(name): one for name, one in given.items()}
    if _is_table(given) or hasattr(given, "ndim"):
        return {"embeddings": given}
    found: dict[str, Any] = {}
    for one in [given] if isinstance(given, str | Path) else given:
        text = str(one)
        name, sign, path = text.partition("=")
        if not sign or Path(text).is_file():
            name, path = Path(text).name.removesuffix(".gz").rpartition(".")[0], text
        if name in found:
            raise ConfigError(
                "two files of vectors have one name",
                where="--embeddings",
                got=f"{found[name]} and {path}",
                expected="files of different names: results go by them",
                fix="name them: --embeddings NAME=FILE",
            )
        found[name] = Path(path)
    return found


def _is_table(source: Any) -> bool:
    return hasattr(source, "columns") and hasattr(source, "iloc")


def _write(table: pd.DataFrame, path: Path, name: str) -> None:
    """Write a table of vectors with the ids of its index, names as text."""
    try:
        table.set_axis([str(one) for one in table.columns], axis=1).to_parquet(path)
    except Exception as error:  # pyarrow raises many kinds
        raise ConfigError(
            f"the table cannot be written as parquet: {error}", where=f"embeddings {name}"
        ) from None
