"""Multistage contrastive learning and negatives of one device on PTB-XL: trainings and embeddings.

    python -m benchmarks.multistage.mcl_ptbxl --work FOLDER [--seeds 5] [--only BLOCK ...]

PTB-XL is found by MEDMCL_DATA. Three blocks are trained a seed, each a recipe of its own:

``ecg``      SimCLR on ECGs: base, two more ordinary encoders (``restart`` 1 and 2), two stages
             within groups of K-means, the joined ones, one distilled from them, and two stages with
             the groups dealt out at random
``report``   the same of ECG~report, clusters of the ECGs; as in `mcl_clip` the two stages go on
             from the base with the report tower locked, at a tenth of the rate
``device``   SimCLR in batches of one device, as many steps as ``base``

All encoders of a block have the same size, views, rate and number of epochs. The block ``device``
has ``base`` of ``ecg`` for its plain SimCLR. The blocks of a seed begin at the same weights.

The ECG features of every encoder go to FOLDER, what each training took is kept, row after row; what
is kept is not made again. ``mcl_ptbxl_scores.py`` scores them.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

import medmcl
from benchmarks.multistage.multistage import seconds_of
from benchmarks.study import Row, Study
from medmcl.data.cohort.cohort import Cohort, open_cohort
from medmcl.stages.cluster.spec import ClusterSpec
from medmcl.stages.run.run import Run

SEEDS = (0, 1, 2, 3, 4)
BLOCKS = ("ecg", "report", "device")
CODES = (
    "SR", "NORM", "ABQRS", "IMI", "LVH", "ASMI", "NDT", "LAFB", "AFIB", "ISC_", "IRBBB", "PVC",
    "STD_", "VCLVH", "SARRH", "NST_", "STACH", "1AVB", "IVCD", "SBRAD", "ISCAL", "QWAVE", "CLBBB",
    "LOWT", "ILMI",
)  # fmt: skip
"""SCP statements of at least 50 records of the subset, whatever their likelihood."""
DEVICES = {
    "AT-6     6": "AT-6 6",
    "AT-60    3": "AT-60 3",
    "CS-12   E": "CS-12 E",
    "CS100    3": "CS100 3",
    **{f"AT-6 C 5.{version}": "AT-6 C 5.x" for version in (0, 3, 5, 6, 8)},
}
"""Versions of one device are one; ``AT-6 C`` and ``CS-12`` stay as they are."""
EPOCHS = 10
STEPS = 150
"""Of ten epochs without groups."""
RATE_HZ = 50
TRIED, CHOSEN = (5, 10), 10
"""K of seed 0 of ``ecg``, compared on fold 9, and of everything else."""
SMALLEST = 32
LR, FURTHER_LR = 1.0e-3, 1.0e-4


def ptbxl() -> Cohort:
    """The cohort ``ptbxl`` with SCP codes as a task, and devices as a subgroup."""
    return open_cohort(
        "ptbxl",
        {
            "tasks.scp": {"kind": "multilabel", "of": "ecg",
                          "columns": {code: f"'{code}' in scp_codes" for code in CODES}},
            "modalities.clinic.columns": {"age": "number", "sex": "category",
                                          "device": "category"},
            "subgroups.device": {"column": "device", "names": DEVICES},
        },
    )  # fmt: skip


def train(name: str, block: str, lr: float = LR, **more: Any) -> dict[str, Any]:
    """One training: all of a block are alike but for ``more``."""
    simclr = {"in_modal": {"modality": "ecg", "scale": {"init": 10.0}}}
    clip = {"cross_modal": {"pairs": [["ecg", "report"]], "loss": "info_nce", "weight": 0.5,
                            "scale": {"init": 14.3, "learned": True}}}  # fmt: skip
    return {
        "stage": "train",
        "name": name,
        "towers": ["ecg"] if block == "ecg" else ["ecg", "report"],
        "objectives": simclr if block == "ecg" else clip,
        "batch_size": 128,
        "epochs": EPOCHS,
        "evaluate_every": EPOCHS,
        "optimiser": {"name": "adamw", "lr": lr, "weight_decay": 0.05, "warmup": 0.1,
                      "clip_norm": 1.0},
        "keep": "last",
        **more,
    }  # fmt: skip


def staged(block: str, clusters: int, *, placebo: bool = False) -> list[dict[str, Any]]:
    """Two cluster stages after ``base``, what is trained within their groups, and one of all."""
    prefix = "placebo_" if placebo else f"k{clusters}_"
    cluster = {"stage": "cluster", "modality": "ecg", "clusters": clusters, "smallest": SMALLEST,
               "stop": False, "placebo": placebo}  # fmt: skip
    first, second = f"{prefix}groups_1", f"{prefix}groups_2"
    on: dict[str, Any] = {}
    if block == "report":
        on = {
            "start_from": {"ecg": "base", "report": "base"},
            "frozen": ["report"],
            "lr": FURTHER_LR,
        }
    stages = [
        {**cluster, "name": first, "of": "base"},
        train(f"{prefix}stage_1", block, groups=first, restart=1, **on),
        {**cluster, "name": second, "of": f"{prefix}stage_1", "after": first},
        train(f"{prefix}stage_2", block, groups=second, restart=2, **on),
        {"stage": "join", "name": f"{prefix}joined",
         "of": ["base", f"{prefix}stage_1", f"{prefix}stage_2"]},
    ]  # fmt: skip
    if not placebo:
        joined = f"{prefix}joined"
        from_it = dict.fromkeys(train("", block)["towers"], joined)
        stages.append(train(f"{prefix}distilled", block, teacher=joined, start_from=from_it,
                            objectives={"distil": {"view": "augmented"}}))  # fmt: skip
    return stages


def recipe(block: str, what: str, seed: int) -> dict[str, Any]:
    """The recipe of one block; ``what`` is ``main`` or ``device``."""
    stages = [train("base", block)]
    if what == "main":
        stages += [train("other_1", block, restart=1), train("other_2", block, restart=2)]
        stages += [{"stage": "join", "name": "ensemble", "of": ["base", "other_1", "other_2"]}]
        for clusters in TRIED if (block, seed) == ("ecg", 0) else (CHOSEN,):
            stages += staged(block, clusters)
        stages += staged(block, CHOSEN, placebo=True)
    else:
        groups = {"columns": ["device"], "smallest": SMALLEST}
        stages = [train("one_device", block, groups=groups, epochs=None, steps=STEPS)]
    view = {"ecg": {"crop": True, "noise": 0.025, "rescale": 0.2, "rescale_may_flip": False,
                    "lead_dropout": 0.2, "time_mask": 0.2}}  # fmt: skip
    if block == "ecg":
        tree: dict[str, Any] = {"extends": "deconfound", "roles": {"ecg": "ecg"}}
        twice = {"at_tuning": "same", "augment": view}
        tree["views"] = {"augmented": twice, "augmented_2": twice}
        tree["inputs"] = {"ecg": {"rate_hz": RATE_HZ, "seconds": 10, "crop_seconds": 8,
                                  "baseline": "highpass", "clip_sigma": None,
                                  "normalise": "none"}}  # fmt: skip
        tree["towers"] = {"ecg": {"encoder": {"name": "resnet1d", "widths": [32, 64, 96, 128]},
                                  "head": {"hidden": 256, "out": 128}}}  # fmt: skip
    else:
        tree = {"extends": "ecg_text", "set": {
            "inputs.ecg.rate_hz": RATE_HZ,
            "inputs.report.max_tokens": 48,
            "inputs.report.vocabulary": 2000,
            "towers.ecg.encoder.widths": [32, 64, 96, 128],
            "towers.ecg.head.hidden": 256,
            "towers.report.encoder.width": 64,
            "towers.report.encoder.depth": 1,
            "towers.report.head.hidden": 256,
        }}  # fmt: skip
    about = "one block of the study"
    return {**tree, "name": what, "about": about, "source": "benchmarks/multistage/mcl_ptbxl.py",
            "stages": stages}  # fmt: skip


def made(cohort: Cohort, work: Path, block: str, what: str, seed: int) -> list[dict[str, Any]]:
    """Train a recipe, keep the ECG features of its stages, and give a row a stage."""
    import torch

    from medmcl.stages.run.features import sample_vectors

    folder = work / "runs" / f"{block}-{what}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    written = work / f"recipe-{block}-{what}-{seed}.yaml"
    written.write_text(yaml.safe_dump(recipe(block, what, seed), sort_keys=False), encoding="utf-8")
    began = time.process_time()
    run = medmcl.pretrain(cohort, recipe=written, out=folder, seed=seed, device="cpu",
                          precision="bf16")  # fmt: skip
    assert run is not None  # one process
    seconds = time.process_time() - began
    prepared = run.prepare(cohort, ("ecg",))
    vectors = {
        name: sample_vectors(run, prepared, name, "ecg", "features", torch.device("cpu")).astype(
            np.float32
        )
        for name in run.stages
    }
    aside = work / "vectors"
    aside.mkdir(exist_ok=True)
    np.savez(aside / f"{block}-{what}-{seed}.npz", **vectors)  # type: ignore[arg-type]  # arrays by name
    return [{"block": block, "what": what, "seed": seed, "cpu_s": round(seconds, 1),
             "stages": list(vectors), "epochs": EPOCHS, "groups": _groups(run),
             "wall_seconds": seconds_of(run)}]  # fmt: skip


def _groups(run: Run) -> dict[str, Any]:
    """Sizes of the groups of cluster stages, train and tuning rows."""
    found = {}
    for name in run.of(ClusterSpec):
        table = pd.read_parquet(run.path / "groups" / f"{name}.parquet")
        sizes = table.loc[table["group"] >= 0, "group"].value_counts()
        found[name] = {"groups": len(sizes), "smallest": int(sizes.min()),
                       "largest": int(sizes.max())}  # fmt: skip
    return found


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=BLOCKS, default=BLOCKS)


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    import torch

    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    done: list[Row] = STUDY.kept(given.out) or []
    cohort = ptbxl()
    for seed in SEEDS[: given.seeds]:
        for block, what in (("ecg", "main"), ("report", "main"), ("ecg", "device")):
            key = {"block": block, "what": what, "seed": seed}
            if (block if what == "main" else what) not in given.only:
                continue
            if any(key.items() <= row.items() for row in done):
                continue
            done += made(cohort, given.work, block, what, seed)
            print(done[-1], flush=True)
            yield done


STUDY = Study(__file__, parts=lambda _: {}, run=run, options=options, seeds=len(SEEDS))


if __name__ == "__main__":
    STUDY.main()
