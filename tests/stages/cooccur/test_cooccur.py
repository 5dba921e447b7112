"""Release, merge and secure sum as a site and a coordinator run them, from folder to folder."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from small_counts import numbers, some_counts

from medmcl.cooccurrence.embed.embed import EmbedSettings
from medmcl.cooccurrence.exchange.folder import load_counts, read_manifest, save_counts
from medmcl.cooccurrence.exchange.merging import merge
from medmcl.cooccurrence.exchange.secure import SiteKeys, pair_seed
from medmcl.cooccurrence.exchange.secure_files import load_keys, save_keys
from medmcl.cooccurrence.release.accounting import rho_for
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.cooccurrence.release.token_rows import read_rows, read_vocabularies
from medmcl.core.errors import ArtefactError
from medmcl.core.file_lock import alone
from medmcl.stages.cooccur.embed import embed, read_facts
from medmcl.stages.cooccur.merge import (
    merge_folders,
    share_counts,
    share_seed,
    start_round,
    sum_shares,
)
from medmcl.stages.cooccur.release import (
    listed_rows,
    open_budget,
    release_folders,
    release_rows,
    start_budget,
)

SITES = ("Ayr", "Bonn", "Cork")


@pytest.fixture
def sites(tmp_path):
    return [save_counts(some_counts(k, n=40), tmp_path / name) for k, name in enumerate(SITES)]


def test_merge_then_release(sites, tmp_path):
    said = merge_folders(sites, tmp_path / "all")
    assert said["patients"] == 120
    assert numbers(load_counts(tmp_path / "all")) == numbers(merge(*sites))
    release_folders([tmp_path / "all"], tmp_path / "from-sum")
    assert read_manifest(tmp_path / "from-sum").release.sites == 3
    told = release_folders(sites, tmp_path / "out")
    assert told["cells suppressed"] > 0
    assert read_manifest(tmp_path / "out").release.sites == 3
    assert load_counts(tmp_path / "out").min_patients == 11


def test_nested_counts_are_released_only_if_said_twice(tmp_path):
    site = save_counts(replace(some_counts(n=200), nested=("codes",)), tmp_path / "site")
    with pytest.raises(ArtefactError, match="nested codes in codes"):
        release_folders([site], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    told = release_folders([site], tmp_path / "out", allow_nested=True)
    assert any("one level of a hierarchy" in warning for warning in told["warnings"])


def secure_sum(folder, sites, names):
    """A secure sum of some sites, from keys to counts."""
    folder.mkdir()
    seeds = {pair: pair_seed() for pair in combinations(names, 2)}
    start_round(sites[names[0]], names, folder / "round")
    shares = []
    for name in names:
        own = {b if a == name else a: s for (a, b), s in seeds.items() if name in (a, b)}
        save_keys(SiteKeys(name, own), folder / f"{name}.keys")
        shares.append(folder / f"{name}.share")
        share_counts(sites[name], folder / f"{name}.keys", folder / "round", shares[-1])
    sum_shares(shares, folder / "round", folder / "sum")
    return folder / "sum"


def test_secure_sums_that_differ_by_a_site_are_not_both_released(tmp_path):
    """Nobody knows the patients of a secure sum one by one; the names of its sites are known."""
    sites = {
        name: save_counts(some_counts(k, n=60), tmp_path / name) for k, name in enumerate("ABCD")
    }
    release_folders([secure_sum(tmp_path / "four", sites, "ABCD")], tmp_path / "out")
    three = secure_sum(tmp_path / "three", sites, "ABC")
    with pytest.raises(ArtefactError, match="show one site by itself"):
        release_folders([three], tmp_path / "other")
    again = secure_sum(tmp_path / "again", sites, "DCBA")
    release_folders([again], tmp_path / "same")


def test_keys_set_back_to_a_copy_mask_no_round_twice(sites, tmp_path):
    start_round(sites[0], SITES, tmp_path / "round")
    keys, copy = tmp_path / "Ayr.keys", tmp_path / "copy"
    save_keys(SiteKeys("Ayr", {other: pair_seed() for other in SITES[1:]}), keys)
    copy.write_bytes(keys.read_bytes())
    share_counts(sites[0], keys, tmp_path / "round", tmp_path / "one.share")
    keys.write_bytes(copy.read_bytes())
    with pytest.raises(ArtefactError, match="though the keys do not know of it"):
        share_counts(sites[1], keys, tmp_path / "round", tmp_path / "two.share")
    assert not (tmp_path / "two.share").exists()


def test_a_secure_sum_over_files(sites, tmp_path):
    seeds = {pair: pair_seed() for pair in (("Ayr", "Bonn"), ("Ayr", "Cork"), ("Bonn", "Cork"))}
    start_round(sites[0], SITES, tmp_path / "round")
    empty = load_counts(tmp_path / "round" / "layout")
    assert set(empty.totals.values()) == {0}
    for name, folder in zip(SITES, sites, strict=True):
        own = {b if a == name else a: s for (a, b), s in seeds.items() if name in (a, b)}
        save_keys(SiteKeys(name, own), tmp_path / f"{name}.keys")
        share_counts(
            folder, tmp_path / f"{name}.keys", tmp_path / "round" / "round.json",
            tmp_path / f"{name}.share",
        )  # fmt: skip
    shares = [tmp_path / f"{name}.share" for name in SITES]
    with pytest.raises(ArtefactError, match=r"dropped out(.|\n)*Cork"):
        sum_shares(shares[:2], tmp_path / "round", tmp_path / "sum")
    sum_shares(shares, tmp_path / "round", tmp_path / "sum")
    release_folders([tmp_path / "sum"], tmp_path / "out")
    assert read_manifest(tmp_path / "out").release.sites == 3
    assert numbers(load_counts(tmp_path / "sum")) == numbers(merge(*sites))


@pytest.fixture
def rows(tmp_path):
    generator = np.random.default_rng(0)
    words = [(m, f"{m}:{i}", f"{m} 2025") for m in ("codes", "concepts") for i in range(5)]
    pd.DataFrame(words, columns=["modality", "code", "version"]).to_csv(
        tmp_path / "words.csv", index=False
    )
    table = pd.DataFrame(
        {
            "subject": generator.integers(0, 30, 400),
            "window": generator.integers(0, 3, 400),
            "code": (
                kind := generator.choice([f"{m}:{i}" for m, _, _ in words for i in (0, 9)], 400)
            ),
            "modality": [one.split(":")[0] for one in kind],
            "count": generator.integers(1, 4, 400),
        }
    )
    table.to_parquet(tmp_path / "rows.parquet")
    Ledger.start(tmp_path / "ledger.json", epsilon=3, delta=1e-6)
    return table


def private(tmp_path, **changes):
    settings = {
        "clip": {"codes": 3, "concepts": 3},
        "epsilon": 1.0,
        "delta": 1e-6,
        "window": "month",
        **changes,
    }
    out = settings.pop("out", tmp_path / "out")
    return release_rows(
        tmp_path / "rows.parquet", tmp_path / "words.csv", out,
        ledger=tmp_path / "ledger.json", **settings,
    )  # fmt: skip


def test_rows_are_summed_by_subject_and_window(rows, tmp_path):
    words = read_vocabularies(tmp_path / "words.csv")
    found = read_rows(tmp_path / "rows.parquet", words)
    listed = rows[rows["code"].str.endswith(":0")]
    for x, name in ((found.x1, "codes"), (found.x2, "concepts")):
        part = listed[listed["modality"] == name]
        for owner in np.unique(found.patients):
            want = part.loc[part["subject"] == int(owner), "count"].sum()
            assert x[found.patients == owner].sum() == want
        gone = rows[(rows["modality"] == name) & rows["code"].str.endswith(":9")]
        assert found.unlisted[name] == gone["count"].sum()
    assert len(found.patients) == len(rows[["subject", "window"]].drop_duplicates())


def test_a_private_release_from_rows(rows, tmp_path):
    told = private(tmp_path)
    assert told["releases"] == 1
    assert told["unlisted"]["codes"] > 0
    assert load_counts(tmp_path / "out").noise_sd > 9
    assert load_counts(tmp_path / "out").window == "month"
    with pytest.raises(ArtefactError, match="new folder"):
        private(tmp_path)
    assert len(Ledger(tmp_path / "ledger.json").read().releases) == 1  # refused before it was paid


@pytest.mark.parametrize(
    ("column", "window", "said"),
    [(True, "record", "a column window, and window record"),
     (False, "month", "no column window, and window month")],
)  # fmt: skip
def test_rows_are_not_called_by_another_window_and_nothing_is_paid(
    rows, tmp_path, column, window, said
):
    if not column:
        rows.drop(columns="window").to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ArtefactError, match=f"the release would say otherwise(.|\n)*{said}"):
        private(tmp_path, window=window)
    assert not Ledger(tmp_path / "ledger.json").read().releases


def test_subjects_that_are_lists_are_refused(rows, tmp_path):
    rows.assign(subject=[[s] for s in rows["subject"]]).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ArtefactError, match=r"cannot be told apart(.|\n)*subject: ndarray"):
        read_rows(tmp_path / "rows.parquet", read_vocabularies(tmp_path / "words.csv"))


def test_a_sum_of_private_releases_keeps_what_each_promised(rows, tmp_path):
    folders = []
    for number, epsilon in enumerate((1.0, 0.5)):
        private(tmp_path, epsilon=epsilon)
        folders.append((tmp_path / "out").rename(tmp_path / f"site{number}"))
    merge_folders(folders, tmp_path / "sum")
    keys = read_manifest(tmp_path / "sum")
    assert keys.release is None
    for number, (note, said) in enumerate(zip(keys.notes, ("1", "0.5"), strict=True), 1):
        assert note.startswith(f"site {number}: differential privacy, epsilon {said}, ")
        assert note.endswith("delta 1e-06, unit patient, clip codes 3, concepts 3")
    # vectors carry it on; the noise of so few patients would hide everything
    summed = replace(some_counts(n=200), noise_sd=1.0, notes=keys.notes)
    embed(summed, tmp_path / "vectors", EmbedSettings(rank=1))
    assert read_facts(tmp_path / "vectors")["notes"] == list(keys.notes)


def test_noise_that_hides_everything_is_refused_before_it_is_paid(rows, tmp_path):
    with pytest.raises(ArtefactError, match=r"hide nearly every cell; nothing was charged"):
        private(tmp_path, epsilon=0.01)
    assert not Ledger(tmp_path / "ledger.json").read().releases
    assert not (tmp_path / "out").exists()
    told = private(tmp_path, epsilon=0.01, allow_noise=True)
    assert told["releases"] == 1
    noise = load_counts(tmp_path / "out").noise_sd
    assert noise > 100 * 9  # the limit: a hundred patients at the product of the clips


def test_rows_that_stand_twice_are_added_up_and_told(rows, tmp_path):
    words = read_vocabularies(tmp_path / "words.csv")
    keys = ["subject", "window", "modality", "code"]
    once = rows.groupby(keys, as_index=False)["count"].sum()
    once.to_parquet(tmp_path / "once.parquet")
    repeated = len(rows) - len(once)
    assert repeated > 0
    one, two = (read_rows(tmp_path / f"{n}.parquet", words) for n in ("rows", "once"))
    assert (one.repeated, two.repeated) == (repeated, 0)
    assert (one.x1 != two.x1).nnz == 0
    warnings = private(tmp_path)["warnings"]
    assert any(f"{repeated:,} rows repeat" in warning for warning in warnings)


def test_a_clip_bound_for_every_modality(rows, tmp_path):
    with pytest.raises(ArtefactError, match="needs a clip bound"):
        private(tmp_path, clip={"codes": 3})


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [("count", 0, "whole, above 0"), ("count", 1.5, "whole, above 0"),
     ("count", 1e20, "at most 2147483647"),
     ("subject", None, "empty values"), ("modality", "labs", "two modalities")],
)  # fmt: skip
def test_rows_that_are_no_counts_are_refused(rows, tmp_path, column, value, said):
    rows = rows.astype(object)
    rows.loc[3, column] = value
    if column == "count":
        rows["count"] = rows["count"].astype(float)
    rows.astype({"code": str}).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(ArtefactError, match=said):
        read_rows(tmp_path / "rows.csv", read_vocabularies(tmp_path / "words.csv"))


def test_a_vocabulary_in_two_versions_is_refused(tmp_path):
    (tmp_path / "w.csv").write_text("modality,code,version\ncodes,a,1\ncodes,b,2\n")
    with pytest.raises(ArtefactError, match="more than one version"):
        read_vocabularies(tmp_path / "w.csv")
    (tmp_path / "w.csv").write_text("modality,code\ncodes,a\n")
    with pytest.raises(ArtefactError, match="lacks columns"):
        read_vocabularies(tmp_path / "w.csv")


def test_a_seed_whose_taker_or_drawer_was_killed_is_agreed_on_by_the_same_commands(tmp_path):
    a, b, seed = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "ab.seed"
    share_seed("a", "b", a, seed)
    kept = seed.read_bytes()
    share_seed("b", "a", b, seed)
    seed.write_bytes(kept)  # as it was when b had written its keys
    assert "deleted" in str(share_seed("b", "a", b, seed)["next"])
    assert not seed.exists()
    assert load_keys(b).seeds["a"] == load_keys(a).seeds["b"]
    seed.write_bytes(kept)
    a.unlink()  # as it was when a had written the seed
    with pytest.raises(ArtefactError, match=f"to fix: +delete {seed} and agree on a new one"):
        share_seed("a", "b", a, seed)


def test_two_sites_agree_on_a_seed_through_a_file(tmp_path):
    a, b, seed = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "ab.seed"
    assert str(share_seed("a", "b", a, seed)["next"]).startswith("bring")
    assert seed.stat().st_mode & 0o077 == 0
    kept = seed.read_bytes()
    assert "deleted" in str(share_seed("b", "a", b, seed)["next"])
    assert not seed.exists()
    share_seed("a", "c", a, tmp_path / "ac.seed")
    one, other = load_keys(a), load_keys(b)
    assert one.seeds["b"] == other.seeds["a"]
    assert one.seeds["c"] != one.seeds["b"]
    with pytest.raises(ArtefactError, match="there is a seed for b already"):
        share_seed("a", "b", a, tmp_path / "again.seed")
    with pytest.raises(ArtefactError, match="has no name"):
        share_seed("a", "", a, tmp_path / "again.seed")
    with pytest.raises(ArtefactError, match="not of this pair"):
        share_seed("b", "c", a, tmp_path / "bc.seed")
    seed.write_bytes(kept)
    with pytest.raises(ArtefactError, match="the seed of another pair"):
        share_seed("b", "c", b, seed)
    assert load_keys(b).seeds == other.seeds
    assert seed.exists()
    a.unlink()
    with pytest.raises(ArtefactError, match=r"drawn by this site(.|\n)*never rebuilt"):
        share_seed("a", "b", a, seed)
    assert not a.exists()
    with alone(b, "held"), pytest.raises(ArtefactError, match="with these keys"):
        share_seed("b", "d", b, tmp_path / "bd.seed")
    assert not (tmp_path / "bd.seed").exists()


def test_what_the_rows_hold_refuses_no_release(rows, tmp_path):
    """A release that is refused for its rows would tell one bit of them, unpaid."""
    rows.assign(code=rows["code"].str.upper()).to_parquet(tmp_path / "rows.parquet")
    told = listed_rows(tmp_path / "rows.parquet", tmp_path / "words.csv")
    assert told["occurrences of codes"].startswith("0 of ")
    assert "not listed, for example: CODES:" in told["warnings"][0]
    assert not Ledger(tmp_path / "ledger.json").read().releases  # to look costs nothing
    told = private(tmp_path)
    assert told["releases"] == 1
    assert "lists 0 of " in told["warnings"][0]


@pytest.mark.parametrize(
    "row",
    ["9,codes,codes:0,2147483648", "9,labs,x,1", "9,codes,codes:0,2147483647", "9,codes,codes:0,-1",
     "9,codes,,1", "9,codes,codes:0,1,1,1", '9,codes,"codes:0,1', "9,codes,codes:0,\udcff"],
    ids=["large", "unlisted", "a sum", "negative", "empty", "ragged", "a quote", "no UTF-8"],
)  # fmt: skip
def test_rows_that_are_refused_are_paid_for(row, rows, tmp_path):
    """One row decided, unpaid, whether there is a release."""
    text = "subject,modality,code,count\n1,concepts,concepts:0,1\n9,codes,codes:0,1\n" + row
    (tmp_path / "rows.csv").write_text(text, errors="surrogateescape")
    told = listed_rows(tmp_path / "rows.csv", tmp_path / "words.csv")  # ends well all the same
    assert told["warnings"][0].startswith("would be refused, and charged: ")
    settings = {"clip": {"codes": 3, "concepts": 3}, "epsilon": 1.0, "delta": 1e-6}
    paths = (tmp_path / "rows.csv", tmp_path / "words.csv")
    with pytest.raises(ArtefactError, match=r"was charged(.|\n)*listed looks at rows for free"):
        release_rows(*paths, tmp_path / "out", ledger=tmp_path / "ledger.json", **settings)
    (charged,) = Ledger(tmp_path / "ledger.json").read().releases
    assert charged.rho == rho_for(1.0, 1e-6)
    (tmp_path / "rows.csv").write_text("subject;modality;code;count\n")  # a header is no patient
    with pytest.raises(ArtefactError, match="lacks columns"):
        release_rows(*paths, tmp_path / "out", ledger=tmp_path / "ledger.json", **settings)
    assert len(Ledger(tmp_path / "ledger.json").read().releases) == 1


def test_neighbours_on_both_sides_of_half_are_treated_alike(rows, tmp_path):
    """One patient more or less turned the release away: 3 of 6 occurrences listed, and 3 of 9."""
    for number, more in enumerate(([], [(2, "codes", "codes:9", 3)])):
        rows_ = [(1, m, f"{m}:{k}", 3) for m in ("codes", "concepts") for k in (0, 9)] + more
        table = pd.DataFrame(rows_, columns=["subject", "modality", "code", "count"])
        table.to_parquet(tmp_path / "rows.parquet")
        told = private(tmp_path, window="record", out=tmp_path / f"out{number}")
        assert told["unlisted"] == {"codes": 3 + 3 * number, "concepts": 3}
        assert len(told["warnings"]) == number
        assert told["releases"] == 1 + number


def test_tables_of_rows_that_are_none(rows, tmp_path):
    words = read_vocabularies(tmp_path / "words.csv")
    (tmp_path / "spec.yaml").write_text("schema: medmcl/cooccurrence@1\nsources: [{a: b, c: d}]\n")
    with pytest.raises(ArtefactError, match=r"no table that can be read(.|\n)*medmcl cooccur rows"):
        read_rows(tmp_path / "spec.yaml", words)
    (tmp_path / "spec.csv").write_text("a: b\nc: [d, e, f]\ng: [1,2,3,4]\n")
    with pytest.raises(ArtefactError, match="lacks columns: subject"):
        read_rows(tmp_path / "spec.csv", words)
    with pytest.raises(ArtefactError, match="is a folder"):
        read_rows(tmp_path, words)
    with pytest.raises(ArtefactError, match=r"did you mean 'rows\.parquet'"):
        read_rows(tmp_path / "row.parquet", words)
    text = "subject,modality,code,count\n1,codes,codes:0,2\n1,codes,codes:1,two\n"
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(
        ArtefactError, match=r"bad.csv, line 3, column count(.|\n)*got: +two; 1 of 2"
    ):
        read_rows(tmp_path / "bad.csv", words)


def test_a_budget_names_the_command_that_starts_it(tmp_path):
    file = tmp_path / "l.json"
    with pytest.raises(
        ArtefactError, match=r"medmcl cooccur budget .*l\.json --epsilon E --delta D"
    ):
        open_budget(file)
    start_budget(file, 1.0, 1e-6)
    with pytest.raises(ArtefactError, match="fixed once"):
        start_budget(file, 1.0, 1e-6)
    assert start_budget(file, None, None).read().epsilon == 1.0


def test_keys_without_a_seed_name_the_command_that_makes_it(sites, tmp_path):
    start_round(sites[0], SITES, tmp_path / "round")
    save_keys(SiteKeys("Ayr", {"Bonn": pair_seed()}), tmp_path / "Ayr.keys")
    with pytest.raises(
        ArtefactError,
        match=r"no seed of 32 bytes for Cork(.|\n)*secure-pair --site Ayr --other Cork",
    ):
        share_counts(sites[0], tmp_path / "Ayr.keys", tmp_path / "round", tmp_path / "s")
    assert not load_keys(tmp_path / "Ayr.keys").spent  # the round can still be masked for
    with pytest.raises(ArtefactError, match=r"no such file(.|\n)*secure-start"):
        share_counts(sites[0], tmp_path / "Ayr.keys", tmp_path / "rond", tmp_path / "s")


def test_the_share_suppressed_is_of_all_cells(sites, tmp_path):
    counts = merge(*sites)
    told = release_folders(sites, tmp_path / "out")
    left = sum(block.pairs.nnz for block in load_counts(tmp_path / "out").blocks.values())
    whole = sum(block.pairs.nnz for block in counts.blocks.values())
    assert told["share suppressed"] == pytest.approx(1 - left / whole)
