"""Who is poisoned: kept in a manifest that refuses what is not its own."""

import numpy as np
import pytest

from medmcl.core.errors import ArtefactError
from medmcl.threats import Poison

IDS = np.array([f"s{number:03d}" for number in range(200)])


def manifest(**more):
    kept = {"ids": IDS[1:13], "donors": IDS[:12], "cohort": "abc",
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
