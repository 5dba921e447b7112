"""ECG waveforms in DICOM (12-lead, general and ambulatory ECG objects)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.errors import RecordError
from medmcl.modalities.dicom import open_dicom
from medmcl.modalities.ecg.files.readers import Channels, refuse_long
from medmcl.modalities.ecg.leads import TWELVE, canonical, is_known

_SCP_NUMBERS = (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8)
_CODES = {
    code: lead
    for number, lead in zip(_SCP_NUMBERS, TWELVE, strict=True)
    for code in (f"5.6.3-9-{number}", f"2:{number}")
}
"""Codes of leads by SCP-ECG and by ISO 11073-10101 (MDC)."""
_BEAT = re.compile(r"median|average|\bavg|template|representative", re.IGNORECASE)
"""Labels of groups that hold one beat, made of many."""


def read_dicom(path: Path) -> Channels:
    """Read the multiplex groups, but for median beats, that hold most leads, or last longest.

    Groups of one rate, length and beginning are one record: many keep the limb leads apart.
    Channels are scaled by sensitivity and correction factor, in the channel's own unit; samples
    that carry the padding value are NaN.
    """
    dataset = open_dicom(path)
    groups = list(dataset.get("WaveformSequence") or ())
    labels = [str(group.get("MultiplexGroupLabel", "")) for group in groups]
    usable = [number for number, label in enumerate(labels) if not _BEAT.search(label)]
    if not usable:
        raise RecordError(
            "holds no ECG waveform" if not groups else "holds median beats only",
            where=path,
            got=str(dataset.get("Modality", "")) or None,
        )
    chosen = _chosen(groups, usable)
    for number in chosen:
        _check_size(groups[number], path)
    channels = [one for number in chosen for one in groups[number].ChannelDefinitionSequence]
    said = " and ".join(str(number + 1) for number in chosen)
    note = () if chosen == usable else (f"group {said} of {len(groups)} is read",)
    return Channels(
        names=tuple(_name(channel, number) for number, channel in enumerate(channels)),
        units=tuple(_unit(channel) for channel in channels),
        signal=np.concatenate([_signal(dataset, groups[number], number) for number in chosen]),
        rate_hz=float(groups[chosen[0]].SamplingFrequency),
        notes=note,
    )


def _chosen(groups: Sequence[Any], usable: Sequence[int]) -> list[int]:
    """Numbers of the groups that are the record: of one rate, length and beginning."""
    records: dict[tuple[float, int, float], dict[int, set[str]]] = {}
    for number in sorted(usable, key=lambda one: -len(groups[one].ChannelDefinitionSequence)):
        group = groups[number]
        rate, samples = float(group.SamplingFrequency), int(group.NumberOfWaveformSamples)
        key = (rate, samples, float(group.get("MultiplexGroupTimeOffset") or 0))
        own = {
            canonical(_name(channel, place))[0]
            for place, channel in enumerate(group.ChannelDefinitionSequence)
        }
        parts = records.setdefault(key, {})
        if not own & set().union(*parts.values()):  # a lead a second time is another record
            parts[number] = own

    def held(key: tuple[float, int, float]) -> tuple[int, float]:
        leads = set().union(*records[key].values()) & {*TWELVE}
        return len(leads), key[1] / key[0]

    best = max(records, key=held)
    return sorted(records[best])


def _signal(dataset: Any, group: Any, number: int) -> np.ndarray:
    from pydicom.waveforms import multiplex_array

    signal: np.ndarray = multiplex_array(dataset, number, as_raw=False).T
    padding = group.get("WaveformPaddingValue")
    if padding is not None:
        raw = multiplex_array(dataset, number, as_raw=True)
        if isinstance(padding, bytes):
            padding = np.frombuffer(padding, dtype=raw.dtype)[0]
        signal[np.equal(raw.T, padding)] = np.nan
    return signal


def _check_size(group: Any, path: Path) -> None:
    samples, leads = int(group.NumberOfWaveformSamples), int(group.NumberOfWaveformChannels)
    if len(group.ChannelDefinitionSequence) != leads:
        raise RecordError(
            "does not describe all its channels",
            where=path,
            got=len(group.ChannelDefinitionSequence),
            expected=leads,
        )
    refuse_long(samples * leads, path)
    width = int(group.WaveformBitsAllocated) // 8 * leads
    found = len(group.WaveformData) // width
    if found < samples:
        raise RecordError(
            f"is truncated: {samples - found} of {samples} samples are missing", where=path
        )


def _name(channel: Any, number: int) -> str:
    """Name of a lead: its meaning if that is a lead, otherwise its code, otherwise its label."""
    source = (channel.get("ChannelSourceSequence") or [{}])[0]
    meaning, code = (str(source.get(key, "")) for key in ("CodeMeaning", "CodeValue"))
    label = str(channel.get("ChannelLabel", ""))
    named = (one for one in (meaning, _CODES.get(code, code), label) if one and is_known(one))
    return next(named, meaning or label or f"channel {number + 1}")


def _unit(channel: Any) -> str | None:
    units = channel.get("ChannelSensitivityUnitsSequence") or ()
    return str(units[0].get("CodeValue", "")) or None if units else None
