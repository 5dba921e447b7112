"""A tiny cohort on disk, in real formats, that tests bend and break."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from medmcl.core.config import parse_yaml
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import Prepared, prepare

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
RATE_HZ, SECONDS = 100, 2


TREE = f"""
schema: medmcl/cohort@1
subjects: {{table: people.csv, id: subject_id, split: split, group: site}}
modalities:
  ecg: {{reader: wfdb, path: "ecg/{{subject_id}}", rate_hz: {RATE_HZ}, units: mV}}
  cmr: {{kind: cmr, reader: npy, path: cmr.npy, row: row, axes: tyx, present: has_cmr == 1}}
  clinic: {{reader: table, columns: {{age: number, sex: category}}}}
  report: {{reader: text, column: note}}
tasks:
  sick: {{kind: binary, column: sick == 1}}
  death: {{kind: survival, time: days, event: event}}
"""


def signal(seed: int) -> np.ndarray:
    """Twelve leads in mV, (12, S), whose limb leads obey Einthoven."""
    generator = np.random.default_rng(seed)
    time = np.arange(RATE_HZ * SECONDS) / RATE_HZ
    beats = np.exp(-(((time % 0.64) - 0.24) ** 2) / 1.3e-3)
    one, two = beats[None] * generator.uniform(0.4, 1.2, (2, 1))
    chest = [beats * height for height in np.linspace(0.3, 1.5, 6) * generator.uniform(0.8, 1.2)]
    rows = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, *chest]
    noise = generator.normal(0, 0.01, (12, len(time)))
    noise[2:6] = 0
    mixed = np.stack(rows) + noise
    mixed[2] = mixed[1] - mixed[0]
    mixed[3:6] = [-(mixed[0] + mixed[1]) / 2, mixed[0] - mixed[1] / 2, mixed[1] - mixed[0] / 2]
    return mixed


def write_wfdb(path: Path, rows: np.ndarray, units: str = "mV", rate_hz: int = RATE_HZ) -> None:
    """Write int16 WFDB by hand: 1000 steps a unit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = np.round(rows.T * 1000).astype("<i2")
    path.with_name(path.name + ".dat").write_bytes(steps.tobytes())
    head = [f"{path.name} {len(rows)} {rate_hz} {len(steps)}"]
    head += [
        f"{path.name}.dat 16 1000/{units} 16 0 {one[0]} {int(one.sum()) % 65536} 0 {lead}"
        for one, lead in zip(steps.T, LEADS, strict=True)
    ]
    path.with_name(path.name + ".hea").write_text("\n".join(head) + "\n")


class Tiny:
    """A folder with a cohort of ``count`` subjects: ECG, images in one array, a table, texts."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        generator = np.random.default_rng(0)
        numbers = np.arange(count)
        self.table = pd.DataFrame(
            {
                "subject_id": [f"s{n:03d}" for n in numbers],
                "split": ["train"] * (count - 4) + ["tuning"] * 2 + ["held_out"] * 2,
                "site": ["A", "B"] * (count // 2),
                "row": numbers,
                "has_cmr": (numbers % 4 != 3).astype(int),
                "age": generator.integers(40, 80, count),
                "sex": ["F", "M"] * (count // 2),
                "note": [f"finding number {n} in words" for n in numbers],
                "sick": numbers % 2,
                "days": numbers * 100 + 5,
                "event": (numbers % 3 == 0).astype(int),
            }
        )
        self.tree = parse_yaml(TREE)
        for number, subject in enumerate(self.table["subject_id"]):
            write_wfdb(folder / "ecg" / subject, signal(number))
        images = generator.uniform(0, 255, (count, 3, 24, 24)).astype(np.float32)
        np.save(folder / "cmr.npy", images)
        self.write()

    def write(self) -> Path:
        """Write the table and cohort.yaml as they are now."""
        self.table.to_csv(self.folder / "people.csv", index=False)
        (self.folder / "cohort.yaml").write_text(yaml.safe_dump(self.tree, sort_keys=False))
        return self.folder

    def prepared(self, inputs: dict, **options) -> Prepared:
        """Prepare the cohort as it is now; all that is read is kept in its folder."""
        overrides = {"on_bad_record": "exclude"} if options.pop("exclude", False) else None
        cohort = open_cohort(self.write(), overrides)
        return prepare(cohort, inputs, cache=self.folder / "cache", **options)

    def write_ecg(self, subject: str, rows: np.ndarray, **options) -> None:
        """Write another ECG, (12, S) mV, for a subject."""
        write_wfdb(self.folder / "ecg" / subject, rows, **options)

    def read_ecg(self, subject: str) -> np.ndarray:
        """Read the ECG of a subject as it was written, (12, S) mV."""
        steps = np.fromfile(self.folder / "ecg" / f"{subject}.dat", dtype="<i2")
        return steps.reshape(-1, len(LEADS)).T / 1000

    def only(self, *names: str) -> "Tiny":
        """Keep some modalities."""
        kept = {name: self.tree["modalities"][name] for name in names}
        self.tree = {**self.tree, "modalities": kept}
        self.write()
        return self


INPUTS = {
    "ecg": {"rate_hz": RATE_HZ, "seconds": SECONDS, "crop_seconds": SECONDS, "baseline": "none"},
    "cmr": {"frames": 3, "mode": "cine_2dt", "size": 8},
    "clinic": {},
    "report": {"max_tokens": 12, "min_count": 1},
}


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """A tiny cohort of 12 subjects."""
    return Tiny(tmp_path, 12)


@pytest.fixture
def inputs() -> dict:
    """How a recipe would prepare the tiny cohort."""
    return copy.deepcopy(INPUTS)


@pytest.fixture
def make_tiny() -> type[Tiny]:
    """Makes tiny cohorts, for tests that need another size or several."""
    return Tiny
