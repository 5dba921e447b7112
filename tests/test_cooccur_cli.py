"""`medmcl cooccur ...` from simulated patients to a scored embedding, as three sites run it."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from killed import forked
from typed import typed

from medmcl.cooccurrence.exchange.folder import load_counts

SITES = ("Ayr", "Bonn", "Cork")


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    """One population in three folders of shards, and a spec for each and for all."""
    folder = tmp_path_factory.mktemp("hospitals")
    words = ("--set", "codes=12", "--set", "concepts=10", "--set", "sites=3")
    assert typed("simulate", "ehr", "--out", folder / "all", "--subjects", 300, *words) == 0
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
        assert cooccur("count", folder / f"{site}.yaml", "--out", folder / f"{site}-n") == 0
    return folder


def cooccur(*words):
    """Exit code of ``medmcl cooccur`` with these words."""
    return typed("cooccur", *words)


def write_rows(folder, *, other=False):
    """Rows of forty patients, or of others, and vocabularies of which a third is not seen."""
    rows = [(s, m, f"{m}{k}", 1) for s in range(40) for m in ("codes", "concepts") for k in (0, 1)]
    rows += [(s, "codes", "codes0", 1) for s in range(40) if other]
    words = [(m, f"{m}{k}", "1") for m in ("codes", "concepts") for k in range(3)]
    for name, table, columns in (
        ("rows", rows, ["subject", "modality", "code", "count"]),
        ("words", words, ["modality", "code", "version"]),
    ):
        pd.DataFrame(table, columns=columns).to_csv(folder / f"{name}.csv", index=False)


def same(one, other):
    return (one.D != other.D).nnz == 0 and one.totals == other.totals


def test_sites_merged_are_all_patients_counted(hospitals, tmp_path):
    sites = [hospitals / f"{site}-n" for site in SITES]
    assert cooccur("merge", *sites, "--out", tmp_path / "sum") == 0
    assert same(load_counts(tmp_path / "sum"), load_counts(hospitals / "all-n"))


def pair_up(tmp_path):
    """Keys of the three sites, a seed for each pair."""
    for first, second in (("Ayr", "Bonn"), ("Ayr", "Cork"), ("Bonn", "Cork")):
        for site, other in ((first, second), (second, first)):
            words = ("--site", site, "--other", other, "--keys", tmp_path / f"{site}.keys")
            seed = tmp_path / f"{first}-{second}.seed"
            assert cooccur("secure-pair", *words, "--seed", seed) == 0


def test_a_secure_sum_is_the_same_sum(hospitals, tmp_path):
    pair_up(tmp_path)
    names = [word for site in SITES for word in ("--site", site)]
    start = ("secure-start", hospitals / "Ayr-n", *names)
    assert cooccur(*start, "--out", tmp_path / "round") == 0
    shares = []
    for site in SITES:
        shares.append(tmp_path / f"{site}.share")
        words = ("--keys", tmp_path / f"{site}.keys", "--out", shares[-1])
        turn = ("--round", tmp_path / "round" / ("round.json" if site == "Bonn" else ""))
        assert cooccur("secure-share", hospitals / f"{site}-n", *words, *turn) == 0
    words = ("--round", tmp_path / "round", "--out", tmp_path / "sum")
    assert cooccur("secure-sum", *shares[:2], *words) == 2  # Cork is missing
    assert cooccur("secure-sum", *shares, *words) == 0
    words = ("--round", tmp_path / "round" / "round.json", "--out", tmp_path / "again")
    assert cooccur("secure-sum", *shares, *words) == 0
    assert same(load_counts(tmp_path / "sum"), load_counts(hospitals / "all-n"))


def test_two_sites_are_refused(hospitals, tmp_path, capsys):
    words = ("--site", "Ayr", "--site", "Bonn", "--out", tmp_path / "round")
    assert cooccur("secure-start", hospitals / "Ayr-n", *words) == 2
    assert "3 sites or more" in capsys.readouterr().err


def test_a_release_is_embedded_and_scored(hospitals, tmp_path, capsys):
    assert cooccur("release", hospitals / "all-n", "--out", tmp_path / "out") == 0
    assert load_counts(tmp_path / "out").min_patients == 11
    told = capsys.readouterr().out
    assert re.search(r"cells suppressed: \d+ of 120 \(\d+\.\d%\)", told)
    assert told.count("\nwarning: ") == 3
    words = ("--out", tmp_path / "vectors", "--set", "rank=3")
    assert cooccur("embed", tmp_path / "out", *words) == 0
    facts = json.loads((tmp_path / "vectors" / "embedding.json").read_text())
    released = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert facts["release"] == released["release"]
    assert facts["release"]["min_patients"] == facts["min_patients"] == 11
    assert (facts["window"], facts["totals"]) == ("record", load_counts(tmp_path / "out").totals)
    assert sum(facts["pairs"].values()) == released["blocks"][0]["pairs"]
    related = [("CODE//0", "CODE//1"), ("CODE//2", "CUI//3"), ("CODE//4", "CUI//5")]
    pd.DataFrame(related, columns=["first", "second"]).to_csv(tmp_path / "known.csv", index=False)
    words = ("--relations", tmp_path / "known.csv", "--neighbours", "CODE//3")
    assert cooccur("evaluate", tmp_path / "vectors", "--out", tmp_path / "e", *words) == 0
    assert "AUC" in capsys.readouterr().out
    assert json.loads((tmp_path / "e" / "evaluation.json").read_text())["relations"]
    assert len(pd.read_csv(tmp_path / "e" / "neighbours.csv")) >= 10
    again = ("evaluate", tmp_path / "vectors", "--out", tmp_path / "e")
    assert cooccur(*again, *words) == 2
    assert "--overwrite" in capsys.readouterr().err
    known = [*related, ("CODE//1", "CODE//0"), ("CODE//0", "CODE//999")]
    pd.DataFrame(known, columns=["first", "second"]).to_csv(tmp_path / "known.csv", index=False)
    assert cooccur(*again, "--relations", tmp_path / "known.csv", "--overwrite") == 0
    told = capsys.readouterr().out
    assert "1 pairs of known.csv left out: a token is not among the vectors" in told
    assert "1 pairs of known.csv left out: given twice" in told
    assert not (tmp_path / "e" / "neighbours.csv").exists()  # none were asked for this time
    assert cooccur(*again, "--neighbours", "CODE//O", "--overwrite") == 2
    assert "nearest: CODE//" in capsys.readouterr().err


def test_a_private_release_is_paid_for(tmp_path, capsys):
    write_rows(tmp_path)
    budget = ("budget", tmp_path / "ledger.json")
    assert cooccur(*budget) == 2  # none was started
    assert cooccur(*budget, "--epsilon", 1.2, "--delta", 1e-6) == 0
    release = (
        "release-private", tmp_path / "rows.csv", "--vocabulary", tmp_path / "words.csv",
        "--ledger", tmp_path / "ledger.json", "--clip", "codes=2", "--clip", "concepts=2",
        "--epsilon", 1, "--delta", 1e-6,
    )  # fmt: skip
    assert cooccur(*release, "--out", tmp_path / "one") == 0
    noisy = load_counts(tmp_path / "one")
    assert noisy.noise_sd > 1
    assert noisy.D.shape == (3, 3)
    assert cooccur(*release, "--out", tmp_path / "two") == 2
    assert "budget does not cover" in capsys.readouterr().err
    (tmp_path / "ledger.json").unlink()
    assert cooccur(*budget, "--epsilon", 1.2, "--delta", 1e-6) == 0  # a fresh one for the same rows
    assert cooccur(*release, "--out", tmp_path / "two") == 2
    assert "have a privacy budget already" in capsys.readouterr().err
    write_rows(tmp_path, other=True)  # other people of the same row numbers
    chosen = [word.replace("codes=2", "codes=quantile:0.5") for word in map(str, release)]
    assert cooccur(*chosen, "--clip-longest", 5, "--out", tmp_path / "chosen") == 2
    assert "--other-people" in capsys.readouterr().err
    chosen.append("--other-people")
    assert cooccur(*chosen, "--clip-longest", 5, "--out", tmp_path / "chosen") == 0
    release_keys = json.loads((tmp_path / "chosen" / "manifest.json").read_text())["release"]
    assert f"clip: {json.dumps(release_keys['clip'])}" in capsys.readouterr().out
    assert release_keys["clip_chosen"]["codes"]["quantile"] == 0.5
    for wrong in ("codes=quantile:half", "codes=0", "codes", "concepts=3", "codes=quantile:2"):
        bad = [word if word != "codes=2" else wrong for word in map(str, release)]
        assert cooccur(*bad, "--out", tmp_path / "bad") == 2
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
    assert cooccur(*words) == 2
    assert message in capsys.readouterr().err


def test_ctrl_c_in_a_count_says_how_to_go_on(hospitals, tmp_path, monkeypatch, capsys):
    words = ("count", hospitals / "Ayr.yaml", "--out", tmp_path / "n")

    def pressed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("medmcl.cooccurrence.count.command.scan_shards", pressed)
        assert cooccur(*words) == 130  # nothing was counted yet
    assert not (tmp_path / "n.unfinished").exists()
    with monkeypatch.context() as patch:
        patch.setattr("medmcl.cooccurrence.exchange.folder.save_counts", pressed)
        assert cooccur(*words) == 75
    said = capsys.readouterr().err
    assert f"go on with: medmcl cooccur count {hospitals / 'Ayr.yaml'}" in said
    assert said.rstrip().endswith("--resume")
    assert cooccur(*words, "--resume") == 0
    assert same(load_counts(tmp_path / "n"), load_counts(hospitals / "Ayr-n"))


def test_shards_that_are_killed_and_started_twice_count_as_one_process(hospitals, tmp_path, capsys):
    (tmp_path / "parted" / "data").mkdir(parents=True)
    for site in SITES:
        shutil.copy(
            hospitals / site / "data" / "0.parquet", tmp_path / f"parted/data/{site}.parquet"
        )
    tree = yaml.safe_load((hospitals / "all.yaml").read_text())
    tree["sources"][0]["path"] = "parted"
    files = tree["vocabulary"]["files"]
    tree["vocabulary"]["files"] = {name: str(hospitals / file) for name, file in files.items()}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(tree))
    words = ("count", tmp_path / "spec.yaml", "--out", tmp_path / "n")
    assert cooccur("count", tmp_path / "spec.yaml", "--out", tmp_path / "whole") == 0
    capsys.readouterr()
    for _ in range(2):
        assert cooccur(*words, "--shard", "1/2") == 0
        said = capsys.readouterr().out
        assert "shard 1/2 is done (2 of 3 parts); 1 part of other shards is missing" in said
    parts = tmp_path / "n.unfinished" / "parts"
    assert len(list(parts.glob("part-*"))) == 1
    for at in (".npz", "manifest.json"):  # its own part, and the counts of all
        told = (*map(str, words), "--shard", "2/2")
        code, _ = forked(lambda told=told: cooccur(*told), tmp_path, at=at)
        assert code == -9
    for shard in ("2/2", "1/2"):  # the second finds all there
        assert cooccur(*words, "--shard", shard) == 0
        assert f"counts: {tmp_path / 'n'}" in capsys.readouterr().out
    assert not parts.exists()
    for name in sorted(path.name for path in (tmp_path / "whole").iterdir()):
        assert (tmp_path / "n" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    told = [json.loads((tmp_path / f"{n}.counting.json").read_text()) for n in ("n", "whole")]
    assert told[0] == told[1]


def test_rows_of_a_spec_are_released(hospitals, tmp_path):
    rows = tmp_path / "rows.parquet"
    assert cooccur("rows", hospitals / "all.yaml", "--out", rows) == 0
    assert cooccur("rows", hospitals / "all.yaml", "--out", rows) == 2  # is there already
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet"]
    table = pd.read_parquet(rows)
    exact = load_counts(hospitals / "all-n")
    for name, margin in exact.margins.items():
        own = table[table["modality"] == name].groupby("code")["count"]
        tokens = exact.vocabularies[name].tokens
        assert own.sum().reindex(tokens).tolist() == margin.tokens.tolist()
        assert own.size().reindex(tokens).tolist() == margin.patients.tolist()
    parts = [
        pd.read_csv(hospitals / f"{kind}.csv").assign(modality=kind, version="1")
        for kind in ("codes", "concepts")
    ]
    pd.concat(parts).to_csv(tmp_path / "words.csv", index=False)
    budget = ("budget", tmp_path / "b.json", "--epsilon", 2, "--delta", 1e-6)
    assert cooccur(*budget) == 0
    release = (
        "release-private", rows, "--vocabulary", tmp_path / "words.csv",
        "--ledger", tmp_path / "b.json", "--clip", "codes=4", "--clip", "concepts=4",
        "--epsilon", 1, "--delta", 1e-6, "--out", tmp_path / "noisy",
    )  # fmt: skip
    assert cooccur(*release) == 0
    words = ("--out", tmp_path / "v", "--set", "rank=1")
    assert cooccur("embed", tmp_path / "noisy", *words) == 0
    facts = json.loads((tmp_path / "v" / "embedding.json").read_text())
    assert (
        facts["release"]
        == json.loads((tmp_path / "noisy" / "manifest.json").read_text())["release"]
    )
    assert facts["release"]["epsilon"] == pytest.approx(1, abs=1e-6)


def test_an_embedding_of_few_known_cells_is_warned_of(hospitals, tmp_path, capsys):
    people = load_counts(hospitals / "Ayr-n").cross().patients.toarray()
    words = (
        hospitals / "Ayr-n",
        "--out",
        tmp_path / "out",
        "--min-patients",
        int(np.quantile(people, 0.7)) + 1,
    )
    assert cooccur("release", *words, "--public-vocabulary") == 0
    known = load_counts(tmp_path / "out").D.nnz / 120
    assert known < 0.5
    capsys.readouterr()
    assert cooccur("embed", tmp_path / "out", "--out", tmp_path / "v", "--set", "rank=2") == 0
    assert f"only {100 * known:.0f} % of the cells are known" in capsys.readouterr().out
    facts = json.loads((tmp_path / "v" / "embedding.json").read_text())
    assert facts["known_cells"] == pytest.approx(known)


def test_sites_of_other_vocabularies_are_merged_as_embeddings(hospitals, tmp_path, capsys):
    for site, words in (("Ayr", 1), ("Bonn", -1)):  # 100 patients a site are too few to be aligned
        tree = yaml.safe_load((hospitals / "all.yaml").read_text())
        for kind in ("codes", "concepts"):
            own = pd.read_csv(hospitals / f"{kind}.csv")
            own = own[words:] if words > 0 else own[:words]
            own.to_csv(hospitals / f"{site}-{kind}.csv", index=False)
            tree["vocabulary"]["files"][kind] = f"{site}-{kind}.csv"
        (hospitals / f"{site}-own.yaml").write_text(yaml.safe_dump(tree))
        count = ("count", hospitals / f"{site}-own.yaml", "--out", tmp_path / site)
        assert cooccur(*count) == 0
        words = ("--out", tmp_path / f"{site}-v", "--set", "rank=2")
        assert cooccur("embed", tmp_path / site, *words) == 0
    capsys.readouterr()
    both = [tmp_path / "Ayr", tmp_path / "Bonn"]
    assert cooccur("merge", *both, "--out", tmp_path / "sum") == 2
    assert "medmcl cooccur merge-embeddings" in capsys.readouterr().err
    assert cooccur("merge-embeddings", *both, "--out", tmp_path / "v") == 2
    assert f"medmcl cooccur embed {both[0]} --out" in capsys.readouterr().err
    vectors = [tmp_path / "Ayr-v", tmp_path / "Bonn-v"]
    assert cooccur("merge-embeddings", *vectors, "--out", tmp_path / "v") == 0
    told = capsys.readouterr().out
    assert "18 shared, safe: residual" in told
    assert "of the cells were seen by no site" in told
    words = ("--out", tmp_path / "e", "--neighbours", "CODE//3")
    assert cooccur("evaluate", tmp_path / "v", *words) == 0
    assert cooccur("evaluate", tmp_path / "v", *words, "--overwrite", "--groups", both[0]) == 2
    assert "no counts that groups could be left out of" in capsys.readouterr().err


def test_neighbours_have_standard_errors_from_the_sites(hospitals, tmp_path, capsys):
    words = ("--out", tmp_path / "v", "--set", "rank=2")
    assert cooccur("embed", hospitals / "all-n", *words) == 0
    groups = [word for site in SITES for word in ("--groups", hospitals / f"{site}-n")]
    words = ("--out", tmp_path / "e", "--neighbours", "CODE//3", *groups)
    assert cooccur("evaluate", tmp_path / "v", *words) == 0
    assert "3 groups left out one by one" in capsys.readouterr().out
    assert (pd.read_csv(tmp_path / "e" / "neighbours.csv")["standard_error"] > 0).all()


def test_a_command_that_does_not_exist_points_to_the_help_of_its_group(capsys):
    assert cooccur("cuont") == 2
    said = capsys.readouterr().err
    assert "did you mean 'count'?" in said
    assert "`medmcl cooccur --help`" in said
    assert typed("cooccurr") == 2
    assert "`medmcl --help`" in capsys.readouterr().err
