"""WFDB records: local files only, checked for missing and truncated signal files before reading.

Which files a record is made of, its header and what the header names, is read by hand and without
complaint, for every record before any is read: `wfdb` says what is wrong with a header.
"""

from __future__ import annotations

import glob
import math
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import AGAIN, RecordError, damage
from medmcl.core.limits import MAX_HEADER_BYTES
from medmcl.modalities.ecg.files.readers import (
    CHECKSUM,
    Channels,
    refuse_long,
    unit_factor,
)
from medmcl.modalities.ecg.leads import is_known
from medmcl.modalities.opening import require_content

_NO_FILE = ("", "~", "-", ".", "..")


def wfdb_files(path: Path) -> list[Path]:
    """Give the header, the signal files that it names, and those of its segments.

    Where a header cannot be understood, the files beside it under its stem; names that lead out of
    the folder are left out, as no reader follows them.
    """
    record = path.with_suffix("") if path.suffix in (".hea", ".dat") else path
    return list(dict.fromkeys(_files(record, nested=True)))


def _files(record: Path, *, nested: bool) -> list[Path]:
    header = Path(f"{record}.hea")
    if not header.is_file():
        return [header]
    with header.open("rb") as file:
        text = file.read(MAX_HEADER_BYTES).decode("latin-1")
    lines = [line.split() for line in text.splitlines()]
    lines = [words for words in lines if words and not words[0].startswith("#")]
    try:
        _, slash, segments = lines[0][0].partition("/")
        count = int(segments) if slash else int(lines[0][1])
    except (IndexError, ValueError):
        return [header, *_beside(record)]
    named = lines[1 : 1 + max(count, 0)]
    files = [header] if len(named) == count > 0 else [header, *_beside(record)]
    if not slash:
        return files + [record.parent / words[0] for words in named if _is_file_name(words[0])]
    for name, *length in named if nested else ():
        if _is_file_name(name) and length[:1] != ["0"]:  # of length 0: a layout, which is not read
            files += _files(record.parent / name, nested=False)
    return files


def _is_file_name(name: str) -> bool:
    return name not in _NO_FILE and not set(name) & set("/\\:\0")


def _beside(record: Path) -> list[Path]:
    return sorted(record.parent.glob(f"{glob.escape(record.name)}.*"))


_BYTES = {
    **{"8": Fraction(1), "80": Fraction(1), "16": Fraction(2), "61": Fraction(2)},
    **{"160": Fraction(2), "24": Fraction(3), "32": Fraction(4), "212": Fraction(3, 2)},
    **{"310": Fraction(4, 3), "311": Fraction(4, 3)},
}
"""Bytes a sample of each storage format; the compressed ones (508, 516, 524) have no fixed size."""
_INVALID = -(2**15)
"""What format 16 stores for a sample that is not valid."""
MAX_SEGMENTS = 10_000
_MICRO = (b"\xc2\xb5", b"\xce\xbc", b"\xb5")
"""The micro sign and the Greek mu in UTF-8, and the micro sign in Latin-1: no ASCII, as headers are
meant to be, but common; wfdb drops these bytes, and 'V' would remain."""


def read_wfdb(path: Path) -> Channels:
    """Read a record of one or several segments, with one or several signal files.

    Raises:
        RecordError: A file is missing, empty or shorter than the header says (and by how much), or
            the header cannot be used.
    """
    record = path.with_suffix("") if path.suffix in (".hea", ".dat") else path
    header = _read_header(record)
    return _join(header, record) if hasattr(header, "seg_name") else _read_segment(header, record)


def _read_segment(header: Any, record: Path) -> Channels:
    import wfdb

    _check_signal_files(header, record)
    if _is_plain(header):
        return _read_plain(header, record)
    found = wfdb.rdrecord(str(record), physical=False, smooth_frames=False, ignore_skew=True)
    found.units = header.units
    notes = _checksum_notes(found, found.calc_checksum(expanded=True))
    per_frame = np.array(found.samps_per_frame)
    rows = [
        row[(skew or 0) * count :]
        for row, skew, count in zip(
            found.dac(expanded=True), found.skew, per_frame.tolist(), strict=True
        )
    ]
    return _channels(found, rows, per_frame, notes)


def _is_plain(header: Any) -> bool:
    """Whether all signals are 16-bit, one sample a frame, and start together."""
    return (
        bool(header.sig_len)
        and set(header.fmt) == {"16"}
        and set(header.samps_per_frame) <= {1, None}
        and set(header.skew) <= {0, None}
        and not {None, 0} & set(header.adc_gain)
        and None not in header.baseline
    )


def _read_plain(header: Any, record: Path) -> Channels:
    """Read format 16 here: `wfdb.rdrecord` would parse the header, the slow part, once more."""
    samples = np.empty((header.n_sig, header.sig_len), dtype=np.int64)
    for name in dict.fromkeys(header.file_name):
        rows = [number for number, file in enumerate(header.file_name) if file == name]
        start = header.byte_offset[rows[0]] or 0
        count = len(rows) * header.sig_len
        flat = np.fromfile(record.parent / name, dtype="<i2", count=count, offset=start)
        samples[rows] = flat.reshape(header.sig_len, len(rows)).T
    notes = _checksum_notes(header, [int(total) for total in samples.sum(axis=1) % 65536])
    baseline, gain = np.array(header.baseline), np.array(header.adc_gain)
    signal = (samples - baseline[:, None]) / gain[:, None]
    signal[samples == _INVALID] = np.nan
    return _channels(header, list(signal), np.ones(header.n_sig, dtype=np.int64), notes)


def _join(header: Any, record: Path) -> Channels:
    """Join segments in time; gaps, and signals that a segment has not, are NaN.

    So are the ends of segments that skew leaves empty, but at the end of the record they are cut.
    """
    parts = _segments(header, record)
    whole = [part for _, _, part in parts if part is not None]
    if not whole:
        raise RecordError("has no segment with signals", where=f"{record}.hea")
    rates = {part.rate_hz for part in whole}
    units: dict[str, str | None] = {}
    for part in whole:
        for name, unit in zip(part.names, part.units, strict=True):
            if units.setdefault(name, unit) != unit:
                raise RecordError(f"the unit of '{name}' changes between segments", where=record)
    if len(rates) > 1:
        raise RecordError(
            "segments have different sampling rates", where=record, got=sorted(map(str, rates))
        )
    total = sum(length for _, length, _ in parts)
    names = list(units)
    scale = round((whole[0].rate_hz or 0) / header.fs)
    refuse_long(total * scale * len(units), f"{record}.hea")
    signal = np.full((len(names), total * scale), np.nan)
    for start, _, content in parts:
        if content is not None:
            rows = [names.index(name) for name in content.names]
            width = content.signal.shape[1]
            signal[rows, start * scale : start * scale + width] = content.signal
    start, _, last = parts[-1]
    if last is not None:
        signal = signal[:, : start * scale + last.signal.shape[1]]
    notes = dict.fromkeys(note for part in whole for note in part.notes)
    return Channels(
        names=tuple(names),
        units=tuple(units.values()),
        signal=signal,
        rate_hz=whole[0].rate_hz,
        notes=tuple(notes),
    )


def _segments(header: Any, record: Path) -> list[tuple[int, int, Channels | None]]:
    """Start, length in frames, and content of each segment; None for gaps and layouts."""
    if len(header.seg_name) > MAX_SEGMENTS:
        raise RecordError("has too many segments", where=record, got=len(header.seg_name))
    parts: list[tuple[int, int, Channels | None]] = []
    start = 0
    for name, stated in zip(header.seg_name, header.seg_len, strict=True):
        length, part = int(stated), None
        if name != "~" and length > 0:
            _check_name(name, record)
            inner = _read_header(record.parent / name)
            if hasattr(inner, "seg_name"):
                raise RecordError(f"segment '{name}' has segments of its own", where=record)
            if inner.sig_len not in (None, length):
                raise RecordError(
                    f"the length of segment '{name}' is not what the record says",
                    where=f"{record}.hea",
                    got=inner.sig_len,
                    expected=length,
                )
            part = _read_segment(inner, record.parent / name)
        parts.append((start, length, part))
        start += length
    return parts


class _Specs:
    """Kinds of header fields as wfdb's table has them, looked up in a dictionary.

    wfdb asks its DataFrame for one cell 20 times a signal, which is most of what a header costs.
    """

    def __init__(self, table: Any) -> None:
        self.table, self.index = table, list(table.index)
        self.loc = {(row, name): table.loc[row, name] for row in self.index for name in table}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.table, name)


@cache
def _wfdb() -> Any:
    import wfdb
    from wfdb.io import _header

    _header.SIGNAL_SPECS = _Specs(_header.SIGNAL_SPECS)
    return wfdb


def _read_header(record: Path) -> Any:
    """Read a header from this disk; wfdb never gets a name that it could take for an address."""
    wfdb = _wfdb()
    path = Path(f"{record}.hea")
    if "::" in str(path) or "://" in str(path):
        raise RecordError("a WFDB record must be a local file", where=path)
    require_content(path)
    if path.stat().st_size > MAX_HEADER_BYTES:
        raise RecordError("is too large to be a WFDB header", where=path)
    with damage(path, "is not a WFDB header"):
        header = wfdb.rdheader(str(record))
    if not header.n_sig or header.n_sig < 0 or not header.fs or header.fs <= 0:
        raise RecordError(
            "the header names no signal, or no sampling rate",
            where=path,
            got=f"{header.n_sig} signals at {header.fs} Hz",
        )
    a_frame = sum(one or 1 for one in getattr(header, "samps_per_frame", None) or ())
    refuse_long((header.sig_len or 0) * max(header.n_sig, a_frame), path)
    if getattr(header, "units", None):
        header.units = _true_units(path, header.units)
    return header


def _true_units(path: Path, units: list[str | None]) -> list[str | None]:
    """Units of the signals with their letters that are no ASCII, which wfdb drops; micro is u."""
    content = path.read_bytes()
    if content.isascii():
        return units
    for sign in _MICRO:
        content = content.replace(sign, b"u")
    lines = [line.split() for line in content.decode("latin-1").splitlines()]
    lines = [words for words in lines if words and not words[0].startswith("#")]
    true = list(units)
    for number, words in enumerate(lines[1 : 1 + len(units)]):
        _, slash, unit = words[2].partition("/") if len(words) > 2 else ("", "", "")
        if slash and unit:
            true[number] = unit
    return true


def _check_name(name: str, record: Path) -> None:
    if not name or set(name) & set("/\\:") or name in (".", ".."):
        raise RecordError(
            "the header names a file outside its own folder", where=f"{record}.hea", got=name
        )


def _check_signal_files(header: Any, record: Path) -> None:
    """Refuse signal files that are missing, empty or shorter than the header says."""
    if len(header.file_name or ()) != header.n_sig:
        raise RecordError(
            "the header does not describe all its signals",
            where=f"{record}.hea",
            got=f"{len(header.file_name or ())} descriptions",
            expected=f"{header.n_sig}",
        )
    for name in dict.fromkeys(header.file_name):
        _check_name(name, record)
        path = record.parent / name
        require_content(path)
        rows = [number for number, file in enumerate(header.file_name) if file == name]
        _check_size(path, header, rows)


def _check_size(path: Path, header: Any, rows: list[int]) -> None:
    size = _BYTES.get(header.fmt[rows[0]])
    if size is None or header.sig_len is None:
        return
    frame = sum(header.samps_per_frame[row] for row in rows)
    start = header.byte_offset[rows[0]] or 0
    expected = start + math.ceil(frame * header.sig_len * size)
    found = path.stat().st_size
    if found < expected:
        whole = max(0, int((found - start) / (frame * size)))
        raise RecordError(
            f"is truncated: {expected - found} of {expected} bytes are missing, "
            f"{header.sig_len - whole} of {header.sig_len} samples a lead",
            where=path,
            got=f"{whole / header.fs:.2f} s",
            expected=f"{header.sig_len / header.fs:.2f} s, as the header says",
            fix=AGAIN,
        )


def _checksum_notes(found: Any, computed: list[int]) -> tuple[str, ...]:
    """Compare the checksums of the header, where it has them, with those of the samples."""
    stated = found.checksum or []
    pairs = zip(found.sig_name, stated, computed, strict=False)
    wrong = [name for name, said, is_ in pairs if said and (said - is_) % 65536]
    if not wrong:
        return ()
    return (f"{CHECKSUM} {', '.join(map(str, wrong))} differs from the header's",)


def _channels(
    record: Any, rows: list[np.ndarray], per_frame: np.ndarray, notes: tuple[str, ...]
) -> Channels:
    """Keep the channels of the leads' sampling rate; the others are left out and noted.

    ``rows`` begin together but may end apart, where signals are skewed; only the samples that all
    leads have are taken.
    """
    names = [str(name or f"channel {n}") for n, name in enumerate(record.sig_name)]
    useful = [
        number
        for number, name in enumerate(names)
        if is_known(name) or unit_factor(record.units[number]) is not None
    ] or list(range(len(names)))
    fastest = max(int(per_frame[number]) for number in useful)
    kept = [number for number in range(len(names)) if int(per_frame[number]) == fastest]
    slower = [names[number] for number in useful if number not in kept]
    if any(is_known(name) for name in slower):
        raise RecordError(
            "leads of one record have different sampling rates",
            where=record.record_name,
            got=", ".join(slower),
            fix="write them at one rate",
        )
    left = [f"'{name}' has another sampling rate and is left out" for name in slower]
    whole = min(len(rows[number]) for number in kept if number in useful)
    signal = np.full((len(kept), whole), np.nan)
    for place, number in enumerate(kept):
        signal[place, : len(rows[number])] = rows[number][:whole]
    return Channels(
        names=tuple(names[number] for number in kept),
        units=tuple(record.units[number] for number in kept),
        signal=signal,
        rate_hz=float(record.fs) * fastest,
        notes=(*notes, *left),
    )
