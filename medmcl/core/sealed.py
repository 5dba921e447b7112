"""Seals: what is read is what was written, or one message says which file is not.

A tree of plain values carries the hash of the rest of it under `SEAL`; of files that are no trees
a sealed tree beside them, or whatever names them, keeps `file_digest`. What carries no seal, as of
versions before there were any, is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medmcl.core.config import closest, fingerprint
from medmcl.core.errors import ArtefactError
from medmcl.core.limits import parse_json, refuse_odd_file, whole_bytes

SEAL = "seal"
"""Key of the hash of all other keys of a tree."""
OF = "of_run"
"""Key of what a file of a run says of whose it is (`refuse_foreign`)."""
_HASH = re.compile("[0-9a-f]{16}")
CHANGED = "is damaged: it is not what was written"


def plain(tree: Any) -> Any:
    """Give a tree as JSON keeps it: text keys, lists, what is no JSON as text."""
    return json.loads(json.dumps(tree, default=str))


def sealed(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Give a tree with its seal, at the end."""
    rest = {key: one for key, one in tree.items() if key != SEAL}
    return {**rest, SEAL: fingerprint(plain(rest))}


def unsealed(tree: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Give a tree without its seal.

    Raises:
        ArtefactError: It is not what was sealed; also where the name of the seal itself is damaged.
    """
    rest = dict(tree)
    seal = rest.pop(SEAL, None)
    is_other = seal not in (None, fingerprint(rest)) and seal != fingerprint(plain(rest))
    if is_other or _is_misnamed(tree):
        raise ArtefactError(CHANGED, where=where)
    return rest


def _is_misnamed(tree: Mapping[str, Any]) -> bool:
    """Whether the last key, which is not called so, is a seal."""
    *rest, last = tree.items() if tree else [("", None)]
    if last[0] == SEAL or not isinstance(last[1], str):
        return False
    is_like = not last[0].isidentifier() or closest(last[0], [SEAL]) is not None
    return (is_like and _HASH.fullmatch(last[1]) is not None) or last[1] == fingerprint(
        plain(dict(rest))
    )


def file_digest(path: Path) -> str:
    """Hash the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def refuse_changed(path: Path, digest: str | None) -> None:
    """Refuse a file that is not the one of this digest; without a digest any is taken.

    Raises:
        ArtefactError: It is missing, or another.
    """
    if not path.is_file():
        raise ArtefactError("there is no such file", where=path)
    if digest is not None and file_digest(path) != digest:
        raise ArtefactError(CHANGED, where=path)


def refuse_foreign(said: Mapping[str, Any], own: Mapping[str, Any], where: object) -> None:
    """Refuse what says that it is of another run, stage or step; keys of one side say nothing.

    Raises:
        ArtefactError: Names what differs.
    """
    own = plain(own)
    unlike = [key for key in own if key in said and said[key] != own[key]]
    if unlike:
        theirs, ours = (", ".join(f"{key} {one[key]}" for key in unlike) for one in (said, own))
        what = f"was put here from elsewhere: it is of {theirs}, not of {ours}"
        raise ArtefactError(what, where=where)


@contextmanager
def reading(file: Path, what: str = "is damaged", **more: Any) -> Iterator[None]:
    """Say of whatever goes wrong that a file is damaged: damaged files raise many kinds of errors.

    Args:
        file: The file.
        what: What is said of it then.
        more: What else (``expected``, ``fix``).

    Raises:
        ArtefactError: Names the file.
    """
    refuse_odd_file(file, ArtefactError)
    try:
        yield
    except ArtefactError:
        raise
    except FileNotFoundError:
        raise ArtefactError("there is no such file", where=file) from None
    except MemoryError as error:
        said = "cannot be read: it claims more memory than there is, or little is free"
        raise ArtefactError(f"{said}: {error}", where=file) from None
    except Exception as error:
        raise ArtefactError(f"{what}: {error}", where=file, **more) from None


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a tree that was written as JSON.

    Raises:
        ArtefactError: It is missing or damaged; names the file.
    """
    with reading(path):
        tree = parse_json(whole_bytes(path, "table", ArtefactError))
        if not isinstance(tree, dict):
            raise ArtefactError(CHANGED, where=path)
        return unsealed(tree, path)
