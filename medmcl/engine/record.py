"""What a run writes while it runs: ``metrics.jsonl``, one human line an interval, a progress bar.

The bar shows on a terminal, on rank 0 only; in a log file there are lines and no bar.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from medmcl.engine.checkpoint import write_atomically

log = logging.getLogger("medmcl")


class Bar(Protocol):
    """What moves a progress bar."""

    def __call__(self, done: int, note: str = "") -> None:
        """Move to ``done`` and show the note."""


def _no_bar(done: int, note: str = "") -> None:
    del done, note


@contextmanager
def progress(title: str, total: int, *, shown: bool) -> Iterator[Bar]:
    """Show a progress bar on a terminal; do nothing elsewhere."""
    if not shown or not sys.stderr.isatty():
        yield _no_bar
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=total, note="")
        yield lambda done, note="": bars.update(task, completed=done, note=note)


class Record:
    """Appends to ``metrics.jsonl``; a no-op on every rank but the first."""

    def __init__(self, path: Path, *, active: bool) -> None:
        self.path, self.active = path, active
        self.started = time.monotonic()

    def rewind(self, stage: str, step: int) -> None:
        """Forget lines of ``stage`` after ``step``, and a half-written last line."""
        if not self.active or not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the line a killed process was writing
            if row.get("stage") != stage or row.get("step", 0) <= step:
                kept.append(line)
        write_atomically(self.path, "".join(f"{line}\n" for line in kept))

    def write(self, row: dict[str, Any]) -> None:
        """Append one line; a number that is not finite is written as null."""
        if not self.active:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(row)) + "\n")

    def say(self, text: str) -> None:
        """One line for a person."""
        if self.active:
            log.info(text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; an incomplete last line is passed over."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


class Stopwatch:
    """Seconds spent in a block: ``with Stopwatch() as watch: …; watch.seconds``."""

    def __enter__(self) -> Stopwatch:
        self.began = time.monotonic()
        self.seconds = 0.0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.monotonic() - self.began
