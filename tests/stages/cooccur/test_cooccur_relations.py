"""Scores of an embedding by what is known to be related."""

import numpy as np
import pytest

from medmcl.cooccurrence.embed.relations import relations_of
from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.core.errors import CohortError
from medmcl.stages.cooccur.evaluate import draw_map
from medmcl.stages.cooccur.relations import score_relations, score_relevance

SIZE = 120


def clustered(spread, seed=0):
    """Codes and concepts in 12 clusters; token i is of cluster i % 12."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, 8))
    tokens = {m: [f"{m}//{i}" for i in range(SIZE)] for m in ("A", "B")}
    cluster = np.arange(SIZE) % 12
    vectors = {m: centres[cluster] + spread * rng.normal(size=(SIZE, 8)) for m in tokens}
    return TokenVectors.join(tokens, vectors)


PAIRS = [(f"A//{i}", f"B//{(i + 12 * k) % SIZE}", "same") for i in range(SIZE) for k in (0, 3)]


def test_an_embedding_that_knows_and_one_that_does_not():
    knows = score_relations(clustered(0.5), relations_of(PAIRS, clustered(0.5)), draws=200)
    noise = clustered(100)
    does_not = score_relations(noise, relations_of(PAIRS, noise), draws=200)
    assert [s.kind for s in knows] == ["same"]
    assert knows[0].pairs == 2 * SIZE
    assert knows[0].auc.low > 0.9
    assert does_not[0].auc.low < 0.5 < does_not[0].auc.high
    assert knows[0].auc.subjects == SIZE  # drawn by first token


def test_kinds_apart_and_together():
    table = clustered(0.5)
    wrong = [(f"A//{i}", f"B//{i + 5}", "other") for i in range(60)]
    scores = {
        s.kind: s for s in score_relations(table, relations_of(PAIRS + wrong, table), draws=50)
    }
    assert set(scores) == {"same", "other", "all"}
    assert scores["other"].auc.value < 0.65 < scores["all"].auc.value < scores["same"].auc.value
    assert scores["all"].pairs == 2 * SIZE + 60


def test_pairs_without_a_counterpart_are_counted():
    table = clustered(0.5)
    everything = [("A//0", f"B//{i}", "same") for i in range(SIZE)] + PAIRS[10:20]
    (score,) = score_relations(table, relations_of(everything, table), draws=20)
    assert (score.pairs, score.unmatched) == (10, SIZE)


def test_nothing_to_score():
    table = clustered(0.5)
    with pytest.raises(CohortError, match="1 pairs of tokens without a vector"):
        score_relations(table, relations_of([("A//0", "C//0", "x")], table))


def test_relevance(tmp_path):
    table = clustered(0.5)
    alike = table.units @ table.units[0]
    rows = [f"A//0,{table.tokens[i]},{alike[i]:.4f}" for i in range(1, 40)]
    rows += [
        f"A//1,{table.tokens[i]},{-(table.units @ table.units[1])[i]:.4f}" for i in range(2, 40)
    ]
    rows += ["A//1,unknown,1", "nobody,A//1,0.3"]
    path = tmp_path / "relevance.csv"
    path.write_text("query,candidate,relevance\n" + "\n".join(rows) + "\n")
    first, second, third = score_relevance(table, path, draws=50)
    assert first.tau.value == pytest.approx(1, abs=0.01)
    assert second.tau.value == pytest.approx(-1, abs=0.01)
    assert second.unknown == 1
    assert third.tau.value is None
    assert "no vector" in third.tau.note


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("query,candidate\nA//0,A//1\n", "no column relevance"),
        ("query,candidate,relevance\nA//0,A//1,high\n", "a relevance is no number"),
    ],
)
def test_relevance_files_that_are_none(tmp_path, text, said):
    path = tmp_path / "relevance.csv"
    path.write_text(text)
    with pytest.raises(CohortError, match=said):
        score_relevance(clustered(0.5), path)


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_a_map_is_drawn_the_same_twice(tmp_path, ending):
    whole = clustered(0.3)
    table = TokenVectors(whole.tokens[100:140], whole.modalities[100:140], whole.vectors[100:140])
    table.vectors[5] = 0
    families = {t: f"family {int(t.split('//')[1]) % 12}" for t in table.tokens[::2]}
    paths = [tmp_path / f"{name}.{ending}" for name in ("map", "again")]
    assert [draw_map(table, families, path) for path in paths] == [39, 39]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_size > 5_000


def test_too_few_tokens_for_a_map(tmp_path):
    table = TokenVectors(("a", "b"), ("x", "x"), np.ones((2, 3)))
    with pytest.raises(CohortError, match="too few tokens"):
        draw_map(table, {}, tmp_path / "map.svg")
