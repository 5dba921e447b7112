"""Records as `medmcl check` and `pretrain` read them, and an ECG to be recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.form import Format, RefusedError

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
RATE, SAMPLES = 100, 200


@dataclass
class Recorded:
    """Reads a record through its adapter, as `medmcl check` and `pretrain` do: (S,) finite."""

    kind: str
    source: Mapping[str, Any]
    paths: Mapping[str, str]
    settings: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, folder: Path) -> np.ndarray:
        """Read and prepare the record of a folder."""
        from medmcl.core.contracts import RecordRef
        from medmcl.data.loading.reading import prepare_outcome, read_record
        from medmcl.modalities import ADAPTERS

        kind = ADAPTERS[self.kind]
        paths = {name: folder / file for name, file in self.paths.items()}
        place = RecordRef(subject="s001", record="s001", paths=paths, values=self.values)
        if not hasattr(self, "adapter"):  # fitted on the sound record, which is read first
            adapter = kind(kind.Source(**self.source), kind.Settings(**self.settings))
            raw, found = read_record(adapter, place)
            if raw is None:
                raise RuntimeError(f"the sound record of {self.kind} is refused: {found}")
            adapter.fit([raw])
            self.adapter = adapter
        outcome = prepare_outcome(self.adapter, place)
        if outcome.row is None:
            self.said = outcome.findings
            if not any(one.level == "error" and one.what for one in outcome.findings):
                raise RuntimeError("nothing is given, and no reason")
            raise RefusedError
        return outcome.row


def ecg(count: int = 12) -> np.ndarray:
    """An ECG whose limb leads agree, (12, S) int16 in microvolts."""
    time = np.arange(SAMPLES) / RATE
    beat = np.exp(-(((time % 0.64) - 0.24) ** 2) / 1.3e-3)
    noise = np.random.default_rng(0).normal(0, 0.01, (8, SAMPLES))
    one, two = 0.6 * beat + noise[0], 1.1 * beat + noise[1]
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    chest = [height * beat + noise[n + 2] for n, height in enumerate(np.linspace(0.3, 1.5, 6))]
    return np.round(1000 * np.stack([*limb, *chest])[:count]).astype(np.int16)


def ecg_format(
    write: Any, name: str, reader: str, damaged: str = "", *, sealed: Any = False, **more: Any
) -> Format:
    """An ECG of two seconds in a file, or folder, that a reader reads.

    Args:
        write: As of `Format`.
        name: What the cohort names.
        reader: What reads it.
        damaged: The file that is damaged, if it is not what the cohort names.
        sealed: As of `Format`.
        more: Settings of the source.
    """
    settings = {"rate_hz": RATE, "seconds": 2, "crop_seconds": 2, "baseline": "none"}
    read = Recorded("ecg", {"reader": reader, **more}, {"path": name}, settings)
    return Format(write, read, (damaged or name,), sealed)
