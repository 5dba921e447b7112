"""Disturbances of ECG batches (B, L, S): parameters are drawn for each row, then applied to all.

Everything happens on the device of the batch, with random numbers of the generator passed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medmcl.core.rng import RowGenerator
from medmcl.modalities.ecg.settings import ECGAugment

JITTER_AMPLITUDE = 0.6
STFT_LENGTH = 120


def disturb(
    x: Tensor, options: ECGAugment, generator: RowGenerator, present: Tensor | None = None
) -> Tensor:
    """Apply the chosen disturbances to (B, L, S); rows that are spared come back as they were.

    Leads that are not ``present`` (B, L) hold zeros before and after; None: all are there.
    """
    original = x
    if options.ft_surrogate:
        phases = draw_phases(x, options.ft_surrogate, generator)
        chosen = _chance(x, options.ft_surrogate_probability, generator)
        x = torch.where(chosen, shift_phases(x, phases), x)
    if options.jitter:
        x = x + JITTER_AMPLITUDE * x * (_normal(x, x.shape, generator) * options.jitter)
    if options.noise:
        x = x + _normal(x, x.shape, generator) * options.noise
    if options.rescale:
        factor = 1 + options.rescale * _normal(x, (len(x), 1, 1), generator)
        x = x * (factor if options.rescale_may_flip else factor.abs())
    if options.time_flip:
        x = torch.where(_chance(x, options.time_flip, generator), x.flip(-1), x)
    if options.sign_flip:
        x = torch.where(_chance(x, options.sign_flip, generator), -x, x)
    x = _blank(x, options, generator, present)
    if options.probability < 1:
        x = torch.where(_chance(x, options.probability, generator), x, original)
    return zero_absent(x, present)


def zero_absent(x: Tensor, present: Tensor | None) -> Tensor:
    """Zeros in leads of (B, L, S) that are not ``present`` (B, L); None: all are there."""
    return x if present is None else x.masked_fill(~present[..., None], 0.0)


def _blank(
    x: Tensor, options: ECGAugment, generator: RowGenerator, present: Tensor | None
) -> Tensor:
    if options.spec_augment:
        x = blank_spectrum(x, options.spec_augment, generator)
    if options.lead_dropout:
        x = x * draw_kept_leads(x, options.lead_dropout, generator, present)
    if options.time_mask:
        length = round(options.time_mask * x.shape[-1])
        x = x.masked_fill(draw_window(x, x.shape[-1], length, generator)[:, None], 0.0)
    return x


def crop_windows(x: Tensor, starts: Tensor, length: int) -> Tensor:
    """Cut (B, L, S) to (B, L, length), each row from its own start (B,)."""
    places = starts[:, None] + torch.arange(length, device=x.device)
    return x.gather(-1, places[:, None].expand(-1, x.shape[1], -1))


def draw_starts(x: Tensor, length: int, generator: RowGenerator) -> Tensor:
    """Draw where each crop starts, uniform over all that fit. (B,) int64."""
    room = x.shape[-1] - length + 1
    return generator.integers(0, room, len(x)).to(x.device)


def draw_phases(x: Tensor, magnitude: float, generator: RowGenerator) -> Tensor:
    """Draw phase shifts in radians, uniform on [0, 2 pi magnitude), for each frequency of a row.

    Returns:
        (B, 1, S // 2 + 1), the same for all leads; 0 at frequency zero and at Nyquist.
    """
    bins = x.shape[-1] // 2 + 1
    phases = _uniform(x, (len(x), 1, bins), generator) * (2 * math.pi * magnitude)
    phases[..., 0] = 0
    if x.shape[-1] % 2 == 0:
        phases[..., -1] = 0
    return phases


def shift_phases(x: Tensor, phases: Tensor) -> Tensor:
    """Shift the phase of each frequency; amplitudes, and phases between leads, stay.

    Source:
        Schwabedal et al. 2018, arXiv 1806.08675 (Fourier transform surrogates). Differs: none.
    """
    spectrum = torch.fft.rfft(x.float() if x.dtype != torch.float64 else x, dim=-1)
    turned = spectrum * torch.polar(torch.ones_like(phases), phases)
    return torch.fft.irfft(turned, n=x.shape[-1], dim=-1).to(x.dtype)


def draw_kept_leads(
    x: Tensor, dropout: float, generator: RowGenerator, present: Tensor | None = None
) -> Tensor:
    """Draw which leads stay, (B, L, 1) of 0 and 1; the luckiest of a row that is present stays."""
    luck = _uniform(x, (len(x), x.shape[1], 1), generator)
    if present is not None:
        luck = luck.masked_fill(~present[..., None], -1.0)
    return ((luck >= dropout) | (luck == luck.amax(dim=1, keepdim=True))).to(x.dtype)


def draw_window(x: Tensor, total: int, length: int, generator: RowGenerator) -> Tensor:
    """Draw one piece of ``length`` places a row. (B, total) bool, True inside."""
    starts = generator.integers(0, total - length + 1, len(x), 1).to(x.device)
    places = torch.arange(total, device=x.device)
    return (places >= starts) & (places < starts + length)


def blank_spectrum(x: Tensor, share: float, generator: RowGenerator) -> Tensor:
    """Blank a piece of time or a band of frequencies of the short-time spectrum of each row.

    Args:
        x: (B, L, S).
        share: Share of frames, or of frequencies, that is blanked in all leads; each row draws
            which of the two.
        generator: Source of randomness.

    Source:
        Park et al. 2019, arXiv 1904.08779; spectrum of 120 samples as in Turgut et al. 2025
        (code). Differs: one blanked piece a row, in time or in frequency, no warping.
    """
    rows, leads, samples = x.shape
    length = min(STFT_LENGTH, samples)
    window = torch.hann_window(length, device=x.device)
    flat = x.float().reshape(rows * leads, samples)
    spectrum = torch.stft(
        flat, length, window=window, center=True, pad_mode="constant", return_complex=True
    )
    bins, frames = spectrum.shape[1:]
    in_time = _chance(x, 0.5, generator)
    band = draw_window(x, bins, round(share * bins), generator)[:, :, None]
    piece = draw_window(x, frames, round(share * frames), generator)[:, None, :]
    hidden = torch.where(in_time, piece, band)
    kept = spectrum.reshape(rows, leads, bins, frames).masked_fill(hidden[:, None], 0.0)
    back = inverse_spectrum(kept.reshape(rows * leads, bins, frames), window, samples)
    return back.reshape(x.shape).to(x.dtype)


def inverse_spectrum(spectrum: Tensor, window: Tensor, samples: int) -> Tensor:
    """Give what `torch.istft` gives to the bit, without its look at the window: a GPU would wait.

    Args:
        spectrum: Of a centred `torch.stft`, its hop a quarter of the window, (N, bins, frames).
        window: Nowhere zero where frames overlap, (length,).
        samples: S, of each row that comes back, (N, S).
    """
    length, frames = len(window), spectrum.shape[-1]
    hop = length // 4
    whole = length + hop * (frames - 1)

    def overlapped(pieces: Tensor) -> Tensor:
        size = [len(pieces), whole]
        joined: Tensor = torch.ops.aten.unfold_backward(pieces, size, 1, length, hop)
        return joined.narrow(1, length // 2, samples)

    pieces = torch.fft.irfft(spectrum.transpose(1, 2), n=length, dim=-1) * window
    return overlapped(pieces) / overlapped(window.square().expand(1, frames, length).contiguous())


def _uniform(x: Tensor, shape: Sequence[int], generator: RowGenerator) -> Tensor:
    """Uniform numbers on [0, 1), drawn where the generator lives, given where x lives."""
    return generator.uniform(*shape).to(x.device)


def _normal(x: Tensor, shape: Sequence[int], generator: RowGenerator) -> Tensor:
    return generator.normal(*shape).to(device=x.device, dtype=x.dtype)


def _chance(x: Tensor, probability: float, generator: RowGenerator) -> Tensor:
    """Which rows are chosen, (B, 1, 1) bool."""
    return _uniform(x, (len(x), 1, 1), generator) < probability
