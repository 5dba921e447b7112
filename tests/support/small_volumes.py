"""People with a volume and a graph, of which one hidden number makes both."""

import nibabel
import numpy as np
import pandas as pd
import yaml

PEOPLE, SIDE, REGIONS = 120, 16, 8
COHORT = {
    "schema": "medmcl/cohort@1",
    "subjects": {
        "table": "people.csv",
        "id": "pid",
        "split": {"random": {"seed": 0, "tuning": 0.15, "held_out": 0.35}},
    },
    "modalities": {
        "mri": {"kind": "image", "reader": "nifti", "path": "mri/{pid}.nii.gz"},
        "network": {"reader": "connectivity", "path": "graph/{pid}.csv"},
    },
    "tasks": {"large": {"kind": "binary", "column": "size > 0"}},
    "recipe": "volume_graph_toy",
}


def write_volumes(folder):
    """The size of a ball in the volume is the strength of a block of the graph."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for part in ("mri", "graph"):
        (folder / part).mkdir()
    size = rng.uniform(-1, 1, PEOPLE)
    ids = [f"p{number:03d}" for number in range(PEOPLE)]
    far = np.linalg.norm(np.stack(np.meshgrid(*[np.arange(SIDE) - 7.5] * 3)), axis=0)
    for pid, one in zip(ids, size, strict=True):
        ball = 1.0 * (far < 4 + 2 * one) + rng.normal(0, 0.1, far.shape)
        nibabel.Nifti1Image(ball.astype(np.float32), np.eye(4)).to_filename(
            folder / "mri" / f"{pid}.nii.gz"
        )
        weights = rng.normal(0, 0.05, (REGIONS, REGIONS))
        weights[:4, :4] += 0.4 + 0.3 * one
        weights = np.clip((weights + weights.T) / 2, -1, 1)
        np.fill_diagonal(weights, 1)
        np.savetxt(folder / "graph" / f"{pid}.csv", weights, delimiter=",", fmt="%.4f")
    pd.DataFrame({"pid": ids, "size": size}).to_csv(folder / "people.csv", index=False)
    (folder / "cohort.yaml").write_text(yaml.safe_dump(COHORT, sort_keys=False))
