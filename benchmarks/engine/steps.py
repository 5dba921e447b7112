"""What a training step costs beside the published networks, written plainly, on one thread.

    OMP_NUM_THREADS=1 python -m benchmarks.engine.steps

Each way to take a step is a process of its own; they step in turn, so that other work on the
machine falls on all, and ratios are of the same turn. CPU seconds. Named cases alone are measured,
``timm``, ``open_clip``, ``lightly`` and ``MONAI`` (which must be installed) only then. On a GPU: `gpu.py`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.engine import cases
from benchmarks.engine.cases import BATCHES, TOWERS, own, published
from benchmarks.study import Row, Study, made_at, number, table

TURNS, WARM = 3, 1
TOY_TURNS, TOY_STEPS = 75, 25
"""Of a toy, at least: what is looked for is a hundredth of a step of 60 ms."""
BF16 = {"precision": "bf16"}
FAST = {"fused": True, "channels_last": True, "huge_pages": True}
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "masked modelling": {
        "published, float32": {"own": False},
        "published, float32, huge pages": {"own": False, "huge_pages": True},
        "published, bf16": {"own": False, **BF16},
        "medmcl as it is": {},
        "medmcl, float32": {**FAST, "onednn": True},
        "medmcl, bf16": {**FAST, **BF16},
        "medmcl, bf16, compiled": {**FAST, **BF16, "compile": True},
    },
    "toy": {"bare loop": {"bare": True}, "medmcl's loop": {}},
    "toy in DDP": {"without the search": {"search": False}, "with the search": {"search": True}},
    "ECG-CMR in DDP": {"with the search": {"search": True, "precision": "bf16"}},
}
WAYS["ECG-CMR"] = WAYS["masked modelling"]
BY_THE_CLOCK = ("toy towers", "ECG-CMR towers")
"""Cases whose time is not that of the processor."""
WAYS |= {case: {"one after another": {}, "a thread each": {"threads": 2}} for case in BY_THE_CLOCK}
PEERS = {
    "theirs, float32": {"own": False},
    "theirs, float32, huge pages": {"own": False, "huge_pages": True},
    "theirs, bf16": {"own": False, **BF16},
    "medmcl as it is": {},
    "medmcl, float32": {**FAST, "onednn": True},
    "medmcl, bf16": {**FAST, **BF16},
}


def works(case: str, way: str, pipe: Connection) -> None:
    """Take steps when asked, and tell what they took, in CPU seconds if not `BY_THE_CLOCK`."""
    settings = WAYS.get(case, PEERS)[way]
    os.environ["THP_MEM_ALLOC_ENABLE"] = str(int(settings.get("huge_pages", False)))

    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    build = own if settings.get("own", True) else published
    step = build(case, BATCHES[case], torch.device("cpu"), settings)
    count = TOY_STEPS if case.startswith("toy") else 1
    clock = time.perf_counter if case in BY_THE_CLOCK else time.process_time
    while pipe.recv():
        began = clock()
        for _ in range(count):
            step()
        pipe.send((clock() - began) / count)
    pipe.send(statistics.median(cases.SEARCHES) if cases.SEARCHES else None)


def in_turn(case: str, turns: int) -> list[Row]:
    """Let all ways of a case step in turn; the first is what the others are set beside."""
    context = get_context("spawn")
    pipes, ways = [], list(WAYS.get(case, PEERS))
    for way in ways:
        here, there = context.Pipe()
        context.Process(target=works, args=(case, way, there), daemon=True).start()
        pipes.append(here)
    seen: list[list[float]] = []
    turns = max(turns, TOY_TURNS) if case.startswith("toy") else turns
    for turn in range(WARM + turns):
        times = []
        for pipe in pipes:
            pipe.send(True)
            times.append(pipe.recv())
        if turn >= WARM:
            seen.append(times)
    for pipe in pipes:
        pipe.send(False)
    searches = [pipe.recv() for pipe in pipes]
    rows = []
    for number_, way in enumerate(ways):
        ratios = [turn[0] / turn[number_] for turn in seen]
        rows.append({
            "case": case, "way": way, "rows": BATCHES[case], "turns": turns,
            "seconds": statistics.median(turn[number_] for turn in seen),
            "times": statistics.median(ratios), "least": min(ratios), "most": max(ratios),
            **({} if searches[number_] is None else {"search": searches[number_]}),
        })  # fmt: skip
    return rows


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Measure what is asked for; rows of the rest stay as they are kept."""
    rows = STUDY.kept(given.out) or []
    os.environ["OMP_NUM_THREADS"] = "1"
    for case in given.cases or WAYS:
        rows = [*(row for row in rows if row["case"] != case), *in_turn(case, given.turns)]
        yield rows


def options(parser: argparse.ArgumentParser) -> None:
    """Which cases."""
    named = ", ".join([*WAYS, *TOWERS])
    parser.add_argument("--turns", type=int, default=TURNS, help="that count")
    parser.add_argument("cases", nargs="*", help=f"of {named}; default: all without peers")


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "": "way",
        "seconds a step": number("seconds", ".3g"),
        "times as fast": number("times", ".2f"),
        "least to most": lambda row: f"{row['least']:.2f} to {row['most']:.2f}",
    }
    by_case = {
        case: [row for row in rows if row["case"] == case]
        for case in ("masked modelling", "ECG-CMR", *BY_THE_CLOCK, *TOWERS)
    }
    found = {
        case: f"{table(columns, own)}\n\n{made_at(own)}" if own else "Not measured."
        for case, own in by_case.items()
    }
    loop = next(row for row in rows if row["way"] == "medmcl's loop")
    overhead = [100 * (1 / loop[key] - 1) for key in ("times", "most", "least")]
    searched = [row for row in rows if "search" in row and row["way"] == "with the search"]
    return {
        **found,
        "overhead": "{:.1f} % (turns: {:.1f} to {:.1f} %)".format(*overhead),
        "search": "; ".join(map(search_of, searched)) or "not measured",
    }


def search_of(row: Row) -> str:
    share = row["search"] / row["seconds"]
    milliseconds = f"{1000 * row['search']:.2f} of {1000 * row['seconds']:,.0f} ms"
    return f"{row['case'].removesuffix(' in DDP')}, {row['rows']} rows: {milliseconds}, {share:.2%}"


STUDY = Study(__file__, parts=parts, run=run, options=options,
              runs=("", "ECG-CMR --turns 7", " ".join(TOWERS)))  # fmt: skip

if __name__ == "__main__":
    STUDY.main()
