"""Do scores find wrong pairs, and does it help to train without them? Simulated, and on PTB-XL.

    python -m benchmarks.selection.noisy_pairs WORLD --work FOLDER

WORLD is ``shapes`` (`medmcl simulate shapes`: pictures of 32 pixels and captions that name shape,
colour and texture) or ``ptbxl`` (ECGs and their reports, found by MEDMCL_DATA). A known share of
the train pairs, 10, 20 or 40 %, has the caption or report of another; tuning and held-out pairs
are clean. A swapped pair counts as noise only if its text or its labels differ from its own.

Finding noise: pairs are scored by two teachers that were trained on the noisy pairs, each without
the half of the subjects that it scores (cross-fitted); by one trained on all of them (in sample);
and by two cross-fitted ones trained on the clean pairs (a ceiling nobody has). Noise is what has
the lowest scores, as many as there were swapped.

Training: on all pairs, on a random part, on what CLIP score, negCLIPLoss (cross-fitted teachers)
or the truth keep, as many pairs as were not swapped; the same number of steps each, the checkpoint
of the lowest tuning loss. Three seeds of weights and batches; the swaps are the same. Held-out
subjects are scored once.

NormSim sees one side of a pair, so it cannot find noise: it is judged by how many of what it keeps
have the label that its target, tuning rows with that label, has.

Runs are noted in FOLDER, one after another, and not made again; at the end all are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.metrics import roc_auc_score

import medmcl
from benchmarks.selection.noisy_pairs_page import ARMS, SEEDS, SHARES, parts, summed
from benchmarks.study import Study
from medmcl.data.cohort.cohort import Cohort, open_cohort
from medmcl.evaluation.aspects.retrieval.measure import ranks
from medmcl.evaluation.models.probe import linear_probe
from medmcl.evaluation.models.zero_shot import zero_shot_classes, zero_shot_labels
from medmcl.simulation.kinds import simulate
from medmcl.stages.run.run import Run

SCORERS = ("clip_score", "neg_clip_loss")
RELEVANT = 0.2
"""Share that NormSim keeps."""
HALVES = ("half-0", "half-1")
SHAPES = {
    "subjects": 3000,
    "tuning": 0.1,
    "held_out": 0.4,
    "size": 32,
    "seed": 17,
    "shapes": 6,
    "colours": 6,
    "textures": 3,
    "counts": 1,
    "positions": 1,
    "pixel_noise": 0.02,
    "caption_detail": ["texture", "colour"],
}


@dataclass(frozen=True, kw_only=True)
class World:
    """A cohort whose pairs can be swapped, and how it is learned.

    Attributes:
        image, text: Its two modalities.
        tasks: Tasks of zero-shot and probe.
        hits: K of the recall that is told.
        target: Task and label that NormSim should be near to.
        steps, batch, rate, decay: Of every training.
        every: Epochs between tuning losses.
    """

    name: str
    image: str
    text: str
    tasks: tuple[str, ...]
    hits: int
    target: tuple[str, str]
    steps: int
    batch: int
    rate: float
    decay: float
    every: float

    def cohort(self, work: Path, share: float) -> Cohort:
        """The cohort with a share of its train pairs swapped."""
        if self.name == "ptbxl":
            return open_cohort("ptbxl", {"noisy_pairs.share": share})
        folder = work / f"cohort-{round(100 * share)}"
        if not (folder / "cohort.yaml").is_file():
            simulate("shapes", folder, {**SHAPES, "noisy_pairs": share})
        return open_cohort(folder)

    def noise(self, cohort: Cohort, work: Path, share: float) -> pd.Series:
        """Whether the pair of a sample is noise, by sample id."""
        if self.name == "ptbxl":
            return pd.Series(cohort.noise.noisy, cohort.samples["sample"].astype(str))  # type: ignore[union-attr]  # pairs are swapped
        path = work / f"cohort-{round(100 * share)}" / "truth.parquet"
        truth = pd.read_parquet(path).set_index("subject_id")["noisy"]
        return pd.Series(truth.to_numpy(bool), truth.index.astype(str))


WORLDS = {
    "shapes": World(
        name="shapes", image="image", text="caption", tasks=("shape", "colour", "texture"), hits=1,
        target=("colour", "red"), steps=450, batch=64, rate=1.0e-3, decay=0.2, every=3,
    ),
    "ptbxl": World(
        name="ptbxl", image="ecg", text="report", tasks=("superclass",), hits=10,
        target=("superclass", "MI"), steps=150, batch=128, rate=1.0e-3, decay=0.05, every=1,
    ),
}  # fmt: skip


def recipe(world: World, *, halves: bool) -> dict[str, Any]:
    """One training, or two that leave out a half of the subjects each."""
    train: dict[str, Any] = {
        "stage": "train",
        "name": "contrast",
        "towers": [world.image, world.text],
        "objectives": {
            "cross_modal": {"pairs": [[world.image, world.text]], "loss": "info_nce",
                            "weight": 0.5, "scale": {"init": 14.3, "learned": True}},
        },
        "batch_size": world.batch,
        "steps": world.steps,
        "evaluate_every": world.every,
        "keep": "best",
        "optimiser": {"name": "adamw", "lr": world.rate, "weight_decay": world.decay,
                      "warmup": 0.1, "clip_norm": 1.0},
    }  # fmt: skip
    if halves:
        train |= {"name": "half-{half}", "for_each": {"half": [0, 1]}, "without_fold": "{half}"}
    if world.name == "ptbxl":
        return {
            "extends": "ecg_text_toy",
            "name": "noisy",
            "about": "one training on ECGs and their reports",
            "source": "benchmarks/selection/noisy_pairs.py",
            "set": {"towers.ecg.encoder.widths": [24, 48, 72, 96]},
            "stages": [train],
        }
    return {
        "extends": "clip_toy",
        "name": "noisy",
        "about": "one training on pictures and their captions",
        "source": "benchmarks/selection/noisy_pairs.py",
        "set": {"inputs.picture.size": 32, "inputs.caption.max_tokens": 12},
        "stages": [train],
    }


def trained(
    world: World, work: Path, share: float, seed: int, *, halves: bool, keep: Path | None = None
) -> tuple[Run, float]:
    """Train once in a folder of its own; give the run and its processor seconds."""
    folder = work / "runs" / f"{'halves' if halves else 'one'}-{round(100 * share)}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    written = work / "recipe.yaml"
    tree = recipe(world, halves=halves)
    written.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    began = time.process_time()
    run = medmcl.pretrain(
        world.cohort(work, share), recipe=written, out=folder, seed=seed, device="cpu", keep=keep
    )
    assert run is not None  # one process
    return run, time.process_time() - began


def found_noise(
    run: Run, cohort: Cohort, noise: pd.Series, stages: tuple[str, ...], folder: Path, share: float
) -> list[dict[str, Any]]:
    """How well each score finds noise with these teachers; keep files stay in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind in SCORERS:
        path = folder / f"{kind}.parquet"
        done = medmcl.select(
            run, cohort, out=path, by=[f"{kind}:{1 - share:g}"], stages=stages, device="cpu",
            overwrite=True,
        )  # fmt: skip
        wrong = noise.reindex(done.keep.ids).to_numpy(bool)
        left = ~done.keep.kept
        rows.append(
            {
                "scorer": kind,
                "auroc": float(roc_auc_score(wrong, -done.keep.scores[kind])),
                "precision": float(wrong[left].mean()),
                "recall": float(left[wrong].mean()),
                "base rate": float(wrong.mean()),
                "pairs": len(wrong),
                "seconds": done.seconds,
            }
        )
    return rows


def relevance(run: Run, cohort: Cohort, world: World, work: Path) -> list[dict[str, Any]]:
    """How many of what NormSim keeps have the label of its target."""
    task, label = world.target
    rows = []
    for p in (2, "inf"):
        done = medmcl.select(
            run, cohort, out=work / "near.parquet", by=[f"norm_sim:{RELEVANT}"],
            stages=HALVES, device="cpu", overwrite=True,
            overrides={"select.pair": [world.image, world.text], "select.scores.norm_sim.p": p,
                       "select.scores.norm_sim.target": {"task": task, "label": label}},
        )  # fmt: skip
        targets = cohort.targets(task)
        names = targets.classes if targets.kind == "multiclass" else targets.columns
        column = list(map(str, names)).index(label)
        has = (
            targets.values[:, 0] == column
            if targets.kind == "multiclass"
            else targets.values[:, column] > 0
        )[done.rows]
        rows.append(
            {
                "p": str(p),
                "kept": float(has[done.keep.kept].mean()),
                "base rate": float(has.mean()),
            }
        )
    return rows


def scored(run: Run, world: World, cohort: Cohort, work: Path, name: str) -> dict[str, Any]:
    """What each held-out subject got right; predictions of tasks go to ``work``."""
    import torch

    from medmcl.stages.run.features import sample_vectors

    prepared = run.prepare(cohort, (world.image, world.text))
    rows = prepared.rows("held_out", (world.image, world.text))
    points = {
        side: sample_vectors(run, prepared, "contrast", side, "pooled", torch.device("cpu"))
        for side in (world.image, world.text)
    }
    image, text = (points[side][rows] for side in (world.image, world.text))
    identity = prepared.identity(world.text)[rows]
    right = {
        way: (ranks(a, b, identity, identity) <= world.hits).astype(int).tolist()
        for way, a, b in (("image to text", image, text), ("text to image", text, image))
    }
    features = sample_vectors(
        run, prepared, "contrast", world.image, "features", torch.device("cpu")
    )
    predictions: dict[str, np.ndarray] = {}
    for task in world.tasks:
        predictions[f"zero-shot {task}"] = zero_shot(run, world, cohort, prepared, points, task)
        targets = prepared.tasks(task)
        train = prepared.rows("train", (world.image,))
        train = train[targets.known[train].any(axis=1)]
        tuning = prepared.rows("tuning", (world.image,))
        fitted = linear_probe(features, targets, train, tuning)
        predictions[f"probe {task}"] = fitted.predict(features)
    folder = work / "predictions"
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / f"{name}.npz", **predictions)  # type: ignore[arg-type]  # arrays by name
    return {"right": right}


def zero_shot(
    run: Run, world: World, cohort: Cohort, prepared: Any, points: Mapping[str, np.ndarray],
    task: str,
) -> np.ndarray:  # fmt: skip
    """Probabilities by the prompts of the cohort, (N, C)."""
    import torch

    from medmcl.stages.evaluate.scene import embed_prompts

    prompts = cohort.spec.keys.prompts[task]
    targets = prepared.tasks(task)
    names = targets.classes if targets.kind == "multiclass" else targets.columns
    told = embed_prompts(run, prepared, "contrast", world.text, prompts, torch.device("cpu"))
    said = [told[str(name)] for name in names]
    if targets.kind == "multiclass":
        return zero_shot_classes(points[world.image], said, logit_scale=10.0)
    others = [
        np.concatenate([p for k, p in enumerate(said) if k != own]) for own in range(len(said))
    ]
    return zero_shot_labels(points[world.image], said, others, logit_scale=10.0)


def kept_by(arm: str, noise: pd.Series, folder: Path, seed: int) -> Path | None:
    """The keep file of an arm: `found_noise` left those of the scorers."""
    from medmcl.selection.keep import Keep

    if arm == "all":
        return None
    if arm in SCORERS:
        return folder / f"{arm}.parquet"
    like = Keep.load(folder / "clip_score.parquet")
    if arm == "truth":
        kept = ~noise.reindex(like.ids).to_numpy(bool)
    else:
        kept = np.zeros(len(like), dtype=bool)
        number = int(like.kept.sum())
        kept[np.random.default_rng(seed).permutation(len(like))[:number]] = True
    path = folder / f"{arm}.parquet"
    Keep(ids=like.ids, kept=kept, rule=arm, cohort=like.cohort).save(path)
    return path


class Runs:
    """The runs of one world, and the file they are written to."""

    def __init__(self, world: World, work: Path, file: Path) -> None:
        self.world, self.work, self.file = world, work, file
        self.done: list[dict[str, Any]] = (
            json.loads(file.read_text("utf-8")) if file.is_file() else []
        )

    def add(self, key: Mapping[str, Any], *rows: dict[str, Any]) -> None:
        """Keep rows."""
        for row in rows:
            self.done.append({**key, **row})
            told = {k: v for k, v in self.done[-1].items() if k != "right"}
            print(json.dumps(told), flush=True)
        self.file.write_text(json.dumps(self.done) + "\n", encoding="utf-8")

    def there(self, **key: Any) -> bool:
        """Whether a row is kept already."""
        return any(key.items() <= row.items() for row in self.done)

    def clean_teachers(self, seed: int) -> None:
        """Score every noisy cohort by teachers of the clean one."""
        if all(self.there(teacher="clean", share=share, seed=seed) for share in SHARES):
            return
        run, _ = trained(self.world, self.work, 0.0, seed, halves=True)
        for share in SHARES:
            cohort, noise = self.noisy(share)
            rows = found_noise(run, cohort, noise, HALVES, self.work / "clean", share)
            key = {"share": share, "seed": seed, "teacher": "clean"}
            if not self.there(**key):
                self.add(key, *rows)

    def noisy(self, share: float) -> tuple[Cohort, pd.Series]:
        """The cohort with wrong pairs, and which they are."""
        cohort = self.world.cohort(self.work, share)
        return cohort, self.world.noise(cohort, self.work, share)

    def kept(self, share: float, seed: int) -> Path:
        """Folder of the keep files of the cross-fitted teachers."""
        return self.work / "keep" / f"{round(100 * share)}-{seed}"

    def find(self, share: float, seed: int) -> None:
        """Find noise with teachers of the noisy cohort."""
        key = {"share": share, "seed": seed}
        if self.there(teacher="cross-fitted", **key):
            return
        cohort, noise = self.noisy(share)
        run, seconds = trained(self.world, self.work, share, seed, halves=True)
        rows = found_noise(run, cohort, noise, HALVES, self.kept(share, seed), share)
        self.add({**key, "norm_sim": True}, *relevance(run, cohort, self.world, self.work))
        self.add({**key, "teacher": "cross-fitted", "training": seconds}, *rows)

    def arms(self, share: float, seed: int) -> None:
        """Train on what each arm keeps."""
        cohort, noise = self.noisy(share)
        for arm in ARMS:
            if not self.there(arm=arm, share=share, seed=seed):
                self.one_arm(arm, cohort, noise, share, seed)

    def one_arm(self, arm: str, cohort: Cohort, noise: pd.Series, share: float, seed: int) -> None:
        """Train on what an arm keeps, and score it."""
        key = {"share": share, "seed": seed}
        keep = kept_by(arm, noise, self.kept(share, seed), seed)
        run, seconds = trained(self.world, self.work, share, seed, halves=False, keep=keep)
        pairs = (run.facts("contrast") or {})["rows"]
        name = f"{round(100 * share)}-{seed}-{arm}"
        found = scored(run, self.world, cohort, self.work, name)
        if arm == "all" and not self.there(teacher="in sample", **key):
            aside = self.work / "in-sample"
            rows = found_noise(run, cohort, noise, ("contrast",), aside, share)
            self.add({**key, "teacher": "in sample"}, *rows)
        self.add({**key, "arm": arm, "training": seconds, "pairs": pairs}, found)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", choices=WORLDS)
    parser.add_argument("--work", type=Path, required=True)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Make the runs of a world that are not in FOLDER, and sum them up."""
    import torch

    torch.set_num_threads(1)
    world, work = WORLDS[given.world], given.work / given.world
    work.mkdir(parents=True, exist_ok=True)
    runs = Runs(world, work, work / "runs.json")
    for seed in SEEDS:
        runs.clean_teachers(seed)
        for share in SHARES:
            runs.find(share, seed)
    for share in SHARES:
        for seed in SEEDS:
            runs.arms(share, seed)
    found = {"runs": runs.done, **summed(world, work, runs.done)}
    return {**(STUDY.kept(given.out) or {}), given.world: found}


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
