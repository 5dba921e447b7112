"""`cooccur embed` and `cooccur evaluate` on a simulated cohort whose families are known."""

import json
import shutil
import signal
from functools import partial

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from killed import forked

from medmcl.cooccurrence import Vocabulary, count_tokens
from medmcl.cooccurrence.embed.embed import EmbedSettings
from medmcl.cooccurrence.exchange.folder import load_counts
from medmcl.cooccurrence.release.censored import filled
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.atomic import is_content
from medmcl.core.errors import ArtefactError, CohortError, ConfigError
from medmcl.simulation.ehr.tokens import simulate_tokens as simulate
from medmcl.simulation.kinds import simulate as write_cohort
from medmcl.stages.cooccur.embed import embed, known_cells, load_vectors
from medmcl.stages.cooccur.evaluate import evaluate, said


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "ehr"
    return write_cohort("ehr", folder, {"subjects": 10, "codes": 60, "concepts": 50, "case": 2})


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    x1, x2, *_ = simulate(8_000, 60, 50, 4, 2, seed=0)
    names = {
        "codes": [f"CODE//{i}" for i in range(60)],
        "concepts": [f"CUI//{i}" for i in range(50)],
    }
    words = {name: Vocabulary(tuple(tokens)) for name, tokens in names.items()}
    folder = tmp_path_factory.mktemp("embedded") / "out"
    facts = embed(count_tokens(x1, x2, vocabularies=words), folder)
    assert facts["rank"] == 4
    return folder


def test_families_of_the_truth_are_found(cohort, embedded, tmp_path):
    table = load_vectors(embedded)
    assert json.loads((embedded / "embedding.json").read_text())["association"] == "claime"
    codes = cohort / "metadata" / "codes.parquet"
    found = evaluate(
        table, tmp_path, hierarchy=codes, neighbours_of=["CODE//3", "CUI//4"], draws=50
    )
    (score,) = found["relations"]["scores"]
    assert score["kind"] == "sibling"
    assert score["auc"]["low"] > 0.7
    family = dict(
        zip(
            *(pq.read_table(cohort / "truth.parquet")[c].to_pylist() for c in ("code", "family")),
            strict=True,
        )
    )
    pairs = sum(n * (n - 1) // 2 for n in pd.Series(list(family.values())).value_counts())
    assert score["pairs"] + score["unmatched"] == pairs
    assert found["relations"]["left_out_unknown"] == 110  # parents are families, without vectors
    assert json.loads((tmp_path / "evaluation.json").read_text()) == found
    rows = pd.read_csv(tmp_path / "neighbours.csv")
    assert rows.groupby("token").cosine.agg(lambda c: c.is_monotonic_decreasing).all()
    assert len(rows) == 20
    assert (tmp_path / "map.svg").stat().st_size > 10_000


def test_pairs_and_types_from_files(embedded, tmp_path):
    table = load_vectors(embedded)
    alike = table.units[:60] @ table.units[60:].T
    pairs = [f"CODE//{i},CUI//{np.argmax(alike[i])}" for i in range(60)]
    (tmp_path / "pairs.csv").write_text("first,second\n" + "\n".join(pairs) + "\n")
    (tmp_path / "types.csv").write_text("token,type\nCUI//1,drug\n")
    found = evaluate(
        table,
        tmp_path / "out",
        relations=tmp_path / "pairs.csv",
        types=tmp_path / "types.csv",
        draws=20,
    )
    (score,) = found["relations"]["scores"]
    assert score["auc"]["value"] > 0.95
    drug = sum(pair.endswith("CUI//1") for pair in pairs)
    assert score["unmatched"] == drug  # the only one of its type has no counterpart


def test_nothing_to_do(embedded, tmp_path):
    with pytest.raises(ConfigError, match="nothing to evaluate"):
        evaluate(load_vectors(embedded), tmp_path)


def test_folders_that_are_none(embedded, tmp_path):
    with pytest.raises(ArtefactError, match="is no folder of token vectors"):
        load_vectors(tmp_path)
    (tmp_path / "embedding.json").write_text('{"schema": "other"}')
    with pytest.raises(ArtefactError, match="is of another kind"):
        load_vectors(tmp_path)
    x1, x2, *_ = simulate(100, 10, 10, 2, 2)
    with pytest.raises(ArtefactError, match="not empty"):
        embed(count_tokens(x1, x2), embedded)


def test_a_hierarchy_that_is_none(embedded, tmp_path):
    pd.DataFrame({"code": ["a"]}).to_parquet(tmp_path / "codes.parquet")
    with pytest.raises(CohortError, match="no MEDS codes"):
        evaluate(load_vectors(embedded), tmp_path / "out", hierarchy=tmp_path / "codes.parquet")


def test_one_dimension_is_warned_of(tmp_path, caplog):
    """Every cosine is 1 or -1: neighbours by the alphabet, which look like a result."""
    x1, x2, *_ = simulate(300, 12, 10, 2, 2, seed=0)
    counts = count_tokens(x1, x2)
    facts = embed(counts, tmp_path / "one", EmbedSettings(rank=1))
    assert facts["rank"] == 1
    assert "one dimension" in caplog.text
    assert "window: record" in caplog.text
    table = load_vectors(tmp_path / "one")
    token = table.tokens[0]
    found = evaluate(table, tmp_path / "scores", neighbours_of=[token], draws=20)
    assert "one dimension" in said(found)[0]
    caplog.clear()
    embed(counts, tmp_path / "two", EmbedSettings(rank=2))
    assert "one dimension" not in caplog.text
    table = load_vectors(tmp_path / "two")
    found = evaluate(table, tmp_path / "2", neighbours_of=[token], draws=20)
    assert "warnings" not in found


def test_who_is_killed_as_an_evaluation_is_written_over_leaves_no_earlier_scores(
    embedded, tmp_path
):
    """They stood beside the map, or the neighbours, of other vectors."""
    out, table = tmp_path / "scores", load_vectors(embedded)
    again = partial(evaluate, table, out, neighbours_of=[table.tokens[0]], overwrite=True)
    again()
    for write in ("map.svg", "neighbours.csv"):
        assert (out / "evaluation.json").is_file()
        killed, _ = forked(lambda: again() is None, tmp_path, at=write)
        assert killed == -signal.SIGKILL
        assert {one.name for one in out.iterdir() if is_content(one)} == {
            "map.svg",
            "neighbours.csv",
        }
        again()


def test_vectors_of_another_run_are_refused(embedded, tmp_path):
    x1, x2, *_ = simulate(300, 60, 50, 4, 2, seed=1)
    counts = count_tokens(x1, x2)
    embed(counts, tmp_path / "out", EmbedSettings(rank=4))
    load_vectors(tmp_path / "out")
    shutil.copy(embedded / "vectors.parquet", tmp_path / "out" / "vectors.parquet")
    with pytest.raises(ArtefactError, match=r"not the vectors that embedding\.json"):
        load_vectors(tmp_path / "out")


def test_suppressed_cells_stand_at_what_is_expected_of_them(tmp_path, caplog):
    x1, x2, *_ = simulate(400, 30, 30, 4, 2, seed=0, mean_tokens=5)
    release = release_threshold(count_tokens(x1, x2), 11)
    counts = release.counts
    embed(counts, tmp_path / "out", EmbedSettings(rank=2), release=release.keys)
    assert known_cells(counts) < 0.5
    assert "expected to hold" in caplog.text
    assert "taken as 0" not in caplog.text
    cells, block = filled(counts), counts.cross()
    absent = block.pairs.toarray() == 0
    rows, columns = (block.pairs.sum(axis=axis) > 0 for axis in (1, 0))
    met = absent & np.logical_and.outer(rows, columns)  # tokens with a released cell
    assert met.any()
    assert (cells[met] > 0).all()
    assert (cells[absent] < 11 * block.pairs_per_patient).all()


def test_a_folder_that_is_not_there_has_folders_beside_it(embedded, tmp_path):
    (tmp_path / "vectors").mkdir()
    (tmp_path / "vektors.txt").touch()
    with pytest.raises(ArtefactError, match=r"did you mean 'vectors'\?"):
        load_vectors(tmp_path / "vektors")
    with pytest.raises(ArtefactError, match=r"did you mean 'vectors'\?"):
        load_counts(tmp_path / "vektors")
