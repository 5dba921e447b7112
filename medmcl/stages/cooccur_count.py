"""`medmcl cooccur count` and `rows` as commands: Ctrl-C that can be gone on from, and the table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medmcl.cooccurrence.spec import Spec
from medmcl.cooccurrence.spec_rows import rows_of
from medmcl.cooccurrence.unfinished import work_folder
from medmcl.core.writing import refuse_unwritable
from medmcl.engine.signals import Interrupted
from medmcl.stages.outputs import claim_table, write_table


@contextmanager
def going_on(out: Path) -> Iterator[None]:
    """Say of a count that Ctrl-C stopped how to go on, where something of it is kept.

    Raises:
        Interrupted: Something is kept.
        KeyboardInterrupt: Nothing is.
    """
    try:
        yield
    except KeyboardInterrupt:
        work = work_folder(out)
        if not work.exists():
            raise
        raise Interrupted(f"by Ctrl-C; what was done so far is kept in {work}") from None


def write_rows(spec: Spec, out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Write the ROWS table of a private release; it holds patients' records and stays at the site.

    Args:
        spec: What to count.
        out: Table to write.
        overwrite: Write over what is there.

    Returns:
        What to tell the site.
    """
    claim_table(out, overwrite=overwrite)
    refuse_unwritable(out, folder=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".medmcl-rows-") as work:
        table, tally = rows_of(spec, Path(work))
    write_table(table.set_index("subject"), out)
    told: dict[str, Any] = {"out": str(out), "patients": int(table["subject"].nunique())}
    told |= {
        f"occurrences of {m}": int(n) for m, n in table.groupby("modality")["count"].sum().items()
    }
    return told | ({"left out": str(tally).splitlines()} if str(tally) else {})
