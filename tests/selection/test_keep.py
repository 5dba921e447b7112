"""What is kept: by rank, by rules of several steps, without near copies; and the file of it."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import rankdata

from medmcl.core.errors import ArtefactError, MedmclError
from medmcl.selection import (
    Keep,
    clip_score,
    duplicates,
    exact_duplicates,
    near_duplicates,
    norm_sim_dynamic,
    rank_fusion,
    top_share,
    two_stage,
)
from medmcl.selection.ranking import Step, follow, written


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
        with pytest.raises(
            ArtefactError, match=r"no(t a readable)? keep file(.|\n)*medmcl select --and"
        ):
            Keep.load(tmp_path / f"{name}.parquet")


def where(kept):
    return kept.nonzero().flatten().numpy()


@pytest.mark.parametrize("case", ["ncl0", "ncl1", "ncl3"])
def test_shares_equal_the_published_sets(wang, case):
    cosine = clip_score(wang[f"{case}_img"], wang[f"{case}_txt"])
    scores = torch.from_numpy(wang[f"{case}_negcliploss"])
    for share in (0.2, 0.3):
        chosen = where(top_share(scores, share))
        np.testing.assert_array_equal(chosen, wang[f"{case}_select_top{share}"])
        chosen = where(top_share(cosine, share))
        np.testing.assert_array_equal(chosen, wang[f"{case}_select_clipscore_top{share}"])


def test_the_pipeline_equals_the_published_sets(wang):
    first = torch.from_numpy(wang["comb_negcliploss"])
    np.testing.assert_array_equal(where(top_share(first, 0.3)), wang["comb_stage1"])
    for name in ("normsim2", "normsiminf"):
        kept = two_stage(first, torch.from_numpy(wang[f"comb_{name}"]))
        np.testing.assert_array_equal(where(kept), wang[f"comb_stage2_{name}"])


def test_a_share_is_of_rows_as_a_person_counts_them():
    assert top_share(torch.rand(100), 0.29).sum() == 29  # 0.29 * 100 is 28.999999999999996


def test_fused_ranks_equal_scipy():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 9, 50).astype(float), rng.normal(size=50)
    expected = (2 * (rankdata(one) - 1) + (rankdata(other) - 1)) / (3 * 49)
    found = rank_fusion([torch.from_numpy(one), torch.from_numpy(other)], [2, 1])
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda x: top_share(x, 0.0), r"\(0, 1\]"),
        (lambda x: top_share(x, 0.1), "is no row"),
        (lambda x: top_share(x, 0.9, of=100), "fewer rows"),
        (lambda x: top_share(x * math.nan, 0.5), "5 scores are NaN"),
        (lambda x: two_stage(x, x, 0.2, 0.4), "second share"),
        (lambda x: two_stage(x, x[1:]), "same rows"),
        (lambda x: rank_fusion([x, x[1:]]), "same rows"),
        (lambda x: rank_fusion([x], [0.0]), "weights must be above 0"),
        (lambda x: rank_fusion([]), "same rows"),
    ],
)
def test_choices_that_cannot_be_made_are_refused(choose, message):
    with pytest.raises(MedmclError, match=message):
        choose(torch.rand(5))


@pytest.fixture
def scores():
    generator = torch.Generator(device="cpu").manual_seed(0)
    return {name: torch.randn(40, generator=generator, device="cpu") for name in ("a", "b", "c")}


def share(by, part):
    return Step(by=(by,) if isinstance(by, str) else by, share=part)


def test_two_steps_are_the_published_pipeline(wang):
    first = torch.from_numpy(wang["comb_negcliploss"])
    for name in ("normsim2", "normsiminf"):
        both = {"a": first, "b": torch.from_numpy(wang[f"comb_{name}"])}
        kept = follow([share("a", 0.3), share("b", 0.2)], both)
        np.testing.assert_array_equal(kept.nonzero().flatten(), wang[f"comb_stage2_{name}"])
        assert torch.equal(kept, two_stage(both["a"], both["b"]))


def test_three_steps_as_slow_loops(scores):
    left = list(range(40))
    for name, number in (("a", 30), ("b", 20), ("c", 5)):
        left = sorted(left, key=lambda row: (-scores[name][row].item(), row))[:number]
    rule = [share("a", 0.75), share("b", 0.5), share("c", 0.125)]
    assert follow(rule, scores).nonzero().flatten().tolist() == sorted(left)


def test_several_scores_of_a_step_are_fused_over_the_pool(scores):
    fused = top_share(rank_fusion([scores["a"], scores["b"]]), 0.25)
    assert torch.equal(follow([share(("a", "b"), 0.25)], scores), fused)


def test_a_threshold_stays_where_it_is(scores):
    kept = follow([share("a", 0.5), Step(by=("b",), at_least=0.3)], scores)
    assert torch.equal(kept, top_share(scores["a"], 0.5) & (scores["b"] >= 0.3))


def test_a_chooser_sees_what_is_left_and_how_many_to_keep(scores):
    generator = torch.Generator(device="cpu").manual_seed(1)
    image = torch.nn.functional.normalize(torch.randn(40, 8, generator=generator, device="cpu"))

    def choose(left, number):
        return norm_sim_dynamic(image, number, 3, start=left)

    kept = follow([share("a", 0.5), share("self", 0.25)], scores, {"self": choose})
    start = top_share(scores["a"], 0.5).nonzero().flatten()
    expected = norm_sim_dynamic(image, 10, 3, start=start)
    assert torch.equal(kept.nonzero().flatten(), expected)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ([share("x", 0.5)], "unknown score 'x'"),
        ([share("a", 0.2), share("b", 0.3)], "8 rows left"),
        ([share("a", 0.01)], "no row"),
        ([Step(by=("a",), at_least=99.0)], "no row has a of at least 99"),
    ],
)
def test_rules_that_cannot_be_followed_say_why(scores, rule, words):
    with pytest.raises(MedmclError) as error:
        follow(rule, scores)
    assert words in str(error.value)


def test_a_rule_in_words():
    rule = [share("ncl", 0.3), share(("a", "b"), 0.2), Step(by=("c",), at_least=0.5)]
    assert written(rule) == (
        "best 30 % of the pool by ncl, then best 20 % of the pool by a + b, then c of at least 0.5"
    )


def by_loops(rows, threshold):
    group = list(range(len(rows)))
    cosine = (rows @ rows.T).tolist()
    for i in range(len(rows)):
        for j in range(i):
            if cosine[i][j] >= threshold and group[i] != group[j]:
                low, high = sorted((group[i], group[j]))
                group = [low if one == high else one for one in group]
    return group


@pytest.mark.parametrize("block", [2048, 16])
@pytest.mark.parametrize("threshold", [0.6, 0.9, 0.99])
def test_near_duplicates_equal_all_pairs(pairs, monkeypatch, block, threshold):
    monkeypatch.setattr(duplicates, "BLOCK", block)
    rows = pairs(120, width=6)[0]
    rows[50] = torch.nn.functional.normalize(rows[3] + 0.05 * rows[7], dim=0)
    rows[119] = rows[3]
    rows[90:100] = rows[80]
    assert near_duplicates(rows, threshold).tolist() == by_loops(rows, threshold)


def test_exact_duplicates_are_equal_to_the_last_bit(pairs):
    rows = pairs(10)[0]
    rows[4], rows[7] = rows[1], rows[1]
    rows[8] = rows[1] * (1 + 2e-16)
    assert exact_duplicates(rows).tolist() == [0, 1, 2, 3, 1, 5, 6, 1, 8, 9]
    assert exact_duplicates(rows.numpy()).tolist() == [0, 1, 2, 3, 1, 5, 6, 1, 8, 9]
    assert exact_duplicates(np.array([[0.0, 1], [-0.0, 1]])).tolist() == [0, 0]


def test_texts_repeat():
    texts = ["sinus rhythm", "atrial fibrillation", "sinus rhythm", "Sinus rhythm"]
    assert exact_duplicates(texts).tolist() == [0, 1, 0, 3]


def test_a_threshold_outside_the_cosines_is_refused(pairs):
    with pytest.raises(MedmclError, match="threshold"):
        near_duplicates(pairs(5)[0], 1.5)
