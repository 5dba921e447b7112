"""What it costs to compare prepared rows with their digests: processor seconds of a training stage.

    python -m benchmarks.faults.cache_digests [--subjects 96] [--steps 60]

ECGs of 10 s at 500 Hz, 12 leads (240 kB a row), masked modelling of `ecg_mdm_toy`. Seconds within
the check and within the whole stage are counted in one run, in one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study import Row, Study, number, percent, table

BATCH = 16


def measured(subjects: int, steps: int) -> Row:
    """Train one stage, and count what is spent in the check."""
    import torch

    import medmcl
    from medmcl.data.loading.cache import WrittenRows
    from medmcl.simulation.kinds import simulate
    from medmcl.stages.train import train

    torch.set_num_threads(1)
    spent = {"check": 0.0, "stage": 0.0}

    def counted(key: str, work: Any) -> Any:
        def within(*args: Any, **more: Any) -> Any:
            began = time.process_time()
            try:
                return work(*args, **more)
            finally:
                spent[key] += time.process_time() - began

        return within

    look, fit = WrittenRows.look, train.fit

    def stage(*args: Any, **more: Any) -> Any:
        counted("stage", fit)(*args, **more)
        raise _MeasuredError

    settings = {"subjects": subjects, "cmr_file_size": 16, "seed": 0}
    inputs = {"rate_hz": 500, "seconds": 10, "crop_seconds": 10}
    changes = {f"inputs.ecg.{key}": value for key, value in inputs.items()}
    changes |= {"stages.mdm.steps": steps, "stages.mdm.batch_size": BATCH}
    with tempfile.TemporaryDirectory() as work:
        cohort = simulate("heart", Path(work) / "cohort", settings)
        WrittenRows.look, train.fit = counted("check", look), stage
        try:
            with suppress(_MeasuredError):
                medmcl.pretrain(
                    cohort, recipe="ecg_mdm_toy", out=Path(work) / "run", device="cpu",
                    overrides=changes,
                )  # fmt: skip
        finally:
            WrittenRows.look, train.fit = look, fit
        rows = np.load(next(Path(work).glob(".prepared/*/ecg.npy")), mmap_mode="r")
    sizes = {"row_bytes": rows[0].nbytes, "steps": steps, "batch": BATCH}
    return {**sizes, **spent, "share": spent["check"] / spent["stage"]}


class _MeasuredError(Exception):
    """The stage that is measured is over."""


def run(given: argparse.Namespace) -> list[Row]:
    return [measured(given.subjects, given.steps)]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subjects", type=int, default=96)
    parser.add_argument("--steps", type=int, default=60)


def parts(rows: list[Row]) -> dict[str, str]:
    columns = {
        "bytes a row": number("row_bytes"), "steps": number("steps"), "rows a step": number("batch"),
        "CPU seconds, stage": number("stage", ".1f"), "of these, check": number("check", ".2f"),
        "share": percent("share", 2),
    }  # fmt: skip
    return {"cost of digests": table(columns, rows), "digest share": percent("share", 2)(rows[0])}


STUDY = Study(__file__, parts=parts, run=run, options=options, page="mutants")

if __name__ == "__main__":
    STUDY.main()
