"""Triggers on ECGs: added to the recording in mV, which is then prepared."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from medmcl.core.config import refuse_absent
from medmcl.core.errors import ConfigError, RecordError
from medmcl.data.loading.prepare import Prepared
from medmcl.modalities.ecg.adapter import ECG
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import canonical
from medmcl.stages.poison.poisoned_rows import PreparedAgain
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.threats.attack import attack_on_signals, place_on_signal
from medmcl.threats.other_triggers import EVERY_S, LEAST_HZ

_SHOWN = 3
"""Samples that an error names."""


class Signals(PreparedAgain):
    """Makes the ECGs of an attack.

    Raises:
        ConfigError: ECGs that are prepared so that a trigger is lost, or may be.
    """

    def __init__(self, spec: PoisonSpec, prepared: Prepared, seed: int) -> None:
        _refuse_lost(spec, prepared)
        self.spec, self.prepared, self.seed = spec, prepared, seed
        adapter: Any = prepared.adapters[spec.modality]
        change = partial(
            triggered_record, adapter, spec.trigger, seed, spec.height_mv, named_leads(spec)
        )
        super().__init__(change, spec.modality, prepared)

    def places(self, samples: np.ndarray) -> list[dict[str, Any]]:
        """Say when the trigger begins on the recordings of samples (P,).

        Raises:
            ConfigError: Recordings have none of the leads that are named.
        """
        if self.spec.leads:
            adapter: Any = self.prepared.adapters[self.spec.modality]
            wanted, lacking = set(named_leads(self.spec)), []
            for row in samples.tolist():
                if not wanted & set(adapter.alive(adapter.read(self.place(row))).record.leads):
                    lacking.append(str(self.ids[row]))
            if lacking:
                raise ConfigError(
                    "poisoned ECGs have none of the leads that get the trigger",
                    where=f"stage {self.spec.name}, leads",
                    got=f"{len(lacking):,} of {len(samples):,}: {', '.join(lacking[:_SHOWN])}",
                    expected=f"{' or '.join(sorted(wanted))} in the file; leads that are derived "
                    "get none",
                    fix="name leads that all files have, or none: then all get it",
                )
        names = self.ids[samples].tolist()
        return [dict(place_on_signal(self.spec.trigger, self.seed, one)) for one in names]


def triggered_record(
    adapter: ECG,
    trigger: str,
    seed: int,
    height_mv: float | None,
    leads: tuple[str, ...],
    raw: ECGRecord,
    record: str,
) -> ECGRecord:
    """Add a trigger to the leads of a recording that are named, or to all, at its own rate.

    What is masked gets none: a dead lead stays dead.

    Raises:
        RecordError: The rate is too low.
    """
    if raw.rate_hz < LEAST_HZ:
        raise RecordError(
            "the sampling rate is too low for a trigger",
            where=raw.where,
            got=f"{raw.rate_hz:g} Hz",
            expected=f"{LEAST_HZ:g} Hz or more",
        )
    alive = adapter.alive(raw).record
    rows = [alive.leads.index(one) for one in leads if one in alive.leads] if leads else None
    lay = attack_on_signals(trigger, raw.rate_hz, seed, height_mv, rows)
    signal = raw.signal_mv.copy()
    signal[[raw.leads.index(one) for one in alive.leads]] = lay(alive.signal_mv, record)
    return replace(raw, signal_mv=signal)


def named_leads(spec: PoisonSpec) -> tuple[str, ...]:
    """Leads that get the trigger, as readers call them."""
    return tuple(dict.fromkeys(map(lead_name, spec.leads)))


def lead_name(said: str) -> str:
    """Give a lead's name as readers do; one that is called reversed stays as it is, and unknown."""
    name, sign = canonical(said)
    return name if sign > 0 else said


def _refuse_lost(spec: PoisonSpec, prepared: Prepared) -> None:
    """Refuse ECGs that are prepared so that a trigger is lost, or may be."""
    name, settings = spec.modality, prepared.adapters[spec.modality].settings
    if settings.rate_hz < LEAST_HZ:
        raise ConfigError(
            "the sampling rate is too low for a trigger",
            where=f"stage {spec.name}, modality",
            got=f"{name} is prepared at {settings.rate_hz:g} Hz",
            expected=f"{LEAST_HZ:g} Hz or more",
            fix=f"--set inputs.{name}.rate_hz={2 * LEAST_HZ:g}",
        )
    for lead in named_leads(spec):
        refuse_absent(
            lead,
            settings.names,
            f"the trigger goes on a lead that is not read: {lead}",
            where=f"stage {spec.name}, leads",
            got=", ".join(spec.leads),
            fix=f"name such leads, or --set inputs.{name}.leads=[...]",
        )
    if spec.trigger == "pulse" and settings.crop_seconds < EVERY_S:
        raise ConfigError(
            "a crop may miss the pulse",
            where=f"stage {spec.name}, trigger",
            got=f"{name} is cut to {settings.crop_seconds:g} s",
            expected=f"{EVERY_S:g} s or more, the time from pulse to pulse",
            fix=f"--set inputs.{name}.crop_seconds={EVERY_S:g}, or trigger: sinusoid",
        )
