"""What a run writes while it runs: ``metrics.jsonl``, and one human line an interval."""

from __future__ import annotations

import datetime
import json
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from medmcl.core.atomic import append_line, bring_to_disk, write_atomically
from medmcl.core.limits import parse_json
from medmcl.core.sealed import sealed, unsealed
from medmcl.core.suppression import placeless

log = logging.getLogger("medmcl")
TIMES = ("time", "elapsed", "data_wait_seconds")
"""Keys of a line of the record that differ between runs of one seed: when it was written (UTC), and
seconds that the run had taken by then, also before it was interrupted; those that the stage had
waited for rows."""


class Record:
    """Appends to ``metrics.jsonl``; a no-op on every rank but the first.

    Attributes:
        is_shared: Whether other processes append meanwhile; then nothing is forgotten.
    """

    def __init__(self, path: Path, *, active: bool) -> None:
        self.path, self.active, self.is_shared = path, active, False
        self.started = time.monotonic()
        lines = read_metrics(path, times=True) if active and path.exists() else []
        self.before = max((float(line.get("elapsed") or 0.0) for line in lines), default=0.0)

    def rewind(self, stage: str = "", step: int = 0) -> None:
        """Forget lines of ``stage`` (none if not given) after ``step``, and a half-written one."""
        if not self.active or self.is_shared or not self.path.exists():
            return
        rows = read_metrics(self.path, times=True)
        write_metrics(
            self.path,
            [row for row in rows if row.get("stage") != stage or row.get("step", 0) <= step],
        )

    def stages(self) -> set[str]:
        """Name the stages that it has lines of."""
        return {str(row["stage"]) for row in read_metrics(self.path) if "stage" in row}

    def sort(self, stages: Sequence[str]) -> None:
        """Put the lines of some stages into the order of the stages; others stay where they are."""
        if not self.active or not self.path.exists():
            return
        rows = read_metrics(self.path, times=True)
        places = [n for n, row in enumerate(rows) if row.get("stage") in stages]
        ordered = sorted(places, key=lambda place: stages.index(rows[place]["stage"]))
        if ordered != places:
            moved = dict(zip(places, ordered, strict=True))
            write_metrics(self.path, [rows[moved.get(n, n)] for n in range(len(rows))])

    def write(self, row: dict[str, Any]) -> None:
        """Append one line and its `TIMES`; a number that is not finite is written as null."""
        if not self.active:
            return
        now = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
        elapsed = round(self.before + time.monotonic() - self.started, 3)
        timed = {**_finite(row), "time": now, "elapsed": elapsed}
        append_line(self.path, _line(timed))

    def bring_to_disk(self) -> None:
        """Let what was written outlive a loss of power."""
        if self.active and self.path.exists():
            bring_to_disk(self.path)

    def say(self, text: str) -> None:
        """One line for a person."""
        if self.active:
            log.info(text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return placeless(value)


def read_metrics(path: Path, *, times: bool = False) -> list[dict[str, Any]]:
    """Read ``metrics.jsonl``; an incomplete last line is passed over, others are counted aloud.

    Args:
        path: The file.
        times: Whether to give `TIMES`, too; without them two runs of one seed have equal lines.
    """
    if not path.exists():
        return []
    rows, damaged = [], 0
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            row = unsealed(dict(parse_json(line)), path)
        except (ValueError, TypeError):
            damaged += number < len(lines)  # the last one a killed process was writing
            continue
        rows.append({key: value for key, value in row.items() if times or key not in TIMES})
    if damaged:
        log.warning("%s: %d damaged lines of %d are left out", path, damaged, len(lines) - 1)
    return rows


def write_metrics(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write all lines of ``metrics.jsonl`` anew."""
    write_atomically(path, "".join(f"{_line(row)}\n" for row in rows))


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(sealed(row))


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
