"""ECG: from a recording in any usual format to (leads, samples) as an encoder reads it.

Signals are mV from the reader on; leads come in the order asked for. `prepare` selects and derives
leads, resamples, cuts, clips, removes the baseline and normalises, in the order of the paper; or
takes the steps that the settings list.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medmcl.core.batch import InputShape
from medmcl.core.config import Config
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ArtefactError, ConfigError, RecordError
from medmcl.core.findings import Finding, counted
from medmcl.core.rng import RowGenerator
from medmcl.core.shown import SHOWN_LEADS, ShownSignal
from medmcl.modalities.ecg import signal as steps
from medmcl.modalities.ecg.checks import values as checks
from medmcl.modalities.ecg.checks.levels import Look
from medmcl.modalities.ecg.checks.rate import check_rate
from medmcl.modalities.ecg.checks.together import inspect_together
from medmcl.modalities.ecg.checks.values import check_beats, check_gain, check_lead_units
from medmcl.modalities.ecg.dead_leads import Alive, check_dead, without_dead
from medmcl.modalities.ecg.features import ecg_features
from medmcl.modalities.ecg.files.readers import (
    CHECKSUM,
    Channels,
    ECGRecord,
    guess_reader,
    read_channels,
    to_record,
)
from medmcl.modalities.ecg.files.wfdb import wfdb_files
from medmcl.modalities.ecg.leads import GROUPS, LIMB, TWELVE, sources, take_lead
from medmcl.modalities.ecg.settings import (
    IN_COLUMNS,
    WITHOUT_HEADER,
    ECGAugment,
    ECGSettings,
    ECGSource,
)
from medmcl.modalities.ecg.sketch import ecg_distance, ecg_sketch
from medmcl.modalities.ecg.steps import pieces_of, run_steps
from medmcl.modalities.opening import row_number

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("medmcl")

EVERY = "*"
"""Stands in ``accept:`` for every record and for the cohort."""
_COPY_AGAIN = (
    "copy header and signals again from their source; if the headers are wrong and the samples "
    "right, say accept: {'*': [checksum]} in cohort.yaml"
)
SHOWN_SECONDS = 5.0
"""Of a signal, from its start: ten seconds are too narrow beside another pair."""
_UNSAID = {"rate_hz": ("its sampling rate", "500"), "units": ("its unit", "mV")}


class ECG:
    """Electrocardiograms: some leads over some seconds; see `medmcl.core.contracts.Adapter`.

    Nothing is learned from the cohort.
    """

    kind: ClassVar[str] = "ecg"
    measured: ClassVar[bool] = True
    triggers: ClassVar[str] = "signal"
    input_projection: ClassVar[str] = "signal"
    of_many: ClassVar[tuple[str, ...]] = ("row", "ids")
    pieces: ClassVar[str] = "ecg.pieces"
    Source: ClassVar[type[Config]] = ECGSource
    Settings: ClassVar[type[Config]] = ECGSettings
    Augment: ClassVar[type[Config]] = ECGAugment

    def __init__(self, source: ECGSource, settings: ECGSettings) -> None:
        self.source, self.settings = source, settings
        self.among = 1
        self.of_array = False

    def read(self, place: RecordRef) -> ECGRecord:
        """Read one recording; every lead of the file, in mV, at the file's rate.

        Raises:
            RecordError: The file is missing, empty, truncated or not what the reader expects.
        """
        source, path = self.source, place.paths.get("path")
        if path is None:
            raise RecordError(
                "an ECG is one file",
                got=", ".join(place.paths) or "no path",
                fix="give path: one template, without names",
            )
        reader = guess_reader(path) if source.reader == "ecg" else source.reader
        row = self._row(place, path)
        channels = read_channels(
            reader, path, axes=source.axes, leads=source.axis_names, row=row, dataset=source.dataset
        )
        return to_record(
            channels,
            where=str(path) if row is None else f"{path} row {row}",
            rename=source.rename,
            rate_hz=source.rate_hz,
            units=source.units,
            exact=self.settings.steps is not None,
            trim=source.trim,
        )

    @classmethod
    def reader_of(cls, path: Path) -> str:
        """The reader of a file, as its first bytes say."""
        return guess_reader(path)

    @classmethod
    def unsaid(cls, source: Mapping[str, Any], path: Path) -> dict[str, tuple[str, str]]:
        """Rate and unit, of files that hold numbers alone."""
        unsaid = {key: one for key, one in _UNSAID.items() if source.get(key) is None}
        if source["reader"] == IN_COLUMNS:
            try:
                found = read_channels("parquet", path, row=None)
            except RecordError:
                return {}  # whoever reads it says what is wrong
            said = {"rate_hz": found.rate_hz is not None, "units": None not in found.units}
            return {key: one for key, one in unsaid.items() if not said[key]}
        return unsaid if source["reader"] in WITHOUT_HEADER else {}

    def files(self, place: RecordRef) -> list[Path]:
        """The file, header and signals of WFDB, or what holds a row of Zarr; see `NamesFiles`."""
        path = place.paths.get("path")
        if path is not None and self._is_zarr(path):
            from medmcl.modalities.ecg.files.zarr import array_files

            try:
                return array_files(path, self.source.dataset, self._row(place, path))
            except RecordError:  # `read` says it
                return [path]
        if path is None or not self._is_wfdb(path):
            return list(place.paths.values())
        return wfdb_files(path)

    def _is_zarr(self, path: Path) -> bool:
        from medmcl.modalities.ecg.files.zarr import is_store

        return self.source.reader == "zarr" or (self.source.reader == "ecg" and is_store(path))

    def _is_wfdb(self, path: Path) -> bool:
        if self.source.reader != "ecg":
            return self.source.reader == "wfdb"
        if path.suffix.lower() == ".xml":  # no need to open it
            return False
        try:
            return guess_reader(path) == "wfdb"
        except RecordError:
            return False

    def _row(self, place: RecordRef, path: Path) -> int | None:
        column, ids = self.source.row, self.source.ids
        if column is None:
            return None
        if ids is None:
            return row_number(place, column)
        from medmcl.modalities.ecg.files import hdf5, zarr

        wanted = str(place.values.get(column))
        if self._is_zarr(path):
            return zarr.row_of(path, ids, wanted, place.roots)
        return hdf5.row_of(path, ids, wanted)

    def inspect(self, raw: ECGRecord, place: RecordRef) -> list[Finding]:
        """Units, rate, leads, NaN, constant and clipped signal, mixed-up names, length."""
        where = f"subject {place.subject}, {raw.where}"
        wanted = self.settings.names
        findings = [*checks.check_leads(raw, wanted, where)]
        if isinstance(self.source.leads, tuple):
            findings += checks.check_promise(raw, self.source.leads, where)
        alive = self.alive(raw)
        findings += check_dead(alive, wanted, where)
        raw = alive.record
        used = checks.used_leads(raw, wanted)
        if used:
            look = Look(raw, used, where)
            findings += checks.check_values(look, self._masking)
            findings += checks.check_padding(look)
            units = [*checks.check_units(look, self.source.units)]
            findings += units or check_gain(look)  # one fault, one fix
            units = [*check_lead_units(look)]
            findings += units
            doubts = [*check_rate(look, self.source.rate_hz, self.among)]
            still = [] if doubts else [*check_beats(look)]  # at this rate
            findings += still
            limb = [] if units else [*checks.check_limb(look)]
            like_others = not doubts and not limb  # looks are judged by limb leads and seconds
            if still or not set(LIMB).isdisjoint(checks.clipped_leads(look)):
                # neither noise nor cut leads obey the identities
                limb = [one for one in limb if one.code != "ecg.inconsistent_leads"]
            doubts += limb
            if like_others:
                doubts += checks.check_looks(look, self.among)
            findings += doubts
        least = self.settings.least_seconds
        padded = self.settings.pad is not None or not least
        wanted_seconds = self.settings.seconds if padded else least
        findings += checks.check_length(raw, wanted_seconds, padded, where)
        if self.settings.takes_all:
            findings += self._check_pieces(raw, where)
        fix = "look at the file; what was read may not be what you expect"
        for note in raw.quality:
            if note.startswith(CHECKSUM):
                findings.append(checks.fault("checksum", where, note, _COPY_AGAIN))
            else:
                findings.append(checks.fault("reader", where, note, fix, "warning"))
        return [self._accepted(finding, place.record) for finding in findings]

    def _check_pieces(self, raw: ECGRecord, where: str) -> Iterator[Finding]:
        """A record with more pieces than those of ``seconds``, or fewer."""
        settings = self.settings
        rate_hz = raw.rate_hz if settings.enters_as_recorded else settings.rate_hz
        have = pieces_of(settings.steps or (), raw.seconds, rate_hz)
        own = pieces_of(settings.steps or (), settings.seconds, settings.rate_hz)
        if have and have != own:
            what = (
                f"lasts {raw.seconds:.2f} s, which give {counted(have, 'piece')}; "
                f"{settings.seconds:g} s give {own}"
            )
            fix = (
                f"`embed` and `evaluate --model` take all that there are; training takes {own}, as "
                "inputs.NAME.seconds says" + (", and repeats these" if have < own else "")
            )
            yield checks.fault("pieces", where, what, fix, "warning")

    def inspect_together(self, raws: Iterable[ECGRecord]) -> list[Finding]:
        """Mistakes that all files share, or that show only beside the other files."""
        alive = (self.alive(raw).record for raw in raws)
        findings = inspect_together(alive, self.settings.names)
        return [self._accepted(finding, EVERY) for finding in findings]

    def _accepted(self, finding: Finding, record: str) -> Finding:
        """Lower to a warning what the settings say how to handle, and what a person accepted."""
        handled = {
            "ecg.missing_leads": self.settings.missing_leads != "refuse",
            "ecg.nan": self.settings.missing_samples != "refuse",
        }
        if handled.get(finding.code, False):
            return replace(finding, level="warning")
        accept = self.source.accept
        codes = {*accept.get(record, ()), *accept.get(EVERY, ())}
        if finding.code.removeprefix("ecg.") not in codes:
            return finding
        return replace(
            finding,
            level="warning",
            what=f"{finding.what}; accepted in cohort.yaml",
            fix="nothing, if somebody looked at it; otherwise take it out of accept:",
        )

    def sketch(self, raw: ECGRecord) -> np.ndarray | None:
        """Numbers by which copies know each other; see `medmcl.core.contracts.Sketches`."""
        return ecg_sketch(raw)

    def distance(self, raw: ECGRecord, other: ECGRecord) -> float:
        """How far two ECGs are from being one recording, 0 to 1.41."""
        return ecg_distance(raw, other)

    def show(self, raw: ECGRecord) -> ShownSignal:
        """Leads II, V1 and V5, or the first three, from the start of the record."""
        named = [lead for lead in SHOWN_LEADS if lead in raw.leads]
        leads = tuple(named if len(named) == len(SHOWN_LEADS) else raw.leads[: len(SHOWN_LEADS)])
        samples = max(2, round(SHOWN_SECONDS * raw.rate_hz))
        whole = raw.seconds <= SHOWN_SECONDS
        return ShownSignal(
            values_mv=raw.signal_mv[[raw.leads.index(lead) for lead in leads], :samples],
            leads=leads,
            rate_hz=raw.rate_hz,
            note="" if whole else f"first {SHOWN_SECONDS:g} of {raw.seconds:.3g} s",
        )

    def simple_features(self, raw: ECGRecord) -> dict[str, float]:
        """Rhythm, intervals, axes, amplitudes, band powers; of the leads and seconds asked for."""
        alive = self.alive(raw).record
        return ecg_features(alive, self.settings.names, self.settings.seconds)

    def fit(self, raws: Iterable[Any]) -> None:
        """Nothing is learned: every record is normalised by itself."""

    def alive(self, raw: ECGRecord) -> Alive:
        """The record without dead leads, where the settings say to mask them."""
        settings = self.settings
        if settings.dead_leads == "refuse":
            return Alive(record=raw)
        return without_dead(raw, settings.names, settings.seconds, settings.most_masked_leads)

    @property
    def _masking(self) -> str:
        """How to go on without dead leads."""
        if self.settings.dead_leads == "refuse":
            return "to go without such leads, set inputs.NAME.dead_leads: mask"
        most = self.settings.most_masked_leads
        return f"more leads would be masked than inputs.NAME.most_masked_leads says ({most})"

    def prepare(self, raw: ECGRecord) -> np.ndarray:
        """Prepare one record: (*prepared_shape) float32, zeros where a lead is absent.

        Of pieces that a step cuts for as long as a record lasts, those of ``seconds``; fewer are
        repeated.

        Raises:
            RecordError: A lead is absent, samples are NaN, or the record is too short, and the
                settings do not say how to handle it.

        Source:
            Turgut et al. 2025 (code): clip, baseline, group normalisation, in this order.
            Differs: NaN is refused unless asked otherwise; absent leads stay zero and are left out
            of the statistics; records are cut before, and padded after, everything else.
        """
        settings = self.settings
        if settings.steps is not None:
            whole = self.prepare_whole(raw)
            if not settings.takes_all:
                return whole
            return whole[np.arange(self.prepared_shape[0]) % len(whole)]
        signal, present = self._entering(raw)
        if settings.clip_sigma is not None:
            signal = steps.clip_to_sigma(signal, settings.clip_sigma)
        signal = steps.normalise(self._level(signal), self._groups(present))
        answer = np.zeros(self.prepared_shape, dtype=np.float32)
        length = signal.shape[1]
        if settings.pad == "repeat":
            signal, length = signal[:, np.arange(settings.samples) % length], settings.samples
        answer[present, :length] = signal
        answer[present, settings.samples :] = 1.0
        return answer

    def _entering(self, raw: ECGRecord) -> tuple[np.ndarray, list[int]]:
        """Leads that are there, cut and at the rate, (L, S), and which of the settings they are."""
        settings = self.settings
        absent = [lead for lead in settings.names if not sources(lead, raw.leads)]
        if len(absent) == len(settings.names) or (absent and settings.missing_leads == "refuse"):
            raise RecordError(
                f"lead {', '.join(absent)} is missing and cannot be derived",
                where=raw.where,
                got=", ".join(raw.leads),
                fix=self._fix(
                    "ask for fewer leads, or set missing_leads: zero",
                    "give these leads too, named in leads=(...); I and II are enough for the six "
                    "limb leads",
                ),
            )
        raw = self.alive(raw).record
        present = [n for n, lead in enumerate(settings.names) if sources(lead, raw.leads)]
        named = [settings.names[number] for number in present]
        signal = self._cut(raw, named)
        if settings.disturb is not None:
            rate_hz = raw.rate_hz if settings.enters_as_recorded else settings.rate_hz
            signal = settings.disturb(signal, named, rate_hz)
        return signal, present

    @classmethod
    def prepare_array(
        cls,
        array: np.ndarray,
        settings: ECGSettings,
        *,
        leads: Sequence[str] = TWELVE,
        rate_hz: float,
        units: str = "mV",
    ) -> np.ndarray:
        """Prepare a signal without a file; see `medmcl.core.contracts.PreparesArrays`.

        Args:
            array: (L, S).
            settings: How.
            leads: Name of each row, in any order and spelling that files have.
            rate_hz: Sampling rate.
            units: mV, uV or V.

        Raises:
            RecordError: As `prepare`; or names and rows differ in number.
        """
        signal = np.asarray(array)
        leads = tuple(leads) if isinstance(leads, Iterable) and not isinstance(leads, str) else ()
        if not isinstance(rate_hz, Real) or not isinstance(units, str):
            raise RecordError(
                "the rate is one number, the unit one word",
                got=f"rate_hz={rate_hz!r}, units={units!r}"[:120],
                expected='as in rate_hz=500.0, units="mV"',
            )
        if signal.ndim != 2 or len(signal) != len(leads):
            raise RecordError(
                "a signal has a row for each lead",
                got=f"shape {signal.shape}, {len(leads)} leads",
                expected="(leads, samples)",
                fix="give leads=(...), the name of each row",
            )
        channels = Channels(
            names=tuple(map(str, leads)), units=(units,) * len(leads), signal=signal, rate_hz=None
        )
        record = to_record(
            channels, where="signal", rename={}, rate_hz=rate_hz, units=units, exact=True
        )
        look = Look(record, where="signal")
        short = checks.check_length(record, settings.seconds, True, "signal")
        for finding in (
            *checks.check_units(look, None),
            *checks.check_padding(look),
            *(() if settings.least_seconds else short),
        ):
            log.warning("%s; %s", finding.what, finding.fix)
        adapter = cls(ECGSource(reader="wfdb"), settings)
        adapter.of_array = True
        return (adapter.prepare_whole if settings.takes_all else adapter.prepare)(record)

    def _fix(self, in_settings: str, in_array: str) -> str:
        """What whoever gave the record can do: those of an array may have no settings to change."""
        return in_array if self.of_array else in_settings

    def prepare_whole(self, raw: ECGRecord) -> np.ndarray:
        """Take a record through the steps; every piece of it: see `core.contracts.TakesWhole`.

        Raises:
            RecordError: As `prepare`.
        """
        settings, wanted = self.settings, self.prepared_shape
        signal, _ = self._entering(raw)
        rate_hz = raw.rate_hz if settings.enters_as_recorded else settings.rate_hz
        try:
            answer, _ = run_steps(settings.steps or (), signal, rate_hz)
        except ValueError as error:
            raise RecordError(
                f"cannot be prepared: {error}",
                where=raw.where,
                got=f"{raw.seconds:.2f} s at {raw.rate_hz:g} Hz",
            ) from None
        if answer.shape[settings.takes_all :] != wanted[settings.takes_all :]:
            raise RecordError(
                "the steps give another shape of this record than of others",
                where=raw.where,
                got=f"{answer.shape} from {raw.seconds:.2f} s at {raw.rate_hz:g} Hz",
                expected=wanted,
            )
        return np.ascontiguousarray(answer, dtype=np.float32)

    def _cut(self, raw: ECGRecord, leads: list[str]) -> np.ndarray:
        """Select and derive leads, bring them to the rate, take the first seconds. (L, S)."""
        settings = self.settings
        signal = raw.signal_mv
        if not settings.whole:
            signal = signal[:, : int(np.ceil((settings.seconds + 1) * raw.rate_hz))]
        if tuple(leads) != raw.leads:
            signal = np.stack([take_lead(lead, raw.leads, signal) for lead in leads])
        rows = self._without_gaps(signal.astype(np.float64), leads, raw.where)
        rate_hz = raw.rate_hz if settings.enters_as_recorded else settings.rate_hz
        rows = steps.resample(rows, raw.rate_hz, rate_hz)
        wanted, least = (round(one * rate_hz) for one in (settings.seconds, settings.least_seconds))
        rows = rows if settings.whole else rows[:, :wanted]
        short = rows.shape[1] < least and settings.pad is None
        if short or rows.shape[1] < 3:
            raise RecordError(
                "the record is too short",
                where=raw.where,
                got=f"{raw.seconds:.3f} s",
                expected=f"{settings.least_seconds:g} s",
                fix=self._fix(
                    "ask for fewer seconds, or set pad: zero or repeat",
                    "give a longer record, or lengthen this one yourself to "
                    f"{settings.least_seconds:g} "
                    "s (numpy.pad with mode='constant' for zeros, or 'wrap' to repeat it); if it "
                    "lasts as long as that, correct rate_hz",
                ),
            )
        if settings.steps is not None and settings.pad is not None and rows.shape[1] < wanted:
            beyond = [(0, 0), (0, wanted - rows.shape[1])]
            rows = np.pad(rows, beyond, mode="wrap" if settings.pad == "repeat" else "constant")
        return rows

    def _without_gaps(self, rows: np.ndarray, leads: list[str], where: str) -> np.ndarray:
        good = np.isfinite(rows)
        if good.all():
            return rows
        broken = [lead for lead, fine in zip(leads, good.all(axis=1), strict=True) if not fine]
        hopeless = not good.any(axis=1).all() and self.settings.missing_samples == "interpolate"
        if self.settings.missing_samples == "refuse" or hopeless:
            raise RecordError(
                f"holds NaN or infinite samples in {', '.join(broken)}",
                where=where,
                got=f"{int((~good).sum())} samples",
                fix=self._fix(
                    "repair the file; or, in the recipe, inputs.NAME.missing_samples: interpolate",
                    "fill them first (numpy.nan_to_num, or interpolate), or leave the record out",
                ),
            )
        if self.settings.missing_samples == "zero":
            return np.where(good, rows, 0.0)
        return steps.fill_gaps(rows)

    def _level(self, signal: np.ndarray) -> np.ndarray:
        settings = self.settings
        if settings.baseline == "highpass":
            return steps.high_pass(signal, settings.rate_hz, settings.highpass_hz)
        if settings.baseline == "als":
            lam = steps.als_lambda_at(settings.als_lambda, settings.rate_hz)
            return signal - steps.als_baseline(
                signal, lam, settings.als_p, settings.als_reweightings
            )
        return signal

    def _groups(self, present: list[int]) -> list[list[int]]:
        """Rows of the present leads that share a mean and a variance."""
        names = [self.settings.names[number] for number in present]
        if self.settings.normalise == "none":
            return []
        if self.settings.normalise == "record":
            return [list(range(len(names)))]
        groups = [[n for n, name in enumerate(names) if name in group] for group in GROUPS]
        if self.settings.normalise == "lead":
            groups = []
        grouped = {number for group in groups for number in group}
        return groups + [[number] for number in range(len(names)) if number not in grouped]

    @property
    def prepared_shape(self) -> tuple[int, ...]:
        """(L, seconds * rate_hz); where leads may be absent, a last column says which are there.

        With steps, what they make of a record of ``seconds``.

        Raises:
            ConfigError: The steps cannot be taken on one.
        """
        settings = self.settings
        if settings.steps is not None:
            return stepped_shape(settings)
        return (len(settings.names), settings.samples + settings.may_lack)

    @property
    def input_shape(self) -> InputShape:
        """(L, crop_seconds * rate_hz), named by lead; or what the steps give."""
        names = self.settings.names
        shape: tuple[int, ...] = (len(names), self.settings.crop_samples)
        if self.settings.steps is not None:
            shape = whole = self.prepared_shape
            if len(whole) > 1:  # behind one another, leads have no pieces in common
                shape = (*whole[:-1], min(whole[-1], self.settings.crop_samples))
        kept = len(shape) == 2 and shape[0] == len(names)
        return InputShape(kind=self.kind, shape=shape, names=names if kept else ())

    def present_leads(self, x: Tensor) -> Tensor | None:
        """Which leads of prepared rows are there, (B, L) bool; None where all always are."""
        return x[..., self.settings.samples] > 0 if self.settings.may_lack else None

    def plain(self, x: Tensor) -> Tensor:
        """The first ``crop_seconds`` of each row; zeros in absent leads, whatever stood there."""
        from medmcl.modalities.ecg.augment import zero_absent

        rows = x[..., : self.input_shape.shape[-1]].float()
        return zero_absent(rows, self.present_leads(x))

    def augment(self, x: Tensor, options: ECGAugment, generator: RowGenerator) -> Tensor:
        """A crop of each row, at random if ``options.crop``, then the chosen disturbances.

        Absent leads come back as zeros, whatever stood there.
        """
        from medmcl.modalities.ecg.augment import crop_windows, disturb, draw_starts, zero_absent

        present, length = self.present_leads(x), self.input_shape.shape[-1]
        if self.settings.steps is not None:
            self._refuse_augment(options)
        if options.crop:
            x = x[..., : self.settings.samples]
            x = crop_windows(x, draw_starts(x, length, generator), length)
        rows = x[..., :length].float()
        return disturb(zero_absent(rows, present), options, generator, present)

    def _refuse_augment(self, options: ECGAugment) -> None:
        """Refuse what cannot be done to what the steps give.

        Raises:
            ConfigError: It has no leads and samples to disturb, or is too short to be cropped.
        """
        prepared = self.prepared_shape
        if len(prepared) != 2 and options != ECGAugment():
            raise ConfigError(
                "an ECG of this shape cannot be disturbed",
                where="views",
                got=f"{prepared}, as the steps of inputs give it",
                expected="(leads, samples)",
                fix="leave the modality out of the view's augment, or out the steps that cut the "
                "record into windows or put its leads behind one another",
            )
        if options.crop and self.input_shape.shape == prepared:
            raise ConfigError(
                "the steps leave nothing to crop",
                where="views, crop",
                got=f"{prepared[-1]} samples, all of which the encoder sees",
                fix="say crop: false, or a crop_seconds below seconds (inputs.NAME)",
            )

    def state(self) -> dict[str, Any]:
        """How records are prepared; nothing is learned."""
        told = self.settings.model_dump(mode="json", exclude={"disturb"})  # of a study alone
        return {**told, "leads": list(self.settings.names)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Refuse weights that were trained on ECGs prepared in another way."""
        own = self.state()
        different = [key for key in own if key in state and state[key] != own[key]]
        if different:
            key = different[0]
            raise ArtefactError(
                f"the run prepared its ECGs with another '{key}'",
                where="inputs.ecg",
                got=own[key],
                expected=state[key],
                fix="use the settings of the run",
            )


@cache
def stepped_shape(settings: ECGSettings) -> tuple[int, ...]:
    """Give the shape of what the steps of settings make of a record, from one of zeros.

    Raises:
        ConfigError: They cannot be taken, or something else was to be cropped than (L, S).
    """
    zeros = np.zeros((len(settings.names), settings.samples))
    try:
        found = run_steps(settings.steps or (), zeros, settings.rate_hz)[0].shape
    except ValueError as error:
        raise ConfigError(
            f"the steps cannot be taken: {error}",
            where="inputs.ecg.steps",
            got=f"a record of {settings.seconds:g} s at {settings.rate_hz:g} Hz",
        ) from None
    if not all(found):
        raise ConfigError(
            "the steps leave nothing of a record",
            where="inputs.ecg.steps",
            got=f"a record of {settings.seconds:g} s at {settings.rate_hz:g} Hz becomes {found}",
            fix="ask for more seconds, or cut less",
        )
    if settings.crop_seconds < settings.seconds and found != zeros.shape:
        raise ConfigError(
            "crop_seconds crops a record of leads and samples; the steps give something else",
            where="inputs.ecg",
            got=f"crop_seconds: {settings.crop_seconds:g}, shape {found}",
            fix="leave out crop_seconds, and let a step cut",
        )
    return tuple(found)
