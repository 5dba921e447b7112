import numpy as np
import pytest

from medmcl.simulation.heart.state import (
    CONDUCTIONS,
    LATENTS,
    MYOCARDIUM_G_PER_ML,
    couple,
    heart_failure,
    heart_state,
    log_hazard,
    phenotypes,
    profile,
)


def latents(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, len(LATENTS)))


@pytest.mark.parametrize("coupling", [0.0, 0.3, 1.0])
def test_coupling_is_the_correlation_and_keeps_the_distribution(coupling):
    one, other = latents(20_000, 1), latents(20_000, 2)
    mixed = couple(one, other, coupling)
    cross = [np.corrcoef(a, b)[0, 1] for a, b in zip(one.T, mixed.T, strict=True)]
    assert np.allclose(cross, coupling, atol=0.03)
    assert np.allclose(mixed.std(axis=0), 1, atol=0.03)
    first, second = heart_state(one), heart_state(mixed)
    assert np.allclose(
        np.quantile(first.ef, [0.1, 0.5, 0.9]), np.quantile(second.ef, [0.1, 0.5, 0.9]), atol=0.01
    )
    assert abs((first.territory > 0).mean() - (second.territory > 0).mean()) < 0.02


def test_at_full_coupling_the_states_are_the_same():
    one = latents(50)
    assert np.array_equal(couple(one, latents(50, 9), 1.0), one)


def test_mass_and_volume_are_those_of_slices_added_up():
    state = heart_state(latents(40))
    height = (np.arange(4000) + 0.5) / 4000
    for row in range(40):
        radius, wall, length = state.radius[row], state.wall[row], state.length[row]
        cavity = np.pi * radius**2 * length * profile(height).mean() / 1000
        whole = np.pi * (radius + wall) ** 2 * (length + wall) * profile(height).mean() / 1000
        assert cavity == pytest.approx(state.lv_edv[row], rel=1e-4)
        mass = MYOCARDIUM_G_PER_ML * (whole - cavity)
        assert mass == pytest.approx(state.lv_mass[row], rel=1e-3)


def test_values_are_those_of_people():
    state = heart_state(latents(20_000))
    assert 60 < state.age.mean() < 66
    assert 140 < state.lv_edv.mean() < 165
    assert 85 < state.lv_mass.mean() < 110
    assert 0.55 < state.ef.mean() < 0.62
    assert state.ef.min() > 0.08
    assert state.ef.max() < 0.8
    assert state.lv_mass[state.is_male].mean() > 1.2 * state.lv_mass[~state.is_male].mean()
    assert 0.12 < (state.territory > 0).mean() < 0.22
    shares = np.bincount(state.conduction, minlength=len(CONDUCTIONS)) / len(state.ef)
    assert shares.min() > 0.03
    assert np.array_equal(state.infarct_size > 0, state.territory > 0)
    assert state.ef[state.territory > 0].mean() < state.ef[state.territory == 0].mean() - 0.05


def test_phenotypes_agree_with_each_other_and_with_the_state():
    state = heart_state(latents(3000))
    measured = phenotypes(state, np.random.default_rng(0))
    assert np.allclose(measured["lv_sv"], measured["lv_edv"] - measured["lv_esv"])
    assert np.allclose(measured["lv_ef"], 100 * measured["lv_sv"] / measured["lv_edv"])
    assert np.corrcoef(measured["lv_ef"], state.ef)[0, 1] > 0.95
    assert np.corrcoef(measured["lv_mass"], state.lv_mass)[0, 1] > 0.98
    assert all(np.isfinite(values).all() for values in measured.values())
    assert (measured["ecc"] < 0).mean() > 0.99


def test_heart_failure_follows_the_hazard_and_is_censored_independently():
    state = heart_state(latents(20_000))
    outcome = heart_failure(state, np.random.default_rng(0))
    assert 0.24 < outcome["hf_event"].mean() < 0.32
    assert outcome["hf_days"].min() >= 1
    high = log_hazard(state) > np.quantile(log_hazard(state), 0.8)
    assert outcome["hf_event"][high].mean() > 2 * outcome["hf_event"][~high].mean()
    ended = (outcome["hf_event"] == 0) & (outcome["hf_days"] < 9 * 365)  # lost to follow-up
    assert 0.05 < ended.mean() < 0.2
