"""The suite of PTB-XL, as `medmcl benchmark ptbxl` scored it, as rows and a page.

    python -m benchmarks.ecg.ptbxl_suite BOARD ...

BOARD is a folder that the command wrote; of several, rows that are the same are kept once. What
stands on the page is kept: means over classes, AUROC and the slope of calibration. Rows of single
classes, other metrics and remarks stay in the boards.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.study import Row, Study
from medmcl.stages.benchmark import board

SHOWN = {board.HEADLINE, "calibration_slope"}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("boards", type=Path, nargs="+", metavar="BOARD")


def run(given: argparse.Namespace) -> list[Row]:
    """Give each task of a command what its rows share, and the rest of each row."""
    found: dict[tuple[str, ...], Row] = {}
    for folder in given.boards:
        for row in board.read_board(folder / board.FILES[0]):
            main = row.target == "macro" or row.classes == 1
            slope = row.metric != board.HEADLINE and row.label_fraction < 1
            if main and row.metric in SHOWN and not slope:
                one = {**asdict(row), "note": ""}
                key = ("suite", "task", "name", "protocol", "condition", "metric", "versus")
                told = tuple(str(one[name]) for name in (*key, "label_fraction", "scored_on"))
                found.setdefault(told, one)
    kinds = dict.fromkeys(map(_kind, found.values()))
    return [_folded([row for row in found.values() if _kind(row) == kind]) for kind in kinds]


def _kind(row: Row) -> tuple[str, str, str]:
    return row["suite"], row["task"], row["command"]


def _folded(rows: list[Row]) -> Row:
    shared = {name: value for name, value in rows[0].items()
              if all(row[name] == value for row in rows)}  # fmt: skip
    rest = [{name: _short(row[name]) for name in row if name not in shared} for row in rows]
    return {"shared": shared, "rows": rest}


def _short(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def unfolded(tasks: Iterable[Row]) -> list[board.Row]:
    """Give the rows that `run` folded."""
    return [board.Row(**task["shared"], **row) for task in tasks for row in task["rows"]]


def parts(tasks: list[Row]) -> dict[str, str]:
    found = unfolded(tasks)
    lines: list[str] = []
    for task in dict.fromkeys(row.task for row in found):
        lines += board.task_lines(task, [row for row in found if row.task == task])
    commands = "\n".join(f"`{one}`" for one in dict.fromkeys(row.command for row in found))
    own = [f"{row.name} {row.shown}" for row in found
           if (row.task, row.protocol, row.kind) == ("superdiagnostic", "linear_probe", "embeddings")
           and (row.metric, row.label_fraction, row.versus) == (board.HEADLINE, 1, "")]  # fmt: skip
    return {"commands": commands, "tasks": "\n".join(lines).strip(), "own held out": "; ".join(own)}


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
