"""The folder beside the counts in which a count works: what is kept of it when a count ends early.

It holds events of patients and sums, and stays at the site.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medmcl.cooccurrence.count.parts import list_parts
from medmcl.core.errors import ArtefactError, CohortError, ConfigError

PARTS = "parts"
EVENTS_WRITTEN = "events.json"
"""Stands there when all events of the sources were written as MEDS."""


def work_folder(out: Path) -> Path:
    """The folder in which the counts of ``out`` are made."""
    return out.with_name(out.name + ".unfinished")


def refuse_unfinished(work: Path, *, resume: bool) -> None:
    """Refuse what a count left that was killed or stopped, unless it goes on.

    Events that are whole are in nobody's way: nothing was counted yet, and they are used again only
    for the same sources.

    Raises:
        ArtefactError: Counts are there, or events that are not whole.
    """
    if not work.exists() or resume:
        return
    if not (work / EVENTS_WRITTEN).is_file() or list_parts(work / PARTS):
        raise ArtefactError(
            "a count that was not finished is here", where=work, fix="add --resume, or remove it"
        )


@contextmanager
def keeping(work: Path) -> Iterator[None]:
    """Keep of a count that ends early what a retry can use, and say so; remove the rest.

    Raises:
        MedmclError: The one that came, with what is kept.
    """
    try:
        yield
    except (ArtefactError, CohortError, ConfigError) as error:
        kept = _tidy(work)
        if kept is None:
            raise
        raise type(error)(
            error.what,
            where=error.where,
            got=error.got,
            expected=error.expected,
            fix=kept if error.fix is None else f"{error.fix}; {kept}",
        ) from None
    except BaseException:  # Ctrl-C among them
        _tidy(work)
        raise


def _tidy(work: Path) -> str | None:
    """Remove a folder that holds nothing of use; otherwise say what becomes of it."""
    if list_parts(work / PARTS):
        return f"{work} keeps what was counted: go on with --resume, or remove it to count anew"
    if (work / EVENTS_WRITTEN).is_file():
        return f"give the same command again; {work} keeps the events of the sources for it"
    shutil.rmtree(work, ignore_errors=True)
    return None
