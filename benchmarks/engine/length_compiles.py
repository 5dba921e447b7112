"""How often blocks are compiled where rows come in groups of like length, and what it costs.

``python -m benchmarks.engine.length_compiles --data FOLDER`` takes some minutes; FOLDER has PTB-XL,
of which the lengths of reports are read. Each way is a process of its own, without torch's cache of
what it compiled before. Seconds are of the processor, with those of compilers that are started.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.study import Row, Study, number, table

GROUPS, ROWS, BATCHES = 8, 64, 30
WAYS: dict[str, dict[str, Any]] = {
    "not compiled": {},
    "compiled for the first size, then for what varies (before)": {"backend": "inductor"},
    "compiled for any rows and length": {"backend": "inductor", "any_length": True},
    "lengths rounded up to sixteens, each size for itself": {
        "backend": "eager", "multiple": 16, "dynamic": False,
    },
}  # fmt: skip
"""What is compiled; for each size it would be too often, so there it is only counted."""
STEADY = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}


def spent() -> float:
    return sum(os.times()[:4])


def measure(data: Path, way: dict[str, Any]) -> Row:
    """Graphs that were made in a pass over batches; seconds of it, and of the same pass again."""
    import numpy as np
    import torch
    from torch._dynamo.utils import counters

    from benchmarks.engine.length_steps import lengths_of
    from medmcl.core.batch import Batch, InputShape
    from medmcl.encoders import Towers
    from medmcl.engine import compiling
    from medmcl.stages.recipe.file import read_recipe

    torch.set_num_threads(1)
    most, every = lengths_of(data)["report"]
    recipe = read_recipe("ecg_text")
    tower, words = recipe.towers["report"], int(recipe.inputs["report"]["vocabulary"])
    torch.manual_seed(0)
    towers = Towers.build(
        {"report": InputShape(kind="text", shape=(most,), vocabulary=words)}, {"report": tower}
    )
    towers.length_groups = GROUPS
    if "backend" in way:
        compiling.KINDS = 1000
        torch._dynamo.config.accumulated_recompile_limit = 1000
        torch._dynamo.config.assume_static_by_default = True
        torch._dynamo.config.automatic_dynamic_shapes = way.get("dynamic", True)
        any_length = way.get("any_length", False)
        compiling.compile_blocks(towers, "here", way["backend"], any_length=any_length)
    drawn, batches = np.random.default_rng(0), []
    for _ in range(BATCHES):
        lengths = drawn.choice(every, ROWS)
        x = torch.randint(1, words, (ROWS, most))
        for row, length in zip(x, lengths, strict=True):
            row[int(length) :] = 0
        step = way.get("multiple", 1)
        told = torch.from_numpy(np.minimum(-(-lengths // step) * step, most))
        present = {"report": torch.ones(ROWS, dtype=torch.bool)}
        batches.append(Batch(ids=torch.arange(ROWS), inputs={"report": x}, present=present,
                             lengths={"report": told}))  # fmt: skip
    seconds, late = [], 0
    for turn in range(2):
        began = spent()
        for count, batch in enumerate(batches):
            made = counters["stats"]["unique_graphs"]
            with torch.autocast("cpu", torch.bfloat16):
                towers(batch).pooled["report"].sum().backward()
            if not turn and counters["stats"]["unique_graphs"] > made:
                late = count + 1
        seconds.append(spent() - began)
    timed = way.get("backend") != "eager"
    return {"graphs": counters["stats"]["unique_graphs"], "last": late or None,
            "compiling": seconds[0] - seconds[1] if timed and late else None,
            "step": seconds[1] / BATCHES if timed else None}  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True)


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Measure each way in a process of its own."""
    rows = []
    for name, way in WAYS.items():
        script = (f"import json, pathlib; from benchmarks.engine.length_compiles import measure; "
                  f"print(json.dumps(measure(pathlib.Path({str(given.data)!r}), {way!r})))")  # fmt: skip
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True,
                              env={**os.environ, **STEADY}, stdout=subprocess.PIPE, text=True)  # fmt: skip
        rows.append({"way": name, **json.loads(done.stdout.splitlines()[-1])})
        yield rows


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "blocks": "way",
        "compiled": number("graphs"),
        "the last at step": number("last"),
        "CPU s of compiling": number("compiling", ".1f"),
        "CPU s a step": number("step", ".3f"),
    }
    return {"compiles": table(columns, rows)}


STUDY = Study(__file__, parts=parts, run=run, options=options, page="steps")

if __name__ == "__main__":
    STUDY.main()
