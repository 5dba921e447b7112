"""Pages of suites: what `medmcl benchmark SUITE` scored, as rows and a page of a study."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.study import Row, Study
from medmcl.core.suppression import placeless
from medmcl.stages.benchmark import board

SHOWN = {board.HEADLINE, "calibration_slope"}
Further = Callable[[Sequence[board.Row]], Mapping[str, str]]
"""Texts of a page beside those of every board."""


def study(file: str, further: Further | None = None) -> Study:
    """The study of one suite.

    Args:
        file: The script, its ``__file__``.
        further: Further texts of its page.
    """

    def parts(tasks: list[Row]) -> dict[str, str]:
        found = [board.Row(**task["shared"], **row) for task in tasks for row in task["rows"]]
        commands = "\n".join(f"`{one}`" for one in dict.fromkeys(row.command for row in found))
        return {
            "commands": commands,
            "mind": "\n".join(board.mind_lines(found)),
            "tasks": "\n".join(board.body(found)).strip(),
            **(further(found) if further else {}),
        }

    return Study(file, parts=parts, run=kept, options=options)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("boards", type=Path, nargs="+", metavar="BOARD")


def kept(given: argparse.Namespace) -> list[Row]:
    """Give each task of a command what its rows share, and the rest of each row.

    Of several boards, rows that are the same are kept once. What stands on the page is kept: means
    over classes, AUROC and the slope of calibration. Rows of single classes, other metrics and
    remarks stay in the boards.
    """
    found: dict[tuple[str, ...], Row] = {}
    for folder in given.boards:
        for row in board.read_board(folder / board.FILES[0]):
            main = row.target == "macro" or row.classes == 1
            slope = row.metric != board.HEADLINE and row.label_fraction < 1
            if main and row.metric in SHOWN and not slope:
                one = placeless({**asdict(row), "note": ""})
                key = ("suite", "cohort", "task", "name", "protocol", "condition", "metric",
                       "versus", "label_fraction", "scored_on")  # fmt: skip
                found.setdefault(tuple(str(one[name]) for name in key), one)
    kinds = dict.fromkeys(map(_kind, found.values()))
    return [_folded([row for row in found.values() if _kind(row) == kind]) for kind in kinds]


def _kind(row: Row) -> tuple[str, ...]:
    return row["suite"], row["cohort"], row["task"], row["scored_on"], row["command"]


def _folded(rows: Sequence[Row]) -> Row:
    shared = {name: value for name, value in rows[0].items()
              if all(row[name] == value for row in rows)}  # fmt: skip
    rest = [{name: _short(row[name]) for name in row if name not in shared} for row in rows]
    return {"shared": shared, "rows": rest}


def _short(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def held_out(rows: Iterable[board.Row], task: str) -> str:
    """Scores of vectors at all labels, by name, in a line."""
    return "; ".join(
        f"{row.name} {row.shown}"
        for row in rows
        if (row.task, row.protocol, row.kind) == (task, "linear_probe", "embeddings")
        and (row.metric, row.label_fraction, row.versus) == (board.HEADLINE, 1, "")
    )
