"""ECG files: WFDB, MUSE XML, UK Biobank XML, DICOM, npy, parquet and csv.

A reader gives `Channels`, what the file says in its own names and units; `to_record` turns them
into an `ECGRecord`, whose leads have canonical names and whose signal is in mV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.modalities.ecg.leads import TWELVE, canonical, is_known
from medmcl.modalities.ecg.settings import Reader

MAX_VALUES = 200_000_000
"""Samples times leads of one record: a file that says more is broken, or bursts the memory."""

_TO_MV = {
    **dict.fromkeys(("mv", "millivolt", "millivolts", "mvolt", "mdc_dim_milli_volt"), 1.0),
    **dict.fromkeys(("uv", "µv", "μv", "microvolt", "microvolts", "uvolt"), 1e-3),
    "mdc_dim_micro_volt": 1e-3,
    **dict.fromkeys(("nv", "nanovolt", "nanovolts"), 1e-6),
    **dict.fromkeys(("v", "volt", "volts"), 1e3),
}


@dataclass(frozen=True, kw_only=True)
class Channels:
    """What a file says, unchanged.

    Attributes:
        names: Name of each channel.
        units: Unit of each channel; None where the file has none.
        signal: (L, S) in those units; NaN where a sample is marked invalid.
        rate_hz: Sampling rate; None if the format cannot say it.
        notes: Remarks of the reader that a user should see.
    """

    names: tuple[str, ...]
    units: tuple[str | None, ...]
    signal: np.ndarray
    rate_hz: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ECGRecord:
    """One ECG as read.

    Attributes:
        signal_mv: (L, S) float32 in mV; NaN where the file marks a sample as invalid.
        leads: Canonical name of each row.
        rate_hz: Sampling rate of the rows.
        units: Unit in which the values were stored.
        header_rate_hz: Rate that the file states; None if the format cannot.
        header_units: Unit that the file states; None if it does not.
        quality: Remarks of the reader (checksums, channels left out, ...).
        where: File, and row of it.
    """

    signal_mv: np.ndarray
    leads: tuple[str, ...]
    rate_hz: float
    units: str = "mV"
    header_rate_hz: float | None = None
    header_units: str | None = None
    quality: tuple[str, ...] = ()
    where: str = ""

    @property
    def seconds(self) -> float:
        """Length of the record."""
        return self.signal_mv.shape[-1] / self.rate_hz


def unit_factor(unit: str | None) -> float | None:
    """Give what a unit is in mV; None if it is not a voltage.

    Case does not matter, but in ``MV``: by the SI it is the megavolt, by upper-case habit the
    millivolt (UCUM knows both), so it counts as unsaid.
    """
    return None if unit is None or _is_unsaid(unit) else _TO_MV.get(unit.strip().lower())


def read_channels(
    reader: Reader, path: Path, *, axes: str = "LS", leads: Sequence[str] = TWELVE, row: int | None
) -> Channels:
    """Read one file with the named reader.

    Args:
        reader: Name of the format.
        path: The file; WFDB takes it with or without ``.hea``.
        axes: Axes of an npy record: ``LS`` or ``SL``.
        leads: Names along L (npy).
        row: Row of an npy array of records (N, L, S), or of a parquet file with a list a lead.

    Raises:
        RecordError: Whatever is wrong with the file, in words.
    """
    from medmcl.modalities.ecg.files import dicom as ecg_dicom
    from medmcl.modalities.ecg.files import wfdb as ecg_wfdb
    from medmcl.modalities.ecg.files import xml as ecg_xml

    try:
        if reader == "wfdb":
            return ecg_wfdb.read_wfdb(path)
        require_content(path)
        if reader == "npy":
            return read_npy(path, axes, leads, row)
        if reader == "parquet":
            return read_table(path, row)
        readers = {
            "muse_xml": ecg_xml.read_muse,
            "ukb_xml": ecg_xml.read_ukb,
            "dicom": ecg_dicom.read_dicom,
        }
        return readers[reader](path)
    except RecordError:
        raise
    except Exception as error:  # a broken file may raise anything inside a parser
        said = " ".join(str(error).split())[:200]
        raise RecordError(
            f"cannot be read as {reader}: {type(error).__name__}: {said}",
            where=path,
            fix="replace the file with an intact copy, or name the right reader",
        ) from error


def guess_reader(path: Path) -> Reader:
    """Tell the format by the ending of a path, and an XML dialect by its first element."""
    from medmcl.modalities.ecg.files.xml import guess_dialect

    name = path.name.lower()
    endings: dict[str, Reader] = {".dcm": "dicom", ".dicom": "dicom", ".npy": "npy"}
    tables = (".parquet", ".pq", ".csv", ".tsv", ".csv.gz", ".tsv.gz")
    endings |= dict.fromkeys(tables, "parquet")
    if name.endswith((".hea", ".dat")) or Path(f"{path}.hea").exists():
        return "wfdb"
    if name.endswith(".xml"):
        return guess_dialect(path)
    for ending, reader in endings.items():
        if name.endswith(ending):
            return reader
    if not path.suffix:
        return "wfdb"
    raise RecordError(
        "the format cannot be told from the ending of the file",
        where=path,
        expected=f".hea, .xml, {', '.join(endings)}",
        fix="name the reader in cohort.yaml, for example reader: wfdb",
    )


def require_content(path: Path) -> None:
    """Refuse a file that is not there or empty."""
    if not path.is_file():
        raise RecordError("there is no such file", where=path)
    if path.stat().st_size == 0:
        raise RecordError("the file is empty (zero bytes)", where=path)


def to_record(
    channels: Channels,
    *,
    where: str,
    rename: Mapping[str, str],
    rate_hz: float | None,
    units: str | None,
) -> ECGRecord:
    """Bring channels to canonical names and mV.

    Args:
        channels: What the file says.
        where: For messages.
        rename: Name in the file to lead, before names are recognised.
        rate_hz: Declared rate; used where the file has none.
        units: Declared unit; used where the file has none.

    Raises:
        RecordError: No rate, no unit, two channels of one name, no lead at all.
    """
    _require_shape(channels, where)
    names = [canonical(rename.get(name, name)) for name in channels.names]
    factors, left_out = _factors(channels, names, units, where)
    kept = [number for number in range(len(names)) if number not in left_out]
    leads = tuple(names[number][0] for number in kept)
    if len(set(leads)) < len(leads):
        double = {lead for lead in leads if leads.count(lead) > 1}
        raise RecordError(
            f"lead {', '.join(sorted(double))} stands twice",
            where=where,
            got=", ".join(channels.names),
            fix="name the channels in cohort.yaml: leads: {NAME IN THE FILE: II}",
        )
    rate = channels.rate_hz if channels.rate_hz is not None else rate_hz
    if rate is None or not 0 < rate < 1e6:
        raise RecordError(
            "the sampling rate is not known", where=where, got=rate, fix="state rate_hz"
        )
    scale = np.array([factors[number] * names[number][1] for number in kept], dtype=np.float64)
    stated = [unit for unit in (channels.units[number] for number in kept) if unit]
    stated = [unit for unit in stated if not _is_unsaid(unit)]
    notes = [f"'{channels.names[number]}' is not a voltage and is left out" for number in left_out]
    with np.errstate(all="ignore"):
        signal = (channels.signal[kept] * scale[:, None]).astype(np.float32)
    return ECGRecord(
        signal_mv=signal,
        leads=leads,
        rate_hz=float(rate),
        units=stated[0] if stated else units or "mV",
        header_rate_hz=channels.rate_hz,
        header_units=stated[0] if stated else None,
        quality=(*channels.notes, *notes),
        where=where,
    )


def _require_shape(channels: Channels, where: str) -> None:
    if channels.signal.ndim != 2 or 0 in channels.signal.shape:
        raise RecordError("there is no signal", where=where, got=f"shape {channels.signal.shape}")
    if channels.signal.size > MAX_VALUES:
        raise RecordError(
            "the record is too long to be an ECG",
            where=where,
            got=f"{channels.signal.size} values",
            expected=f"at most {MAX_VALUES}",
        )


def _factors(
    channels: Channels, names: list[tuple[str, int]], units: str | None, where: str
) -> tuple[list[float], list[int]]:
    """Factor to mV of each channel, and the channels that are no voltage and no lead."""
    factors, left_out = [], []
    for number, (unit, (lead, _)) in enumerate(zip(channels.units, names, strict=True)):
        factor = unit_factor(unit) or (unit_factor(units) if _is_unsaid(unit) else None)
        if factor is None and (is_known(lead) or _is_unsaid(unit)):
            raise RecordError(
                f"the unit of '{channels.names[number]}' is not known",
                where=where,
                got=unit,
                expected="mV, uV or V",
                fix="state units in cohort.yaml, or write the unit into the file",
            )
        factors.append(factor or 0.0)
        if factor is None:
            left_out.append(number)
    if len(left_out) == len(names):
        raise RecordError("no channel is a voltage", where=where, got=", ".join(channels.names))
    return factors, left_out


def _is_unsaid(unit: str | None) -> bool:
    if unit is None or unit.strip() == "MV":
        return True
    return unit.strip().lower() in ("", "nu", "adu", "n/a", "unknown")


def read_npy(path: Path, axes: str, leads: Sequence[str], row: int | None) -> Channels:
    """Read a record from an npy file, mapped and not loaded.

    Args:
        path: An array (L, S) or (S, L), or with ``row`` an array of such records.
        axes: ``LS`` or ``SL``.
        leads: Names along L.
        row: Row of the first axis.
    """
    stat = path.stat()
    array = _mapped(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if array.dtype.kind not in "fiu":
        raise RecordError("must hold real numbers", where=path, got=f"dtype {array.dtype}")
    if row is not None:
        if not 0 <= row < len(array):
            raise RecordError(
                "there is no such row", where=path, got=row, expected=f"0 to {len(array) - 1}"
            )
        array = array[row]
    if array.ndim == 1 and len(leads) == 1:
        array = array[None] if axes == "LS" else array[:, None]
    shape = array.shape if axes == "LS" else array.shape[::-1]
    if len(shape) != 2 or shape[0] != len(leads):
        raise RecordError(
            f"the shape does not agree with axes: {axes} and {len(leads)} leads",
            where=path,
            got=array.shape,
            expected=f"({len(leads)}, S)" if axes == "LS" else f"(S, {len(leads)})",
            fix="correct axes (LS or SL) or leads; an array of many records needs row: COLUMN",
        )
    if array.size > MAX_VALUES:
        raise RecordError("the record is too long to be an ECG", where=path, got=array.shape)
    signal = np.array(array if axes == "LS" else array.T)
    return Channels(names=tuple(leads), units=(None,) * len(leads), signal=signal, rate_hz=None)


@lru_cache(maxsize=4)
def _mapped(path: Path, *_stamp: int) -> np.ndarray:
    """Map a file once for all its rows; with another stamp (inode, size, time) map it anew."""
    return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def read_table(path: Path, row: int | None = None) -> Channels:
    """Read a parquet, csv or tsv file whose columns are leads; see `tables`."""
    from medmcl.modalities.ecg.files.tables import read_leads

    names, signal = read_leads(path, row)
    return Channels(names=names, units=(None,) * len(names), signal=signal, rate_hz=None)
