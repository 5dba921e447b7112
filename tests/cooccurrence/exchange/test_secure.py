"""Masked shares sum to the plain sum; whoever drops out, repeats or damages is named."""

import hashlib
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_counts import numbers, some_counts

from medmcl.cooccurrence.exchange import secure_files
from medmcl.cooccurrence.exchange.flat import flatten, layout_of, unflatten
from medmcl.cooccurrence.exchange.merging import merge
from medmcl.cooccurrence.exchange.secure import SiteKeys, add_shares, new_round, pair_seed
from medmcl.cooccurrence.exchange.secure_files import (
    load_keys,
    load_round,
    load_share,
    save_keys,
    save_round,
    save_share,
    write_share,
)
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.errors import ArtefactError
from medmcl.core.file_lock import alone

SITES = ("Ayr", "Bonn", "Cork")


def share_into(path, counts, keys, turn):
    return write_share(counts, keys, path, turn, enter=lambda _: None)


def agreed(sites=SITES):
    """Seeds of all sites, as each of them holds them."""
    seeds = {site: {} for site in sites}
    for one, other in combinations(sites, 2):
        seeds[one][other] = seeds[other][one] = pair_seed()
    return {site: SiteKeys(site, own) for site, own in seeds.items()}


def everything(sites=SITES, **kind):
    counts = {site: some_counts(seed, **kind) for seed, site in enumerate(sites)}
    layout = layout_of(counts[sites[0]])
    turn = new_round(sites, layout)
    keys = agreed(sites)
    return counts, layout, turn, keys, {s: keys[s].share(counts[s], turn) for s in sites}


@pytest.mark.parametrize("kind", [{}, {"within": False}, {"patients": False}])
@pytest.mark.parametrize("count", [3, 5])
def test_the_sum_is_the_plain_sum(count, kind):
    sites = tuple(f"site {k}" for k in range(count))
    counts, layout, turn, _, shares = everything(sites, **kind)
    total = add_shares(list(shares.values())[::-1], turn, layout)
    assert numbers(total) == numbers(merge(*counts.values()))
    assert total.sites == count


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 9), st.integers(1, 9))
def test_flattening_loses_nothing(seed, n, d1, d2):
    counts = some_counts(seed, n, d1, d2)
    row = flatten(counts)
    layout = layout_of(counts)
    assert len(row) == layout.size
    assert numbers(unflatten(row, layout)) == numbers(counts)


def test_blocks_in_another_order_are_the_same_layout():
    counts = some_counts()
    turned = replace(counts, blocks=dict(reversed(counts.blocks.items())))
    assert layout_of(turned).digest == layout_of(counts).digest
    assert (flatten(turned) == flatten(counts)).all()


def test_a_share_looks_uniform_and_unlike_in_the_next_round():
    big = {site: some_counts(seed, d1=60, d2=60) for seed, site in enumerate(SITES)}
    layout, keys = layout_of(big["Ayr"]), agreed()
    one, two = (keys["Ayr"].share(big["Ayr"], new_round(SITES, layout)) for _ in range(2))
    for share in (one, two):
        bits = np.unpackbits(share.values.view(np.uint8))
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(bits))
    assert (one.values != two.values).all()


def test_masks_are_the_documented_stream():
    """Another implementation, from the docstrings, must give the same share."""
    counts, layout, turn, keys, shares = everything()
    plain = [int(v) for v in flatten(counts["Bonn"])] + [1] * 4
    for other, sign in (("Ayr", -1), ("Cork", 1)):
        state = b"medmcl mask 1"
        pair = sorted([b"Bonn", other.encode()])
        for part in (keys["Bonn"].seeds[other], turn.name.encode(), layout.digest.encode(), *pair):
            state += len(part).to_bytes(8, "little") + part
        key = hashlib.sha3_256(state).digest()
        stream = hashlib.shake_256(key + bytes(8)).digest(8 * len(plain))
        for k in range(len(plain)):
            word = int.from_bytes(stream[8 * k : 8 * k + 8], "little")
            plain[k] = (plain[k] + sign * word) % 2**64
    assert shares["Bonn"].values.tolist() == plain


def test_long_rows_use_new_masks_in_every_piece(monkeypatch):
    counts, layout, turn, keys, _ = everything()
    again = {s: SiteKeys(s, k.seeds) for s, k in keys.items()}
    monkeypatch.setattr("medmcl.cooccurrence.exchange.secure._PIECE", 7)
    shares = [again[s].share(counts[s], turn) for s in SITES]
    assert numbers(add_shares(shares, turn, layout)) == numbers(merge(*counts.values()))
    noise = shares[0].values[:14] - flatten(counts["Ayr"])[:14].astype(np.uint64)
    assert (noise[:7] != noise[7:]).all()


@pytest.mark.parametrize("sites", [(), ("Ayr",), ("Ayr", "Bonn")])
def test_fewer_than_three_sites_are_refused(sites):
    with pytest.raises(ArtefactError, match="too few sites"):
        new_round(sites, layout_of(some_counts()))


def test_a_site_twice_is_refused():
    with pytest.raises(ArtefactError, match="takes part twice"):
        new_round(("Ayr", "Bonn", "Ayr"), layout_of(some_counts()))
    with pytest.raises(ArtefactError, match="has no name"):
        new_round(("Ayr", "Bonn", " "), layout_of(some_counts()))


def refused(shares, turn, layout, said):
    with pytest.raises(ArtefactError, match=said):
        add_shares(list(shares), turn, layout)


def test_who_drops_out_is_named():
    _, layout, turn, _, shares = everything()
    refused([shares["Ayr"], shares["Cork"]], turn, layout, "dropped out(.|\n)*Bonn")


def test_who_sends_twice_or_takes_no_part_is_named():
    _, layout, turn, _, shares = everything()
    refused([*shares.values(), shares["Bonn"]], turn, layout, "more than one(.|\n)*Bonn")
    stranger = replace(shares["Bonn"], site="Dijon")
    refused([*shares.values(), stranger], turn, layout, "no part(.|\n)*Dijon")


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: replace(s, values=np.r_[s.values[:5], s.values[5] ^ np.uint64(1), s.values[6:]]),
        lambda s: replace(s, values=s.values[:-1]),
        lambda s: replace(s, pairs={**s.pairs, "Ayr": "0" * 64}),
        lambda s: replace(s, round="0" * 32),
    ],
)
def test_a_damaged_share_is_named(damage):
    _, layout, turn, _, shares = everything()
    shares["Bonn"] = damage(shares["Bonn"])
    refused(shares.values(), turn, layout, "share of Bonn: was damaged")


def test_a_replayed_share_is_named():
    counts, layout, _, keys, old = everything()
    turn = new_round(SITES, layout)
    shares = {s: keys[s].share(counts[s], turn) for s in SITES}
    shares["Cork"] = old["Cork"]
    refused(shares.values(), turn, layout, "share of Cork: is of another round")


def test_two_sites_with_different_seeds_are_named():
    counts, layout, turn, keys, shares = everything()
    wrong = SiteKeys("Bonn", {**keys["Bonn"].seeds, "Cork": pair_seed()})
    shares["Bonn"] = wrong.share(counts["Bonn"], turn)
    refused(shares.values(), turn, layout, "(Bonn and Cork|Cork and Bonn): two sites used")


def test_a_site_masks_once_a_round():
    counts, _, turn, keys, _ = everything()
    with pytest.raises(ArtefactError, match="Ayr: has masked for this round"):
        keys["Ayr"].share(counts["Ayr"], turn)


def test_another_vocabulary_stays_at_its_site():
    _, _, turn, keys, _ = everything()
    other = some_counts(d1=7)
    fresh = SiteKeys("Cork", keys["Cork"].seeds)
    with pytest.raises(ArtefactError, match="Cork: counts of another layout"):
        fresh.share(other, turn)
    assert not fresh.spent  # refused before the round was spent


def test_sites_must_agree_on_whether_codes_are_nested():
    counts = some_counts()
    nested = replace(counts, nested=("codes",))
    assert layout_of(nested).digest != layout_of(counts).digest
    _, _, turn, keys, _ = everything()
    fresh = SiteKeys("Cork", keys["Cork"].seeds)
    with pytest.raises(ArtefactError, match="another layout"):
        fresh.share(nested, turn)


def test_two_shares_are_not_made_with_the_same_keys_at_once(tmp_path):
    counts, _, turn, _, _ = everything()
    save_keys(agreed()["Ayr"], tmp_path / "k")
    refused = pytest.raises(ArtefactError, match=r"with these keys(.|\n)*wait until")
    with alone(tmp_path / "k", "held"), refused:
        share_into(tmp_path / "share", counts["Ayr"], tmp_path / "k", turn)
    assert not (tmp_path / "share").exists()
    with pytest.raises(ArtefactError, match="cannot be locked"):
        share_into(tmp_path / "share", counts["Ayr"], tmp_path / "none" / "k", turn)
    share_into(tmp_path / "share", counts["Ayr"], tmp_path / "k", turn)
    assert {one.name for one in tmp_path.iterdir()} == {"k", "share"}


def test_a_share_whose_round_was_not_marked_is_made_again(tmp_path, monkeypatch):
    counts, _, turn, keys, _ = everything()
    keys = SiteKeys("Ayr", keys["Ayr"].seeds)
    save_keys(keys, tmp_path / "k")

    with monkeypatch.context() as full:
        real = secure_files.write_atomically

        def fails(path, *rest, **more):
            if "rounds" in str(path):
                raise OSError(28, "No space left on device")
            return real(path, *rest, **more)

        full.setattr(secure_files, "write_atomically", fails)
        with pytest.raises(OSError, match="No space"):
            share_into(tmp_path / "share", counts["Ayr"], tmp_path / "k", turn)
    assert not (tmp_path / "share").exists()
    assert share_into(tmp_path / "share", counts["Ayr"], tmp_path / "k", turn).is_whole()


def test_missing_and_short_seeds_are_named():
    counts, _, turn, keys, _ = everything()
    for seeds in ({"Bonn": keys["Ayr"].seeds["Bonn"]}, {**keys["Ayr"].seeds, "Cork": b"short"}):
        with pytest.raises(ArtefactError, match="Ayr: has no seed of 32 bytes for Cork"):
            SiteKeys("Ayr", seeds).share(counts["Ayr"], turn)


def test_sums_that_could_overflow_and_released_counts_are_refused():
    counts, _, turn, keys, _ = everything()
    fresh = SiteKeys("Ayr", keys["Ayr"].seeds)
    with pytest.raises(ArtefactError, match="too large"):
        fresh.share(replace(counts["Ayr"], units=2**62), turn)
    with pytest.raises(ArtefactError, match="were released"):
        layout_of(release_threshold(some_counts(n=300)).counts)


def test_everything_travels_as_files(tmp_path):
    counts = {site: some_counts(seed) for seed, site in enumerate(SITES)}
    layout = layout_of(counts["Ayr"])
    save_round(new_round(SITES, layout), tmp_path / "round.json")
    turn = load_round(tmp_path / "round.json")
    for site, keys in agreed().items():
        save_keys(keys, tmp_path / f"{site}.keys")
        share_into(tmp_path / f"{site}.share", counts[site], tmp_path / f"{site}.keys", turn)
    shares = [load_share(tmp_path / f"{site}.share") for site in SITES]
    assert numbers(add_shares(shares, turn, layout)) == numbers(merge(*counts.values()))
    assert load_keys(tmp_path / "Ayr.keys").spent == {turn.name}
    assert (tmp_path / "Ayr.keys").stat().st_mode & 0o077 == 0
    with pytest.raises(ArtefactError, match="has masked for this round before, for other counts"):
        share_into(tmp_path / "again", counts["Bonn"], tmp_path / "Ayr.keys", turn)
    with pytest.raises(ArtefactError, match="written to a new file"):
        share_into(tmp_path / "Ayr.share", counts["Ayr"], tmp_path / "Ayr.keys",
                   new_round(SITES, layout))  # fmt: skip
    assert load_keys(tmp_path / "Ayr.keys").spent == {turn.name}  # refused unspent
    whole = (tmp_path / "Bonn.share").read_bytes()
    (tmp_path / "Bonn.share").write_bytes(whole[:-9])
    with pytest.raises(ArtefactError, match=r"Bonn\.share: is no masked share"):
        load_share(tmp_path / "Bonn.share")
    flipped = bytearray(whole)
    flipped[-9] ^= 4
    (tmp_path / "Bonn.share").write_bytes(flipped)
    refused([shares[0], load_share(tmp_path / "Bonn.share"), shares[2]], turn, layout,
            "share of Bonn: was damaged")  # fmt: skip
    save_share(shares[1], tmp_path / "Bonn.share")
    assert load_share(tmp_path / "Bonn.share").is_whole()
