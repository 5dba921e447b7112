"""`medmcl cooccur ...` from simulated patients to a scored embedding, as three sites run it."""

import json
import shutil
import sys
import warnings

import pandas as pd
import pytest
import yaml

from medmcl.cooccurrence.exchange import load_counts

SITES = ("Ayr", "Bonn", "Cork")


def run(*words):
    """Exit code of a command."""
    with warnings.catch_warnings():  # typer imports what click will drop
        warnings.simplefilter("ignore", DeprecationWarning)
        from medmcl.cli import main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["medmcl", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
    return left.value.code or 0


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    """One population in three folders of shards, and a spec for each and for all."""
    folder = tmp_path_factory.mktemp("hospitals")
    words = ("--set", "codes=12", "--set", "concepts=10", "--set", "sites=3")
    assert run("simulate", "ehr", "--out", folder / "all", "--subjects", 300, *words) == 0
    events = pd.concat(map(pd.read_parquet, sorted((folder / "all" / "data").glob("*.parquet"))))
    for kind, prefix in (("codes", "CODE//"), ("concepts", "CUI//")):
        own = sorted(set(events["code"][events["code"].str.startswith(prefix)]))
        pd.DataFrame({"code": own}).to_csv(folder / f"{kind}.csv", index=False)
    for number, site in enumerate((*SITES, "all")):
        chosen = events if site == "all" else events[events["subject_id"] % 3 == number]
        shutil.rmtree(folder / site, ignore_errors=True)
        (folder / site / "data").mkdir(parents=True)
        chosen.to_parquet(folder / site / "data" / "0.parquet", index=False)
        tree = {
            "schema": "medmcl/cooccurrence@1",
            "sources": [{"kind": "meds", "path": site}],
            "modalities": {
                "codes": {"prefix": "CODE//"},
                "concepts": {"prefix": "CUI//"},
            },
            "vocabulary": {
                "files": {"codes": "codes.csv", "concepts": "concepts.csv"},
                "version": "1",
            },
        }
        (folder / f"{site}.yaml").write_text(yaml.safe_dump(tree))
        assert run("cooccur", "count", folder / f"{site}.yaml", "--out", folder / f"{site}-n") == 0
    return folder


def same(one, other):
    return (one.D != other.D).nnz == 0 and one.totals == other.totals


def test_sites_merged_are_all_patients_counted(hospitals, tmp_path):
    sites = [hospitals / f"{site}-n" for site in SITES]
    assert run("cooccur", "merge", *sites, "--out", tmp_path / "sum") == 0
    assert same(load_counts(tmp_path / "sum"), load_counts(hospitals / "all-n"))


def test_a_secure_sum_is_the_same_sum(hospitals, tmp_path):
    for first, second in (("Ayr", "Bonn"), ("Ayr", "Cork"), ("Bonn", "Cork")):
        for site, other in ((first, second), (second, first)):
            words = ("--site", site, "--other", other, "--keys", tmp_path / f"{site}.keys")
            seed = tmp_path / f"{first}-{second}.seed"
            assert run("cooccur", "secure-pair", *words, "--seed", seed) == 0
    names = [word for site in SITES for word in ("--site", site)]
    start = ("cooccur", "secure-start", hospitals / "Ayr-n", *names)
    assert run(*start, "--out", tmp_path / "round") == 0
    shares = []
    for site in SITES:
        shares.append(tmp_path / f"{site}.share")
        words = ("--keys", tmp_path / f"{site}.keys", "--out", shares[-1])
        turn = ("--round", tmp_path / "round" / "round.json")
        assert run("cooccur", "secure-share", hospitals / f"{site}-n", *words, *turn) == 0
    words = ("--round", tmp_path / "round", "--out", tmp_path / "sum")
    assert run("cooccur", "secure-sum", *shares[:2], *words) == 2  # Cork is missing
    assert run("cooccur", "secure-sum", *shares, *words) == 0
    assert same(load_counts(tmp_path / "sum"), load_counts(hospitals / "all-n"))


def test_two_sites_are_refused(hospitals, tmp_path, capsys):
    words = ("--site", "Ayr", "--site", "Bonn", "--out", tmp_path / "round")
    assert run("cooccur", "secure-start", hospitals / "Ayr-n", *words) == 2
    assert "3 sites or more" in capsys.readouterr().err


def test_a_release_is_embedded_and_scored(hospitals, tmp_path, capsys):
    assert run("cooccur", "release", hospitals / "all-n", "--out", tmp_path / "out") == 0
    assert load_counts(tmp_path / "out").suppressed_below == 11
    words = ("--out", tmp_path / "vectors", "--set", "rank=3")
    assert run("cooccur", "embed", tmp_path / "out", *words) == 0
    related = [("CODE//0", "CODE//1"), ("CODE//2", "CUI//3"), ("CODE//4", "CUI//5")]
    pd.DataFrame(related, columns=["first", "second"]).to_csv(tmp_path / "known.csv", index=False)
    words = ("--relations", tmp_path / "known.csv", "--neighbours", "CODE//3")
    assert run("cooccur", "evaluate", tmp_path / "vectors", "--out", tmp_path / "e", *words) == 0
    assert "AUC" in capsys.readouterr().out
    assert json.loads((tmp_path / "e" / "evaluation.json").read_text())["relations"]
    assert len(pd.read_csv(tmp_path / "e" / "neighbours.csv")) >= 10


def test_a_private_release_is_paid_for(tmp_path, capsys):
    rows = [(s, m, f"{m}{k}", 1) for s in range(40) for m in ("codes", "concepts") for k in (0, 1)]
    columns = ["subject", "modality", "code", "count"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "rows.csv", index=False)
    words = [(m, f"{m}{k}", "1") for m in ("codes", "concepts") for k in range(3)]
    vocabulary = pd.DataFrame(words, columns=["modality", "code", "version"])
    vocabulary.to_csv(tmp_path / "words.csv", index=False)
    budget = ("cooccur", "budget", tmp_path / "ledger.json")
    assert run(*budget) == 2  # none was started
    assert run(*budget, "--epsilon", 1.2, "--delta", 1e-6) == 0
    release = (
        "cooccur", "release-private", tmp_path / "rows.csv", "--vocabulary", tmp_path / "words.csv",
        "--ledger", tmp_path / "ledger.json", "--clip", "codes=2", "--clip", "concepts=2",
        "--epsilon", 1, "--delta", 1e-6,
    )  # fmt: skip
    assert run(*release, "--out", tmp_path / "one") == 0
    noisy = load_counts(tmp_path / "one")
    assert noisy.noise_sd > 1
    assert noisy.D.shape == (3, 3)
    assert run(*release, "--out", tmp_path / "two") == 2
    assert "budget does not cover" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("count", "none.yaml", "--out", "x"), "none.yaml"),
        (("merge", "none", "--out", "x"), "none"),
        (("embed", "none", "--out", "x"), "none"),
        (("evaluate", "none", "--out", "x", "--neighbours", "a"), "none"),
        (("merge", "none", "--out", "x", "--align", "unoin"), "union"),
    ],
)
def test_mistakes_of_the_user_end_with_2_and_a_message(
    words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run("cooccur", *words) == 2
    assert message in capsys.readouterr().err
