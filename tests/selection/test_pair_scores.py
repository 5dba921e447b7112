import math

import numpy as np
import pytest
import torch

from medmcl.core.errors import MedmclError
from medmcl.selection import clip_score, neg_clip_loss, pair_losses
from medmcl.selection.pools import LogSums


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


def test_order_within_a_batch_does_not_matter_and_seeds_do(pairs):
    image, text = pairs(40)
    one = neg_clip_loss(image, text, 0.1, 20, torch.arange(40))
    other = neg_clip_loss(image, text, 0.1, 20, torch.cat([torch.arange(20).flip(0),
                                                          torch.arange(20, 40)]))  # fmt: skip
    assert torch.equal(one, other)
    drawn = [neg_clip_loss(image, text, 0.1, 20, divisions=2, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_cold_temperature_leaves_the_margin_over_the_nearest(pairs):
    image, text = pairs(30)
    cosine = image @ text.T
    limit = cosine.diagonal() - (cosine.amax(1) + cosine.amax(0)) / 2
    found = neg_clip_loss(image, text, 1e-4, 30)
    torch.testing.assert_close(found, limit, rtol=0, atol=1e-3)
    assert (found <= 1e-12).all()


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
