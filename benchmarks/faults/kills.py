"""Commands that are killed at any instant, and typed again.

    python -m benchmarks.faults.kills [--kills 50] [--family NAME]

Every family of commands that writes is killed so often: by turns before a write that is drawn, and
after a time that is drawn (SIGKILL; nothing is tidied up); where that comes after the end, another
is drawn. Then the same command is typed again, and where it says what to do instead, that. In the
end there must stand what an undisturbed command writes, and nothing beside it. What is drawn anew
each time (keys, rounds, noise) must be whole, and paid for.
"""

from __future__ import annotations

import argparse
import random
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.faults import toy
from benchmarks.study import Row, Study, table

BAD = ("wrong", "tracebacks", "stuck", "hangs", "left")
"""What must not be."""
COPY = "a process that was working beside this one died"
"""What a command says one of whose copies was killed."""


def killed_and_typed_again(
    home: Path, work: Path, family: toy.Family, seed: int, whole: Any
) -> Row:
    """Kill a command once, type it again; give what came of it.

    Args:
        home: What commands read.
        work: Folder for this trial, which goes.
        family: The command.
        seed: Draws when it is killed.
        whole: Of an undisturbed command: ``results``, ``writes``, ``seconds``.
    """
    draw = random.Random(f"{family.name} {seed}")
    place = begun(home, work, family)
    words = place.words(family)
    if seed % 2 and whole["writes"]:
        first = place.type(words, at=draw.randint(1, whole["writes"]))
    else:
        first = place.type(words, after=max(0.01, draw.random() * whole["seconds"]))
    answer, hints = place.go_on(family)
    said = first.said + "".join(place.said)
    fault = place.fault(family, whole["results"])
    row = {
        "killed": first.code == -9 or COPY in first.said,
        "by hint": hints,
        "wrong": answer.code == 0 and bool(fault),
        "tracebacks": toy.is_traceback(said),
        "stuck": answer.code not in (0, None) and bool(fault),  # else: there already
        "hangs": None in (first.code, answer.code),
        "left": toy.left_over(place),
    }
    if any(row[key] for key in BAD):
        row["said"] = place.said
        row["seed"] = seed
        row["differs"] = fault
    shutil.rmtree(place.folder.parent)
    return row


def begun(home: Path, work: Path, family: toy.Family) -> toy.Place:
    """Give a folder in which the command of a family can be typed."""
    folder = work / "trial" / "here"
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)
    place = toy.Place(home, folder)
    place.begin(family)
    return place


def undisturbed(home: Path, work: Path, family: toy.Family) -> dict[str, Any]:
    """What a command writes that nobody disturbs, in how many writes and seconds."""
    place = begun(home, work, family)
    began = time.monotonic()
    answer = place.type(place.words(family))
    if answer.code != 0:
        raise RuntimeError(f"{family.name}\n{answer.said}")
    seconds = time.monotonic() - began
    found = toy.results(place.folder, by_name=family.is_drawn)
    if fault := place.fault(family, found):
        raise RuntimeError(f"{family.name}: {fault}")
    return {"results": found, "writes": answer.writes, "seconds": seconds}


def summed(
    family: toy.Family, whole: dict[str, Any], rows: Sequence[Row], before: Row | None
) -> Row:
    """Sum the trials of a family, with those of before."""
    before = before or {}
    hints = {hint for row in rows for hint in row["by hint"]}
    counted = ("killed", "by hint", *BAD)
    return {
        "family": family.name,
        "words": family.words,
        "writes": whole["writes"],
        "trials": before.get("trials", 0) + len(rows),
        "hints": sorted(hints | {*before.get("hints", ())}),
        **{key: before.get(key, 0) + sum(bool(row[key]) for row in rows) for key in counted},
    }


def tried(
    families: Sequence[toy.Family], kills: int, made: list[Row], goes_on: bool
) -> Iterator[list[Row]]:
    """Kill commands; all rows so far, after each family, with those of before."""
    names = [one.name for one in toy.FAMILIES]
    with tempfile.TemporaryDirectory(prefix="kills-") as work:
        home = Path(work) / "home"
        toy.make_home(home)
        for family in families:
            whole = undisturbed(home, Path(work), family)
            before = next((one for one in made if goes_on and one["family"] == family.name), None)
            met, rows = before["killed"] if before else 0, []
            for seed in count(before["trials"] if before else 0):
                if met >= kills:
                    break
                rows.append(killed_and_typed_again(home, Path(work), family, seed, whole))
                met += rows[-1]["killed"]
            new = summed(family, whole, rows, before)
            made = sorted([new, *(one for one in made if one["family"] != family.name)],
                          key=lambda row: names.index(row["family"]))  # fmt: skip
            print(new, flush=True)
            for row in rows:
                if "said" in row:
                    print(row["seed"], *row["said"], row, sep="\n", flush=True)
            yield made


def parts(rows: list[Row]) -> dict[str, str]:
    columns: dict[str, Any] = {"command": lambda row: f"`medmcl {row['family']}`"}
    for key in ("writes", "trials", "killed", "by hint", *BAD):
        columns[{"stuck": "neither", "left": "left behind"}.get(key, key)] = key
    columns["seeds"] = lambda row: f"0 to {row['trials'] - 1}"
    columns["options"] = lambda row: (
        f"`--kills {row['killed']} --family {shlex.quote(row['family'])}`"
    )
    hints = dict.fromkeys(hint for row in rows for hint in row["hints"])
    return {
        "families": table(columns, rows),
        "killed": str(sum(row["killed"] for row in rows)),
        "bad": str(sum(row[key] for row in rows for key in BAD)),
        "hints": "\n".join(f"- {hint}" for hint in hints) or "- none",
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--more", action="store_true", help="go on from the rows that are kept")
    parser.add_argument("--family", action="append", help="only this one; repeatable")


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Kill the commands of all families, or of some."""
    chosen = [one for one in toy.FAMILIES if not given.family or one.name in given.family]
    return tried(chosen, given.kills, STUDY.kept(given.out) or [], given.more)


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
