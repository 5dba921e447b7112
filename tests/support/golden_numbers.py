"""Golden numbers that lie beside the tests, as tensors by case."""

from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).resolve().parents[1] / "golden"


def golden(name):
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def case(numbers, prefix):
    """What stands under ``prefix``: numbers of no axis as Python numbers."""
    found = {k.removeprefix(prefix): x for k, x in numbers.items() if k.startswith(prefix)}
    assert found, prefix
    return {k: x.item() if x.ndim == 0 else x for k, x in found.items()}
