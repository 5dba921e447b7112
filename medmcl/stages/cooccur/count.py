"""`medmcl cooccur count` and `rows` as commands: stops that can be gone on from, and the table."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from medmcl.cooccurrence.count.command import rows_of
from medmcl.cooccurrence.count.parts import work_folder
from medmcl.cooccurrence.count.spec import Spec
from medmcl.core.atomic import working_folder
from medmcl.core.file_lock import one_writer
from medmcl.engine.signals import Interrupted, begin, may_raise
from medmcl.stages.run.outputs import claim_table, write_table


@contextmanager
def going_on(out: Path) -> Iterator[None]:
    """Say of a count that Ctrl-C or SIGTERM stopped how to go on, where something of it is kept.

    Raises:
        Interrupted: Something is kept.
        KeyboardInterrupt: Nothing is.
        SystemExit: Nothing is, and it was SIGTERM: 143, as shells say it.
    """
    try:
        with _sigterm_as_ctrl_c():
            yield
    except KeyboardInterrupt as stop:
        work, ended = work_folder(out), isinstance(stop, _Terminated)
        if not work.exists() and ended:
            sys.stderr.write("stopped by SIGTERM; there was nothing to keep\n")
            raise SystemExit(128 + signal.SIGTERM) from None
        if not work.exists():
            raise
        how = "SIGTERM" if ended else "Ctrl-C"
        raise Interrupted(f"by {how}; what was done so far is kept in {work}") from None


class _Terminated(KeyboardInterrupt):
    """A scheduler, or `kill`, asked the process to end."""


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C; only the main thread can listen."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    begin()
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    if may_raise(number, frame):
        raise _Terminated(number)


@one_writer("rows are being written")
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
    with working_folder(out) as work:
        table, tally = rows_of(spec, work)
    write_table(table.set_index("subject"), out)
    told: dict[str, Any] = {"out": str(out), "patients": int(table["subject"].nunique())}
    told |= {
        f"occurrences of {m}": int(n) for m, n in table.groupby("modality")["count"].sum().items()
    }
    gone = tally.left_out()
    repeats = tally.repeats(dropped=spec.keys.duplicates == "drop")
    told |= {"left out": gone} if gone else {}
    return told | ({"duplicates": repeats[0]} if repeats else {})
