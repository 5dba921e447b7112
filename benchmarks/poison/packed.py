"""Arrays of small numbers as short texts, for rows that are kept as JSON."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode

import numpy as np


def packed(values: np.ndarray, kind: str) -> str:
    """Give whole numbers, (N,), as compressed bytes of a NumPy ``kind``, in base 64."""
    return b64encode(zlib.compress(values.astype(kind).tobytes(), 9)).decode("ascii")


def unpacked(text: str, kind: str) -> np.ndarray:
    """Give back what `packed` was given, (N,)."""
    return np.frombuffer(zlib.decompress(b64decode(text)), dtype=kind)
