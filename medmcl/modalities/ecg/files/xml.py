"""ECG in XML: GE MUSE, and the Cardiosoft files of UK Biobank (fields 20205 and 6025).

Parsed with defusedxml, so entities and external references are refused.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import TreeBuilder

import numpy as np

from medmcl.core.errors import AGAIN, RecordError, damage
from medmcl.core.limits import refuse_large
from medmcl.modalities.ecg.files.readers import Channels, number_of
from medmcl.modalities.opening import require_content

_PER_BYTE, _PER_NODE = 40, 1_000
"""Memory that a byte of XML, and an element or an attribute, takes, about."""
_DEEPEST = 100
"""Elements within one another; those of ECG files are within ten."""
_DIGITS = {"1": "I", "2": "II", "3": "III"}
_SAMPLE_TYPES = {1: "<i1", 2: "<i2", 4: "<i4"}


def guess_dialect(path: Path) -> Literal["muse_xml", "ukb_xml", "aecg"]:
    """Tell HL7's files by their first element, MUSE from Cardiosoft by those of the signal."""
    root = parse(path)
    if tag(root) == "annotatedecg":
        return "aecg"
    if first(root, "LeadData") is not None:
        return "muse_xml"
    if first(root, "StripData") is not None or first(root, "FullDisclosure") is not None:
        return "ukb_xml"
    raise RecordError(
        "is an XML file, but neither MUSE, Cardiosoft (UK Biobank) nor HL7 aECG",
        where=path,
        got=f"<{tag(root)}>",
        fix="convert it to WFDB or parquet",
    )


def read_muse(path: Path) -> Channels:
    """Read the rhythm waveforms of a GE MUSE export (median beats are not a recording).

    MUSE stores I, II and V1 to V6; the others are derived when they are asked for.
    """
    root = parse(path)
    waveforms = [node for node in root.iter() if tag(node) == "waveform"]
    rhythm = [
        node for node in waveforms if _text(node, "WaveformType", "rhythm").lower() != "median"
    ]
    if not rhythm:
        what = "holds median beats only" if waveforms else "holds no Waveform"
        raise RecordError(f"{what}; the rhythm waveform is needed", where=path)
    leads: dict[str, tuple[str, np.ndarray]] = {}
    rates = set()
    for waveform in rhythm:
        exponent = int(_number(waveform, "SampleExponent", path, default="0"))
        rates.add(_number(waveform, "SampleBase", path) * 10.0**exponent)
        for node in (child for child in waveform.iter() if tag(child) == "leaddata"):
            name = _text(node, "LeadID")
            if name in leads:
                raise RecordError(f"lead '{name}' stands twice", where=path)
            leads[name] = _muse_lead(node, name, path)
    if len(rates) != 1:
        raise RecordError("waveforms have different sampling rates", where=path, got=sorted(rates))
    return stacked(leads, rates.pop(), path)


def _muse_lead(node: Any, name: str, path: Path) -> tuple[str, np.ndarray]:
    coded = "".join(_text(node, "WaveFormData").split())
    size = int(_number(node, "LeadSampleSize", path, default="2"))
    if size not in _SAMPLE_TYPES:
        raise RecordError(f"lead '{name}' has samples of {size} bytes", where=path)
    raw = base64.b64decode(coded, validate=True)
    total = int(_number(node, "LeadSampleCountTotal", path, default=str(len(raw) // size)))
    if len(raw) < total * size:
        raise RecordError(
            f"lead '{name}' is truncated: {total - len(raw) // size} of {total} samples miss",
            where=path,
        )
    samples = np.frombuffer(raw[: total * size], dtype=_SAMPLE_TYPES[size])
    scale = _number(node, "LeadAmplitudeUnitsPerBit", path)
    return _text(node, "LeadAmplitudeUnits", "uV"), samples * scale


def read_ukb(path: Path) -> Channels:
    """Read a Cardiosoft file: the strip of a resting ECG, or the full exercise recording.

    Resting (20205): one ``WaveformData`` a lead. Exercise (6025): ``FullDisclosure`` of its leads
    (I, 2, 3), in either order of samples (`_by_lead`); if it is missing, the first strip.
    """
    root = parse(path)
    strips = [strip for strip in _strips(root) if strip]
    full = first(root, "FullDisclosure")
    if full is not None and len(strips) != 1 and _text(full, "FullDisclosureData"):
        return _full_disclosure(full, path)
    if not strips:
        raise RecordError(
            "holds no StripData with waveforms and no FullDisclosure", where=path, got=tag(root)
        )
    strip = strips[0]
    holder = first(root, "StripData")
    unit, scale, rate = _ukb_scale(holder, path)
    leads = {_DIGITS.get(name, name): (unit, integers(text, path) * scale) for name, text in strip}
    if len(leads) != len(strip):
        raise RecordError("a lead stands twice in the strip", where=path)
    stated = _text(holder, "ChannelSampleCountTotal")
    found = {len(samples) for _, samples in leads.values()}
    if len(strips) == 1 and stated and len(found) == 1 and max(found) < int(stated):
        missing = int(stated) - max(found)
        raise RecordError(f"is truncated: {missing} of {stated} samples are missing", where=path)
    notes = (f"the first of {len(strips)} strips is read",) if len(strips) > 1 else ()
    return stacked(leads, rate, path, notes)


def _strips(root: Any) -> Iterator[list[tuple[str, str]]]:
    """Lead and text of each waveform, one list a strip."""
    for data in (node for node in root.iter() if tag(node) == "stripdata"):
        inner = [node for node in data.iter() if tag(node) == "strip"]
        for strip in inner or [data]:
            nodes = [node for node in strip.iter() if tag(node) == "waveformdata"]
            yield [(node.get("lead") or node.get("Lead") or "?", node.text or "") for node in nodes]


def _full_disclosure(full: Any, path: Path) -> Channels:
    unit, scale, rate = _ukb_scale(full, path)
    order = [name for name in re.split(r"[,\s]+", _text(full, "LeadOrder")) if name]
    values = integers(_text(full, "FullDisclosureData"), path)
    if not order or len(values) < len(order):
        raise RecordError("FullDisclosure names no leads or holds no samples", where=path)
    stated = _text(full, "NumberOfChannels")
    if stated and int(stated) != len(order):
        raise RecordError(
            "FullDisclosure contradicts itself",
            where=path,
            got=f"{stated} channels, leads {', '.join(order)}",
        )
    table = _by_lead(values, len(order), rate)
    leads = {
        _DIGITS.get(name, name): (unit, row * scale) for name, row in zip(order, table, strict=True)
    }
    over = len(values) - table.size
    notes = (f"the last {over} values are not of all leads and are left out",) if over else ()
    return stacked(leads, rate, path, notes)


def _by_lead(values: np.ndarray, leads: int, rate: float) -> np.ndarray:
    """Give the samples of each lead, (leads, samples), of a full disclosure.

    They stand in turns of a second: one second of the first lead, one of the next; or sample by
    sample. The file does not say which, its signal does: what follows one another in a lead differs
    less. Of 43 records of PTB-XL (three leads, 100 Hz) the right order is the smoother one in all,
    also with .2 mV of white noise.

    Source:
        Turns of a second: how broadinstitute/ml4h reads field 6025, and paubrunet97's
        CardioSoftECGXMLreader. Sample by sample: GE's manual of CardioSoft's XML export.
    """
    second = round(rate)
    whole = len(values) - len(values) % (leads * second)
    along, across = (np.abs(values[lag:] - values[:-lag]).mean() for lag in (1, leads))
    if whole and second == rate and along < across:
        turns = values[:whole].reshape(-1, leads, second)
        return turns.transpose(1, 0, 2).reshape(leads, -1)
    return values[: len(values) - len(values) % leads].reshape(-1, leads).T


def _ukb_scale(holder: Any, path: Path) -> tuple[str, float, float]:
    """Unit, value of one step, and sampling rate of a Cardiosoft element."""
    node = first(holder, "Resolution")
    unit = "uV" if node is None else (node.get("units") or "uVperLsb")
    unit = re.split(r"\s*(?:per|/)", unit, flags=re.IGNORECASE)[0].strip() or "uV"
    return unit, _number(holder, "Resolution", path), _number(holder, "SampleRate", path)


def integers(text: str, path: Path) -> np.ndarray:
    """Numbers that commas, semicolons or spaces separate, (N,) float64."""
    words = [word for word in re.split(r"[,;\s]+", text) if word]
    with damage(path, "a sample is not a number"):
        return np.array(words, dtype=np.float64)


def stacked(
    leads: dict[str, tuple[str, np.ndarray]], rate: float, path: Path, notes: tuple[str, ...] = ()
) -> Channels:
    """Give leads of one length, lead to unit and samples, as channels."""
    lengths = {name: len(samples) for name, (_, samples) in leads.items()}
    if not leads or len(set(lengths.values())) != 1:
        raise RecordError(
            "leads have different lengths" if leads else "holds no lead", where=path, got=lengths
        )
    return Channels(
        names=tuple(leads),
        units=tuple(unit for unit, _ in leads.values()),
        signal=np.stack([samples for _, samples in leads.values()]),
        rate_hz=rate,
        notes=notes,
    )


def parse(path: Path) -> Any:
    """Give the root of a file; `RecordError` if it is no XML, or more than an ECG needs."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser, ParseError

    require_content(path)
    refuse_large(path.stat().st_size * _PER_BYTE, path, "its XML")
    try:
        parser = DefusedXMLParser(target=_Bounded(path))
        parser.feed(path.read_bytes())
        return parser.close()
    except DefusedXmlException as error:
        raise RecordError(
            f"defines entities, which an ECG file has no need of: {type(error).__name__}",
            where=path,
        ) from None
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise RecordError(
            f"is not XML, or is cut off: {error}",
            where=path,
            fix=AGAIN,
        ) from None


class _Bounded(TreeBuilder):
    """Builds a tree of no more elements, and no deeper, than an ECG may have."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._depth, self._nodes = path, 0, 0

    def start(self, tag: Any, attrs: Any) -> Any:
        """Begin an element."""
        self._depth += 1
        self._nodes += 1 + len(attrs)
        if self._depth > _DEEPEST:
            raise RecordError(
                "has elements within one another as no ECG has",
                where=self._path,
                got=f"{self._depth} deep",
                expected=f"at most {_DEEPEST}",
                fix=AGAIN,
            )
        if not self._nodes % 1000:
            claimed = self._nodes * _PER_NODE
            refuse_large(claimed, self._path, "the tree of its elements", so_far=True)
        return super().start(tag, attrs)

    def end(self, tag: Any) -> Any:
        """End an element."""
        self._depth -= 1
        return super().end(tag)


def tag(node: Any) -> str:
    """Name of an element in lower case, without its namespace."""
    return str(node.tag).rpartition("}")[2].lower()


def first(node: Any, name: str) -> Any | None:
    """The first element of a name within another, or itself."""
    return next((child for child in node.iter() if tag(child) == name.lower()), None)


def _text(node: Any, name: str, default: str = "") -> str:
    found = first(node, name)
    return (found.text or "").strip() or default if found is not None else default


def _number(node: Any, name: str, path: Path, default: str = "") -> float:
    return number_of(_text(node, name, default), f"<{name}>", path)
