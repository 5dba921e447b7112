"""The package under ``examples/plugin`` as if it were installed, and a cohort of it."""

import os
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
from processes import Command
from typed import Answer

PLUGIN = Path(__file__).resolve().parents[2] / "examples" / "plugin"
COHORT = """
schema: medmcl/cohort@1
subjects: {table: people.csv, id: id}
modalities:
  lungs: {reader: spirometry, path: "lungs/{id}.csv", factor: calibration}
  clinic: {reader: table, columns: [age, height]}
tasks:
  copd: {kind: binary, column: copd}
"""


def installed(folder: Path, changed: dict[str, dict[str, str]] | None = None) -> dict[str, str]:
    """Write what pip writes of the package's entry points; give an environment that finds it."""
    about = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = folder / "site" / "medmcl_spirometry-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Name: {about['name']}\nVersion: {about['version']}\n")
    groups = {**about["entry-points"], **(changed or {})}
    lines = [line for group, named in groups.items()
             for line in (f"[{group}]", *(f"{k} = {v}" for k, v in named.items()))]  # fmt: skip
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    paths = [metadata.parent, PLUGIN, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}


def medmcl(environment: dict[str, str], *words: object) -> Answer:
    """Type a command where the package is installed."""
    process = Command(words, environment, fresh=True)
    out, errors = process.communicate()
    return Answer(process.returncode, out, errors)


def write_lungs(folder: Path, people: int = 80, copies: int = 0) -> Path:
    """Write expirations whose speed says who has COPD; the last few may be copies of the first."""
    generator = np.random.default_rng(0)
    (folder / "lungs").mkdir(parents=True)
    copd = generator.random(people) < 0.5
    height = generator.normal(1.7, 0.1, people)
    for number in range(people):
        litres = 4 * height[number] / 1.7 * generator.normal(1, 0.1)
        speed = generator.normal(0.8 if copd[number] else 2.0, 0.2)
        times = np.arange(0, 6.01, 0.04)
        blown = litres * (1 - np.exp(-times * max(speed, 0.2)))
        table = pd.DataFrame({"seconds": times, "litres": blown.round(4)})
        table.to_csv(folder / "lungs" / f"p{number}.csv", index=False)
    for number in range(copies):
        source = (folder / "lungs" / f"p{number}.csv").read_bytes()
        (folder / "lungs" / f"p{people - 1 - number}.csv").write_bytes(source)
    age = 50 + 10 * copd + generator.normal(0, 8, people)
    table = pd.DataFrame({"id": [f"p{n}" for n in range(people)], "age": age.round(1),
                          "height": height.round(2), "copd": copd.astype(int),
                          "calibration": 1.0})  # fmt: skip
    table.to_csv(folder / "people.csv", index=False)
    (folder / "cohort.yaml").write_text(COHORT, encoding="utf-8")
    return folder
