"""ECG in EDF and EDF+ (European Data Format, Kemp et al. 1992 and 2003; https://www.edfplus.info).

Read here and not by `wfdb.io.convert.edf`, which gives every sample one step of the converter too
low, cuts rates to whole numbers, and holds no bound on what a header claims.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medmcl.core.errors import AGAIN, RecordError
from medmcl.core.limits import whole_bytes
from medmcl.modalities.ecg.files.readers import Channels, number_of, refuse_long
from medmcl.modalities.ecg.leads import is_known

_HEAD, _MOST_SIGNALS = 256, 512
_FIELDS = {
    "label": 16, "transducer": 80, "unit": 8, "physical_min": 8, "physical_max": 8,
    "digital_min": 8, "digital_max": 8, "prefilter": 80, "samples": 8, "reserved": 32,
}  # fmt: skip
"""Fields of every signal and their bytes, each for all signals before the next."""
_ANNOTATIONS = "EDF Annotations"


def read_edf(path: Path) -> Channels:
    """Read the leads of a recording without gaps, in the units that the file states.

    Signals of another rate than the leads, and annotations, are left out; the rate of most leads
    counts.

    Raises:
        RecordError: No EDF, cut short, with gaps (EDF+D), or a header that contradicts itself.
    """
    content = whole_bytes(path)
    head = content[:_HEAD].decode("latin-1")
    if not head.startswith("0       ") or len(head) < _HEAD:
        got = "BDF, of 24 bits" if content[:8] == b"\xffBIOSEMI" else repr(head[:8])
        raise RecordError("is no EDF", where=path, got=got, fix="convert it to EDF or WFDB")
    if head[192:197] == "EDF+D":
        what, fix = "has gaps between its records", "convert it to WFDB"
        raise RecordError(what, where=path, got="EDF+D", expected="EDF or EDF+C", fix=fix)
    blocks = _whole(head[236:244], "its number of records", path)
    count = _whole(head[252:256], "its number of signals", path)
    seconds = number_of(head[244:252], "its duration of a record", path)
    start = _HEAD + count * sum(_FIELDS.values())
    if not 1 <= count <= _MOST_SIGNALS or not seconds > 0 or len(content) < start:
        got = f"{count} signals, records of {seconds:g} s, {len(content)} bytes"
        raise RecordError("has a header that cannot be", where=path, got=got)
    said = _fields(content[_HEAD:start].decode("latin-1"), count)
    lengths = [_whole(one, "its samples of a record", path) for one in said["samples"]]
    if min(lengths) < 1:
        raise RecordError("has a signal without samples", where=path, got=min(lengths))
    step = sum(lengths)
    blocks = (len(content) - start) // (2 * step) if blocks == -1 else blocks
    refuse_long(blocks * step, path)
    found, expected = len(content) - start, 2 * step * blocks
    if blocks < 1 or found < expected:
        raise RecordError(
            "is truncated", where=path, got=f"{found} bytes of samples",
            expected=f"{expected}: {blocks} records of {step} samples",
            fix=AGAIN,
        )  # fmt: skip
    stored = np.frombuffer(content, "<i2", blocks * step, start).reshape(blocks, step)
    names = [one.removesuffix("-REF").strip() for one in said["label"]]
    kept, notes = _of_one_rate(names, lengths)
    ends = np.cumsum(lengths)
    signal = np.stack([
        _physical(stored[:, ends[one] - lengths[one] : ends[one]].ravel(), said, one, path)
        for one in kept
    ])  # fmt: skip
    return Channels(
        names=tuple(names[one] for one in kept),
        units=tuple(said["unit"][one] or None for one in kept),
        signal=signal,
        rate_hz=lengths[kept[0]] / seconds,
        notes=notes,
    )


def _fields(text: str, count: int) -> dict[str, list[str]]:
    """Field to what it says of each signal."""
    found, at = {}, 0
    for name, width in _FIELDS.items():
        found[name] = [text[at + n * width : at + (n + 1) * width].strip() for n in range(count)]
        at += count * width
    return found


def _of_one_rate(names: list[str], lengths: list[int]) -> tuple[list[int], tuple[str, ...]]:
    """Numbers of the signals that have the rate of most leads, and what is said of the others."""
    signals = [n for n, name in enumerate(names) if name != _ANNOTATIONS]
    usable = [n for n in signals if is_known(names[n])] or signals
    if not usable:
        return [0], ()
    rates = [lengths[n] for n in usable]
    rate = max(sorted(set(rates)), key=rates.count)
    kept = [n for n in signals if lengths[n] == rate]
    lost = [names[n] for n in signals if lengths[n] != rate]
    return kept, ((f"of another rate, left out: {', '.join(lost)}",) if lost else ())


def _physical(
    stored: np.ndarray, said: dict[str, list[str]], signal: int, path: Path
) -> np.ndarray:
    """Bring stored values to the unit of a signal, by the two points that its header gives."""
    low, high, least, most = (
        number_of(said[name][signal], f"its {name.replace('_', ' ')}", path)
        for name in ("physical_min", "physical_max", "digital_min", "digital_max")
    )
    if most == least or high == low:
        raise RecordError(
            f"does not say what a step of '{said['label'][signal]}' is", where=path,
            got=f"{least:g} to {most:g} for {low:g} to {high:g}", expected="two different values",
        )  # fmt: skip
    return low + (stored.astype(np.float64) - least) * ((high - low) / (most - least))


def _whole(text: str, what: str, path: Path) -> int:
    value = number_of(text, what, path)
    if value != int(value):
        raise RecordError(f"{what} is no whole number", where=path, got=repr(text))
    return int(value)
