"""The suite of PTB-XL, as `medmcl benchmark ptbxl` scored it, as rows and a page.

    python -m benchmarks.ecg.ptbxl_suite BOARD

BOARD is the folder that the command wrote. Rows of single classes stay there; the means over
classes are kept.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.study import Row, Study
from medmcl.stages.benchmark import board


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", type=Path)


def run(given: argparse.Namespace) -> list[Row]:
    """Read the rows of means over classes."""
    rows = board.read_board(given.board / board.FILES[0])
    return [asdict(row) for row in rows if row.target == "macro"]


def parts(rows: list[dict[str, Any]]) -> dict[str, str]:
    found = [board.Row(**row) for row in rows]
    lines: list[str] = []
    for task in dict.fromkeys(row.task for row in found):
        lines += board.task_lines(task, [row for row in found if row.task == task])
    commands = "\n".join(f"`{one}`" for one in dict.fromkeys(row.command for row in found))
    return {"commands": commands, "tasks": "\n".join(lines).strip()}


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
