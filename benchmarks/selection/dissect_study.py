"""Training on a part of each batch against training on all of it: accuracy against total time.

    python -m benchmarks.selection.dissect_study --work FOLDER

Pictures and captions of `medmcl simulate shapes`, all pairs right or 40 % of the captions swapped;
recipe `dissect_toy` with each selector and ratio, `clip_toy` for full training. `SETTINGS` and
`plan` were fixed beforehand (``--pilot --out OTHER`` scores the tuning split of one seed); nothing is chosen on
the held-out split. Full training is also made with fewer epochs, its schedule shortened with it:
as many as take the time of a selector at each ratio (`EQUAL_TIME`).

Time is processor time of one thread over the whole train stage, warm-up, scoring, second loading of
the kept rows, tuning loss and checkpoints included; what of it is scoring and choosing is measured
apart. Which rows each step kept is noted on the way, and set against the truth of the cohort.

Runs that are kept are not made again.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import yaml

import medmcl
from benchmarks.selection.dissect_study_page import (
    ATTRIBUTES,
    EPOCHS,
    EQUAL_TIME,
    LATE,
    NOISE,
    SELECTORS,
    draw,
    parts,
)
from benchmarks.study import Row, Study
from medmcl.data.cohort.cohort import Cohort, open_cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation import linear_probe
from medmcl.evaluation.aspects.retrieval.measure import ranks
from medmcl.evaluation.models.zero_shot import zero_shot_classes
from medmcl.simulation.kinds import simulate
from medmcl.stages.run.run import Run

SEEDS = (0, 1, 2)
PAIR = ["image", "caption"]
COHORT: dict[str, Any] = {
    "subjects": 2500,
    "tuning": 0.12,
    "held_out": 0.48,
    "size": 32,
    "seed": 11,
    "shapes": 6,
    "colours": 6,
    "textures": 3,
    "counts": 1,
    "positions": 1,
    "pixel_noise": 0.02,
    "caption_detail": ["texture", "colour"],
}
SETTINGS: dict[str, Any] = {
    "inputs.picture.size": 32,
    "inputs.caption.max_tokens": 12,
    "stages.contrast.keep": "last",
    "stages.contrast.evaluate_every": 5,
}
TIMED, ROUNDS = "differential momentum", 5


def plan() -> list[dict[str, Any]]:
    """Runs in the order in which they are made: seed after seed, the least needed ones last."""
    main = [("full", 1.0, epochs) for epochs in (EPOCHS, *EQUAL_TIME.values())]
    for name in ("differential warmup", "differential momentum"):
        main += [(name, ratio, EPOCHS) for ratio in (0.2, 0.3, 0.5)]
    rivals = ("random", "small_loss", "big_loss", "clip_score")
    at_03, at_05 = ([(name, ratio, EPOCHS) for name in rivals] for ratio in (0.3, 0.5))
    late = (LATE, 0.5, EPOCHS)
    order = [(seed, noise, *arm) for seed in SEEDS for noise in NOISE for arm in [*main, *at_03]]
    order += [(seed, 0.4, *arm) for seed in SEEDS for arm in [*at_05, late]]
    order += [(seed, 0.0, *arm) for seed in SEEDS for arm in at_05]
    return [
        {"noise": noise, "arm": arm, "ratio": ratio, "epochs": epochs, "seed": seed}
        for seed, noise, arm, ratio, epochs in order
    ]


def cohort(work: Path, noise: float) -> Path:
    """The cohort with a share of swapped captions; made once."""
    folder = work / f"shapes-{noise:g}"
    if not (folder / "cohort.yaml").is_file():
        simulate("shapes", folder, {**COHORT, "noisy_pairs": noise})
    return folder


def recipe(work: Path, name: str) -> Path:
    """A recipe of the library without its evaluation, which this study makes itself."""
    file = work / f"{name}_only.yaml"
    file.write_text(yaml.safe_dump({"extends": name, "drop": ["results"]}), encoding="utf-8")
    return file


class Witness:
    """Which rows each epoch kept, and processor seconds of the stage, its scoring and its looks."""

    def __init__(self) -> None:
        self.kept: dict[int, list[np.ndarray]] = defaultdict(list)
        self.offered: dict[int, list[np.ndarray]] = defaultdict(list)
        self.seconds = dict.fromkeys(("total", "scoring", "tuning"), 0.0)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what train stages do within."""
        from medmcl.engine import loop
        from medmcl.stages.train import train

        keep_rows, fit, evaluate = loop.keep_rows, train.fit, loop.Training.evaluate

        def keeping(rows: np.ndarray, *args: Any, epoch: int, **named: Any) -> np.ndarray:
            began = time.thread_time()
            kept = keep_rows(rows, *args, epoch=epoch, **named)
            self.seconds["scoring"] += time.thread_time() - began
            self.kept[epoch].append(kept)
            self.offered[epoch].append(rows)
            return kept

        def fitting(*args: Any, **named: Any) -> Any:
            began = time.process_time()
            state = fit(*args, **named)
            self.seconds["total"] += time.process_time() - began
            return state

        def looking(*args: Any, **named: Any) -> Any:
            began = time.thread_time()
            better = evaluate(*args, **named)
            self.seconds["tuning"] += time.thread_time() - began
            return better

        with (
            patch.object(loop, "keep_rows", keeping),
            patch.object(train, "fit", fitting),
            patch.object(loop.Training, "evaluate", looking),
        ):
            yield

    def rounded(self) -> dict[str, float]:
        """Seconds for the record."""
        return {name: round(value, 3) for name, value in self.seconds.items()}

    def precision(self, noisy: np.ndarray) -> dict[str, list[float]]:
        """Share of right pairs among the kept and among the offered rows, epoch by epoch."""
        return {
            name: [
                round(1 - float(noisy[np.concatenate(rows[epoch])].mean()), 4)
                for epoch in sorted(rows)
            ]
            for name, rows in {"kept": self.kept, "offered": self.offered}.items()
        }


def trained(work: Path, asked: dict[str, Any]) -> tuple[Run, Witness]:
    """Train one model under a witness."""
    from medmcl.stages.run import report

    folder = work / "runs" / "-".join(str(v) for v in asked.values()).replace(" ", "_")
    shutil.rmtree(folder, ignore_errors=True)
    settings = {**SETTINGS, "stages.contrast.epochs": asked["epochs"]}
    is_full = asked["arm"] == "full"
    if not is_full:
        settings["stages.contrast.selector"] = {
            **SELECTORS[asked["arm"]], "pair": PAIR, "share": asked["ratio"],
        }  # fmt: skip
    witness = Witness()
    with witness.watching(), patch.object(report, "write_run_report", lambda *_, **__: None):
        run = medmcl.pretrain(
            cohort(work, asked["noise"]),
            recipe=recipe(work, "clip_toy" if is_full else "dissect_toy"),
            out=folder,
            seed=asked["seed"],
            device="cpu",
            precision="fp32",
            overrides=settings,
        )
    assert run is not None
    return run, witness


def one_run(work: Path, asked: dict[str, Any], split: str) -> dict[str, Any]:
    """Train and score one model; what each subject of the split got right comes along."""
    run, witness = trained(work, asked)
    facts = run.facts("contrast")
    where = cohort(work, asked["noise"])
    opened = open_cohort(where)
    prepared = run.prepare(opened, tuple(PAIR))
    truth = pd.read_parquet(where / "truth.parquet").set_index("subject_id")
    truth = truth.loc[opened.subjects.index[prepared.subjects]]
    found = {
        "right": {
            name: "".join(str(int(one)) for one in right)
            for name, right in scores(run, opened, prepared, truth, split).items()
        },
        "precision": witness.precision(truth["noisy"].to_numpy(bool)),
        "cpu": witness.rounded(),
        **{
            name: facts.get(name)
            for name in ("seconds", "selection_seconds", "steps", "rows", "judged_rows",
                         "kept_rows", "skipped_steps", "batch_size", "parameters")
        },
    }  # fmt: skip
    shutil.rmtree(run.path, ignore_errors=True)
    return found


def costs(work: Path) -> Iterator[dict[str, Any]]:
    """Time of a few epochs of each arm, in turns, so that what else the machine does hits all."""
    arms = [("full", 1.0), *((TIMED, ratio) for ratio in EQUAL_TIME), ("small_loss", 0.3)]
    for number in range(-1, ROUNDS):  # the first round warms up, and is not kept
        for arm, ratio in arms:
            asked = {"noise": 0.4, "arm": arm, "ratio": ratio, "epochs": 4, "seed": 9}
            run, witness = trained(work, asked)
            shutil.rmtree(run.path, ignore_errors=True)
            if number >= 0:
                yield {"round": number, "arm": arm, "ratio": ratio, "cpu": witness.rounded()}


def scores(
    run: Run, opened: Cohort, prepared: Prepared, truth: pd.DataFrame, split: str
) -> dict[str, np.ndarray]:
    """Whether each subject of a split was right: zero-shot, retrieval, probe."""
    import torch

    from medmcl.stages.evaluate.scene import embed_prompts
    from medmcl.stages.run.features import sample_vectors

    rows = prepared.rows(split)
    points = {
        name: sample_vectors(run, prepared, "contrast", name, "pooled", torch.device("cpu"))[rows]
        for name in PAIR
    }
    features = sample_vectors(run, prepared, "contrast", "image", "features", torch.device("cpu"))
    prompts = opened.spec.keys.prompts
    right: dict[str, np.ndarray] = {}
    for task in ATTRIBUTES:
        classes = list(prompts[task])
        is_true = truth[task].to_numpy()[rows]
        texts = embed_prompts(
            run, prepared, "contrast", "caption", prompts[task], torch.device("cpu")
        )
        said = np.array(classes)[
            zero_shot_classes(points["image"], list(texts.values()), logit_scale=10.0).argmax(1)
        ]
        right[f"zero-shot {task}"] = said == is_true
        targets = prepared.tasks(task)
        probe = linear_probe(
            features, targets, prepared.rows("train"), prepared.rows("tuning"),
            strengths=(100.0, 10.0, 1.0),
        )  # fmt: skip
        said = np.array(targets.classes)[probe.predict(features[rows]).argmax(1)]
        right[f"probe {task}"] = said == is_true
    identity = pd.factorize(truth[list(ATTRIBUTES)].agg("/".join, axis=1))[0][rows]
    for name, (a, b) in {"image to text": PAIR, "text to image": PAIR[::-1]}.items():
        right[name] = ranks(points[a], points[b], identity, identity) == 1
    return right


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A run in a line: shares right in place of subjects."""
    means = {name: round(right.count("1") / len(right), 3) for name, right in row["right"].items()}
    return {**row, "right": means, "precision": row["precision"]["kept"][-1:]}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pilot", action="store_true", help="seed 7, scored on the tuning split")


def run(given: argparse.Namespace) -> Iterator[list[Row]]:
    import torch

    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    done: list[Row] = STUDY.kept(given.out) or []
    runs = [{**one, "seed": 7} for one in plan() if one["seed"] == 0] if given.pilot else plan()
    for asked in runs:
        if not any(asked.items() <= row.items() for row in done):
            split = "tuning" if given.pilot else "held_out"
            done.append(asked | one_run(given.work, asked, split))
            print(shown(done[-1]), flush=True)
            yield done
    if not any("round" in row for row in done):
        yield [*done, *costs(given.work)]


STUDY = Study(__file__, parts=parts, run=run, options=options, draw=draw)

if __name__ == "__main__":
    STUDY.main()
