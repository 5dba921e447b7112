"""A checksum of a manifest over its own content: it finds accidents and edits by hand.

It is no signature. Who wants to deceive computes it anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medmcl.core.errors import ArtefactError

log = logging.getLogger(__name__)
KEY = "checksum"


def checksum_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of all values but the checksum, as JSON with sorted keys and no blanks."""
    rest = {key: value for key, value in values.items() if key != KEY}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def with_checksum(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, their checksum last."""
    rest = {key: value for key, value in values.items() if key != KEY}
    return {**rest, KEY: checksum_of(rest)}


def check_checksum(path: Path) -> None:
    """Refuse a JSON file that is not as it was written; warn of one that carries no checksum.

    Raises:
        ArtefactError: If a value was changed, added or taken out.
    """
    values = json.loads(path.read_text(encoding="utf-8"))
    said = values.get(KEY)
    if said is None:
        log.warning(
            "%s has no checksum: whether it was edited by hand cannot be told (made before there "
            "were any, or it was taken out)",
            path,
        )
        return
    found = checksum_of(values)
    if found != said:
        raise ArtefactError(
            "was changed after it was written: its checksum is another",
            where=path,
            got=f"checksum {found[:16]}… of what stands there",
            expected=f"{str(said)[:16]}…",
            fix="have the folder sent again, or make it anew; nothing in it is edited by hand",
        )
