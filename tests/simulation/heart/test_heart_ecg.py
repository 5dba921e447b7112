from dataclasses import replace

import numpy as np
import pytest

from medmcl.simulation.heart import ecg as heart_ecg
from medmcl.simulation.heart.ecg import LEADS, draw_nuisance, render_ecg
from medmcl.simulation.heart.state import LATENTS, HeartState, heart_state


def people(rows: int, seed: int = 0) -> tuple[HeartState, heart_ecg.EcgNuisance]:
    generator = np.random.default_rng(seed)
    state = heart_state(generator.standard_normal((rows, len(LATENTS))))
    healthy = replace(
        state,
        conduction=np.zeros(rows, int),
        territory=np.zeros(rows, int),
        infarct_size=np.zeros(rows),
    )
    return healthy, draw_nuisance(rows, generator)


def quiet(nuisance: heart_ecg.EcgNuisance) -> heart_ecg.EcgNuisance:
    """Neither wander nor ectopic beats."""
    return replace(nuisance, wander=0 * nuisance.wander, ectopic=np.ones_like(nuisance.ectopic))


def lead(signal: np.ndarray, name: str) -> np.ndarray:
    return signal[:, LEADS.index(name)]


def first_beat(signal: np.ndarray, state: HeartState, nuisance: heart_ecg.EcgNuisance):
    """Lag to the nearest R at each time of a 500 Hz signal, (N, S)."""
    times = np.arange(signal.shape[2]) / 500
    return heart_ecg._beats(state, nuisance, times)[0]


def test_limb_leads_obey_einthoven_and_goldberger():
    state, nuisance = people(8)
    signal = render_ecg(state, nuisance, 100, 5, 0.03)
    one, two = lead(signal, "I"), lead(signal, "II")
    assert np.allclose(lead(signal, "III"), two - one, atol=1e-6)
    assert np.allclose(lead(signal, "aVR"), -(one + two) / 2, atol=1e-6)
    assert np.allclose(lead(signal, "aVL"), one - two / 2, atol=1e-6)
    assert np.allclose(lead(signal, "aVF"), two - one / 2, atol=1e-6)


@pytest.mark.parametrize("rate_hz", [50, 100, 125, 250])
def test_a_lower_rate_holds_samples_of_the_higher_one(rate_hz):
    state, nuisance = people(8)
    fine = render_ecg(state, nuisance, 500, 10, 0.05)
    coarse = render_ecg(state, nuisance, rate_hz, 4, 0.05)
    step = 500 // rate_hz
    assert coarse.shape == (8, 12, 4 * rate_hz)
    assert np.allclose(coarse, fine[:, :, ::step][:, :, : 4 * rate_hz], atol=1e-5)


def test_amplitudes_are_those_of_people():
    state, nuisance = people(300)
    signal = render_ecg(state, quiet(nuisance), 500, 4, 0.0)
    r_v5, s_v1 = lead(signal, "V5").max(axis=1), -lead(signal, "V1").min(axis=1)
    assert 1.0 < np.median(r_v5) < 2.0
    assert 0.5 < np.median(s_v1) < 1.5
    assert np.abs(signal).max() < 6
    assert (lead(signal, "aVR").min(axis=1) < -0.3).mean() > 0.9


def test_beats_come_at_the_heart_rate():
    state, nuisance = people(60)
    nuisance = quiet(nuisance)
    since = heart_ecg._beats(state, nuisance, np.arange(5000) / 500)[0]
    beats = (np.diff(since, axis=1) < 0).sum(axis=1)
    assert np.abs(beats / 10 * 60 - state.rate).max() < 9
    assert np.abs(since).max() < 2.5


def test_noise_has_the_level_asked_for_and_none_means_none():
    state, nuisance = people(60)
    clean = render_ecg(state, nuisance, 500, 10, 0.0)
    noise = render_ecg(state, nuisance, 500, 10, 0.05) - clean
    assert 0.7 * 0.05 < np.median(lead(noise, "V3").std(axis=1)) < 1.3 * 0.05
    assert np.array_equal(clean, render_ecg(state, nuisance, 500, 10, 0.0))


def test_a_larger_mass_gives_larger_voltages_all_else_equal():
    state, nuisance = people(100)
    thick = replace(state, wall=state.wall * 1.3)
    thin = render_ecg(state, nuisance, 100, 4, 0.0)
    assert (np.ptp(lead(render_ecg(thick, nuisance, 100, 4, 0.0), "V5"), axis=1)).mean() > (
        1.08 * np.ptp(lead(thin, "V5"), axis=1).mean()
    )


@pytest.mark.parametrize(("territory", "name"), [(1, "V2"), (2, "V6"), (3, "aVF")])
def test_an_infarct_bends_qrs_and_t_away_in_the_leads_of_its_territory(territory, name):
    state, nuisance = people(60)
    nuisance = quiet(nuisance)
    scarred = replace(state, territory=np.full(60, territory), infarct_size=np.full(60, 0.25))
    before, after = (render_ecg(s, nuisance, 500, 4, 0.0) for s in (state, scarred))
    lag = first_beat(before, state, nuisance)
    early, late = np.abs(lag + 0.028) < 0.012, np.abs(lag - 0.27) < 0.06
    change = lead(after - before, name)
    assert change[early].mean() < -0.15
    assert change[late].mean() < -0.08


def test_bundle_branch_blocks_widen_the_qrs_in_their_own_way():
    state, nuisance = people(60)
    nuisance = quiet(nuisance)
    left, right = (replace(state, conduction=np.full(60, code)) for code in (1, 2))
    assert (heart_ecg.qrs_duration(left, nuisance) > 120).all()
    normal, lbbb, rbbb = (render_ecg(s, nuisance, 500, 4, 0.0) for s in (state, left, right))
    late = np.abs(first_beat(normal, state, nuisance) - 0.075) < 0.012
    assert lead(lbbb, "V6")[late].mean() > lead(normal, "V6")[late].mean() + 0.2
    assert lead(rbbb, "V1")[late].mean() > lead(normal, "V1")[late].mean() + 0.2
    assert lead(rbbb, "I")[late].mean() < lead(normal, "I")[late].mean() - 0.1


def test_a_block_of_the_av_node_only_moves_p():
    state, nuisance = people(20)
    nuisance = quiet(nuisance)
    blocked = replace(state, conduction=np.full(20, 3))
    change = np.abs(
        render_ecg(blocked, nuisance, 500, 4, 0.0) - render_ecg(state, nuisance, 500, 4, 0.0)
    )
    lag = first_beat(change, state, nuisance)
    assert lead(change, "II")[np.abs(lag) < 0.05].max() < 0.02
    assert lead(change, "II").max() > 0.03


def test_taking_rows_takes_all_of_them():
    state, nuisance = people(6)
    whole = render_ecg(state, nuisance, 100, 2, 0.02)
    rows = np.array([4, 1])
    some = render_ecg(state.take(rows), nuisance.take(rows), 100, 2, 0.02)
    assert np.allclose(some, whole[rows], atol=1e-6)
