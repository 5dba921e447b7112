"""What does the stop rule of a cluster stage see? Vectors of `simulate trifactor`, five seeds.

    python -m benchmarks.multistage.multistage_adds --work FOLDER

``adds``: the share of a stage's embedding that no linear map of an earlier one gives, on train rows
(0 nothing new, 1 nothing in common). Of MCL's stages; of an ordinary stage of another start; of one
within groups dealt out at random; and of the first stage trained for 100 steps more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.multistage.multistage import COHORTS, SEEDS, recipe_of, run_of
from benchmarks.study import Study, grid
from medmcl.grouping import added
from medmcl.simulation.kinds import simulate

ASKED = {
    "stage 1 over base": ("stage_1", ("base",)),
    "stage 2 over base and stage 1": ("stage_2", ("base", "stage_1")),
    "another start over base": ("other_1", ("base",)),
    "placebo stage over base": ("placebo_1", ("base",)),
    "base, 100 steps more, over base": ("longer", ("base",)),
}


def of_seed(work: Path, seed: int) -> dict[str, float]:
    """What each stage adds in the world of one seed."""
    cohort = work / f"cohort-{seed}"
    if not cohort.exists():
        simulate("trifactor", cohort, {**COHORTS["vectors"], "seed": seed})
    tree = recipe_of("vectors", ("placebo", "ensemble"), {}, "hard")
    base = next(stage for stage in tree["stages"] if stage["name"] == "base")
    longer = {"name": "longer", "start_from": {"record": "base"}, "steps": 100}
    tree["stages"].append({**base, **longer})
    run = run_of("vectors", cohort, tree, seed, work / "run")
    people = pd.read_csv(cohort / "participants.tsv", sep="\t", dtype=str).set_index("subject_id")
    train = people.index[people["split"] == "train"]

    def embedded(stage: str) -> np.ndarray:
        frame = run.embed(cohort, modality="vector", stage=stage)
        frame.index = frame.index.get_level_values("subject")
        return np.asarray(frame.filter(regex=r"^e\d+$").loc[train])

    stages = {name for new, before in ASKED.values() for name in (new, *before)}
    vectors = {name: embedded(name) for name in stages}
    return {
        asked: round(added(vectors[new], np.hstack([vectors[one] for one in before]), seed), 4)
        for asked, (new, before) in ASKED.items()
    }


def parts(rows: list[dict[str, float]]) -> dict[str, str]:
    lines = []
    for asked in ASKED:
        values = [100 * one[asked] for one in rows]
        lines.append([asked, f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"])
    return {"adds": grid(["what", "adds, mean (least to most), %"], lines)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, required=True)


def run(given: argparse.Namespace) -> list[dict[str, float]]:
    import torch

    torch.set_num_threads(1)
    return [of_seed(given.work, seed) for seed in SEEDS]


STUDY = Study(__file__, parts=parts, run=run, options=options, page="multistage")

if __name__ == "__main__":
    STUDY.main()
