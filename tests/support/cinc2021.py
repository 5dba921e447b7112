"""Records in the layout of the PhysioNet/CinC Challenge 2021: a folder a source, coded headers."""

import struct
from pathlib import Path

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
SOURCES = {"cpsc_2018": ("A", 100), "georgia": ("E", 125), "ptb-xl": ("HR", 100)}
"""Source to the first letters of its records, and their rate."""
RHYTHMS = {"426783006": 1.0, "426177001": 1.4, "427084000": 0.55}
"""Code to seconds from beat to beat: sinus rhythm, bradycardia, tachycardia."""
LBBB, ALSO_LBBB = "164909002", "733534002"
UNSCORED = "164873001"


def write_challenge(root, people=24, sources=SOURCES, seed=0, only_there=""):
    """Write records of each source; half have a wide complex, coded in either of two ways.

    Args:
        root: Folder of the sources.
        people: Records of each.
        sources: Source to first letters and rate.
        seed: Of what is drawn.
        only_there: A code that only some records of the last source have.

    Returns:
        Record to its codes.
    """
    rng = np.random.default_rng(seed)
    said = {}
    for source, (letter, rate) in sources.items():
        folder = Path(root) / source / "g1"
        folder.mkdir(parents=True)
        for number in range(people):
            name = f"{letter}{number:05d}"
            rhythm = rng.choice(list(RHYTHMS))
            codes = [str(rhythm)] if number else [UNSCORED]
            is_wide = number % 2 == 0 and number > 0
            if is_wide:
                codes.append(LBBB if source == "georgia" else ALSO_LBBB)
            if source == [*sources][-1] and number % 3 == 0 and only_there:
                codes.append(only_there)
            write_record(folder / name, rate, codes, signal(rng, rate, RHYTHMS[rhythm], is_wide))
            said[name] = codes
    return said


def signal(rng, rate, between, is_wide, seconds=10):
    """Twelve leads of beats (12, samples) in mV; limb leads agree with one another."""
    time = np.arange(seconds * rate) / rate
    beats = np.cumsum(between * rng.uniform(0.97, 1.03, 40)) - between / 2
    width = 0.06 if is_wide else 0.025
    shape = sum(
        height * np.exp(-0.5 * ((time[:, None] - beats - at) / wide) ** 2).sum(axis=1)
        for at, height, wide in ((0, 1.2, width), (-0.16, 0.12, 0.02), (0.28, 0.3, 0.05))
    )
    sizes = rng.uniform(0.5, 1.2, 8)
    i, ii = sizes[0] * shape, sizes[1] * shape
    chest = [size * shape for size in sizes[2:]]
    limb = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2]
    noise = 0.01 * rng.normal(size=(8, len(time)))
    limb = [i + noise[0], ii + noise[1]]
    limb += [
        limb[1] - limb[0],
        -(limb[0] + limb[1]) / 2,
        limb[0] - limb[1] / 2,
        limb[1] - limb[0] / 2,
    ]
    return np.stack([*limb, *(c + n for c, n in zip(chest, noise[2:], strict=True))])


def write_record(path, rate, codes, leads):
    """Write the header, and the signals as Matlab 4 stores them (``16+24``)."""
    stored = np.rint(1000 * leads).astype("<i2")
    start = struct.pack("<5i4s", 30, len(stored), stored.shape[1], 0, 4, b"val\0")
    path.with_suffix(".mat").write_bytes(start + stored.T.tobytes())
    lines = [f"{path.name} {len(stored)} {rate} {stored.shape[1]}"]
    for name, row in zip(LEADS, stored, strict=True):
        total = int(row.astype(np.int64).sum() + 2**15) % 2**16 - 2**15
        lines.append(f"{path.name}.mat 16+24 1000/mV 16 0 {row[0]} {total} 0 {name}")
    lines += ["# Age: 61", "#Sex: Female", f"# Dx: {','.join(codes)}", "# Rx: Unknown"]
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n")


def read_record(path):
    """The rate and the signals in mV of what `write_record` wrote."""
    first = path.with_suffix(".hea").read_text().split()[:4]
    stored = np.frombuffer(path.with_suffix(".mat").read_bytes()[24:], "<i2")
    return int(first[2]), stored.reshape(int(first[3]), int(first[1])).T / 1000
