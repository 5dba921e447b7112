"""Coloured squares on grey, each with a caption: a small cohort of images and texts."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

COLOURS = {"red": (220, 40, 40), "green": (40, 190, 60), "blue": (50, 70, 220)}
PLACES = {"top": 0.05, "bottom": 0.5}
"""Place to the share of the picture above the square."""
TOWERS = {
    "inputs.picture.size": 32,
    "inputs.caption.max_tokens": 16,
    "towers.picture.encoder.options": {
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 1,
        "num_heads": 2,
    },
}
"""Overrides of the toy recipes of pictures and captions: a tower that a test can pay for."""
SMALL = {
    **TOWERS,
    "stages.results.bootstrap_draws": 100,
    "stages.results.tasks": [],
    "stages.results.draws": 1,
}
"""Such a tower, and an evaluation that costs little."""


def write_squares(folder: Path, people: int = 96, side: int = 64) -> Path:
    """Write pictures, table and cohort.yaml: two thirds train, a sixth tuning, a sixth held out."""
    generator = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(people):
        colour = list(COLOURS)[number % 3]
        place = list(PLACES)[number // 3 % 2]
        pixels = generator.normal(128, 12, (side, side, 3))
        top, left = int(PLACES[place] * side), int(generator.uniform(0.0, 0.5) * side)
        size = int(0.45 * side)
        pixels[top : top + size, left : left + size] = COLOURS[colour]
        name = f"s{number:04d}"
        drawn = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        drawn.save(folder / "images" / f"{name}.png")
        caption = f"a {colour} square at the {place} of picture {generator.integers(10)}"
        split = ("train", "train", "train", "train", "tuning", "held_out")[number // 6 % 6]
        rows.append((name, split, caption, colour, place))
    columns = ["subject_id", "split", "caption", "colour", "place"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "pictures.csv", index=False)
    tree = {
        "schema": "medmcl/cohort@1",
        "subjects": {"table": "pictures.csv", "id": "subject_id", "split": "split"},
        "modalities": {
            "image": {"reader": "image", "path": "images/{subject_id}.png"},
            "caption": {"reader": "text", "column": "caption"},
        },
        "tasks": {
            "colour": {"kind": "multiclass", "column": "colour"},
            "place": {"kind": "multiclass", "column": "place"},
        },
        "prompts": {
            "colour": {c: [f"a {c} square at the {p} of picture" for p in PLACES] for c in COLOURS},
            "place": {p: [f"a {c} square at the {p} of picture" for c in COLOURS] for p in PLACES},
        },
        "recipe": "clip_toy",
    }
    (folder / "cohort.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder


def pair_squares(folder: Path) -> Path:
    """Pair held-out pictures that differ in place, or in colour, and write ``choices:``.

    Of six pictures in a row one pair differs in place only, two in colour only.
    """
    table = pd.read_csv(folder / "pictures.csv")
    pair, attribute = [], []
    for number, split in enumerate(table["split"]):
        block, within = divmod(number, 6)
        mate = {0: 0, 3: 0, 1: 1, 2: 1, 4: 2, 5: 2}[within]
        is_paired = split == "held_out"
        pair.append(f"{block}-{mate}" if is_paired else None)
        attribute.append(("place" if mate == 0 else "colour") if is_paired else None)
    table.assign(pair=pair, differs=attribute).to_csv(folder / "pictures.csv", index=False)
    path = folder / "cohort.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["choices"] = {"squares": {"pair": "pair", "attribute": "differs"}}
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder
