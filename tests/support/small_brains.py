"""A small folder laid out as OASIS-1: three slices a person, a table, second scans of some."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

VIEWS = {"a": (52, 44), "c": (44, 44), "s": (44, 52)}
"""View to rows and columns: a quarter of the real ones."""


def slices(seed: int, ventricle: float) -> dict[str, np.ndarray]:
    """Draw three slices of a round brain with folds of its own and a dark ventricle, uint8."""
    generator = np.random.default_rng(seed)
    drawn = {}
    for view, (rows, columns) in VIEWS.items():
        y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
        radius = np.hypot(x / 0.8, y / 0.85)
        folds = sum(np.sin(a * x + b * y + c) for a, b, c in generator.uniform(-14, 14, (6, 3)))
        grey = 150 + 14 * folds + generator.normal(0, 1, (rows, columns))
        grey[np.hypot(x, y) < ventricle] = 40
        drawn[view] = np.where(radius < 1, grey.clip(1, 255), 0).astype(np.uint8)
    return drawn


def write_brains(folder: Path, people: int = 40, repeats: int = 3) -> pd.DataFrame:
    """Write the table and the images; every fourth person has a row only, without a rating."""
    generator = np.random.default_rng(0)
    (folder / "img").mkdir(parents=True)
    rows = []
    for number in range(people):
        name, rated = f"OAS1_{number:04d}_MR1", number % 4 != 3
        ill = number % 2 == 0
        volume = generator.normal(0.72 if ill else 0.8, 0.02)
        rows.append(
            {
                "ID": name,
                "M/F": "FM"[number % 3 == 0],
                "Hand": "R",
                "Age": int(generator.integers(60, 90)) if rated else 25,
                "Educ": int(generator.integers(1, 6)) if rated else None,
                "SES": int(generator.integers(1, 6)) if rated else None,
                "MMSE": (22 if ill else 29) if rated else None,
                "CDR": (0.5 if ill else 0.0) if rated else None,
                "eTIV": round(generator.normal(1480, 120)),
                "nWBV": round(volume, 3),
                "ASF": round(generator.normal(1.2, 0.1), 3),
                "Delay": None,
                "has_images": int(rated),
            }
        )
        if rated:
            drawn = slices(number, (0.86 - volume) * 3)
            for view, pixels in drawn.items():
                Image.fromarray(pixels).save(folder / "img" / f"{name}_{view}.jpg", quality=95)
    again = [
        {**row, "ID": row["ID"].replace("MR1", "MR2"), "Delay": 10.0, "has_images": 0}
        for row in rows[:repeats]
    ]
    table = pd.DataFrame(rows + again)
    table.to_csv(folder / "oasis_cross-sectional.csv", index=False)
    return table
