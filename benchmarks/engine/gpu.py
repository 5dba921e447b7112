"""Steps and a large loss on a GPU: time, operations, memory, beside the published networks and open_clip.

``python -m benchmarks.engine.gpu`` measures on the GPU of this machine, open_clip where it is
installed. Without a GPU it counts alone: operations and memory of a step, on a device that is not
there. ``--quick`` takes the same steps of a few rows, without a GPU on the CPU, to see that they run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any
from unittest.mock import patch

from benchmarks.engine.cases import Step, own, published
from benchmarks.study import Row, Study, number, table

WARM, ROUNDS, STEPS = 5, 3, 20
"""Steps before the first that is timed; rounds, and steps of each between two waits for the GPU."""
BF16 = {"precision": "bf16"}
CASES = {"masked modelling": 128, "ECG-CMR": 256, "open_clip": 256, "InfoNCE": 32_768}
"""Rows of a step: those of the recipes; of the loss alone, embeddings."""
TINY = {"masked modelling": 4, "ECG-CMR": 2, "open_clip": 2, "InfoNCE": 64}
WIDTH = 512
"""Numbers of an embedding of the loss alone."""
TOKENS = {"masked modelling": 300, "ECG-CMR": 300, "open_clip": 50 + 77}
"""Of a row: patches of an ECG; patches of an image with their class token, and words."""
NETWORKS: dict[str, dict[str, Any]] = {
    "theirs, float32": {"own": False},
    "theirs, bf16": {"own": False, **BF16},
    "theirs, bf16, compiled": {"own": False, **BF16, "compile": True},
    "medmcl, float32": {},
    "medmcl, bf16": BF16,
    "medmcl, bf16, channels last": {**BF16, "channels_last": True},
    "medmcl, bf16, compiled": {**BF16, "channels_last": True, "compile": True},
}
LOSSES: dict[str, dict[str, Any]] = {
    "open_clip's loss, float32": {"own": False},
    "open_clip's loss, bf16": {"own": False, **BF16},
    "medmcl, one matrix": {},
    "medmcl, in tiles of 1,024": {"tile": 1024},
    "medmcl, in tiles of 4,096": {"tile": 4096},
}
PEAKS = {
    "NVIDIA A100-SXM4-40GB": {"fp32": 19.5, "bf16": 312},
    "NVIDIA A100-SXM4-80GB": {"fp32": 19.5, "bf16": 312},
    "NVIDIA A100-PCIE-40GB": {"fp32": 19.5, "bf16": 312},
    "NVIDIA A100 80GB PCIe": {"fp32": 19.5, "bf16": 312},
    "NVIDIA H100 80GB HBM3": {"fp32": 67, "bf16": 989},
    "NVIDIA H100 PCIe": {"fp32": 51, "bf16": 756},
    "NVIDIA H200": {"fp32": 67, "bf16": 989},
    "NVIDIA L4": {"fp32": 30.3, "bf16": 121},
    "NVIDIA L40S": {"fp32": 91.6, "bf16": 362},
    "NVIDIA A10": {"fp32": 31.2, "bf16": 125},
}
"""Name of a card, as torch gives it, to the TFLOP/s that its maker's data sheet gives: dense, boosted.

Float32 is that of the plain units, without TF32, which the study turns off.
"""


def ways_of(case: str) -> dict[str, dict[str, Any]]:
    """What is measured of a case; what need not be, as it has no convolutions, is left out."""
    if case == "InfoNCE":
        return LOSSES
    return {n: s for n, s in NETWORKS.items() if case == "ECG-CMR" or "channels" not in n}


def step_of(case: str, way: str, rows: int, device: Any) -> Step:
    """Build what takes a step."""
    settings = ways_of(case)[way]
    if case == "InfoNCE":
        return loss_of(rows, device, settings)
    return (own if settings.get("own", True) else published)(case, rows, device, settings)


def loss_of(rows: int, device: Any, settings: dict[str, Any]) -> Step:
    """Charge for embeddings that are there, forward and back to them and to the logit scale."""
    import torch
    from torch.nn.functional import normalize

    from medmcl.objectives.pairwise import contrastive, tiles

    a, b = (
        normalize(torch.randn(rows, WIDTH, device=device), dim=1).requires_grad_() for _ in "ab"
    )
    scale = torch.full((1,), 14.2857, device=device, requires_grad=True)
    if not settings.get("own", True):
        from open_clip import ClipLoss

        compare: Callable[[], Any] = partial(ClipLoss(), a, b, scale)
    else:
        compare = partial(contrastive.info_nce, a, b, scale, normalise=False)
    tiled = partial(tiles.tiled_info_nce, tile=settings.get("tile", tiles.TILE))
    narrow = settings.get("precision") == "bf16"

    def step() -> None:
        a.grad = b.grad = scale.grad = None
        with (
            torch.autocast(device.type, torch.bfloat16, enabled=narrow),
            patch.object(contrastive, "worth_tiles", lambda *_: "tile" in settings),
            patch.object(contrastive, "tiled_info_nce", tiled),
        ):
            loss = compare()
        loss.backward()

    return step


def counted(case: str, way: str, rows: int) -> Row:
    """Count a step on a device that is not there; what waits for it, but at a log interval, raises."""
    from medmcl.engine.absent_device import Counts, absent, undrawn

    def never(_: Any, asked_by: str) -> Any:
        raise AssertionError(f"{asked_by} waits for the GPU")

    counts = Counts()
    with absent(never, counts) as place, undrawn():
        step = step_of(case, way, rows, place)
        step()
        counts.begin()
        step()
        return {"case": case, "way": way, "rows": rows, "tflop": counts.flops / 1e12,
                "counted_gb": counts.peak / 1e9}  # fmt: skip


def timed(case: str, way: str, rows: int, device: Any, steps: int = STEPS) -> Row:
    """Take steps; seconds of one, of each round, and the most memory that tensors had at one time."""
    import torch

    is_gpu = device.type == "cuda"
    wait = torch.cuda.synchronize if is_gpu else lambda: None
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    step = step_of(case, way, rows, device)
    for _ in range(WARM):
        step()
    wait()
    if is_gpu:
        torch.cuda.reset_peak_memory_stats()
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        rounds.append((time.perf_counter() - began) / steps)
    return {
        "case": case, "way": way, "rows": rows, "rounds": rounds,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if is_gpu else None,
        "card": torch.cuda.get_device_name() if is_gpu else "none: a CPU, to see that it runs",
    }  # fmt: skip


def measure(what: str, jobs: list[tuple[str, str, int]], device: str, pipe: Any) -> None:
    """Send what a process finds of each job, or why it found nothing."""
    import torch

    steps = STEPS if device == "cuda" else 1
    for job in jobs:
        try:
            if what == "counted":
                pipe.send(counted(*job))
            else:
                pipe.send(timed(*job, torch.device(device), steps))
        except torch.OutOfMemoryError:
            pipe.send(nothing(*job, "out of memory"))


def nothing(case: str, way: str, rows: int, why: str) -> Row:
    """A row of a way that gave none."""
    return {"case": case, "way": way, "rows": rows, "why": why}


def alone(what: str, jobs: list[tuple[str, str, int]], device: str) -> Iterator[Row]:
    """Measure in a process of its own: the card is empty, and torch knows no other device."""
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(what, jobs, device, there))
    process.start()
    there.close()
    for job in jobs:
        try:
            yield here.recv()
        except EOFError:  # what it said stands above
            yield nothing(*job, "failed")
    process.join()


def run(given: argparse.Namespace) -> Iterator[dict[str, list[Row]]]:
    """Count every way, and take its steps where there is a GPU; rows of other cases stay."""
    import torch

    os.environ["OMP_NUM_THREADS"] = "1"
    device = "cuda" if torch.cuda.is_available() else "cpu" if given.quick else ""
    sizes = TINY if given.quick else CASES
    cases = given.cases or list(CASES)
    jobs = [(case, way, sizes[case]) for case in cases for way in ways_of(case)]
    if not find_spec("open_clip"):
        print("open_clip is not installed: its rows are left out")
        jobs = [job for job in jobs if not needs_open_clip(*job[:2])]
    kept = STUDY.kept(given.out) or {}
    rows = {
        what: [row for row in kept.get(what, ()) if row["case"] not in cases]
        for what in ("counted", "measured")
    }
    eager = [job for job in jobs if "compile" not in ways_of(job[0])[job[1]]]
    for row in alone("counted", eager, ""):
        rows["counted"].append(row)
        yield rows
    for job in jobs if device else ():
        rows["measured"] += alone("timed", [job], device)
        yield rows


def options(parser: argparse.ArgumentParser) -> None:
    """Which cases."""
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; default: all")


def needs_open_clip(case: str, way: str) -> bool:
    """Whether a way is open_clip's."""
    return case in ("open_clip", "InfoNCE") and not ways_of(case)[way].get("own", True)


def parts(rows: dict[str, list[Row]]) -> dict[str, str]:
    shown = [
        told(case, way, rows["counted"], rows["measured"])
        for case in CASES
        for way in ways_of(case)
    ]
    columns = {
        "": lambda row: f"{row['case']}, {row['rows']:,} rows: {row['way']}",
        "TFLOP a step": number("tflop", ".3g"),
        "GB by the counter": number("counted_gb", ".3g"),
        "ms a step": number("ms", ".3g"),
        "times as fast": number("times", ".2f"),
        "tokens a s": number("tokens", ",.0f"),
        "MFU": number("mfu", ".1%"),
        "peak GB": number("peak_gb", ".3g"),
    }
    cards = sorted({row["card"] for row in rows["measured"] if "card" in row})
    return {"a GPU": table(columns, shown), "which card": ", ".join(cards) or "none was at hand"}


def told(case: str, way: str, counted: list[Row], measured: list[Row]) -> Row:
    """What is shown of a way; what is not known says so."""
    least = min((x["tflop"] for x in counted if x["case"] == case and "tflop" in x), default=None)
    of_case = {row["way"]: row for row in measured if row["case"] == case}
    own = next((row for row in counted if (row["case"], row["way"]) == (case, way)), {})
    row = {"case": case, "way": way, "rows": CASES[case], **own}
    names = ("ms", "times", "tokens", "mfu", "peak_gb")
    if way not in of_case or "rounds" not in of_case[way]:
        return row | dict.fromkeys(names, of_case.get(way, {}).get("why", "not measured"))
    seen = of_case[way]
    seconds = statistics.median(seen["rounds"])
    first = next(iter(of_case.values()))
    kind = ways_of(case)[way].get("precision", "fp32")
    peak = PEAKS.get(seen["card"], {}).get(kind)
    known = peak is not None and least is not None
    return row | {
        "rows": seen["rows"],
        "ms": 1000 * seconds,
        "times": statistics.median(first["rounds"]) / seconds if "rounds" in first else "",
        "tokens": TOKENS[case] * seen["rows"] / seconds if case in TOKENS else "",
        "mfu": least / seconds / peak if known else "unknown",
        "peak_gb": seen["peak_gb"],
    }


STUDY = Study(__file__, parts=parts, run=run, options=options, page="steps", quick=True)

if __name__ == "__main__":
    STUDY.main()
