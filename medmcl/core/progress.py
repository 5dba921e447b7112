"""How far long work is, and how long it still takes: a bar on a terminal, lines elsewhere.

The bar is drawn on stderr, and only there; lines go to the log ``medmcl``, which the command line
prints with the time since it was started (`Clocked`).
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

EVERY = 30.0
"""Seconds between two lines where there is no terminal."""
log = logging.getLogger("medmcl")


class Bar(Protocol):
    """What is told of progress."""

    def __call__(self, done: float, note: str = "") -> None:
        """Move to ``done``, which may lie within a piece of work, and show the note."""


@contextmanager
def progress(title: str, total: int, *, shown: bool = True, lines: bool = True) -> Iterator[Bar]:
    """Show a bar with elapsed and remaining time on a terminal, and lines elsewhere.

    Args:
        title: What is done.
        total: How much of it there is.
        shown: Whether to show anything. Processes that others started never do.
        lines: Whether to log a line every `EVERY` seconds where there is no terminal; not for work
            that logs its own.
    """
    if not shown or multiprocessing.parent_process() is not None:
        yield _nothing
    elif not sys.stderr.isatty():
        yield _Lines(title, total) if lines else _nothing
    else:
        with _drawn(title, total) as bar:
            yield bar


def _nothing(done: float, note: str = "") -> None:
    del done, note


class _Lines:
    """Logs how far work is, at most once in `EVERY` seconds."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total = title, total
        self.pace = Pace(total)
        self.said = time.monotonic()

    def __call__(self, done: float, note: str = "") -> None:
        """Log a line if it is time for one and there is more to do."""
        now = time.monotonic()
        if now - self.said >= EVERY and done < self.total:
            self.said = now
            is_whole = float(done).is_integer()
            far = f"{done:,.0f} of {self.total:,}" if is_whole else f"{done / self.total:.0%}"
            said = [far, note, self.pace.told(done)]
            log.info("%s: %s", self.title, ", ".join(one for one in said if one))


@contextmanager
def _drawn(title: str, total: int) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=total, note="")
        yield lambda done, note="": bars.update(task, completed=done, note=note)


class Pace:
    """How long the rest of some work takes, if it goes on as it went.

    Args:
        total: How much there is to do.
        done: How much was done before, at no cost now: a resumed run.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        self.total, self.before = total, done
        self.began = time.monotonic()

    def told(self, done: float) -> str:
        """Say ``2 min gone, about 3 min left``; empty where nothing is done yet, or all is."""
        left = self.left(done)
        return left and f"{span(time.monotonic() - self.began)} gone, {left}"

    def place(self, number: int) -> str:
        """Say ``3 of 5, 2 min gone, about 3 min left`` before a piece; the first is 0."""
        so_far = self.told(number)
        return f"{number + 1} of {self.total}{so_far and f', {so_far}'}"

    def rate(self, done: float) -> str:
        """Say ``8.5 a second``; empty where nothing is done yet."""
        gone = time.monotonic() - self.began
        return f"{(done - self.before) / gone:,.3g} a second" if done > self.before and gone else ""

    def left(self, done: float) -> str:
        """Say ``about 3 min left``; empty where nothing is done yet, or all is."""
        new = done - self.before
        if new <= 0 or done >= self.total:
            return ""
        gone = time.monotonic() - self.began
        return f"about {span(gone / new * (self.total - done))} left"


def span(seconds: float) -> str:
    """Seconds as people say them: ``40 s``, ``3 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(round(minutes, -1), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: ``00:01:23``."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}"


class Clocked(logging.Formatter):
    """Writes the time since the command was started before every line: ``[00:01:23] …``."""

    def __init__(self) -> None:
        super().__init__()
        self.began = time.monotonic()

    def format(self, record: logging.LogRecord) -> str:
        """Write a line."""
        return f"[{clock(time.monotonic() - self.began)}] {super().format(record)}"
