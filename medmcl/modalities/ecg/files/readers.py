"""ECG files: WFDB, XML of MUSE, UK Biobank and HL7, DICOM, EDF, npy, HDF5, Zarr, parquet, csv.

A reader gives `Channels`, what the file says in its own names and units; `to_record` turns them
into an `ECGRecord`, whose leads have canonical names and whose signal is in mV.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medmcl.core.errors import RecordError, damage
from medmcl.core.lazy import Parts
from medmcl.core.limits import most_bytes, refuse_large, refuse_large_parquet, values_of_groups
from medmcl.core.plain_text import refuse_unsound_text
from medmcl.modalities.ecg.leads import TWELVE, canonical, is_known
from medmcl.modalities.ecg.settings import WITHOUT_HEADER, Reader
from medmcl.modalities.opening import kept, require_content, require_row

_RECORD_COLUMNS = (
    *("record", "record_id", "recording", "ecg_id", "study_id", "file", "filename"),
    *("id", "eid", "subject", "subject_id", "patient", "patient_id", "participant_id"),
)
_TIME_COLUMNS = ("time", "time_s", "time_ms", "t", "timestamp", "seconds", "ms", "sample")
_PAUSE = 0.01
"""Share of a record's time from which missing samples are no slip of a clock."""
_TIME_UNITS = {**dict.fromkeys(("time", "time_s", "t", "seconds"), 1.0),
               **dict.fromkeys(("time_ms", "ms"), 1e3)}  # fmt: skip
"""Columns of times, and how many of their units a second has."""
_SLOWEST_HZ = 10
"""Nobody records an ECG at less."""
_HEAD = 2**16
"""Bytes by which the layout of a text is told."""
LAYOUT = (
    "name the columns after leads, with a row a sample in a file a record; or in parquet a row a "
    "record with a list a lead, and row: COLUMN of your table with the row's number"
)


def read_leads(path: Path, row: int | None) -> Channels:
    """Give the columns that are leads, and the rate and units that other columns and names say.

    Args:
        path: A parquet, csv or tsv file; columns of other names are ignored.
        row: Row of a parquet file with a list a lead; None if it has one row, or a row a sample.

    Raises:
        RecordError: No column is a lead, there are several records, or rows are not in order.
    """
    import pandas as pd

    if path.name.lower().endswith((".parquet", ".pq")):
        lists = _list_columns(path)
        if lists:
            return _channels(lists, _read_lists(path, lists, row))
        refuse_large_parquet(path, "record")
        frame = pd.read_parquet(path)
    else:
        layout = _layout(path)
        refuse_unsound_text(path, "record")
        frame = pd.read_csv(path, low_memory=False, **layout)
    if row is not None:
        raise RecordError("row: has no meaning for a row a sample", where=path, fix=LAYOUT)
    columns = [column for column in map(str, frame.columns) if is_known(column)]
    if not columns:
        got = ", ".join(map(str, frame.columns[:12]))
        raise RecordError(
            "no column is named after a lead",
            where=path,
            got=got,
            expected="I, II, ..., V6",
            fix=LAYOUT,
        )
    _require_one_record(frame, path)
    rate_hz, notes = _rate_of(frame, path)
    frame = frame[columns]
    wrong = [name for name in columns if frame[name].dtype.kind not in "fiu"]
    if wrong:
        raise RecordError(f"column '{wrong[0]}' does not hold numbers", where=path, fix=LAYOUT)
    return _channels(columns, frame.to_numpy(dtype=np.float64).T, rate_hz, notes)


def _channels(
    names: Sequence[str],
    signal: np.ndarray,
    rate_hz: float | None = None,
    notes: tuple[str, ...] = (),
) -> Channels:
    """Columns by their names, which may say a unit: ``I (uV)``, ``II [mV]``."""
    said = [re.search(r"[(\[]([^)\]]+)[)\]]\s*$", name) for name in names]
    units = [None if one is None or unit_factor(one[1]) is None else one[1] for one in said]
    return Channels(
        names=tuple(names), units=tuple(units), signal=signal, rate_hz=rate_hz, notes=notes
    )


def _layout(path: Path) -> dict[str, Any]:
    """How a text of cells is packed, encoded and separated, as its first bytes say."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    packed = head.startswith(b"\x1f\x8b")
    if packed and path.suffix.lower() != ".gz":
        raise RecordError(
            "is packed by gzip, and its name does not say so",
            where=path,
            fix=f"call it {path.name}.gz",
        )
    if packed:
        head = zlib.decompressobj(wbits=31).decompress(head, _HEAD)
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    first, _, rest = head.decode(encoding, "ignore").partition("\n")
    separator = max(",;\t", key=first.count)
    comma = separator != "," and re.search(r"\d,\d", rest)
    return {
        "sep": separator,
        "decimal": "," if comma else ".",
        "encoding": encoding,
        "compression": "gzip" if packed else None,
    }


def _rate_of(frame: Any, path: Path) -> tuple[float | None, tuple[str, ...]]:
    """Rate that a column of times says, in seconds or, as its name says, milliseconds.

    Raises:
        RecordError: Of its time a hundredth or more is missing: what stands on either side of a
            pause is no record of one rate.
    """
    for column in frame.columns:
        unit = _TIME_UNITS.get(str(column).strip().lower())
        if unit is None or frame[column].dtype.kind not in "fiu" or len(frame) < 3:
            continue
        times = frame[column].to_numpy(dtype=np.float64)
        span, steps = times[-1] - times[0], np.diff(times)
        if not (np.isfinite(times).all() and span > 0):
            continue
        tick = next((10.0**-k for k in range(9) if _are_whole(times * 10**k)), 1e-9)
        even = steps <= 1.5 * span / len(steps) + tick
        step = steps[even].mean()
        rate = unit / step
        if rate < _SLOWEST_HZ:
            continue  # the number of the sample, or milliseconds that nobody named
        missing = (steps[~even] - step).sum()
        if missing > _PAUSE * span:
            raise RecordError(
                f"column '{column}' pauses: samples are missing",
                where=path,
                got=f"{missing / unit:.3g} of {span / unit:.3g} s, the first after row "
                f"{np.flatnonzero(~even)[0] + 1:,}",
                fix="write the missing samples as rows of empty cells (inputs.NAME.missing_samples "
                "says what becomes of them), or cut the record at the pause",
            )
        whole = abs(rate - round(rate)) <= rate * (tick / span + 1e-9)
        note = f"times of column '{column}' are not even: samples are missing or repeated"
        return float(round(rate)) if whole else rate, () if even.all() else (note,)
    return None, ()


def _are_whole(numbers: np.ndarray) -> bool:
    return bool(np.allclose(numbers, np.round(numbers), rtol=0, atol=1e-6))


def _require_one_record(frame: Any, path: Path) -> None:
    """Refuse several records one below another, and samples that are not in order."""
    for column in map(str, frame.columns):
        name = column.strip().lower()
        if name in _RECORD_COLUMNS and frame[column].nunique(dropna=False) > 1:
            raise RecordError(
                f"column '{column}' says that there are several records one below another",
                where=path,
                got=f"{frame[column].nunique(dropna=False)} records",
                expected="one record a file",
                fix="write a file a record: for name, part in "
                f"frame.groupby('{column}'): part.to_parquet(f'ecg/{{name}}.parquet')",
            )
        if name in _TIME_COLUMNS and frame[column].dtype.kind in "fiu":
            back = np.flatnonzero(np.diff(frame[column].to_numpy(dtype=np.float64)) < 0)
            if len(back):
                raise RecordError(
                    f"column '{column}' runs backwards",
                    where=path,
                    got=f"at row {back[0] + 1}",
                    fix="sort the rows by time; of several records write a file each",
                )


def _list_columns(path: Path) -> list[str]:
    """Leads that a parquet file holds as lists."""
    import pyarrow.parquet as pq
    from pyarrow import types

    is_list = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    fields = pq.read_schema(path)
    return [f.name for f in fields if is_known(f.name) and any(test(f.type) for test in is_list)]


def _read_lists(path: Path, leads: list[str], row: int | None) -> np.ndarray:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)]
    total = sum(groups)
    if row is None and total != 1:
        raise RecordError(
            "holds several records, a row each, and nobody says which",
            where=path,
            got=f"{total} rows",
            fix="say it in cohort.yaml: row: COLUMN of your table with the row's number, from 0",
        )
    row = row or 0
    require_row(row, total, path)
    ends = np.cumsum(groups)
    group = int(np.searchsorted(ends, row, side="right"))
    table = _row_group(path, group, tuple(leads))
    place = row - int(ends[group]) + groups[group]
    cells = [table.column(lead)[place] for lead in leads]
    lengths = {lead: len(cell.values or ()) for lead, cell in zip(leads, cells, strict=True)}
    if len(set(lengths.values())) > 1:
        raise RecordError("leads have different lengths", where=path, got=lengths)
    return np.stack([np.asarray(cell.as_py() or [], dtype=np.float64) for cell in cells])


@kept(1)
def _row_group(path: Path, group: int, leads: tuple[str, ...]) -> Any:
    """Read a row group once for its rows that are asked for one after another."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        values = (values_of_groups(path) or [0] * (group + 1))[group]
        most = most_bytes() // VALUE_BYTES
        if values > most:
            raise RecordError(
                "a row group is too large to be read for one record",
                where=path,
                got=f"{values} values",
                expected=f"at most {most}",
                fix="write it with to_parquet(..., row_group_size=100)",
            )
        return file.read_row_group(group, columns=list(leads))


CHECKSUM = "the checksum of"
"""How a remark begins that the samples are not those that were written."""
VALUE_BYTES = 16
"""Memory that a sample takes while it is read: as stored, and in double precision."""


def refuse_long(values: float, where: object) -> None:
    """Refuse a record of more samples, times leads, than the memory of one may hold."""
    refuse_large(values * VALUE_BYTES, where, f"its length ({values:,.0f} values)")


def number_of(text: str, what: str, where: object) -> float:
    """Give the number that a file says; with a point or a comma.

    Raises:
        RecordError: It says none, none that is finite, or one whose comma may part thousands.
    """
    if re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+", text.strip()):
        raise RecordError(
            f"{what} has a comma that may part thousands or decimals", where=where, got=repr(text),
            fix="export it with a decimal point",
        )  # fmt: skip
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RecordError(f"{what} is missing, or is no number", where=where, got=repr(text))
    return value


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
        signal_mv: (L, S) float32 (for steps float64) in mV; NaN where a sample is marked invalid.
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
    reader: Reader,
    path: Path,
    *,
    axes: str = "LS",
    leads: Sequence[str] = TWELVE,
    row: int | None,
    dataset: str | None = None,
) -> Channels:
    """Read one file with the named reader.

    Args:
        reader: Name of the format.
        path: The file; WFDB takes it with or without ``.hea``.
        axes: Axes of a record of npy, HDF5 or Zarr: ``LS`` or ``SL``.
        leads: Names along L (npy, HDF5, Zarr).
        row: Row of an array of records (N, L, S), or of a parquet file with a list a lead.
        dataset: Array of an HDF5 file or Zarr store; None if it has one.

    Raises:
        RecordError: Whatever is wrong with the file, in words.
    """
    fix = "replace the file with an intact copy, or name the right reader"
    named = "a table" if reader == "parquet" else reader
    with damage(path, f"cannot be read as {named}", fix=fix):
        read = _READERS[reader]
        if reader not in ("wfdb", "zarr"):  # a record of several files, and a folder
            require_content(path)
        if reader == "parquet":
            return read(path, row)
        if reader in WITHOUT_HEADER:
            return of_array(read(path, dataset, row), path, axes, leads)
        return read(path)


_FILES = "medmcl.modalities.ecg.files"
_READERS = Parts(
    {
        "wfdb": f"{_FILES}.wfdb:read_wfdb",
        "muse_xml": f"{_FILES}.xml:read_muse",
        "ukb_xml": f"{_FILES}.xml:read_ukb",
        "aecg": f"{_FILES}.aecg:read_aecg",
        "dicom": f"{_FILES}.dicom:read_dicom",
        "edf": f"{_FILES}.edf:read_edf",
        "npy": f"{_FILES}.arrays:read_npy",
        "hdf5": f"{_FILES}.hdf5:read_array",
        "zarr": f"{_FILES}.zarr:read_array",
        "parquet": f"{_FILES}.readers:read_leads",
    }
)
_ENDINGS: dict[str, Reader | None] = {
    **dict.fromkeys((".hea", ".dat"), "wfdb"),
    ".xml": None,
    **dict.fromkeys((".dcm", ".dicom"), "dicom"),
    ".npy": "npy",
    ".edf": "edf",
    **dict.fromkeys((".h5", ".hdf5"), "hdf5"),
    ".zarr": "zarr",
    **dict.fromkeys((".parquet", ".pq", ".csv", ".tsv", ".csv.gz", ".tsv.gz"), "parquet"),
}
"""Ending of a path to its reader; of XML the first element says it."""


def guess_reader(path: Path) -> Reader:
    """Tell the format by the ending of a path, and an XML dialect by its first element."""
    from medmcl.modalities.ecg.files.xml import guess_dialect
    from medmcl.modalities.ecg.files.zarr import is_store

    if Path(f"{path}.hea").exists():
        return "wfdb"
    for ending, reader in _ENDINGS.items():
        if path.name.lower().endswith(ending):
            return reader or guess_dialect(path)
    if is_store(path):
        return "zarr"
    if not path.suffix:
        return "wfdb"
    raise RecordError(
        "the format cannot be told from the ending of the file",
        where=path,
        expected=", ".join(_ENDINGS),
        fix="save it as one of these, or name its reader in a cohort.yaml (reader: wfdb)",
    )


def to_record(
    channels: Channels,
    *,
    where: str,
    rename: Mapping[str, str],
    rate_hz: float | None,
    units: str | None,
    exact: bool = False,
    trim: Literal["zeros"] | None = None,
) -> ECGRecord:
    """Bring channels to canonical names and mV.

    Args:
        channels: What the file says.
        where: For messages.
        rename: Name in the file to lead, before names are recognised.
        rate_hz: Declared rate; used where the file has none.
        units: Declared unit; used where the file has none.
        exact: Keep float64; narrow filters blow up what float32 rounds off.
        trim: ``zeros``: cut off what is zero in every lead, at both ends.

    Raises:
        RecordError: No rate, no unit, two channels of one name, no lead at all.
    """
    if channels.signal.ndim != 2 or 0 in channels.signal.shape:
        raise RecordError("there is no signal", where=where, got=f"shape {channels.signal.shape}")
    refuse_long(channels.signal.size, where)
    rows, leads, scale, stated = [], [], [], []
    notes = list(channels.notes)
    for row, (name, unit) in enumerate(zip(channels.names, channels.units, strict=True)):
        lead, sign = canonical(rename.get(name, name))
        factor = _factor(unit, units, name, is_known(lead), where)
        if factor is None:
            notes.append(f"'{name}' is not a voltage and is left out")
            continue
        rows.append(row)
        leads.append(lead)
        scale.append(factor * sign)
        if unit is not None and not _is_unsaid(unit):
            stated.append(unit)
    if not rows:
        raise RecordError("no channel is a voltage", where=where, got=", ".join(channels.names))
    if double := sorted({lead for lead in leads if leads.count(lead) > 1}):
        raise RecordError(
            f"lead {', '.join(double)} stands twice",
            where=where,
            got=", ".join(channels.names),
            fix="name the channels in cohort.yaml: leads: {NAME IN THE FILE: II}",
        )
    rate = channels.rate_hz if channels.rate_hz is not None else rate_hz
    if rate is None or not 0 < rate < 1e6:
        raise RecordError(
            "the sampling rate is not known", where=where, got=rate, fix="state rate_hz"
        )
    with np.errstate(all="ignore"):
        signal = (channels.signal[rows] * np.array(scale, dtype=np.float64)[:, None]).astype(
            np.float64 if exact else np.float32
        )
    return ECGRecord(
        signal_mv=signal if trim is None else signal[:, moving(signal)],
        leads=tuple(leads),
        rate_hz=float(rate),
        units=stated[0] if stated else units or "mV",
        header_rate_hz=channels.rate_hz,
        header_units=stated[0] if stated else None,
        quality=tuple(notes),
        where=where,
    )


def moving(signal: np.ndarray) -> slice:
    """Where a signal (L, S) begins and ends to be anything but zero in every lead."""
    there = np.flatnonzero(signal.any(axis=0))
    return slice(int(there[0]), int(there[-1]) + 1) if len(there) else slice(0, 0)


def _factor(
    unit: str | None, units: str | None, name: str, is_lead: bool, where: str
) -> float | None:
    """What a channel's unit is in mV; None of one that is no voltage and no lead."""
    factor = unit_factor(unit) or (unit_factor(units) if _is_unsaid(unit) else None)
    if factor is None and (is_lead or _is_unsaid(unit)):
        raise RecordError(
            f"the unit of '{name}' is not known",
            where=where,
            got=unit,
            expected="mV, uV or V",
            fix="state units in cohort.yaml, or write the unit into the file",
        )
    return factor


def _is_unsaid(unit: str | None) -> bool:
    if unit is None or unit.strip() == "MV":
        return True
    return unit.strip().lower() in ("", "nu", "adu", "n/a", "unknown")


def of_array(array: np.ndarray, path: Path, axes: str, leads: Sequence[str]) -> Channels:
    """Name the leads of a record that is an array alone.

    Args:
        array: (L, S) or (S, L).
        path: For messages.
        axes: ``LS`` or ``SL``.
        leads: Names along L.
    """
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
    refuse_long(array.size, path)
    signal = np.array(array if axes == "LS" else array.T)
    return Channels(names=tuple(leads), units=(None,) * len(leads), signal=signal, rate_hz=None)
