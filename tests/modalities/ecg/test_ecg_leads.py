import numpy as np
import pytest

from medmcl.modalities.ecg.leads import LIMB, TWELVE, canonical, is_known, sources, take_lead


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        *[(lead, lead) for lead in TWELVE],
        *[(lead.lower(), lead) for lead in TWELVE],
        *[(f"MDC_ECG_LEAD_{lead.upper()}", lead) for lead in TWELVE],
        *[(f"Lead {lead}", lead) for lead in TWELVE],
        ("ECG Lead II", "II"),
        ("Lead I (Einthoven)", "I"),
        ("lead_V3", "V3"),
        ("ecg_avr", "aVR"),
        ("aVF (mV)", "aVF"),
        ("V1 [uV]", "V1"),
        (" a V L ", "aVL"),
        ("DI", "I"),
        ("DIII", "III"),
        ("D2", "II"),
        ("c1", "V1"),
        ("C6", "V6"),
        ("vx", "X"),
        ("VZ", "Z"),
        ("V4R", "V4R"),
        *[(f"MDC_ECG_ELEC_POTL_{lead.upper()}", lead) for lead in TWELVE],
        *[(f"ECG_LEAD_{lead}", lead) for lead in TWELVE],
        *[(f"ECG {lead}", lead) for lead in TWELVE],
        *[(f"+{lead}", lead) for lead in TWELVE],
        *[(f"{lead} ", lead) for lead in TWELVE],
        *[(lead[1:], lead) for lead in ("aVR", "aVL", "aVF")],
        *[(f"C{number}", f"V{number}") for number in range(1, 7)],
        *zip(("D1", "D2", "D3"), ("I", "II", "III"), strict=True),
        ("Lead +aVR", "aVR"),
        ("ECG-II", "II"),
        ("Lead - II", "II"),
    ],
)
def test_names_as_found_in_the_wild_become_canonical(name, lead):
    assert canonical(name) == (lead, 1)
    assert is_known(name)


@pytest.mark.parametrize("name", ["MLII", "ECG 1", "ECG", "Lead", "", "time", "ABP", "V10", "IV"])
def test_a_name_that_is_no_standard_lead_stays_as_it_is(name):
    assert canonical(name) == (name, 1)
    assert not is_known(name)


@pytest.mark.parametrize(
    "name", ["-aVR", "-avr", " - aVR", "Lead -aVR", "ECG_-AVR", "\u2212aVR", "\u2013aVR", "-VR"]
)
def test_cabrera_minus_avr_is_avr_reversed(name):
    assert canonical(name) == ("aVR", -1)


@pytest.mark.parametrize(
    "name", ["aVR-", "aVR (-)", "aVR inverted", "aVR_neg", "AVRneg", "I (reversed)", "I-II", "I I"]
)
def test_a_name_that_may_mean_two_things_is_no_lead(name):
    assert canonical(name) == (name, 1)
    assert not is_known(name)


def test_every_pair_of_limb_leads_gives_the_other_four():
    rng = np.random.default_rng(0)
    right, left, foot = rng.normal(size=(3, 50))
    truth = {
        "I": left - right,
        "II": foot - right,
        "III": foot - left,
        "aVR": right - (left + foot) / 2,
        "aVL": left - (right + foot) / 2,
        "aVF": foot - (right + left) / 2,
    }
    for first in LIMB:
        for second in LIMB:
            if first == second:
                continue
            rows = np.stack([truth[first], truth[second]])
            for lead in LIMB:
                got = take_lead(lead, (first, second), rows)
                np.testing.assert_allclose(got, truth[lead], atol=1e-12)


def test_a_chest_lead_is_never_derived_and_one_limb_lead_is_not_enough():
    assert sources("V1", LIMB) == ()
    assert sources("III", ("I", "V1")) == ()
    assert sources("III", ("V1", "II", "I")) == ("I", "II")
    assert sources("X", ("I", "II", "X")) == ("X",)
