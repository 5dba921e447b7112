"""Taking entries out of a cohort at random."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_omics import write_omics

import medmcl
from medmcl.core.errors import CohortError, ConfigError
from medmcl.data.cohort.removal import draw_removal
from medmcl.data.cohort.spec import RemoveKeys

NAMES = ["a", "b", "c", "d"]


def samples(people=3000, share=0.7, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"subject": [f"s{n}" for n in range(people)]})
    for name in NAMES:
        has = rng.random(people) < share
        frame[name] = np.where(has, frame["subject"], None)
    return frame[frame[NAMES].notna().any(axis=1)].reset_index(drop=True)


def entries(removal):
    return {(one, name) for one, names in removal.gone.items() for name in names}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6])
def test_the_share_is_met_nobody_loses_all_and_it_is_random(share):
    frame = samples()
    removal = draw_removal(RemoveKeys(share=share), frame, NAMES)
    present = frame[NAMES].notna().to_numpy()
    gone = np.array([[n in removal.gone.get(s, ()) for n in NAMES] for s in frame["subject"]])
    assert removal.entries == present.sum()
    assert removal.removed == gone.sum()
    assert not (gone & ~present).any()
    assert (present & ~gone).any(axis=1).all()
    assert removal.removed / removal.entries == pytest.approx(share, abs=0.02)
    four = present.all(axis=1)  # of people with all four, each modality goes as often
    rates = gone[four].mean(axis=0)
    assert np.ptp(rates) < 0.06


def test_more_removed_holds_what_less_removed_and_people_do_not_matter():
    frame = samples(400)
    drawn = [entries(draw_removal(RemoveKeys(share=s), frame, NAMES)) for s in (0.2, 0.4, 0.6)]
    assert drawn[0] < drawn[1] < drawn[2]
    assert entries(draw_removal(RemoveKeys(share=0.4, seed=1), frame, NAMES)) != drawn[1]
    shuffled = frame.sample(frac=1, random_state=0)
    assert entries(draw_removal(RemoveKeys(share=0.4), shuffled, NAMES)) == drawn[1]


def test_a_share_that_leaves_somebody_nothing_is_refused_with_the_most():
    frame = samples(50)[["subject", "a"]].dropna()
    with pytest.raises(CohortError, match=r"at most 0\.000"):
        draw_removal(RemoveKeys(share=0.4), frame, ["a"])
    with pytest.raises(ConfigError, match="modality"):
        draw_removal(RemoveKeys(share=0.4, modalities=("x",)), frame, ["a"])


@pytest.fixture(scope="module")
def omics(tmp_path_factory):
    return write_omics(tmp_path_factory.mktemp("omics"))


def test_a_cohort_is_thinned_and_says_so(omics):
    whole = medmcl.open_cohort(omics)
    thinned = medmcl.open_cohort(omics, {"cohort.remove.share": 0.4})
    names = list(whole.spec.modalities)
    before, after = (c.samples.set_index("subject")[names].notna() for c in (whole, thinned))
    assert set(before.index) == set(after.index)
    assert after.any(axis=1).all()
    lost = 1 - after.to_numpy().sum() / before.to_numpy().sum()
    assert lost == pytest.approx(0.4, abs=0.05)
    said = next(f for f in thinned.findings if f.code == "cohort.removed")
    assert f"{lost:.1%}" in said.what
    assert whole.fingerprint != thinned.fingerprint
    for name in names:  # nothing is learned from a record that is removed
        assert set(thinned.records[name]["subject"]) == set(after.index[after[name]])
    for task in whole.spec.tasks:  # labels stay
        a, b = whole.targets(task), thinned.targets(task)
        order = [list(whole.samples["subject"]).index(s) for s in thinned.samples["subject"]]
        np.testing.assert_array_equal(a.values[order], b.values)


def test_only_the_modalities_named_are_thinned(omics):
    keys = {"cohort.remove.share": 0.3, "cohort.remove.modalities": ["rna", "proteins"]}
    whole, thinned = medmcl.open_cohort(omics), medmcl.open_cohort(omics, keys)
    assert (
        thinned.samples["metabolites"].notna().sum() == whole.samples["metabolites"].notna().sum()
    )
    assert thinned.samples["rna"].notna().sum() < whole.samples["rna"].notna().sum()


def test_too_large_a_share_stops_the_cohort(omics):
    with pytest.raises(CohortError, match="every subject keeps at least one"):
        medmcl.open_cohort(omics, {"cohort.remove.share": 0.9})
    found = medmcl.check(omics, overrides={"cohort.remove.share": 0.9})
    (said,) = [one for one in found if one.where == "remove.share"]
    most = float(said.fix.rpartition("at most ")[2])  # to three digits
    medmcl.open_cohort(omics, {"cohort.remove.share": most - 0.001})
