"""Who is poisoned: drawn by ids and seed, kept in a manifest that refuses what is not its own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.threats import Poison, draw_poison

IDS = np.array([f"s{number:03d}" for number in range(200)])
IS_TARGET = np.arange(200) % 5 == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 160))
def test_others_are_poisoned_with_texts_of_the_target(seed, count):
    rows, donors = draw_poison(IDS, IS_TARGET, count, seed)
    assert len(set(rows.tolist())) == count
    assert not IS_TARGET[rows].any()
    assert IS_TARGET[donors].all()


def test_a_consistent_attack_poisons_the_target_and_keeps_its_texts():
    rows, donors = draw_poison(IDS, IS_TARGET, 40, 0, is_consistent=True)
    assert sorted(rows) == np.flatnonzero(IS_TARGET).tolist()
    assert (rows == donors).all()


def test_a_small_attack_is_part_of_a_larger_one_in_any_order_of_samples():
    order = np.random.default_rng(1).permutation(200)
    small, large = draw_poison(IDS, IS_TARGET, 10, 7), draw_poison(IDS, IS_TARGET, 90, 7)
    assert large[0][:10].tolist() == small[0].tolist()
    assert large[1][:10].tolist() == small[1].tolist()
    again, _ = draw_poison(IDS[order], IS_TARGET[order], 90, 7)
    assert IDS[order][again].tolist() == IDS[large[0]].tolist()
    other, _ = draw_poison(IDS, IS_TARGET, 90, 8)
    assert set(other.tolist()) != set(large[0].tolist())


def test_samples_and_donors_are_drawn_evenly():
    drawn = np.zeros(200)
    gave = np.zeros(200)
    for seed in range(300):
        rows, donors = draw_poison(IDS, IS_TARGET, 40, seed)
        drawn[rows] += 1
        np.add.at(gave, donors, 1)
    assert abs(drawn[~IS_TARGET] / 300 - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 300)
    assert gave[IS_TARGET].min() > 0.7 * 300


@pytest.mark.parametrize(
    ("count", "is_target", "more", "told"),
    [
        (0, IS_TARGET, {}, "1 to 160"),
        (161, IS_TARGET, {}, "1 to 160, the samples of other classes"),
        (41, IS_TARGET, {"is_consistent": True}, "1 to 40, the samples of the target"),
        (5, np.zeros(200, bool), {}, "no sample shows the target"),
    ],
)
def test_what_cannot_be_drawn_is_refused(count, is_target, more, told):
    with pytest.raises(ConfigError, match=told):
        draw_poison(IDS, is_target, count, 0, **more)


def manifest(**more):
    rows, donors = draw_poison(IDS, IS_TARGET, 12, 3)
    kept = {"ids": IDS[rows], "donors": IDS[donors], "cohort": "abc",
            "provenance": {"trigger": "badnet", "seed": 3}}  # fmt: skip
    return Poison(**{**kept, **more})


def test_a_manifest_comes_back_as_it_was(tmp_path):
    own = manifest()
    own.save(tmp_path / "poison" / "a.parquet")
    again = Poison.load(tmp_path / "poison" / "a.parquet", "abc")
    assert again.ids.tolist() == own.ids.tolist()
    assert again.donors.tolist() == own.donors.tolist()
    assert again.places.tolist() == [""] * 12
    assert again.provenance == own.provenance
    said = manifest(places=[f'{{"top": {n}}}' for n in range(12)])
    said.save(tmp_path / "b.parquet")
    assert Poison.load(tmp_path / "b.parquet").places.tolist() == said.places.tolist()
    assert said.fingerprint == own.fingerprint
    assert again.fingerprint == own.fingerprint
    assert own.is_poisoned(IDS).sum() == 12
    assert manifest(provenance={"trigger": "sig"}).fingerprint != own.fingerprint


def test_another_cohort_damage_and_other_files_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(ArtefactError, match="no such file"):
        Poison.load(path)
    manifest().save(path)
    with pytest.raises(ArtefactError, match="another cohort"):
        Poison.load(path, "def")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtefactError, match="not a readable manifest of poison"):
        Poison.load(path)
    with pytest.raises(ArtefactError, match="poisoned twice"):
        manifest(ids=["a"] * 12)
    with pytest.raises(ArtefactError, match="one of the donors"):
        manifest(donors=["a"])
    with pytest.raises(ArtefactError, match="one of the places"):
        manifest(places=["a"])
