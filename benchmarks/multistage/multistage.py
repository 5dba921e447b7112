"""What does multistage contrastive learning find that one stage leaves unlearned?

    python -m benchmarks.multistage.multistage WORLD --work FOLDER [--seeds 0 1 ...]

WORLD, of `medmcl simulate trifactor`:

vectors   three factors of unequal ease (levels 10), two draws of noise are the two views
captions  the same vectors with captions that name the factors (CLIP-style), and pairs of held-out
          subjects that differ in the hard factor only
digits    handwritten digits above 0 to 10 random bits that both views share (RandBit)
pictures  drawn shapes in colours and textures, 32 pixels, alone and with captions, a ResNet and a
          ViT

Arms, all of the recipe `mcl_toy` or `mcl_clip_toy` unless said: ``base`` one stage; ``stage_1`` and
``stage_2`` alone; ``joined`` MCL, the three side by side; ``ensemble`` three ordinary encoders of
other first weights and batches, as wide as MCL; ``placebo`` MCL within groups dealt out at random;
``last`` MCL whose second groups are those of the last partition alone, as the authors' script has
them (a third clustering of both says what they fall back to); ``oracle`` MCL whose groups are the
true levels of the easy factor, then of the two easier ones; ``distilled`` one encoder that learns
from MCL; ``ceiling`` the encoder trained with the labels of the hardest factor; ``untrained``.

A ridge classifier, its penalty chosen on tuning, names the level of each factor from frozen
features; held-out subjects are scored once. The world and everything trained change with the seed.

Rows are kept seed after seed; what is kept is not made again.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import normalized_mutual_info_score

import medmcl
from benchmarks.multistage.multistage_page import parts
from benchmarks.study import Row, Study
from medmcl.data.cohort.cohort import open_cohort
from medmcl.evaluation.aspects.paired_choice.measure import right_pairs
from medmcl.grouping import Groups
from medmcl.simulation.kinds import simulate
from medmcl.stages.cluster.spec import ClusterSpec
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.run.run import Run

SEEDS = (0, 1, 2, 3, 4)
VECTORS = {"subjects": 4300}
MCL = ("base", "groups_1", "stage_1", "groups_2", "stage_2", "joined")
PENALTIES = (0.1, 1.0, 10.0, 100.0)
BITS = (0, 2, 4, 6, 8, 10)
EXTRA: dict[str, dict[str, Any]] = {
    "ensemble": {"of": ["base", "other_1", "other_2"]},
    "placebo": {"of": ["base", "placebo_1", "placebo_2"]},
    "last": {"of": ["base", "stage_1", "last_2"]},
    "oracle": {"of": ["base", "oracle_1", "oracle_2"]},
}
"""Arms that are joined of other stages than those of MCL."""
VIEW_SETTINGS = {
    "digits": {
        "rotation_deg": 0, "zoom": [1.0, 1.0], "crop": [0.85, 1.0], "brightness": 0.1,
        "contrast": 0.3, "noise": 0.3,
    },
    "pictures": {
        "rotation_deg": 15, "zoom": [0.9, 1.1], "crop": [0.7, 1.0], "brightness": 0.05,
        "contrast": 0.05, "noise": 0.05,
    },
}  # fmt: skip
VIT = {
    "name": "timm", "model": "vit_tiny_patch16_224",
    "options": {"embed_dim": 64, "depth": 2, "num_heads": 4},
}  # fmt: skip
"""Four by four patches, whatever the size of the pictures."""
DECAYING = {"name": "adamw", "weight_decay": 1e-4, "warmup": 0.1, "schedule": "cosine"}
RESNET = {
    "name": "timm", "model": "resnet10t",
    "options": {"channels": [32, 64, 96, 128], "stem_width": 16},
}  # fmt: skip


def recipe_of(
    world: str, arms: Iterable[str], changes: Mapping[str, Any], factor: str
) -> dict[str, Any]:
    """Give a recipe with the stages that arms need, from the shipped toy."""
    clip = world == "captions" or changes.get("clip", False)
    tree = json.loads(
        read_recipe("mcl_clip_toy" if clip else "mcl_toy").model_dump_json(by_alias=True)
    )
    known = {stage["name"]: stage for stage in tree["stages"]}
    main = next(iter(tree["roles"]))
    tree["stages"] = [known[name] for name in MCL]
    arms = set(arms)
    tree["stages"] += _controls(world, arms, known)
    for name, spec in EXTRA.items():
        if name in arms:
            tree["stages"].append({**known["joined"], "name": name, **spec})
    if "distilled" in arms:
        tree["stages"].append(known["distilled"])
    if "ceiling" in arms:
        tree["stages"].append(_ceiling(known["base"], main, factor))
    _change(tree, world, changes, main)
    return tree


def _controls(world: str, arms: set[str], known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The stages that arms beside MCL are joined of."""
    stages: list[dict[str, Any]] = []
    if "ensemble" in arms:
        for number in (1, 2):
            other = copy.deepcopy(known["base"])
            stages.append({**other, "name": f"other_{number}", "restart": number})
    if "placebo" in arms:
        stages += _placebo(known)
    if "oracle" in arms:
        for number in (1, 2):
            own = {"columns": list(FACTORS[world][:number]), "smallest": 16}
            stage = copy.deepcopy(known[f"stage_{number}"])
            stages.append({**stage, "name": f"oracle_{number}", "groups": own})
    if "last" in arms:
        stages.append({**known["groups_2"], "name": "last_groups", "after": None})
        within = {"groups": {"stage": "last_groups"}, "name": "last_2"}
        stages.append({**copy.deepcopy(known["stage_2"]), **within})
        third = {"name": "groups_3", "of": "stage_2", "after": "groups_2"}
        stages.append({**known["groups_2"], **third})
        third = {"name": "last_groups_3", "of": "last_2", "after": None}
        stages.append({**known["groups_2"], **third})
    return stages


def _placebo(known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The stages of MCL within groups of the same sizes that mean nothing."""
    found = []
    for number in (1, 2):
        groups = {**known[f"groups_{number}"], "name": f"random_{number}", "placebo": True}
        stage = copy.deepcopy(known[f"stage_{number}"])
        stage |= {"name": f"placebo_{number}", "groups": {"stage": f"random_{number}"}}
        if number == 2:
            groups |= {"of": "placebo_1", "after": "random_1"}
        found += [groups, stage]
    return found


def _ceiling(base: Mapping[str, Any], main: str, factor: str) -> dict[str, Any]:
    settings = {"task": factor, "modalities": [main], "view": "augmented"}
    objective = {"kind": "supervised", "loss_weight": 1.0, "settings": settings}
    return {
        **copy.deepcopy(base),
        "name": "ceiling",
        "towers": [main],
        "task": factor,
        "objectives": {"labels": objective},
    }


def _change(tree: dict[str, Any], world: str, changes: Mapping[str, Any], main: str) -> None:
    """Put the settings of this part of the study into the recipe."""
    for stage in tree["stages"]:
        if stage["stage"] == "train":
            _change_training(stage, changes)
        if stage["stage"] == "cluster":
            stage["stop"] = False
            stage["clusters"] = changes.get("clusters", stage["clusters"])
            stage["modality"] = changes.get("modality", stage["modality"])
    if "norm" in changes:
        tree["towers"][main]["encoder"]["norm"] = changes["norm"]
    if world not in VIEW_SETTINGS:
        return
    tree["roles"][main] = "image"
    grey = world == "digits"
    size = 28 if grey else 32
    tree["inputs"][main] = {"size": size, "channels": "grey" if grey else "colour",
                            "intensity": "range"}  # fmt: skip
    encoder = copy.deepcopy(changes.get("encoder", VIT))
    if encoder["model"].startswith("vit"):
        encoder["options"]["patch_size"] = size // 4
    tree["towers"][main]["encoder"] = encoder
    for view in tree["views"].values():
        view["augment"][main] = VIEW_SETTINGS[world]


def _change_training(stage: dict[str, Any], changes: Mapping[str, Any]) -> None:
    stage["steps"] = changes.get("steps", stage["steps"])
    stage["optimiser"] |= changes.get("optimiser", {})
    for objective in stage["objectives"].values():
        if "scale" in objective["settings"] and "scale" in changes:
            objective["settings"]["scale"]["init"] = changes["scale"]


def run_of(world: str, cohort: Path, tree: dict[str, Any], seed: int, folder: Path) -> Run:
    """Train everything that a recipe says; give the run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.parent / f"{folder.name}.yaml"
    tree = {key: value for key, value in tree.items() if value is not None}
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    found = medmcl.pretrain(cohort, recipe=file, out=folder, seed=seed, device="cpu")
    assert found is not None, world
    return found


def named(run: Run, arms: Sequence[str]) -> dict[str, str]:
    """Give each arm that the run has its stage."""
    every = [*arms, "base", "stage_1", "stage_2", "joined", "untrained"]
    return {arm: arm for arm in every if arm in run.stages or arm == "untrained"}


def scored(run: Run, cohort: Path, arms: Sequence[str], factors: Sequence[str]) -> list[dict]:
    """Give a row for each arm and factor: who of the held-out subjects was named right."""
    people = pd.read_csv(cohort / "participants.tsv", sep="\t", dtype={"subject_id": str})
    people = people.set_index("subject_id")
    if "pair" in people:
        people = people[people["pair"].isna()]
    modality = next(iter(run.recipe.inputs))
    opened = open_cohort(cohort)
    rows = []
    for arm, stage in named(run, arms).items():
        frame = run.embed(opened, modality=modality, stage=stage)
        frame.index = frame.index.get_level_values("subject")
        x = frame.filter(regex=r"^e\d+$").reindex(people.index).to_numpy()
        for factor in factors:
            right = named_right(x, people[factor].to_numpy(), people["split"].to_numpy())
            rows.append({"arm": arm, "factor": factor, "accuracy": percent(right),
                         "right": np.packbits(right).tobytes().hex(), "n": len(right)})  # fmt: skip
    return rows


def percent(right: np.ndarray) -> float:
    """Share that is right, in percent."""
    return round(100 * float(right.mean()), 3)


def named_right(x: np.ndarray, levels: np.ndarray, split: np.ndarray) -> np.ndarray:
    """Say which held-out subjects a ridge classifier names right, (N,) bool."""
    mean, spread = x[split == "train"].mean(0), x[split == "train"].std(0) + 1e-8
    x = (x - mean) / spread
    best, found = -1.0, None
    for penalty in PENALTIES:
        probe = RidgeClassifier(alpha=penalty).fit(x[split == "train"], levels[split == "train"])
        score = (probe.predict(x[split == "tuning"]) == levels[split == "tuning"]).mean()
        if score > best:
            best, found = score, probe
    assert found is not None
    return np.asarray(found.predict(x[split == "held_out"]) == levels[split == "held_out"])


def clusters_of(run: Run, cohort: Path, factors: Sequence[str]) -> list[dict[str, Any]]:
    """How much the clusters of each stage tell of each factor, on train rows: 0 nothing, 1 all."""
    people = pd.read_csv(cohort / "participants.tsv", sep="\t", dtype={"subject_id": str})
    people = people.set_index("subject_id")
    rows = []
    for name in run.of(ClusterSpec):
        groups = Groups.load(run.path / "groups" / f"{name}.parquet")
        own = people.loc[groups.ids]
        train = (own["split"] == "train").to_numpy()
        rows += [
            {"clusters": name, "factor": factor, "nmi": round(float(normalized_mutual_info_score(
                own[factor].to_numpy()[train], groups.clusters[train])), 4)}
            for factor in factors
        ]  # fmt: skip
    return rows


def chosen(run: Run, cohort: Path, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Give a row for each arm and attribute: in which pairs both texts chose their own record."""
    people = pd.read_csv(cohort / "participants.tsv", sep="\t", dtype={"subject_id": str})
    people = people.set_index("subject_id")
    people = people[people["pair"].notna()]
    first, second = list(run.recipe.inputs)[:2]
    opened = open_cohort(cohort)
    rows = []
    for arm, stage in named(run, arms).items():
        if stage == "untrained" or second not in run.stage(stage).towers:
            continue
        sides = []
        for name in (first, second):
            frame = run.embed(opened, modality=name, stage=stage, space="pooled")
            frame.index = frame.index.get_level_values("subject")
            sides.append(frame.filter(regex=r"^e\d+$").reindex(people.index).to_numpy())
        for attribute, own in people.groupby("attribute"):
            at = people.index.get_indexer(own.index)
            right = np.asarray(right_pairs(sides[0][at], sides[1][at], own["pair"].to_numpy()))
            rows.append({"arm": arm, "pairs": str(attribute), "share": percent(right),
                         "right": np.packbits(right).tobytes().hex(), "n": len(right)})  # fmt: skip
    return rows


def seconds_of(run: Run) -> dict[str, float]:
    """Wall seconds of each stage that took any."""
    names = [*run.stages, *run.of(ClusterSpec)]
    done = {name: run.facts(name) or {} for name in names}
    return {name: one["seconds"] for name, one in done.items() if "seconds" in one}


CONTROLS = ("ensemble", "placebo", "ceiling")
FACTORS = {
    "vectors": ("easy", "middle", "hard"),
    "captions": ("easy", "middle", "hard"),
    "digits": ("digit",),
    "pictures": ("colour", "texture", "shape"),
}
COHORTS: dict[str, dict[str, Any]] = {
    "vectors": VECTORS,
    "captions": {**VECTORS, "pairs": 250},
    "digits": {"subjects": 1797, "world": "digits"},
    "pictures": {"subjects": 3000, "world": "pictures", "pairs": 60},
}
Setting = tuple[tuple[int, ...], dict[str, Any], tuple[str, ...]]
SETTINGS: dict[str, dict[str, Setting]] = {
    "vectors": {
        "main": (SEEDS, {}, (*CONTROLS, "last", "distilled")),
        "steps 1200": (SEEDS[:3], {"steps": 1200}, CONTROLS),
        "K 3": (SEEDS[:1], {"clusters": 3}, CONTROLS),
        "K 5": (SEEDS[:1], {"clusters": 5}, CONTROLS),
        "K 20": (SEEDS[:1], {"clusters": 20}, CONTROLS),
        "K auto": (SEEDS[:1], {"clusters": "auto"}, CONTROLS),
        "tau .07": (SEEDS[:1], {"scale": 14.2857}, CONTROLS),
        "tau .5": (SEEDS[:1], {"scale": 2.0}, CONTROLS),
        "layer norm": (SEEDS[:1], {"norm": "layer"}, CONTROLS),
        "decaying rate": (SEEDS[:3], {"optimiser": DECAYING}, CONTROLS),
    },
    "captions": {
        "main": (SEEDS[:3], {}, (*CONTROLS, "distilled")),
        "steps 1200": (SEEDS[:3], {"steps": 1200}, (*CONTROLS, "distilled")),
        "3 x 3": (SEEDS[:3], {"modality": ["vector", "caption"], "clusters": 3}, CONTROLS),
    },
    "digits": {
        **{
            f"bits {bits}": (SEEDS[:3], {"bits": bits, "clusters": 8}, CONTROLS) for bits in BITS
        },
        "bits 8, ResNet": (SEEDS[:3], {"bits": 8, "clusters": 8, "encoder": RESNET}, CONTROLS),
    },
    "pictures": {
        f"{name}{', captions' if clip else ''}": (
            SEEDS[:2], {"encoder": encoder, "clip": clip, "clusters": 6}, (*CONTROLS, "oracle"),
        )
        for clip in (False, True)
        for name, encoder in (("ViT", VIT), ("ResNet", RESNET))
    },
}  # fmt: skip
"""Of each world, what is run: seeds, changes to the shipped toy, arms beside MCL."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", choices=SETTINGS)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*")
    parser.add_argument("--settings", nargs="*")


def run(args: argparse.Namespace) -> Iterator[dict[str, list[Row]]]:
    """Make what is missing."""
    import torch

    torch.set_num_threads(1)
    world, factors = args.world, FACTORS[args.world]
    every = STUDY.kept(args.out) or {}
    kept = every.setdefault(world, [])
    for label, (seeds, changes, arms) in SETTINGS[world].items():
        for seed in seeds:
            asked = (not args.seeds or seed in args.seeds) and (
                not args.settings or label in args.settings
            )
            there = any(one["setting"] == label and one["seed"] == seed for one in kept)
            if there or not asked:
                continue
            began = time.process_time()
            made = {**COHORTS[world], **{k: v for k, v in changes.items() if k == "bits"}}
            cohort = args.work / f"{world}-{made.get('bits', '')}-{seed}"
            if not cohort.exists():
                simulate("trifactor", cohort, {"seed": seed, **made})
            factor = factors[-1]
            tree = recipe_of(world, arms, changes, factor)
            folder = args.work / "runs" / f"{world}-{label.replace(' ', '_')}-{seed}"
            made_run = run_of(world, cohort, tree, seed, folder)
            rows = scored(made_run, cohort, arms, factors)
            if "caption" in made_run.recipe.inputs and made.get("pairs"):
                rows += chosen(made_run, cohort, arms)
            rows += clusters_of(made_run, cohort, factors)
            kept.append({
                "setting": label, "seed": seed, "rows": rows, "wall_seconds": seconds_of(made_run),
                "cpu_seconds": round(time.process_time() - began, 1),
            })  # fmt: skip
            shutil.rmtree(folder)
            found = {row["arm"]: row["accuracy"] for row in rows if row.get("factor") == factor
                     and "accuracy" in row}  # fmt: skip
            print(label, seed, found, flush=True)
            yield every


STUDY = Study(__file__, parts=parts, run=run, options=options)


if __name__ == "__main__":
    STUDY.main()
