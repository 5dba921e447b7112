"""Weights of published models, filled from the names and shapes of the golden files alone.

The values of a tensor are a pure function of seed, name and shape (tests/golden/README.md); real
weights are nowhere.
"""

import hashlib
import json
import math
import os
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "heart_models"
RECORDS = {
    "00001": "records500/00000/00001_hr",
    "00017": "records500/00000/00017_hr",
    "00030": "records500/00000/00030_hr",
    "00009_lr": "records100/00000/00009_lr",
}


@cache
def about(model):
    """What a golden file says of a model: names and shapes of its weights, inputs, outputs."""
    return json.loads((FOLDER / f"{model}.json").read_text())


@cache
def arrays(model):
    with np.load(FOLDER / f"{model}.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def value(name, shape, seed):
    """One tensor, float32."""
    z = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(tuple(shape))
    z, last = np.asarray(z), name.rpartition(".")[2]
    if last == "running_var":
        z = 1 + 0.1 * np.abs(z)
    elif last == "running_mean":
        z = 0.1 * z
    elif last in ("original0", "weight_g") or (z.ndim == 1 and last == "weight"):
        z = 1 + 0.1 * z
    elif z.ndim >= 2 and (last.endswith("weight") or last in ("original1", "weight_v")):
        z = z / math.sqrt(math.prod(shape[1:]))
    else:
        z = (0.02 if last.endswith("bias") else 0.2) * z
    return z.astype(np.float32)


@cache
def filled(model, tag):
    """The state dict of a model under ``tag``, as tensors by the authors' names.

    Tensors whose values the golden file gives itself (fixed positions) are taken from there.
    """
    said = about(model)
    listed = said["state_dicts"][tag]
    found = {}
    for name, (shape, kind) in sorted(listed["tensors"].items()):
        if kind.startswith("float"):
            found[name] = torch.from_numpy(value(name, shape, said["fill_seed"])).reshape(shape)
        else:
            found[name] = torch.zeros(shape, dtype=getattr(torch, kind))
    return found


def sha256(state):
    """Hash of a state dict as the golden files have it."""
    found = hashlib.sha256()
    for name in sorted(state):
        found.update(name.encode())
        found.update(state[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def save(state, path, under=None, **beside):
    """Write a file in the authors' layout: the tensors under a key, or bare."""
    torch.save(state if under is None else {under: state, **beside}, path)
    return path


def drawn(model, number, shape):
    """An input of the golden files: numbers drawn from its seed."""
    rng = np.random.default_rng([about(model)["input_seed"], number])
    return rng.standard_normal(shape).astype(np.float32)


def recording(ecg_id):
    """A real record, (L, S) in mV as its file has it, its leads and rate; skips without data."""
    import wfdb

    folder = os.environ.get("MEDMCL_DATA")
    path = Path(folder or "none") / "ptbxl" / RECORDS[ecg_id]
    if not path.with_suffix(".hea").is_file():
        pytest.skip("needs MEDMCL_DATA with ptbxl")
    record = wfdb.rdrecord(str(path))
    return record.p_signal.T, record.sig_name, float(record.fs)


def assert_equal_features(found, stored, tolerance=1e-5):
    """Equal up to rounding: 1e-5 of the standard deviation of what the authors' code gave."""
    stored = np.asarray(stored)
    assert found.shape == stored.shape
    worst = np.abs(np.asarray(found, np.float64) - stored).max()
    assert worst <= tolerance * stored.std(), worst / stored.std()


def assert_equal_preparation(found, model, key, tolerance=2e-6):
    """Equal to what is stored of a prepared record: every 25th sample, both ends, statistics."""
    stored, found = arrays(model), np.asarray(found)
    assert found.dtype == np.float32
    statistics = np.stack([found.mean(-1), found.std(-1), found.min(-1), found.max(-1)])
    parts = {
        "every25": found[..., ::25],
        "head20": found[..., :20],
        "tail20": found[..., -20:],
        "stats_mean_std_min_max": statistics,
    }
    for part, got in parts.items():
        name = f"{key}/{part}"
        if name in stored:
            assert got.shape == stored[name].shape, name
            assert np.abs(got - stored[name]).max() <= tolerance, name
    assert any(name.startswith(f"{key}/") for name in stored), key
