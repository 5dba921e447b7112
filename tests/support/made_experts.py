"""Lines of a record with routers."""

from __future__ import annotations

import numpy as np


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
