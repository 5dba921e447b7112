"""Records lie where the owner of a cohort says: no cell of a table leads out of those folders."""

from __future__ import annotations

import os
import string
from collections.abc import Sequence
from pathlib import Path

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import CohortError
from medmcl.core.findings import counted


def refuse_escaping(
    name: str, places: Sequence[RecordRef], templates: Sequence[str], roots: Sequence[Path]
) -> None:
    """Refuse records whose cells lead elsewhere than the owner of the cohort says.

    The owner's folders are the first of ``roots``, the data root; the others, which cohort.yaml
    names under ``roots:``; and those that a path template writes out from ``/`` or with ``..``.
    Links in these folders are followed: whoever put them there could have put the files there.

    Args:
        name: The modality.
        places: Its records.
        templates: Its path templates.
        roots: The data root first.

    Raises:
        CohortError: Counts the records, and names the first.
    """
    written = [_written_out(template, roots[0]) for template in templates]
    allowed = [os.path.normpath(one) for one in (*roots, *written) if one is not None]
    inside = tuple(one.rstrip(os.sep) + os.sep for one in allowed)
    lost = [
        (place.subject, path)
        for place in places
        for path in (os.path.normpath(one) for one in place.paths.values())
        if not f"{path}{os.sep}".startswith(inside)
    ]
    if lost:
        subject, path = lost[0]
        raise CohortError(
            f"{counted(len(lost), 'path')} of {name} lead out of the folders of the cohort",
            where=f"modalities.{name}.path",
            got=f"subject {subject}: {path}",
            expected=f"files below {', '.join(allowed)}",
            fix="correct the table; if these files belong to the cohort, its cohort.yaml says so: "
            f"roots: [{Path(path).parent}]",
        )


def _written_out(template: str, root: Path) -> Path | None:
    """The folder that a template itself writes out, where that is not below the data root."""
    literal = next(iter(string.Formatter().parse(template)), ("",))[0]
    folder = Path(f"{literal}x").parent
    leads_out = folder.is_absolute() or os.path.normpath(folder).startswith("..")
    return root / folder if leads_out else None
