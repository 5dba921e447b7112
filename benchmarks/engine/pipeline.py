"""Whether rows keep up with training: read raw, prepared, held in memory; by one reader and by two.

``python -m benchmarks.engine.pipeline`` simulates what it reads, and leaves nothing. Seconds of one
process are processor seconds; rows a second by several readers are by the clock, of the quickest of 25
short rounds, in turn with one reader. Files lie in the cache of the system, so no disk is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine.scale import measure
from benchmarks.study import ROOT, Row, Study, number, table

STEADY = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
RECORDS, RAW, BATCH, ROUNDS = 400, 24, 50, 25
INPUTS: dict[str, dict[str, Any]] = {
    "ecg": {"rate_hz": 250, "seconds": 10},
    "image": {"size": 64},
}
SHORT = ["--set", "form=shards", "--set", "ecg_seconds=2.5", "--set", "cmr_size=16",
         "--set", "cmr_frames=1"]  # fmt: skip
RECIPE = {
    "schema": "medmcl/recipe@1",
    "about": "masked modelling of short ECGs",
    "inputs": {"ecg": {"rate_hz": 100, "seconds": 2.5, "crop_seconds": 2.5,
                       "baseline": "highpass", "clip_sigma": None, "normalise": "none"}},
    "towers": {"ecg": {"encoder": {"name": "ecg_vit", "patch": 25, "joint_leads": True,
                                   "width": 64, "depth": 3, "heads": 4},
                       "head": {"hidden": 128, "out": 64}}},
    "views": {"masked": {"augment": {"ecg": {"noise": 0.02, "rescale": 0.1,
                                             "rescale_may_flip": False}},
                         "mask": {"ecg": 0.5}}},
    "stages": [{"stage": "train", "name": "mdm", "towers": ["ecg"],
                "objectives": {"masked": {"modality": "ecg", "view": "masked", "ncc_weight": 0.1,
                                          "over": "all",
                                          "decoder": {"width": 64, "depth": 1, "heads": 4}}},
                "batch_size": 128, "steps": 60, "evaluate_every": 9, "log_every": 10,
                "optimiser": {"name": "adamw", "lr": 2e-3, "warmup": 0.1}}],
}  # fmt: skip


def spent(works: dict[Any, Callable[[], object]]) -> dict[Any, tuple[float, float]]:
    """The least seconds by the clock, and of the processor, of many rounds in turn."""
    found: dict[Any, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            began, used = time.perf_counter(), time.process_time()
            work()
            found[name].append((time.perf_counter() - began, time.process_time() - used))
    return {
        name: (min(x for x, _ in all_), min(x for _, x in all_)) for name, all_ in found.items()
    }


def prepare_one(adapter: Any, place: Any) -> int:
    """Read and prepare a record in a process of its own."""
    return int(adapter.prepare(adapter.read(place)).size)


def rates(cohort: Path, name: str, inputs: dict[str, Any], cache: Path) -> Iterator[Row]:
    """Rows a second of one modality, by where they come from and who reads."""
    from medmcl.core.batch import Batch
    from medmcl.data.cohort.cohort import open_cohort
    from medmcl.data.loading.cache import WrittenRows
    from medmcl.data.loading.prepare import prepare
    from medmcl.engine.feed import Feed
    from medmcl.engine.loop import Plan
    from medmcl.engine.optimiser import OptimiserSettings
    from medmcl.engine.world import World

    opened = open_cohort(cohort)
    prepared = prepare(opened, {name: inputs}, cache=cache, splits="all")
    adapter, stored = prepared.adapters[name], prepared.stored[name]
    assert isinstance(stored.rows, WrittenRows)
    rows = stored.rows
    order = np.random.default_rng(0).permutation(len(prepared.splits))
    batches = np.array_split(order, len(order) // BATCH)
    steps = len(batches)
    plan = Plan(stage="s", steps=steps, steps_per_epoch=steps, evaluate_every=1, log_every=1,
                seed=0, optimiser=OptimiserSettings())  # fmt: skip
    places = list(opened.records[name]["place"])[:RAW]
    size = {"modality": name, "kb": round(stored.rows[0].nbytes / 1000)}

    def read(load: Callable[[np.ndarray], Batch], readers: int) -> None:
        feed = Feed(sampler=lambda _: iter(batches), load=load, readers=readers)
        with closing(feed.batches(0, plan, World())) as coming:
            for _ in coming:
                pass

    def first(readers: int) -> None:
        rows._sound = ~rows._has  # as when it was opened: each row is compared with its hash
        read(prepared.batch, readers)

    work = partial(prepare_one, adapter)
    with (
        ThreadPoolExecutor(2) as threads,
        ProcessPoolExecutor(2, mp_context=get_context("fork")) as processes,
    ):
        list(processes.map(work, places))  # they have started
        raw = {
            (1, ""): lambda: [work(one) for one in places],
            (2, "threads"): lambda: list(threads.map(work, places)),
            (2, "processes"): lambda: list(processes.map(work, places)),
        }
        for (readers, how), spending in spent(raw).items():
            yield told(size, "raw", readers, how, len(places), spending)
    in_memory = {n: prepared.batch(b) for n, b in enumerate(batches)}
    held = {int(b[0]): n for n, b in enumerate(batches)}
    sources: dict[str, Callable[[int], None]] = {
        "prepared, first read": first,
        "prepared, read again": partial(read, prepared.batch),
        "held in memory": partial(read, lambda chosen: in_memory[held[int(chosen[0])]]),
    }
    for source, doing in sources.items():
        for readers, spending in spent({n: partial(doing, n) for n in (1, 2)}).items():
            yield told(size, source, readers, "threads", len(order), spending)


def every_rate(records: int, rows: dict[str, list[Row]]) -> Iterator[dict[str, list[Row]]]:
    """Add the rates of two kinds of records that are simulated."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        medmcl("simulate", "heart", "--out", folder / "hearts", "--subjects", records,
               "--set", "form=files", "--set", "missing_cmr=1", folder=folder)  # fmt: skip
        medmcl("simulate", "shapes", "--out", folder / "pictures", "--subjects", records,
               folder=folder)  # fmt: skip
        for cohort, name in (("hearts", "ecg"), ("pictures", "image")):
            for row in rates(folder / cohort, name, INPUTS[name], folder / "cache"):
                rows["rates"].append(row)
            yield rows


def told(
    size: Row, source: str, readers: int, how: str, count: int, spending: tuple[float, float]
) -> Row:
    """A row of the study."""
    clock, cpu = (round(count / one, 1) for one in spending)
    return {**size, "source": source, "readers": readers, "how": how, "a_second": clock,
            "a_cpu_second": None if how == "processes" else cpu}  # fmt: skip


def medmcl(*words: Any, folder: Path) -> dict[str, float]:
    """Processor seconds and peak memory of a command."""
    return measure(ROOT, ["-m", "medmcl", *map(str, words)], folder)


def whole(people: int, shards: int, folder: Path) -> Iterator[Row]:
    """Simulate, check and prepare by shards, train and embed; what each command takes."""
    cohort, out, recipe = folder / "hearts", folder / "run", folder / "recipe.json"
    recipe.write_text(json.dumps(RECIPE))
    recipe = recipe.rename(folder / "recipe.yaml")  # JSON is YAML
    of = ["--cohort", cohort, "--workers", 0]
    by = [*of, "--recipe", recipe, "--out", out]
    commands: dict[str, list[Any]] = {
        "simulate": ["simulate", "heart", "--out", cohort, "--subjects", people, *SHORT],
        **{f"prepare, shard {n} of {shards}": ["prepare", *by, "--shard", f"{n}/{shards}"]
           for n in range(1, shards + 1)},
        "train": ["pretrain", *by, "--device", "cpu"],
        "embed": ["embed", out, *of, "--device", "cpu", "--out", folder / "vectors.parquet"],
    }  # fmt: skip
    for step, words in commands.items():
        row: Row = {"people": people, "step": step, **medmcl(*words, folder=folder)}
        if step == "train":
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            last = next(line for line in reversed(lines) if line["split"] == "train")
            row |= {"steps": last["step"], "data_wait": last["data_wait_seconds"],
                    "elapsed": json.loads((out / "report.json").read_text())
                    ["study"]["seconds"]["training"]}  # fmt: skip
        yield row


def run(given: argparse.Namespace) -> Iterator[dict[str, list[Row]]]:
    """Measure rows of two kinds, then whole commands on few and many people."""
    if any(os.environ.get(name) != value for name, value in STEADY.items()):
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **STEADY})
    rows: dict[str, list[Row]] = {"rates": [], "commands": []}
    if given.commands:
        rows["rates"] = STUDY.kept()["rates"]
    else:
        yield from every_rate(100 if given.quick else RECORDS, rows)
    for people, shards in ((500, 1),) if given.quick else ((2_000, 1), (given.people, 4)):
        with tempfile.TemporaryDirectory() as made:
            for row in whole(people, shards, Path(made)):
                rows["commands"].append(row)
                yield rows


def parts(rows: dict[str, list[Row]]) -> dict[str, str]:
    one = {
        (row["modality"], row["source"]): row["a_second"]
        for row in rows["rates"]
        if row["readers"] == 1
    }
    shown = {
        "modality": lambda row: f"{row['modality']} ({row['kb']:,} kB a row)",
        "rows": lambda row: row["source"],
        "readers": lambda row: f"{row['readers']} {row['how']}" if row["readers"] > 1 else "1",
        "rows a processor second": lambda row: (
            "" if row["a_cpu_second"] is None else f"{row['a_cpu_second']:,.0f}"
        ),
        "rows a second": number("a_second", ",.0f"),
        "beside one reader": lambda row: (
            ""
            if row["readers"] == 1
            else f"{row['a_second'] / one[row['modality'], row['source']]:.2f}"
        ),
    }
    commands = {
        "people": number("people"),
        "command": lambda row: row["step"],
        "processor seconds": number("seconds", ",.1f"),
        "peak MB": number("mb", ",.0f"),
        "waited for rows": lambda row: (
            f"{row['data_wait']:.2f} of {row['elapsed']:.1f} s"
            f" ({row['data_wait'] / row['elapsed']:.1%})"
            if "data_wait" in row
            else ""
        ),
    }
    return {"rates": table(shown, rows["rates"]), "commands": table(commands, rows["commands"])}


def options(parser: argparse.ArgumentParser) -> None:
    """Options of this study."""
    parser.add_argument("--commands", action="store_true", help="alone; rates stay as they are")
    parser.add_argument("--people", type=int, default=100_000, help="of the large cohort")


STUDY = Study(__file__, parts=parts, run=run, options=options, quick=True)

if __name__ == "__main__":
    STUDY.main()
