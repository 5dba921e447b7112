"""Steps by which an ECG is prepared, in the order that a recipe or a model card names them.

``inputs.ecg.steps`` is a list of these; each changes (…, L, S) and is told the rate. A step of a
new kind is one class here and its name in `AnyStep`. They are settings, and read with every recipe:
numpy is imported where they are taken.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from medmcl.core.config import Config

if TYPE_CHECKING:
    import numpy as np

Over = Literal["lead", "record"]
"""What shares a statistic: each lead by itself, or all leads; of each window where there are
several."""


class Step(Config, ABC):
    """One change of a signal.

    Attributes:
        step: Its name in a recipe.
    """

    @abstractmethod
    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:
        """Change ``x`` (…, L, S), taken at ``rate_hz``; ``x`` itself stays as it is."""

    def rate_after(self, rate_hz: float) -> float:
        """Rate of what it gives, for what came at ``rate_hz``."""
        return rate_hz

    def samples_after(self, samples: int, rate_hz: float) -> int:
        """Samples of what it gives, for as many at ``rate_hz``."""
        return round(samples * self.rate_after(rate_hz) / rate_hz)


def refuse_slow(high_hz: float, rate_hz: float) -> None:
    """Refuse to filter up to a frequency that a record cannot hold.

    Raises:
        ValueError: It was recorded at no more than twice of it.
    """
    if rate_hz <= 2 * high_hz:
        raise ValueError(
            f"a filter up to {high_hz:g} Hz needs more than {2 * high_hz:g} samples a second; "
            "use the record as it was recorded, before anybody thinned it out"
        )


Rate = Annotated[float, Field(gt=0, le=100_000)]
"""Samples a second; devices take 100 to 32,000."""


class Resample(Step):
    """Brings the record to a rate; records enter the steps at their own rate where it stands."""

    step: Literal["resample"]
    hz: Rate
    method: Literal["polyphase", "fourier", "linear"] = "polyphase"
    """fourier: scipy.signal.resample; linear: between points of which the first is the first sample
    and the last the last"""
    rounded: Literal["nearest", "down"] = "nearest"
    """samples of what it gives (polyphase: always up)"""

    @model_serializer(mode="wrap")
    def _said(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the default: runs that were made before there was a ``rounded`` open."""
        return {key: value for key, value in whole(self).items() if value != "nearest"}

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:
        """Give S * hz / rate samples."""
        import numpy as np

        from medmcl.modalities.ecg import signal as own

        samples = x.shape[-1] * (self.hz / rate_hz)
        samples = int(samples) if self.rounded == "down" else round(samples)
        if rate_hz == self.hz or samples == 0:
            return x
        if self.method == "fourier":
            from scipy.signal import resample

            return np.asarray(resample(x, samples, axis=-1))
        if self.method == "linear":
            places, at = np.arange(x.shape[-1]), np.linspace(0, x.shape[-1] - 1, samples)
            return np.apply_along_axis(lambda row: np.interp(at, places, row), -1, x)
        flat = own.resample(x.reshape(-1, x.shape[-1]), rate_hz, self.hz)
        return flat.reshape(*x.shape[:-1], -1)

    def rate_after(self, rate_hz: float) -> float:  # noqa: ARG002  (a Step)
        """The rate asked for."""
        return self.hz


class Notch(Step):
    """Takes out one frequency, both ways: `scipy.signal.iirnotch` and ``filtfilt``."""

    step: Literal["notch"]
    hz: PositiveFloat = 50.0
    q: PositiveFloat = 30.0
    """quality: frequency over bandwidth"""

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:
        """Filter along time."""
        from scipy.signal import iirnotch

        from medmcl.modalities.ecg import quotient

        b, a = iirnotch(self.hz, self.q, fs=rate_hz)
        return quotient.filtfilt(b, a, x)


class Butterworth(Step):
    """A Butterworth filter, both ways: high pass, low pass, or with both bounds band pass."""

    step: Literal["butterworth"]
    order: PositiveInt
    low_hz: PositiveFloat | None = None
    """what is slower goes"""
    high_hz: PositiveFloat | None = None
    """what is faster goes"""
    form: Literal["sos", "ba"] = "sos"
    """second-order sections, or one quotient as some authors have it"""

    @model_validator(mode="after")
    def _bounds(self) -> Butterworth:
        if self.low_hz is None and self.high_hz is None:
            raise ValueError("give low_hz, high_hz, or both")
        if self.low_hz is not None and self.high_hz is not None and self.low_hz >= self.high_hz:
            raise ValueError("low_hz must lie below high_hz")
        return self

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:
        """Filter along time, over scipy's odd ends."""
        import numpy as np
        from scipy.signal import butter, sosfiltfilt

        from medmcl.modalities.ecg import quotient

        refuse_slow(max(self.low_hz or 0, self.high_hz or 0), rate_hz)
        bounds = [one for one in (self.low_hz, self.high_hz) if one is not None]
        kind = "bandpass" if len(bounds) == 2 else "lowpass" if self.low_hz is None else "highpass"
        edge = bounds if len(bounds) == 2 else bounds[0]
        designed = butter(self.order, edge, btype=kind, fs=rate_hz, output=self.form)
        if self.form == "sos":
            return np.asarray(sosfiltfilt(designed, x, axis=-1))
        b, a = designed
        return quotient.filtfilt(b, a, x)


class Median(Step):
    """Takes out the baseline: what a running median gives, zeros beyond the ends."""

    step: Literal["median"]
    seconds: PositiveFloat = 0.4
    """width of the window, made odd"""

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:
        """Give x minus its running median."""
        import numpy as np
        from scipy.ndimage import median_filter

        width = int(self.seconds * rate_hz)
        width += 1 - width % 2
        rows = x.reshape(-1, x.shape[-1])
        smooth = [median_filter(row, size=width, mode="constant", cval=0.0) for row in rows]
        return np.asarray(x - np.stack(smooth).reshape(x.shape))


class ZScore(Step):
    """Mean 0 and deviation 1 (of all values, not of a sample); zeros where nothing varies."""

    step: Literal["zscore"]
    over: Over
    epsilon: Annotated[float, Field(ge=0)] = 0.0
    """added to the deviation"""

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:  # noqa: ARG002  (a Step)
        """Give (x - mean) / (deviation + epsilon)."""
        import numpy as np

        axes = axes_of(self.over)
        mean, spread = x.mean(axes, keepdims=True), x.std(axes, keepdims=True) + self.epsilon
        return np.asarray((x - mean) / np.where(spread > 0, spread, 1))


class Cut(Step):
    """One piece of the record."""

    step: Literal["cut"]
    samples: PositiveInt
    start: NonNegativeInt = 0

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:  # noqa: ARG002  (a Step)
        """Give (…, L, samples)."""
        return x[..., self.start : self.start + self.samples]

    def samples_after(self, samples: int, rate_hz: float) -> int:  # noqa: ARG002  (a Step)
        """Those of the piece."""
        return max(0, min(self.samples, samples - self.start))


class Windows(Step):
    """Several pieces of the record: what an encoder makes of them is averaged.

    Those that begin at ``starts``, or one after another for as long as the record lasts.
    """

    step: Literal["windows"]
    samples: PositiveInt | None = None
    seconds: PositiveFloat | None = None
    """in the place of samples"""
    starts: tuple[NonNegativeInt, ...] = ()
    """samples before each piece"""
    every: PositiveFloat | None = None
    """in the place of starts: samples (or seconds) from the start of a piece to the next, to the
    end of the record; what is left behind the last whole piece is not used"""

    @model_validator(mode="after")
    def _one_of_two(self) -> Windows:
        if (self.samples is None) == (self.seconds is None):
            raise ValueError("give samples, or seconds")
        if (not self.starts) == (self.every is None):
            raise ValueError("give starts, or every")
        if self.seconds is None and self.every is not None and self.every % 1:
            raise ValueError("every: a whole number of samples")
        return self

    @model_serializer(mode="wrap")
    def _said(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only what is said: runs that were made before there was an ``every`` open."""
        return {key: value for key, value in whole(self).items() if value}

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:
        """Give (W, L, samples); of pieces (V, L, S) those of each, (V * W, L, samples)."""
        import numpy as np

        length, starts = self.length(rate_hz), self.places(x.shape[-1], rate_hz)
        if not starts or x.shape[-1] < max(starts) + length:
            return x[None, ..., :0]
        pieces = [x[..., at : at + length] for at in starts]
        if x.ndim < 3:
            return np.stack(pieces)
        return np.stack(pieces, 1).reshape(-1, *pieces[0].shape[1:])

    def samples_after(self, samples: int, rate_hz: float) -> int:  # noqa: ARG002  (a Step)
        """Those of a piece."""
        return self.length(rate_hz)

    def length(self, rate_hz: float) -> int:
        """Samples of a piece."""
        return self.samples or round((self.seconds or 0) * rate_hz)

    def places(self, samples: int, rate_hz: float) -> tuple[int, ...]:
        """Where the pieces of a record of so many samples begin."""
        if self.every is None:
            return self.starts
        apart = max(1, round(self.every * (1 if self.seconds is None else rate_hz)))
        return tuple(range(0, samples - self.length(rate_hz) + 1, apart))


class FIR(Step):
    """A band pass by a windowed sinc (Hamming), both ways: `scipy.signal.firwin`, ``filtfilt``.

    Short ones let through what is slower than ``low_hz``: .98 of what is at 0 Hz, of .3 s.
    """

    step: Literal["fir"]
    low_hz: PositiveFloat
    high_hz: PositiveFloat
    seconds: PositiveFloat = 0.3
    """length of the filter, made odd"""

    @model_validator(mode="after")
    def _bounds(self) -> FIR:
        if self.low_hz >= self.high_hz:
            raise ValueError("low_hz must lie below high_hz")
        return self

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:
        """Filter along time, over odd ends of three lengths of the filter."""
        import numpy as np
        from scipy.signal import filtfilt, firwin

        refuse_slow(self.high_hz, rate_hz)
        taps = int(self.seconds * rate_hz)
        taps += 1 - taps % 2
        filtered = firwin(taps, [self.low_hz, self.high_hz], pass_zero=False, fs=rate_hz)
        return np.asarray(filtfilt(filtered, 1.0, x, axis=-1))


class MinMax(Step):
    """From the least value to the largest one onto a range; ``low`` where nothing varies."""

    step: Literal["minmax"]
    over: Over
    low: float = 0.0
    high: float = 1.0
    epsilon: Annotated[float, Field(ge=0)] = 0.0
    """added to the span"""

    @model_validator(mode="after")
    def _range(self) -> MinMax:
        if self.low >= self.high:
            raise ValueError("low must lie below high")
        return self

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:  # noqa: ARG002  (a Step)
        """Give low + (high - low) (x - min) / (max - min + epsilon)."""
        import numpy as np

        axes = axes_of(self.over)
        least = x.min(axes, keepdims=True)
        span = x.max(axes, keepdims=True) - least + self.epsilon
        share = (x - least) / np.where(span > 0, span, 1)
        return np.asarray((self.high - self.low) * share + self.low)


class Standardise(Step):
    """Takes out a mean and a deviation that are known of each lead; of the signal's precision."""

    step: Literal["standardise"]
    mean: tuple[float, ...] = Field(min_length=1)
    """mV, one a lead or one for all"""
    std: tuple[Annotated[float, Field(ge=1e-4, le=1e4)], ...] = Field(min_length=1)
    """mV, one a lead or one for all; 0.1 µV to 10 V, as beyond it nothing of a record is left"""

    @model_validator(mode="after")
    def _as_many(self) -> Standardise:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std: one a lead each")
        return self

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:  # noqa: ARG002  (a Step)
        """Give (x - mean) / std, rounded after each of the two."""
        import numpy as np

        mean, std = (np.asarray(one, dtype=np.float32)[:, None] for one in (self.mean, self.std))
        return ((x - mean).astype(x.dtype) / std).astype(x.dtype)


class Clip(Step):
    """Nothing below ``low`` or above ``high``."""

    step: Literal["clip"]
    low: float
    high: float

    @model_validator(mode="after")
    def _bounds(self) -> Clip:
        if self.low >= self.high:
            raise ValueError("low must lie below high")
        return self

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:  # noqa: ARG002  (a Step)
        """Clip every sample."""
        return x.clip(self.low, self.high)


class Precision(Step):
    """Rounds to fewer bits, as some authors store or filter records."""

    step: Literal["precision"]
    dtype: Literal["float16", "float32"]

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:  # noqa: ARG002  (a Step)
        """Give the same values, rounded."""
        return x.astype(self.dtype)


class Pad(Step):
    """Zeros behind a record that is shorter."""

    step: Literal["pad"]
    samples: PositiveInt

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:  # noqa: ARG002  (a Step)
        """Give (…, L, at least samples)."""
        import numpy as np

        behind = max(0, self.samples - x.shape[-1])
        return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, behind)])

    def samples_after(self, samples: int, rate_hz: float) -> int:  # noqa: ARG002  (a Step)
        """The more of the two."""
        return max(samples, self.samples)


class FlattenLeads(Step):
    """Puts the leads behind one another, as one signal."""

    step: Literal["flatten_leads"]

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:  # noqa: ARG002  (a Step)
        """Give (…, L * S)."""
        return x.reshape(*x.shape[:-2], -1)


class Decimate(Step):
    """Keeps one sample of several behind a Chebyshev low pass: `scipy.signal.decimate`."""

    step: Literal["decimate"]
    factor: Annotated[int, Field(ge=2, le=13)]
    """one sample of so many is kept"""

    def __call__(self, x: np.ndarray, rate_hz: float) -> np.ndarray:  # noqa: ARG002  (a Step)
        """Give S / factor samples, rounded up; zero phase."""
        import numpy as np
        from scipy.signal import decimate

        return np.asarray(decimate(x, self.factor, axis=-1))

    def rate_after(self, rate_hz: float) -> float:
        """The rate over the factor."""
        return rate_hz / self.factor


AnyStep = Annotated[
    Resample
    | Notch
    | Butterworth
    | Median
    | ZScore
    | MinMax
    | Standardise
    | Clip
    | Precision
    | Cut
    | Windows
    | Pad
    | FIR
    | FlattenLeads
    | Decimate,
    Field(discriminator="step"),
]


def axes_of(over: Over) -> tuple[int, ...]:
    """Axes of (…, L, S) that share a statistic."""
    return (-1,) if over == "lead" else (-2, -1)


def pieces_of(steps: tuple[AnyStep, ...], seconds: float, rate_hz: float) -> int:
    """How many pieces steps make of a record; 1 where none cuts it one after another."""
    samples, count = round(seconds * rate_hz), 1
    for step in steps:
        if isinstance(step, Windows) and step.every is not None:
            count *= len(step.places(samples, rate_hz))
        samples, rate_hz = step.samples_after(samples, rate_hz), step.rate_after(rate_hz)
    return count


def shortest(steps: tuple[AnyStep, ...], rate_hz: float) -> float | None:
    """Seconds of which the steps still make what they make of more.

    One piece, where they cut pieces for as long as a record lasts; 0 where zeros are put behind it;
    None where it has to be as long as what is asked for.
    """
    for step in steps:
        if isinstance(step, Pad):
            return 0.0
        if isinstance(step, Windows) and step.every is not None:
            return step.length(rate_hz) / rate_hz
        rate_hz = step.rate_after(rate_hz)
    return None


def run_steps(
    steps: tuple[AnyStep, ...], x: np.ndarray, rate_hz: float
) -> tuple[np.ndarray, float]:
    """Take a signal (L, S) through steps in their order; give what comes out, and its rate.

    Raises:
        ValueError: A step cannot be taken: the record is shorter than a filter's ends, a bound lies
            above half of the rate.
    """
    for step in steps:
        x, rate_hz = step(x, rate_hz), step.rate_after(rate_hz)
    return x, rate_hz
