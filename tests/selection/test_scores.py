"""Scores of pairs and of rows like a target: formulas as loops, published numbers, pools."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from medmcl.core.contracts import ScoredPool
from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.selection import (
    SCORERS,
    clip_score,
    map_parquet,
    near_duplicates,
    neg_clip_loss,
    norm_sim,
    norm_sim_dynamic,
    pair_losses,
    settings,
)
from medmcl.selection.pools import LogSums, Pool
from medmcl.selection.settings import ScoreSettings


def by_loops(image, text, temperature, size, orders, tail):
    """The formula, pair by pair, in plain Python numbers."""
    cosine = (image.double() @ text.double().T).tolist()
    rows = len(cosine)
    total = [0.0] * rows
    for order in orders:
        for start in range(0, rows, size):
            own = order[start : start + size]
            batch = own + (order[: size - len(own)] if tail == "wrap" else [])
            for i in own:
                forth = math.fsum(math.exp((cosine[i][j] - 1) / temperature) for j in batch)
                back = math.fsum(math.exp((cosine[j][i] - 1) / temperature) for j in batch)
                normaliser = 2 + temperature * (math.log(forth) + math.log(back))
                total[i] += cosine[i][i] - normaliser / 2
    return torch.tensor(total, dtype=torch.float64) / len(orders)


@pytest.mark.parametrize("tail", ["wrap", "official"])
@pytest.mark.parametrize(("rows", "size"), [(24, 8), (29, 8), (25, 8), (7, 100)])
def test_neg_clip_loss_equals_the_formula_as_loops(pairs, rows, size, tail):
    image, text = pairs(rows)
    orders = [np.random.default_rng(k).permutation(rows).tolist() for k in range(3)]
    found = neg_clip_loss(image, text, 0.07, size, np.array(orders), tail)
    expected = by_loops(image, text, 0.07, min(size, rows), orders, tail)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", ["ncl0", "ncl1", "ncl3"])
def test_neg_clip_loss_equals_the_published_code(wang, case):
    image, text = (torch.from_numpy(wang[f"{case}_{side}"]) for side in ("img", "txt"))
    given = float(wang[f"{case}_temperature"]), int(wang[f"{case}_batch_size"])
    orders = wang[f"{case}_perms"]
    found = neg_clip_loss(image, text, *given, orders, tail="official")
    np.testing.assert_allclose(found, wang[f"{case}_negcliploss"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        clip_score(image, text), wang[f"{case}_clipscore"], rtol=0, atol=1e-6
    )
    for order, expected in zip(orders, wang[f"{case}_negcliploss_each"], strict=True):
        each = neg_clip_loss(image, text, *given, order, tail="official")
        np.testing.assert_allclose(each, expected, rtol=0, atol=1e-5)


def test_the_official_tail_gives_a_row_alone_the_best_score_and_wrap_does_not(wang):
    image, text, orders = (wang[f"ncl3_{name}"] for name in ("img", "txt", "perms"))
    alone = orders[0][-1]
    official = neg_clip_loss(image, text, 0.07, 256, orders[:1], tail="official")
    wrapped = neg_clip_loss(image, text, 0.07, 256, orders[:1])
    assert official[alone].item() == pytest.approx(0, abs=1e-6)
    assert official.argmax() == alone
    whole = neg_clip_loss(image, text, 0.07, 513, orders[:1])
    wider = wrapped - whole  # fewer others to resemble: a little above the whole pool, all alike
    others = torch.ones(513, dtype=torch.bool)
    others[alone] = False
    assert abs(wider[alone] - wider[others].median()) < 4 * wider[others].std()
    torch.testing.assert_close(wrapped[others], official[others])


def test_finite_where_the_published_code_overflows(wang):
    official = wang["overflow_official_negcliploss"]
    assert np.isinf(official).all()
    found = neg_clip_loss(wang["overflow_img"], wang["overflow_txt"], 0.01, 16)
    np.testing.assert_allclose(found, wang["overflow_float64_reference"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.001, 0.004, 0.01, 0.07, 1.0])
def test_the_fast_way_and_the_exact_way_agree_at_any_temperature(pairs, temperature):
    """Opposite sides and copies: the ends of what float32 has to carry."""
    image, text = pairs(70, width=40, dtype=torch.float32)
    text[:20], text[20:40] = image[:20], -image[20:40]
    order = torch.arange(70)
    found = neg_clip_loss(image, text, temperature, 70, order)
    expected = neg_clip_loss(image.double(), text.double(), temperature, 70, order)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)


def test_the_guard_refuses_sums_whose_terms_were_lost(pairs):
    image, text = pairs(600, width=8, dtype=torch.float32)
    scaled, expected = image * 1000, (image.double() * 1000) @ text.double().T
    for rows in (slice(0, 600), slice(0, 300)):
        sums = LogSums(1000.0)
        forth, back = sums(scaled[rows], text)
        assert sums.exact
        torch.testing.assert_close(forth.double(), expected[rows].logsumexp(1), rtol=1e-5, atol=0)
        torch.testing.assert_close(back.double(), expected[rows].logsumexp(0), rtol=1e-5, atol=0)
    easy = LogSums(10.0)
    forth, back = easy(image * 10, text)
    assert not easy.exact
    expected = 10 * image.double() @ text.double().T
    torch.testing.assert_close(forth.double(), expected.logsumexp(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(back.double(), expected.logsumexp(0), rtol=1e-6, atol=0)


def test_pair_losses_are_the_cross_entropies_of_the_batch(pairs):
    image, text = pairs(33)
    logits, own = 12 * image @ text.T, torch.arange(33)
    both = [torch.nn.functional.cross_entropy(x, own, reduction="none") for x in (logits, logits.T)]
    torch.testing.assert_close(pair_losses(image, text, 1 / 12), (both[0] + both[1]) / 2)


def test_a_memory_mapped_pool_is_read_a_batch_at_a_time(pairs, tmp_path, counting):
    image, text = (side.numpy() for side in pairs(20_000, width=4, dtype=torch.float32))
    expected = neg_clip_loss(image, text, 0.07, 500, divisions=2)
    np.save(tmp_path / "image.npy", image)
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    watched = counting(text)
    found = neg_clip_loss(mapped, watched, 0.07, 500, divisions=2)
    assert torch.equal(found, expected)
    assert watched.most == 8192  # the block in which lengths are looked at; batches are smaller


def test_lengths_are_warned_of_and_mended(pairs):
    image, text = pairs(20)
    expected = neg_clip_loss(image, text, 0.07, 10)
    with pytest.warns(UserWarning, match="image: 20 of 20 rows are not of unit length"):
        found = neg_clip_loss(3 * image, text, 0.07, 10)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_rows_without_a_direction_are_refused_by_number(pairs, value):
    image, text = pairs(20)
    text[[3, 17]] = value
    for score in (clip_score, lambda a, b: neg_clip_loss(a, b, 0.07, 10)):
        with pytest.raises(MedmclError, match=r"text: 2 of 20 rows(.|\n)*rows 3, 17"):
            score(image, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"batch_size": 1}, "at least 2 rows"),
        ({"tail": "drop"}, "unknown tail"),
        ({"permutations": np.zeros((2, 20), int)}, r"permutations\[0\]: is no permutation"),
        ({"permutations": np.arange(19)}, "each row of the pool once"),
        ({"divisions": 0}, "at least 1 division"),
        ({"text": torch.ones(19, 12)}, "one shape"),
        ({"text": torch.ones(20, 12, dtype=torch.int64)}, "floating-point"),
    ],
)
def test_what_cannot_be_scored_is_refused(pairs, change, message):
    image, text = pairs(20)
    given = {"image": image, "text": text, "temperature": 0.07, "batch_size": 10} | change
    if change.get("text") is not None and change["text"].is_floating_point():
        given["text"] = change["text"] / 12**0.5
    with pytest.raises(MedmclError, match=message):
        neg_clip_loss(**given)


def test_one_pair_has_nothing_to_be_compared_with(pairs):
    with pytest.raises(MedmclError, match="at least 2"):
        neg_clip_loss(*pairs(1), 0.07, 10)


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
def test_norm_sim_equals_the_published_code(wang, p):
    found = norm_sim(wang["ns_candidates"], wang["ns_target"], p)
    np.testing.assert_allclose(found, wang[f"ns_norm_{p}"], rtol=1e-5, atol=1e-5)


def test_the_square_of_norm_sim_over_its_rows_is_the_published_vas(wang):
    vas = norm_sim(wang["ns_candidates"], wang["ns_target"], 2) ** 2 / len(wang["ns_target"])
    np.testing.assert_allclose(vas, wang["ns_vas"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("p", [1, 2, 3, math.inf])
def test_blocks_and_tiles_do_not_show(pairs, p, counting):
    pool, target = pairs(9000, width=3)[0], pairs(8300, width=3, seed=1)[0]
    watched = counting(target.numpy())
    found = norm_sim(pool[::100], watched, p)
    cosine = (pool[::100] @ target.T).abs()
    torch.testing.assert_close(found, torch.linalg.vector_norm(cosine, ord=p, dim=1))
    torch.testing.assert_close(norm_sim(pool, target[:5], p)[::100],
                               torch.linalg.vector_norm(cosine[:, :5], ord=p, dim=1))  # fmt: skip
    assert watched.most == 8192


def test_the_dynamic_choice_equals_the_published_code(wang):
    found = norm_sim_dynamic(
        wang["comb_img"], 80, int(wang["vasd_iters"]), start=wang["comb_stage1"]
    )
    np.testing.assert_array_equal(found, wang["vasd_selected"])
    flags = np.isin(np.arange(400), wang["comb_stage1"])
    share = norm_sim_dynamic(wang["comb_img"], 0.2, 10, start=flags)
    assert torch.equal(found, share)


@pytest.mark.parametrize(("keep", "rounds"), [(13, 4), (39, 100), (40, 3), (1, 1)])
def test_the_dynamic_choice_equals_the_formula_as_loops(pairs, keep, rounds):
    pool = pairs(40)[0]
    left, step = list(range(40)), math.ceil((40 - keep) / rounds)
    while len(left) > keep:
        scores = {i: sum((pool[i] @ pool[j]).item() ** 2 for j in left) for i in left}
        worst = sorted(left, key=lambda i: scores[i])[: min(step, len(left) - keep)]
        left = [i for i in left if i not in worst]
    assert norm_sim_dynamic(pool, keep, rounds).tolist() == left


def test_what_has_no_target_is_refused(pairs):
    pool = pairs(10)[0]
    with pytest.raises(MedmclError, match="the target is empty"):
        norm_sim(pool, pool[:0], 2)
    with pytest.raises(MedmclError, match="12 and 5 dimensions"):
        norm_sim(pool, pairs(10, width=5)[0], 2)
    with pytest.raises(MedmclError, match="unknown power"):
        norm_sim(pool, pool, 4)
    target = pool.clone()
    target[4] = math.nan
    with pytest.raises(MedmclError, match="target: 1 of 10 rows"):
        norm_sim(pool, target, 2)


@pytest.mark.parametrize(("keep", "rounds"), [(0, 1), (11, 1), (0.0, 1), (5, 0), (0.01, 1)])
def test_a_dynamic_choice_that_cannot_be_made_is_refused(pairs, keep, rounds):
    with pytest.raises(MedmclError, match=r"keep must be|at least 1 round"):
        norm_sim_dynamic(pairs(10)[0], keep, rounds)


def test_a_start_outside_the_pool_is_refused(pairs):
    with pytest.raises(MedmclError, match="rows that the pool does not have"):
        norm_sim_dynamic(pairs(10)[0], 2, 1, start=torch.tensor([1, 2, 10]))
    with pytest.raises(MedmclError, match="a flag for each row"):
        norm_sim_dynamic(pairs(10)[0], 2, 1, start=torch.ones(9, dtype=torch.bool))


def write(path, rows, prefix="e", **more):
    # e10 before e2, as sorting by name would have it
    names = sorted(f"{prefix}{i}" for i in range(rows.shape[1]))
    columns = {name: rows[:, int(name.removeprefix(prefix))] for name in names}
    pq.write_table(pa.table(columns | more), path, row_group_size=7)


def test_parquet_is_mapped_in_the_order_of_its_numbers(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float32)
    write(tmp_path / "t.parquet", rows, extra=np.arange(30))
    found = map_parquet(tmp_path / "t.parquet", "e", tmp_path / "pool.npy")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, rows)
    with pytest.raises(ArtefactError, match="there already"):
        map_parquet(tmp_path / "t.parquet", "e", tmp_path / "pool.npy")


def test_a_table_without_embeddings_is_refused(tmp_path):
    rows = np.ones((3, 2), np.float32)
    write(tmp_path / "t.parquet", rows)
    with pytest.raises(ArtefactError, match="has no columns z0"):
        map_parquet(tmp_path / "t.parquet", "z", tmp_path / "pool.npy")
    pq.write_table(pa.table({"e0": [1.0, None]}), tmp_path / "holes.parquet")
    with pytest.raises(ArtefactError, match="row group 0 has empty cells"):
        map_parquet(tmp_path / "holes.parquet", "e", tmp_path / "pool.npy")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(ArtefactError, match="no parquet file"):
        map_parquet(tmp_path / "text.parquet", "e", tmp_path / "pool.npy")
    assert not list(tmp_path.glob("*pool.npy*"))


def test_half_precision_is_widened(pairs):
    image, text = pairs(50, width=64, dtype=torch.float32)
    expected = clip_score(image, text)
    for dtype in (torch.float16, torch.bfloat16):
        found = clip_score(image.to(dtype), text.to(dtype))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)
    assert clip_score(image.half().numpy(), text.double()).dtype == torch.float64


def test_products_are_not_narrowed_by_autocast(pairs):
    image, text = pairs(50, width=64, dtype=torch.float32)
    scores = (
        lambda: neg_clip_loss(image, text, 0.07, 50),
        lambda: norm_sim(image, text, 1),
        lambda: norm_sim(image, text, 2),
        lambda: norm_sim_dynamic(image, 5, 9),
        lambda: near_duplicates(torch.cat([image, text]), 0.6),
    )
    expected = [score() for score in scores]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [score() for score in scores]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_what_is_no_matrix_of_embeddings_is_refused():
    with pytest.raises(MedmclError, match="must be a matrix"):
        Pool(torch.ones(3), "image")
    with pytest.raises(MedmclError, match="floating-point"):
        Pool(np.ones((3, 2), int), "image")


def test_the_rows_given_are_left_as_they_are(pairs):
    image, text = pairs(20)
    image *= 2
    before = image.clone()
    with pytest.warns(UserWarning, match="unit length"):
        neg_clip_loss(image, text, 0.1, 10)
    assert torch.equal(image, before)


def scored(name, pool, **settings):
    part = SCORERS[name]
    return part(part.Settings(kind=name, **settings)).score(pool)


def test_scorers_are_the_functions_with_their_settings(pairs):
    ecg, report = pairs(30)
    target = pairs(9, seed=1)[0]
    pool = ScoredPool(
        ids=torch.arange(30), pooled={"ecg": ecg, "report": report}, pair=("ecg", "report"),
        device=torch.device("cpu"), seed=3, temperature=lambda: 0.1, target=lambda *_: target,
    )  # fmt: skip
    assert torch.equal(scored("clip_score", pool), clip_score(ecg, report))
    found = scored("neg_clip_loss", pool, batch_size=8)
    assert torch.equal(found, neg_clip_loss(ecg, report, 0.1, 8, seed=3))
    assert pool.told["temperature"] == 0.1
    assert pool.told["divisions"] == 10
    for p in (2, 3):
        assert torch.equal(scored("norm_sim", pool, p=p), norm_sim(ecg, target, p))
    found = scored("norm_sim", pool, modality="report", p="inf")
    assert torch.equal(found, norm_sim(report, target, float("inf")))


def test_a_scorer_whose_settings_say_no_kind_is_named(monkeypatch):
    class Unkind:
        Settings = ScoreSettings

    monkeypatch.setitem(settings.SCORERS, "unkind", Unkind)
    settings._by_kind.cache_clear()
    with pytest.raises(ConfigError, match=r"medmcl\.scorers(.|\n)*ScoreSettings(.|\n)*Literal"):
        settings._by_kind(of_scorers=True)
    settings._by_kind.cache_clear()
