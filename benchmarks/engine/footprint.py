"""What a step of each recipe takes of a GPU, without one; and beside what a CPU took, at toy sizes.

``python -m benchmarks.engine.footprint`` takes a quarter of an hour. On a device that is not there, at
real sizes, in bf16: parameters, operations and memory by torch's own counters, and the largest batch
for GPUs of 16 to 80 GB. Of toys a step is also taken on this CPU, in float32, and the memory of the
process is set beside what the counters say; and beside what ``accumulate: auto`` goes by
(``--parts``: that alone, a minute).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.study import ROOT, Row, Study, table

CARDS = (16, 24, 40, 80)
MEASURED = ("clip_toy", "ecg_cmr_no_mdm_toy", "ecg_text_toy")
IN_PARTS, BATCH, PARTS = ("ecg_text_toy", "contrast"), 512, (1, 2, 4, 8)
"""Recipe and stage, rows of a batch, parts that it is encoded in."""
STEADY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""So that memory that is given back leaves the process."""


def cases(names: list[str], folder: Path) -> Iterator[tuple[str, str, Any, Any]]:
    """Give recipe, kinds of its roles, its cohort and what it is on that cohort."""
    sys.path.append(str(ROOT / "tests" / "support"))
    from every_kind import ways, write_cohort, write_files

    from medmcl.data.cohort.cohort import open_cohort
    from medmcl.stages.recipe.file import read_recipe
    from medmcl.stages.recipe.resolve_modalities import for_cohort

    folder.mkdir(exist_ok=True)
    write_files(folder)
    for name in names:
        recipe = read_recipe(name)
        for kinds in ways(recipe):
            cohort = open_cohort(write_cohort(folder, recipe, kinds))
            said = ", ".join(sorted(set(kinds.values()))) if len(recipe.roles) else ""
            yield name, said, cohort, for_cohort(recipe, kinds).expanded(cohort.usable_tasks)


def planned(names: list[str], folder: Path, precision: str, seen: set[str]) -> Iterator[Row]:
    """Give the footprint of each stage that computes like none before it."""
    from medmcl.stages.train.rehearse import as_row, footprints

    for name, kinds, cohort, recipe in cases(names, folder):
        for one in footprints(cohort, recipe, precision, seen):
            yield {"recipe": name, "kinds": kinds, **as_row(one)}


def measured(folder: Path) -> list[Row]:
    """Set what the process grew by in a step on this CPU beside what the counters say."""
    rows = []
    for row in planned(list(MEASURED), folder, "fp32", set()):
        rows.append({**row, "counted_mb": round(row["peak_mb"] - row["held_mb"], 1)})
    for name, kinds, cohort, recipe in cases(list(MEASURED), folder):
        for row in rows:
            if (row["recipe"], row["kinds"]) == (name, kinds):
                row["process_mb"] = grown(recipe, cohort, row["stage"], folder)[0]
    return rows


def in_parts(folder: Path) -> Iterator[Row]:
    """Set what the process grew by in a step in parts beside what ``accumulate: auto`` says."""
    (case,) = cases([IN_PARTS[0]], folder)
    for parts in PARTS:
        asked = {"batch_size": BATCH, "accumulate": parts}
        process, held = grown(case[3], case[2], IN_PARTS[1], folder / f"in-{parts}", **asked)
        said = (held.at_peak(BATCH, parts) - held.fixed) / 1e6
        yield {"parts": parts, "said_mb": round(said, 1), "process_mb": process}


def grown(recipe: Any, cohort: Any, stage: str, folder: Path, **asked: Any) -> tuple[float, Any]:
    """Take two steps on the CPU; give what the process grew by, at most, in the second, in MB.

    And what a few rows hold (`medmcl.engine.fitting.Held`).
    """
    from medmcl.core.rng import RowGenerator, torch_generator
    from medmcl.data.loading.stand_in import stand_in
    from medmcl.engine import loop
    from medmcl.engine.feed import Feed
    from medmcl.engine.fitting import FEW, look_at_rows
    from medmcl.engine.optimiser import build_optimiser
    from medmcl.engine.record import Record
    from medmcl.engine.signals import StopRequest
    from medmcl.engine.world import World
    from medmcl.stages.run.run import Run
    from medmcl.stages.stage import Context
    from medmcl.stages.train import train

    (spec,) = (one for one in recipe.stages if one.name == stage)
    spec = spec.model_copy(update=asked)
    prepared = stand_in(cohort, recipe.inputs)
    assert prepared is not None
    run = Run.begun(folder / "run", {"seed": 0, "precision": "fp32"}, recipe)
    context = Context(run=run, world=World(), record=Record(folder, active=False),
                      stop=StopRequest())  # fmt: skip
    parts = train.build_parts(spec, prepared.for_learning, context, is_trained=True)
    load = train.loader(spec, prepared.for_learning, {}, parts, None)
    plan = train.plan_of(spec, len(parts.sampler), context)
    optimiser = build_optimiser(parts.learner, plan.optimiser, train.depths_of(parts.learner))
    feed = Feed(sampler=parts.sampler, load=load, selector=parts.selector)
    rows = next(iter(parts.sampler(0)))
    source = torch_generator(0, spec.name, "fits", device=World().device)
    shown = {
        name: lambda part, view=view: view(part, RowGenerator(source, first=0, total=len(part)))
        for name, view in parts.views.items()
    }
    held = look_at_rows(parts.learner, shown, load(rows[:FEW]), nullcontext, copies=3)
    training = loop.Training(learner=parts.learner, feed=feed, views=parts.views, plan=plan,
                             world=World(), optimiser=optimiser)  # fmt: skip
    before = 0
    for _ in range(2):
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
        training.step(rows, load(rows))
    return round((status("VmHWM") - before) / 1e3, 1), held


def status(name: str) -> int:
    """A line of /proc/self/status, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def parts(rows: dict[str, list[Row]]) -> dict[str, str]:
    def size(value: float) -> str:
        return f"{value / 1e3:.3g} GB" if value >= 1e3 else f"{value:.3g} MB"

    alike = {
        (row["recipe"], row["kinds"], row["rows"], f"{row['gflop']:.2g} {row['peak_mb']:.2g}"): row
        for row in reversed(rows["planned"])
    }
    planned = list(reversed(alike.values()))
    plan = {
        "recipe": lambda row: row["recipe"] + (f" ({row['kinds']})" if row["kinds"] else ""),
        "stage": lambda row: row["stage"],
        "batch": lambda row: f"{row['rows']:,}",
        "parameters": lambda row: f"{row['parameters'] / 1e6:.3g} M",
        "TFLOP a step": lambda row: f"{row['gflop'] / 1e3:.3g}",
        "between steps": lambda row: size(row["held_mb"]),
        "at the peak": lambda row: size(row["peak_mb"]),
        "a row more": lambda row: size(row["row_mb"]),
        **{f"{card} GB": lambda row, card=card: f"{row[f'fits_{card}']:,}" for card in CARDS},
    }
    beside = {
        "recipe": lambda row: row["recipe"],
        "stage": lambda row: row["stage"],
        "batch": lambda row: f"{row['rows']:,}",
        "counted": lambda row: f"{row['counted_mb']:.0f} MB",
        "process": lambda row: f"{row['process_mb']:.0f} MB",
        "process / counted": lambda row: f"{row['process_mb'] / row['counted_mb']:.2f}",
    }
    ratios = sorted(row["process_mb"] / row["counted_mb"] for row in rows["measured"])
    return {
        "which GPU": table(plan, planned),
        "beside a CPU": table(beside, rows["measured"]),
        "in parts": table(
            {
                "parts": lambda row: str(row["parts"]),
                "`auto` goes by": lambda row: f"{row['said_mb']:.0f} MB",
                "process": lambda row: f"{row['process_mb']:.0f} MB",
                "process / that": lambda row: f"{row['process_mb'] / row['said_mb']:.2f}",
            },
            rows["in_parts"],
        ),
        "how near": f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--parts", action="store_true", help="measure batches in parts alone; other rows stay"
    )


def run(given: argparse.Namespace) -> Iterator[dict[str, list[Row]]]:
    """Measure some toys, and count every recipe that ships and is no toy."""
    if any(os.environ.get(name) != value for name, value in STEADY.items()):
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **STEADY})
    names = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    names = [name for name in names if not name.endswith("_toy")]
    with tempfile.TemporaryDirectory() as folder:
        if given.parts:
            yield {**STUDY.kept(given.out), "in_parts": list(in_parts(Path(folder)))}
            return
        rows: dict[str, list[Row]] = {
            "measured": measured(Path(folder)),
            "planned": [],
            "in_parts": list(in_parts(Path(folder) / "parts")),
        }
        for row in planned(names, Path(folder), "bf16", set()):
            rows["planned"].append(row)
            yield rows


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
