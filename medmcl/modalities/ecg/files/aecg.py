"""ECG in HL7 aECG (annotated ECG, HL7 V3 of 2004): the rhythm, not the representative beat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.modalities.ecg.files.readers import Channels, number_of, unit_factor
from medmcl.modalities.ecg.files.xml import first, integers, parse, stacked, tag

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_TIMES = ("TIME_ABSOLUTE", "TIME_RELATIVE")


def read_aecg(path: Path) -> Channels:
    """Read the longest sequence set of the file's series, ``component/series``.

    Series derived from these (``derivation``: representative beats) are no recordings. A sample is
    ``origin + digit x scale``, in the unit of the scale.

    Raises:
        RecordError: No series, no time axis, samples that are no numbers, leads of many lengths.
    """
    root = parse(path)
    sets = [one for series in _below(root, "series") for one in _below(series, "sequenceset")]
    sets = [one for one in sets if any(_sequences(one))]
    if not sets:
        has_beats = first(root, "derivedSeries") is not None
        raise RecordError(
            "holds representative beats only" if has_beats else "holds no series of samples",
            where=path,
            got=f"<{tag(root)}>",
            expected="AnnotatedECG/component/series with sequences of digits",
        )
    read = [_read_set(one, path) for one in sets]
    chosen = max(read, key=lambda one: one[0][next(iter(one[0]))][1].size)
    note = (f"the longest of {len(read)} sequence sets is read",) if len(read) > 1 else ()
    return stacked(*chosen, path, note)


def _below(node: Any, name: str) -> Iterator[Any]:
    """Parts of a name that stand in the node's own components."""
    for part in node:
        if tag(part) == "component":
            yield from (one for one in part if tag(one) == name)


def _sequences(sequence_set: Any) -> Iterator[tuple[str, Any]]:
    """Code and value of each sequence."""
    for one in _below(sequence_set, "sequence"):
        code, value = first(one, "code"), first(one, "value")
        if code is not None and value is not None:
            yield str(code.get("code", "")), value


def _read_set(sequence_set: Any, path: Path) -> tuple[dict[str, tuple[str, np.ndarray]], float]:
    leads: dict[str, tuple[str, np.ndarray]] = {}
    rates = set()
    for code, value in _sequences(sequence_set):
        if code in _TIMES:
            step, unit = _quantity(value, "increment", path, unit="s")
            if unit not in _SECONDS or not step > 0:
                raise RecordError("the step of time is none", where=path, got=f"{step} {unit}",
                                  expected="<increment value= unit=s>")  # fmt: skip
            rates.add(round(1 / (step * _SECONDS[unit]), 6))
        elif code in leads:
            raise RecordError(f"lead '{code}' stands twice", where=path)
        else:
            leads[code] = _samples(value, code, path)
    if len(rates) != 1:
        what = "sequences have different steps of time" if rates else "holds no time axis"
        raise RecordError(what, where=path, got=sorted(rates) or None, expected="one of a series")
    if not leads:
        raise RecordError("holds no lead", where=path, got="a time axis alone")
    return leads, rates.pop()


def _samples(value: Any, code: str, path: Path) -> tuple[str, np.ndarray]:
    """Unit and samples of a lead."""
    scale, unit = _quantity(value, "scale", path)
    origin, of_origin = _quantity(value, "origin", path, default="0", unit=unit)
    if of_origin != unit:
        factors = unit_factor(of_origin), unit_factor(unit)
        if None in factors:
            raise RecordError(f"origin and scale of '{code}' have different units", where=path,
                              got=f"{of_origin}, {unit}")  # fmt: skip
        origin *= factors[0] / factors[1]  # type: ignore[operator]  # neither is None
    digits = first(value, "digits")
    return unit, origin + integers("" if digits is None else digits.text or "", path) * scale


def _quantity(
    value: Any, name: str, path: Path, *, default: str = "", unit: str = ""
) -> tuple[float, str]:
    """Number and unit of ``<name value= unit=>``."""
    node = first(value, name)
    said = default if node is None else str(node.get("value", default))
    number = number_of(said, f"<{name}>", path)
    return number, unit if node is None else str(node.get("unit") or unit)
