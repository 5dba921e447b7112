from dataclasses import replace

import numpy as np
import pytest

from medmcl.simulation.heart import cmr as heart_cmr
from medmcl.simulation.heart.cmr import (
    LV,
    MYOCARDIUM,
    RV,
    SLICE_MM,
    STACK,
    draw_nuisance,
    render_cmr,
)
from medmcl.simulation.heart.state import LATENTS, MYOCARDIUM_G_PER_ML, HeartState, heart_state

PIXELS = 96
SIDE = heart_cmr.FIELD_MM / PIXELS


def people(rows: int, seed: int = 0) -> tuple[HeartState, heart_cmr.CmrNuisance]:
    generator = np.random.default_rng(seed)
    state = heart_state(generator.standard_normal((rows, len(LATENTS))))
    return state, draw_nuisance(rows, 3, generator)


def volumes(state, nuisance, frames) -> dict[int, np.ndarray]:
    """Label to mL at each frame, (N, T): pixels of all slices, counted."""
    result = {RV: 0.0, MYOCARDIUM: 0.0, LV: 0.0}
    for depth in heart_cmr.slice_depth(np.arange(STACK)):
        labels = render_cmr(state, nuisance, frames, float(depth), PIXELS)[1]
        for label in result:
            result[label] += (labels == label).sum(axis=(2, 3)) * SIDE**2 * SLICE_MM / 1000
    return result


def test_volumes_counted_on_the_labels_are_those_of_the_state():
    state, nuisance = people(40)
    systole = heart_cmr.end_systole(state)
    counted = volumes(state, nuisance, np.stack([0 * systole, systole], axis=1))
    diastolic, systolic = counted[LV].T
    assert np.allclose(diastolic, state.lv_edv, rtol=0.02)
    assert np.allclose(systolic, state.lv_esv, rtol=0.03)
    assert np.allclose(1 - systolic / diastolic, state.ef, atol=0.01)
    for frame in (0, 1):
        mass = counted[MYOCARDIUM][:, frame] * MYOCARDIUM_G_PER_ML
        assert np.allclose(mass, state.lv_mass, rtol=0.04)
    assert np.allclose(counted[RV][:, 0], state.rv_edv, rtol=0.04)
    assert np.allclose(counted[RV][:, 1], state.rv_edv * (1 - state.rv_ef), rtol=0.06)


def test_the_wall_keeps_its_cross_section_over_the_cycle():
    state, nuisance = people(6, seed=1)
    frames = np.broadcast_to(np.arange(heart_cmr.CYCLE), (6, heart_cmr.CYCLE))
    labels = render_cmr(state, nuisance, frames, 45.0, 192)[1]
    area = (labels == MYOCARDIUM).sum(axis=(2, 3))
    assert (area.std(axis=1) / area.mean(axis=1)).max() < 0.02


def test_contraction_starts_at_end_diastole_and_is_full_at_end_systole():
    state, _ = people(30)
    systole = heart_cmr.end_systole(state)
    frames = np.broadcast_to(np.arange(heart_cmr.CYCLE), (30, heart_cmr.CYCLE))
    course = heart_cmr.contraction(frames, systole)
    assert (course[:, 0] == 0).all()
    assert np.allclose(course[np.arange(30), systole], 1)
    assert (course.argmax(axis=1) == systole).all()
    assert course.min() >= 0
    assert heart_cmr.contraction(np.array([[15.99]]), np.array([6]))[0, 0] < 1e-3


@pytest.mark.parametrize("territory", [1, 2, 3])
def test_an_infarct_stands_still_in_its_sector_only(territory):
    state, nuisance = people(12)
    state = replace(
        state,
        conduction=np.zeros(12, int),
        territory=np.full(12, territory),
        infarct_size=np.full(12, 0.2),
        ef=np.full(12, 0.45),
    )
    nuisance = replace(nuisance, turn=np.zeros(12))
    systole = heart_cmr.end_systole(state)
    frames = np.stack([0 * systole, systole], axis=1)
    labels = render_cmr(state, nuisance, frames, 45.0, PIXELS)[1]
    lost = (labels[:, 0] == LV) & (labels[:, 1] != LV)
    places = heart_cmr.pixel_places(PIXELS)
    for row in range(12):
        y, x = np.nonzero(lost[row])
        centre = 11 + 4 * nuisance.centre[row, 0], 2 + 4 * nuisance.centre[row, 1]
        angle = np.arctan2(places[y] - centre[1], places[x] - centre[0])
        off = np.abs(np.angle(np.exp(1j * (angle - heart_cmr.INFARCT_AT[territory]))))
        assert (off < 0.4).sum() < 0.2 * (off > np.pi - 0.4).sum()


def test_large_pixels_show_what_small_ones_show():
    state, nuisance = people(10)
    frames = np.zeros((10, 1))
    fine = render_cmr(state, nuisance, frames, 45.0, 96)[0]
    coarse = render_cmr(state, nuisance, frames, 45.0, 32)[0]
    mean = fine.reshape(10, 1, 32, 3, 32, 3).mean(axis=(3, 5))
    assert np.abs(coarse - mean).mean() < 0.02
    assert np.corrcoef(coarse.ravel(), mean.ravel())[0, 1] > 0.99


def test_blood_is_brighter_than_muscle_in_every_subject():
    state, nuisance = people(30)
    image, labels = render_cmr(state, nuisance, np.zeros((30, 1)), 45.0, 48)
    for row in range(30):
        blood = image[row][labels[row] == LV].mean()
        assert blood > 1.5 * np.median(image[row][labels[row] == MYOCARDIUM])


def test_slices_above_the_base_and_below_the_apex_hold_no_heart():
    state, nuisance = people(10)
    for depth in (-5.0, 125.0):
        labels = render_cmr(state, nuisance, np.zeros((10, 1)), depth, 48)[1]
        assert not labels.any()
