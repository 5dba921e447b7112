"""Memory that embedding takes of few and of many prepared records.

``python -m benchmarks.engine.embed_memory`` takes some minutes and 1.2 GB of disk. Rows are noise
that is written as prepared records are, and encoded as `embed` and `evaluate` encode them. Each
measurement is a process of its own. Memory is what it held at most beyond what it held before the
first row: in all, and without the vectors (N, E), which are its answer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.engine.ranks import forget_peak, memory
from benchmarks.study import Row, Study, number, table

RECORDS = (100, 1_000, 10_000, 100_000)
SHAPE, KEY = (12, 250), "0" * 32
TOWER = {"encoder": {"name": "ecg_vit", "patch": 25, "joint_leads": True, "width": 64, "depth": 1,
                     "heads": 4}, "head": {"out": 64}}  # fmt: skip
WAYS = {"pages stay": 2**60, "pages leave": None}


def write(cache: Path, records: int) -> None:
    """Write noise as prepared ECGs of 2.5 s at 100 Hz."""
    import numpy as np

    from medmcl.data.loading.cache import write_entry
    from medmcl.data.loading.reading import Outcome, content_digest

    drawn = np.random.default_rng(0)

    def outcomes() -> Iterator[Outcome]:
        for _ in range(records):
            row = drawn.standard_normal(SHAPE, dtype=np.float32)
            yield Outcome(row, content_digest(row), ())

    write_entry(cache, KEY, "ecg", outcomes(), SHAPE, records)


def measure(folder: Path, records: int, most: int | None) -> Row:
    """Embed all records of an entry; MB and processor seconds."""
    import numpy as np
    import torch

    from medmcl.core.batch import InputShape
    from medmcl.data.loading import cache
    from medmcl.encoders import Towers
    from medmcl.stages.run.run import embed_records

    torch.set_num_threads(1)
    if most is not None:
        cache.MAPPED = most
    towers = Towers.build({"ecg": InputShape(kind="ecg", shape=SHAPE)}, {"ecg": TOWER})
    stored = cache.read_entry(folder, KEY, "ecg", records)
    assert stored is not None
    prepared = SimpleNamespace(adapters={"ecg": SimpleNamespace(plain=lambda x: x)},
                               inputs=lambda _: stored.rows)  # fmt: skip
    given: Any = (towers, prepared, "ecg")

    def embed(chosen: np.ndarray) -> np.ndarray:
        return embed_records(*given, chosen, "features", torch.device("cpu"))

    embed(np.arange(50))  # what kernels borrow at first
    before, began = forget_peak(), time.process_time()
    vectors = embed(np.arange(records))
    assert np.isfinite(vectors).all()
    assert np.unique(vectors[:, 0]).size > 0.9 * records
    peak = memory("VmHWM") - before
    return {"mb": peak, "more": peak - vectors.nbytes / 2**20, "file": records * 4 * 12 * 250 / 2**20,
            "seconds": time.process_time() - began}  # fmt: skip


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    """Measure each number of records in both ways."""
    del given
    rows: list[Row] = []
    for records in RECORDS:
        with tempfile.TemporaryDirectory() as made:
            write(Path(made), records)
            for how, most in WAYS.items():
                script = ("import json, pathlib; from benchmarks.engine.embed_memory import measure; "
                          f"print(json.dumps(measure(pathlib.Path({made!r}), {records}, {most})))")  # fmt: skip
                done = subprocess.run([sys.executable, "-c", script], check=True, text=True,
                                      stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
                found = json.loads(done.stdout.splitlines()[-1])
                rows.append({"records": records, "how": how, **found})
                yield rows


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "records": number("records"),
        "MB of prepared rows": number("file", ",.0f"),
        "mapped pages": lambda row: {"pages stay": "stay (before)", "pages leave": "leave"}[row["how"]],
        "MB at most": number("mb", ",.0f"),
        "without the vectors": number("more", ",.0f"),
        "CPU s": number("seconds", ",.1f"),
    }  # fmt: skip
    return {"embedding": table(columns, rows)}


STUDY = Study(__file__, parts=parts, run=run, page="scale")

if __name__ == "__main__":
    STUDY.main()
