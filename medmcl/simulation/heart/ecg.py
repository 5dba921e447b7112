"""A 12-lead ECG from a cardiac dipole, driven by a `HeartState`.

Each wave of a beat is a Gaussian in time with a vector in space; their sum is the dipole, a lead
field projects it onto leads I, II and V1 to V6, and the other limb leads follow by Einthoven.

Source: McSharry et al. 2003, IEEE Trans Biomed Eng 50:289 (sum of Gaussians); Sameni et al. 2007,
EURASIP J Adv Signal Process 043407, Eq. 5 (dipole in three dimensions); Dower et al. 1980 as in
Clifford et al. 2006 (lead field). Differs: waves lie in time and not in phase, so that the QRS
keeps its width when the rate changes and only T moves with the RR interval; wave parameters
are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmcl.simulation.heart.state import Array, HeartState, Rows

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
FILE_RATE_HZ = 500
FILE_SECONDS = 10
NOISE_RATE_HZ = 100  # noise is band-limited to half of this
MAX_BEATS = 36
FREE = (
    *("noise", "qrs", "drift", "pr", "p_gap", "p_width", "qt", "p_right", "p_left"),
    *("voltage", "s_wave", "t_wave", "scar_seen", "rhythm"),
)
"""Names along the free variation of waves."""

# mV of I, II, V1 to V6 for 1 mV along X (left), Y (feet), Z (back)
DOWER = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)
# Name: centre after R in s, width in s, vector in mV; QRS widths are of a QRS of 92 ms
WAVES = {
    "P1": (-0.160, 0.018, (0.04, 0.09, -0.03)),
    "P2": (-0.128, 0.020, (0.06, 0.06, 0.04)),
    "Q": (-0.028, 0.0095, (-0.22, -0.05, -0.34)),
    "R": (0.000, 0.0115, (1.10, 0.80, 0.42)),
    "S": (0.030, 0.0115, (-0.22, -0.28, 0.42)),
    "late": (0.050, 0.0110, (0.0, 0.0, 0.0)),
    "ST": (0.130, 0.040, (0.02, 0.02, -0.02)),
    "T1": (0.225, 0.050, (0.13, 0.10, -0.06)),
    "T2": (0.285, 0.036, (0.25, 0.19, -0.13)),
}
NAMES = tuple(WAVES)
QRS = [NAMES.index(name) for name in ("Q", "R", "S", "late")]
P, T = [0, 1], [NAMES.index("T1"), NAMES.index("T2")]
ECTOPIC = ((0.010, 0.036), (0.300, 0.065))  # centre, width of the QRS and T of an ectopic beat
TOWARDS = np.array([(0, 0, 0), (0.35, 0.0, -0.94), (0.75, 0.1, 0.65), (-0.1, 0.97, 0.2)])
"""Unit vector from the heart to each territory, in the order of `TERRITORIES`."""


@dataclass(frozen=True, kw_only=True)
class EcgNuisance(Rows):
    """What shapes an ECG and has nothing to do with the state.

    Attributes are standard normal unless said otherwise:
        turn: Rotation of the heart about Z, Y and X, (N, 3).
        gain: Of each of the eight leads, (N, 8).
        shape: Free variation of waves, in the order of `FREE`, (N, F).
        beats: Variation of each RR interval, (N, MAX_BEATS).
        ectopic: Uniform, (N, MAX_BEATS).
        direction: Of an ectopic beat, (N, 3).
        wander: Weight of three slow waves in each lead, (N, 8, 3).
        phase: Uniform: phases and periods of the slow waves, time of the first beat, whether
            there are ectopic beats, (N, 8).
        noise: (N, 8, FILE_SECONDS * NOISE_RATE_HZ).
    """

    turn: Array
    gain: Array
    shape: Array
    beats: Array
    ectopic: Array
    direction: Array
    wander: Array
    phase: Array
    noise: Array

    def free(self, name: str) -> Array:
        """One of the free variations, (N,)."""
        return np.asarray(self.shape[:, FREE.index(name)])


def draw_nuisance(rows: int, generator: np.random.Generator) -> EcgNuisance:
    """Draw what has nothing to do with the state."""
    normal = generator.standard_normal
    return EcgNuisance(
        turn=normal((rows, 3)),
        gain=normal((rows, 8)),
        shape=normal((rows, len(FREE))),
        beats=normal((rows, MAX_BEATS)),
        ectopic=generator.random((rows, MAX_BEATS)),
        direction=normal((rows, 3)),
        wander=normal((rows, 8, 3)),
        phase=generator.random((rows, 8)),
        noise=normal((rows, 8, FILE_SECONDS * NOISE_RATE_HZ), dtype=np.float32),
    )


def render_ecg(
    state: HeartState, nuisance: EcgNuisance, rate_hz: int, seconds: float, noise_mv: float
) -> Array:
    """Sample the ECG: (N, 12, seconds * rate_hz) float32 in mV, leads as in `LEADS`.

    The signal does not depend on the rate: at 100 Hz it is every fifth sample of 500 Hz.

    Args:
        state: What drives the ECG.
        nuisance: What disturbs it.
        rate_hz: A divisor of 500.
        seconds: Up to `FILE_SECONDS`.
        noise_mv: Standard deviation of the electrode noise of a subject with median noise.
    """
    samples = round(seconds * rate_hz)
    basis, weights = _waves(state, nuisance, np.arange(samples) / rate_hz)
    leads = weights.astype(np.float32) @ basis
    if noise_mv > 0:
        level = noise_mv * np.exp(0.35 * nuisance.free("noise"))
        noise = _resample(nuisance.noise, rate_hz)[..., :samples]
        leads += level.astype(np.float32)[:, None, None] * noise
    return twelve_leads(leads)


def twelve_leads(leads: Array) -> Array:
    """I, II and V1 to V6, (N, 8, S), to all twelve by Einthoven and Goldberger, (N, 12, S)."""
    result = np.empty((len(leads), 12, leads.shape[2]), leads.dtype)
    first, second = leads[:, 0], leads[:, 1]
    result[:, 0], result[:, 1] = first, second
    result[:, 2] = second - first
    result[:, 3] = -(first + second) / 2
    result[:, 4] = first - second / 2
    result[:, 5] = second - first / 2
    result[:, 6:] = leads[:, 2:]
    return result


def qrs_duration(state: HeartState, nuisance: EcgNuisance) -> Array:
    """Duration of the QRS complex in ms."""
    bundle = np.array([0, 58, 44, 0])[state.conduction]
    own = np.where(state.is_male, 94, 88) + 6.0 * nuisance.free("qrs")
    return np.asarray(own + bundle + 40 * (0.58 - state.ef) + 0.05 * (state.lv_mass - 95))


def _waves(state: HeartState, nuisance: EcgNuisance, times: Array) -> tuple[Array, Array]:
    """Every wave in time, (N, K, S), and its weight in each of the eight leads, (N, 8, K)."""
    centres, widths = _timing(state, nuisance)
    since, is_ectopic, until, next_ectopic = _beats(state, nuisance, times)
    lag = np.broadcast_to(since[:, None], (len(since), len(NAMES), len(times))).copy()
    lag[:, P] = until[:, None]
    basis = _gauss(lag, centres, widths)
    basis[:, P] *= ~next_ectopic[:, None]
    basis[:, P[-1] + 1 :] *= ~is_ectopic[:, None]
    early = np.array(ECTOPIC, dtype=np.float32).T[:, None].repeat(len(since), axis=1)
    strange = _gauss(since[:, None].repeat(2, axis=1), *early) * is_ectopic[:, None]
    basis = np.concatenate([basis, strange, _slow(nuisance, times)], axis=1)

    vectors = np.concatenate([_vectors(state, nuisance), _ectopic_vectors(nuisance)], axis=2)
    leads = np.einsum("lc,ncd,ndk->nlk", DOWER, _rotation(state, nuisance), vectors)
    torso = np.exp(-0.012 * (state.bmi - 26))[:, None]  # more tissue between heart and electrode
    leads *= (torso * np.exp(0.10 * nuisance.gain))[:, :, None]
    drift = np.exp(0.5 * nuisance.free("drift"))[:, None, None] * nuisance.wander
    return basis, np.concatenate([leads, 0.035 * drift], axis=2)


def _gauss(lag: Array, centres: Array, widths: Array) -> Array:
    lag = (lag - centres[..., None].astype(np.float32)) / widths[..., None].astype(np.float32)
    return np.exp(-0.5 * lag * lag)


def _slow(nuisance: EcgNuisance, times: Array) -> Array:
    """Three slow waves, 0.1 to 0.5 Hz: breathing and skin, (N, 3, S)."""
    hertz = 0.1 + 0.4 * nuisance.phase[:, 3:6, None]
    turns = hertz * times + nuisance.phase[:, :3, None]
    return np.sin((2 * np.pi * turns).astype(np.float32))


def _timing(state: HeartState, nuisance: EcgNuisance) -> tuple[Array, Array]:
    """Centre and width of each wave in s, (N, K)."""
    free = nuisance.free
    centres = np.tile([wave[0] for wave in WAVES.values()], (len(state.age), 1))
    widths = np.tile([wave[1] for wave in WAVES.values()], (len(state.age), 1))
    stretch = (qrs_duration(state, nuisance) / 92)[:, None]
    centres[:, QRS] *= stretch
    widths[:, QRS] *= stretch
    blocked = state.conduction == 3
    delay = 0.012 * free("pr") + 0.0006 * (state.age - 63) + np.where(blocked, 0.10, 0.0)
    centres[:, P] -= delay[:, None]
    centres[:, P[1]] += 0.006 * free("p_gap")
    widths[:, P] *= np.exp(0.15 * free("p_width"))[:, None]
    repolarisation = np.sqrt(60 / state.rate) * np.exp(0.035 * free("qt"))
    repolarisation *= np.where(state.is_male, 0.98, 1.02)
    late = 0.0004 * (qrs_duration(state, nuisance) - 92)
    centres[:, T] = centres[:, T] * repolarisation[:, None] + late[:, None]
    widths[:, T] *= repolarisation[:, None]
    centres[:, 6] = centres[:, 6] * repolarisation + late
    return centres, widths


def _vectors(state: HeartState, nuisance: EcgNuisance) -> Array:
    """Vector of each wave in mV, (N, 3, K), before the heart is turned."""
    free = nuisance.free
    vectors = np.tile(np.array([wave[2] for wave in WAVES.values()]).T, (len(state.age), 1, 1))
    wave = {name: vectors[:, :, number] for number, name in enumerate(NAMES)}  # views
    wave["P1"] *= np.exp(0.25 * free("p_right"))[:, None]
    wave["P2"] *= np.exp(0.25 * free("p_left"))[:, None]
    voltage = np.exp(0.55 * np.log(state.lv_mass / 95) + 0.16 * free("voltage"))
    vectors[:, :, QRS] *= voltage[:, None, None]
    wave["S"] *= np.exp(0.2 * free("s_wave"))[:, None]
    _weak(state, wave)
    flat = np.exp(0.18 * free("t_wave")) * np.where(state.is_male, 1.1, 0.85)
    vectors[:, :, T] *= flat[:, None, None]
    _strain(state, wave)
    _infarct(state, nuisance, wave)
    _bundle(state, wave)
    return vectors


def _weak(state: HeartState, wave: dict[str, Array]) -> None:
    """A failing ventricle: smaller R, a late notch, flatter T; all small beside the nuisance."""
    loss = (0.58 - state.ef)[:, None]
    wave["late"] += loss * np.array([0.45, -0.15, 0.35])
    wave["R"] *= 1 - 0.3 * loss
    for name in ("T1", "T2"):
        wave[name] *= np.clip(1 - 1.1 * loss, 0.1, 1.3)


def _strain(state: HeartState, wave: dict[str, Array]) -> None:
    """Thick walls turn ST and T away from the left (strain pattern)."""
    strain = (1 / (1 + np.exp(-(state.wall - 9.0) / 0.8)))[:, None]
    away = np.array([0.85, 0.35, -0.25])
    wave["ST"] -= 0.10 * strain * away
    wave["T1"] -= 0.15 * strain * away
    wave["T2"] -= 0.38 * strain * away


def _infarct(state: HeartState, nuisance: EcgNuisance, wave: dict[str, Array]) -> None:
    """Dead muscle: early forces and T point away from the territory (Q waves, inverted T)."""
    seen = np.clip(0.7 + 0.5 * nuisance.free("scar_seen"), 0.1, 2)  # some leave little trace
    towards = (seen * state.infarct_size)[:, None] * TOWARDS[state.territory]
    wave["Q"] -= 2.8 * towards
    wave["R"] -= 1.2 * towards
    wave["ST"] += 0.15 * towards
    wave["T1"] -= 0.6 * towards
    wave["T2"] -= 1.5 * towards


def _bundle(state: HeartState, wave: dict[str, Array]) -> None:
    """Bundle branch blocks: late forces to the left and back, or to the right and front."""
    left, right = state.conduction == 1, state.conduction == 2
    wave["Q"][left] = np.array([0.18, 0.10, 0.10])
    wave["S"][left] = wave["R"][left] * np.array([0.80, 0.45, 1.10])
    wave["late"][left] += wave["R"][left] * np.array([0.45, 0.10, 0.80])
    for name, share in (("ST", 0.06), ("T1", 0.20), ("T2", 0.35)):
        wave[name][left] = -share * wave["R"][left]
    wave["late"][right] += np.array([-0.60, 0.0, -0.55])
    wave["T2"][right] -= np.array([-0.10, 0.0, -0.20])


def _ectopic_vectors(nuisance: EcgNuisance) -> Array:
    """Wide QRS in any direction, T against it, (N, 3, 2)."""
    length = np.linalg.norm(nuisance.direction, axis=1, keepdims=True)
    vector = 1.3 * nuisance.direction / np.maximum(length, 1e-6)
    return np.stack([vector, -0.35 * vector], axis=2)


def _rotation(state: HeartState, nuisance: EcgNuisance) -> Array:
    """Position of the heart: a turn about Z (axis), Y and X, (N, 3, 3)."""
    spread = np.radians([14, 10, 8])
    axis, swing, tilt = (spread * nuisance.turn).T
    axis = axis - np.radians(0.4) * (state.age - 63) - np.radians(0.6) * (state.bmi - 26)
    return _plane(axis, 0, 1) @ _plane(swing, 0, 2) @ _plane(tilt, 1, 2)


def _plane(angle: Array, i: int, j: int) -> Array:
    """Rotate by an angle in the plane of axes i and j, (N, 3, 3)."""
    matrix = np.tile(np.eye(3), (len(angle), 1, 1))
    matrix[:, i, i] = matrix[:, j, j] = np.cos(angle)
    matrix[:, i, j], matrix[:, j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def beat_times(state: HeartState, nuisance: EcgNuisance) -> tuple[Array, Array]:
    """Time of the R wave of each beat in s, from before the record to beyond it, ascending.

    Returns:
        Times, and whether a beat is ectopic, (N, MAX_BEATS) each.
    """
    interval = (60 / state.rate)[:, None]
    variation = 0.035 * np.exp(0.3 * nuisance.free("rhythm"))[:, None] * nuisance.beats
    steps = interval * np.exp(np.clip(variation, -0.25, 0.25))
    peaks = np.cumsum(steps, axis=1) - interval * (2 + nuisance.phase[:, 6:7])
    often = np.where(nuisance.phase[:, 7:] < 0.12, 0.15, 0.0)  # ectopic beats in 12 %
    ectopic = nuisance.ectopic < often
    ectopic[:, 1:] &= ~ectopic[:, :-1]
    peaks = peaks - 0.35 * interval * ectopic
    return peaks, ectopic


def _beats(
    state: HeartState, nuisance: EcgNuisance, times: Array
) -> tuple[Array, Array, Array, Array]:
    """Place each time, (N, S), in its beat.

    Returns:
        Seconds since the R of the beat it belongs to, and whether that beat is ectopic; the same
        for the beat whose P wave it may belong to.
    """
    peaks, ectopic = beat_times(state, nuisance)
    rows = np.arange(len(peaks))[:, None]
    last = _last_before(peaks - 0.10, times)
    following = np.minimum(_last_before(peaks + 0.03, times) + 1, MAX_BEATS - 1)
    since = (times - peaks[rows, last]).astype(np.float32)
    until = (times - peaks[rows, following]).astype(np.float32)
    return since, ectopic[rows, last], until, ectopic[rows, following]


def _last_before(starts: Array, times: Array) -> Array:
    """Number of the last start at or before each time; starts[:, 0] lies before all. (N, S)."""
    found = np.searchsorted(times, starts[:, 1:])
    counts = np.zeros((len(starts), len(times) + 1), dtype=np.int64)
    np.add.at(counts, (np.arange(len(starts))[:, None], found), 1)
    return np.cumsum(counts[:, :-1], axis=1)


def _resample(noise: Array, rate_hz: int) -> Array:
    """Noise at ``rate_hz``, by the Fourier interpolation that keeps the given samples."""
    if rate_hz == NOISE_RATE_HZ:
        return noise
    length = noise.shape[-1] * FILE_RATE_HZ // NOISE_RATE_HZ
    spectrum = np.fft.rfft(noise, axis=-1)
    spectrum[..., -1] /= 2  # the highest frequency becomes a pair
    fine = np.fft.irfft(spectrum, length, axis=-1) * (length / noise.shape[-1])
    return np.asarray(fine[..., :: FILE_RATE_HZ // rate_hz], dtype=np.float32)
