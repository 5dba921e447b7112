import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional


def golden(name):
    """Numbers of the authors' own code, beside the data."""
    root = os.environ.get("MEDMCL_DATA")
    file = Path(root or ".").resolve().parent / "golden" / name
    if not root or not file.exists():
        pytest.skip("MEDMCL_DATA is not set, or no golden vectors lie beside it")
    return dict(np.load(file, allow_pickle=False))


@pytest.fixture(scope="session")
def wang():
    return golden("negcliploss_normsim.npz")


@pytest.fixture(scope="session")
def dissect():
    return golden("dissect_selection.npz")


@pytest.fixture
def pairs():
    """Make N pairs of unit vectors whose sides agree in part."""

    def make(rows, width=12, noise=0.7, seed=0, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(rows, width, generator=generator, dtype=dtype)
        text = image + noise * torch.randn(rows, width, generator=generator, dtype=dtype)
        return functional.normalize(image, dim=1), functional.normalize(text, dim=1)

    return make


class Counting(np.ndarray):
    """An array that knows how many of its rows were ever asked for at once."""

    most = 0

    def __getitem__(self, at):
        found = np.asarray(self).__getitem__(at)
        self.most = max(self.most, len(found))
        return found


@pytest.fixture
def counting():
    return lambda rows: np.asarray(rows).view(Counting)
