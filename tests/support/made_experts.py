"""Lines of a record with routers, and what made experts take."""

from __future__ import annotations

import dataclasses

import numpy as np

from medmcl.evaluation.aspects.experts.content import ExpertContent, TakenPiece, TakenWord


def line(step, split, blocks=(1, 3), experts=4, **more):
    """A line of the record of a stage with routers; what it says depends on the step."""
    rng = np.random.default_rng(step)
    said = {"stage": "contrast", "split": split, "step": step, "loss": 2.0 - step / 100}
    for name, tokens in (("image", 640), ("free/text", 64)):
        said[f"experts/tokens/{name}"] = tokens
        said[f"experts/processed/{name}"] = 0.75
        for block in blocks:
            shares = rng.dirichlet(np.ones(experts)).round(5).tolist()
            said |= {
                f"experts/dropped/{name}/{block}": 0.2 + block / 30,
                f"experts/effective/{name}/{block}": 1.0 + step / 100,
                f"experts/mutual_information/{name}/{block}": 0.1,
                f"experts/used/{name}/{block}": 3,
                f"experts/share/{name}/{block}": shares,
            }
    return said | {"gradient_norm": 2.0, "largest_gradient_norm": 30.0 + step,
                   "gradient_spikes": step // 20, "skipped_steps": 1, **more}  # fmt: skip


CURVES = {
    "plain": [{"stage": "plain", "split": "train", "step": 5, "loss": 1.0}],
    "contrast": [line(s, split) for s in (10, 20, 30) for split in ("train", "tuning")],
}
CONTENT = ExpertContent(
    stage="contrast", block=3, split="tuning", rows=64, subjects=60,
    shares={"image": np.array([0.5, 0.5, 0, 0]), "note": np.array([0.9, 0, 0.1, 0])},
    words={"note": [
        TakenWord(expert=0, number=9, tokens=40, of_expert=0.4, of_word=0.8, lift=2.5,
                  word="<b>cross"),
        TakenWord(expert=2, number=8, tokens=9, of_expert=0.9, of_word=0.5, lift=3.0, word="star"),
    ]},
    hidden_words={"note": 17},
    pieces={"image": [
        TakenPiece(expert=e, gate=0.9 - 0.1 * n, place=(n, 1),
                   pixels=np.where(np.eye(6), np.nan, 0.5)) for e in (0, 1) for n in range(3)
    ]},
)  # fmt: skip


def signal_content():
    """Twenty experts that take long words and stretches of three leads."""
    at_the_edge = np.arange(90.0).reshape(3, 30)
    at_the_edge[:, :10] = np.nan
    trace = [TakenPiece(expert=e, gate=0.5, place=(0, n), pixels=at_the_edge)
             for e in range(20) for n in range(2)]  # fmt: skip
    word = [TakenWord(expert=e, number=e, tokens=5, of_expert=1, of_word=1, lift=2, word="w" * 50)
            for e in range(20)]  # fmt: skip
    return dataclasses.replace(
        CONTENT, shares={"ecg": np.ones(20) / 20, "note": np.ones(20) / 20}, words={"note": word},
        pieces={"ecg": trace}, names={"ecg": ("II", "V1", "V5")},
    )  # fmt: skip
