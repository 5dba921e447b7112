"""The cohort of the PhysioNet/CinC Challenge 2021 on a few records in its layout."""

import numpy as np
import pytest

import medmcl
from medmcl.core.errors import CohortError
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.tables.files import read_table
from tests.support.cinc2021 import SOURCES, UNSCORED, write_challenge


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    root = tmp_path_factory.mktemp("challenge")
    return root, write_challenge(root, people=8)


def test_codes_of_headers_are_labels_and_what_counts_as_one_is_merged(said):
    root, codes = said
    cohort = open_cohort("cinc2021", data_root=root)
    targets = cohort.targets("diagnoses")
    assert targets.columns == ("LBBB", "NSR", "SB", "STach")
    assert targets.known.all()  # also of who has no scored diagnosis
    names = dict(zip(("426783006", "426177001", "427084000"), ("NSR", "SB", "STach"), strict=True))
    for row, name in enumerate(cohort.samples["subject"]):
        expected = (
            {names.get(one, "LBBB") for one in codes[name]} if codes[name] != [UNSCORED] else set()
        )
        assert {
            c for c, v in zip(targets.columns, targets.values[row], strict=True) if v
        } == expected
    assert sorted(set(cohort.subjects["subjects.group"])) == sorted(SOURCES)
    assert not [one for one in medmcl.check(cohort) if one.level == "error"]


def test_sources_may_lie_in_a_folder_training_as_physionet_has_it(said, tmp_path):
    root, codes = said
    (tmp_path / "training").symlink_to(root)
    found = read_table(tmp_path, "training/{source}/**/*.hea | {source}/**/*.hea").frame
    assert sorted(found["stem"]) == sorted(codes)
    assert set(found["source"]) == set(SOURCES)
    assert set(found["file"].str.split("/").str[0]) == {"training"}
    assert set(found["Sex"]) == {"Female"}
    assert set(found["signals"]) == {12}


def test_a_source_is_held_out_and_of_the_others_some_are_drawn_for_tuning(said):
    root, _ = said
    split = {"column": "source", "held_out": ["georgia"], "tuning_share": 0.3}
    cohort = open_cohort("cinc2021", {"cohort.subjects.split": split}, data_root=root)
    splits, sources = (
        cohort.samples["split"].to_numpy(str),
        cohort.subjects["subjects.group"].to_numpy(str),
    )
    assert (splits[sources == "georgia"] == "held_out").all()
    assert set(splits[sources != "georgia"]) == {"train", "tuning"}
    one = {"cohort.subjects.split": {**split, "train": ["ptb-xl"]}}
    alone = open_cohort("cinc2021", one, data_root=root)
    assert len(alone.samples) == 16
    same = dict(zip(cohort.samples["subject"], splits, strict=True))
    assert all(
        same[who] == side
        for who, side in zip(alone.samples["subject"], alone.samples["split"], strict=True)
    )
    for wrong in ({**split, "tuning": ["ptb-xl"]}, {"column": "source", "tuning_share": 0.1}):
        with pytest.raises(CohortError, match="tuning_share"):
            open_cohort("cinc2021", {"cohort.subjects.split": wrong}, data_root=root)


def test_named_parts_of_patterns_are_columns_of_any_table(tmp_path):
    for site in ("a", "b"):
        (tmp_path / site).mkdir()
        (tmp_path / site / f"people_{site}.csv").write_text("id,age\n1,50\n2,60\n")
    frame = read_table(tmp_path, "{site}/people_{site}.csv").frame
    assert list(frame["site"]) == ["a", "a", "b", "b"]
    assert np.array_equal(frame["age"], [50, 60, 50, 60])
    (tmp_path / "x.hea").write_text("# only a comment\n")
    with pytest.raises(CohortError, match="not a WFDB header"):
        read_table(tmp_path, "*.hea")
