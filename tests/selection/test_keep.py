import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medmcl.core.errors import ArtefactError
from medmcl.selection import Keep


def make(**change):
    given = {
        "ids": np.array(["a", "b", "c", "d"]),
        "kept": np.array([True, False, True, False]),
        "rule": "top 50 % by negCLIPLoss",
        "cohort": "c0ffee",
        "scores": {"neg_clip_loss": np.array([0.4, -0.1, 0.3, 0.2])},
        "provenance": {"temperature": 0.07},
        "copies": {"exact": np.array([0, 1, 1, 3])},
    }
    return Keep(**(given | change))


@pytest.mark.parametrize("ids", [np.array(["a", "b", "c", "d"]), np.array([7, 5, 3, 1])])
def test_what_is_saved_comes_back(tmp_path, ids):
    keep = make(ids=ids)
    keep.save(tmp_path / "keep.parquet")
    back = Keep.load(tmp_path / "keep.parquet", cohort="c0ffee")
    for name in ("ids", "kept"):
        np.testing.assert_array_equal(getattr(back, name), getattr(keep, name))
    for name in ("scores", "copies"):
        for key, value in getattr(keep, name).items():
            np.testing.assert_array_equal(getattr(back, name)[key], value)
    assert (back.rule, back.cohort, back.provenance) == (keep.rule, keep.cohort, keep.provenance)
    assert back.fingerprint == keep.fingerprint != make(cohort="other").fingerprint
    table = pq.read_table(tmp_path / "keep.parquet")
    assert table["rank.neg_clip_loss"].to_pylist() == [1, 4, 2, 3]
    assert table["copy_of.exact"].to_pylist() == [None, None, ids[1].item(), None]


def test_a_cohort_is_told_which_of_its_rows_are_kept():
    keep = make()
    assert keep.among(["d", "x", "c", "b", "a"], "c0ffee").tolist() == [0, 0, 1, 0, 1]
    with pytest.raises(ArtefactError, match="another cohort"):
        keep.among(["a", "b", "c", "d"], "decaf")
    with pytest.raises(ArtefactError, match=r"2 ids are unknown to the cohort\n.*b, d"):
        keep.among(["a", "c"], "c0ffee")


def test_a_file_of_another_cohort_is_refused(tmp_path):
    make().save(tmp_path / "keep.parquet")
    with pytest.raises(ArtefactError, match=r"keep.parquet: .*another cohort(.|\n)*c0ffee"):
        Keep.load(tmp_path / "keep.parquet", cohort="decaf")


def test_filters_combine():
    keep, other = make(), make(kept=np.array([True, True, False, False]), rule="theirs")
    assert keep.union(other).kept_ids.tolist() == ["a", "b", "c"]
    both = keep.intersection(other)
    assert both.kept_ids.tolist() == ["a"]
    assert both.rule == "(top 50 % by negCLIPLoss) and (theirs)"
    assert both.provenance["parents"] == [{"temperature": 0.07}, {"temperature": 0.07}]
    assert keep.union({"d"}).kept_ids.tolist() == ["a", "c", "d"]
    assert keep.intersection(np.array(["c", "d"])).kept_ids.tolist() == ["c"]
    with pytest.raises(ArtefactError, match="1 ids are unknown to this keep file"):
        keep.union(["z"])
    with pytest.raises(ArtefactError, match="another cohort"):
        keep.union(make(cohort="decaf"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": np.array(["a", "a", "c", "d"])}, "an id stands twice"),
        ({"ids": np.array([0.5, 1, 2, 3])}, "whole numbers or strings"),
        ({"kept": np.array([1, 0, 1, 0])}, "true or false"),
        ({"kept": np.array([True])}, "'kept' has another shape"),
        ({"scores": {"x": np.array([1.0, math.nan, 0, 0])}}, "1 scores 'x' are NaN"),
        ({"copies": {"exact": np.array([0])}}, "'exact' has another shape"),
    ],
)
def test_what_is_no_choice_is_refused(change, message):
    with pytest.raises(ArtefactError, match=message):
        make(**change)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match="no such file"):
        Keep.load(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("id,kept")
    pq.write_table(pa.table({"id": [1], "kept": [True]}), tmp_path / "bare.parquet")
    make().save(tmp_path / "keep.parquet")
    table = pq.read_table(tmp_path / "keep.parquet")
    pq.write_table(table.drop_columns(["kept"]), tmp_path / "cut.parquet")
    for name in ("text", "bare", "cut"):
        with pytest.raises(ArtefactError, match="no keep file"):
            Keep.load(tmp_path / f"{name}.parquet")
