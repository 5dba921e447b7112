"""`cooccur merge-embeddings`: sites with other vocabularies, as near the truth as their counts."""

import json

import numpy as np
import pytest

from medmcl.cooccurrence import Vocabulary, claime_pmi, count_tokens, merge
from medmcl.cooccurrence.embed.embed import EmbedSettings
from medmcl.cooccurrence.embed.stacked import SiteMatrix
from medmcl.cooccurrence.embed.stacked import merge_embeddings as merge_matrices
from medmcl.core.errors import ArtefactError
from medmcl.simulation.ehr.tokens import simulate_tokens as simulate
from medmcl.stages.cooccur.align import merge_embedded
from medmcl.stages.cooccur.embed import embed, load_vectors, read_facts, write_vectors

SIZES, PATIENTS, RANK = (50, 40), 8000, 4


def word(kind, number):
    return f"{kind}{number:03d}"


def counted(x, rows, kept, version=""):
    words = {
        name: Vocabulary(tuple(word(kind, i) for i in one), version)
        for (name, kind), one in zip((("codes", "a"), ("concepts", "b")), kept, strict=True)
    }
    return count_tokens(x[0][rows][:, kept[0]], x[1][rows][:, kept[1]], vocabularies=words)


@pytest.fixture(scope="module")
def cohort():
    """Patients, the truth, and the counts of two sites that share half of each vocabulary."""
    *x, v1, v2 = simulate(PATIENTS, *SIZES, RANK, 2, seed=1)
    generator = np.random.default_rng(0)
    orders = [generator.permutation(size) for size in SIZES]
    counts = []
    for site in range(2):
        kept = [
            np.sort(np.r_[o[: len(o) // 2], o[len(o) // 2 :][site::2]]) for o in orders
        ]  # half of the tokens shared, the rest dealt out
        half = slice(site * PATIENTS // 2, (site + 1) * PATIENTS // 2)
        counts.append(counted(x, half, kept))
    return x, (v1, v2), counts


@pytest.fixture(scope="module")
def sites(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sites")
    for name, counts in zip("xy", cohort[2], strict=True):
        embed(counts, folder / name, EmbedSettings(rank=RANK))
    return [folder / "x", folder / "y"]


def error(truth, vectors, tokens):
    places = [[int(token[1:]) for token in one] for one in tokens]
    both = zip(truth, vectors, places, strict=True)
    return max(np.linalg.norm(v @ v.T - t[p] @ t[p].T) for t, v, p in both)


def test_vectors_alone_come_as_near_to_the_truth_as_the_counts_would(cohort, sites, tmp_path):
    _, truth, counts = cohort
    facts = merge_embedded(sites, tmp_path / "both")
    assert [one["site"] for one in facts["merged"]["sites"]] == ["…/x", "…/y"]
    assert str(tmp_path.parent) not in (tmp_path / "both" / "embedding.json").read_text()
    table = load_vectors(tmp_path / "both")
    parts = [np.array([m == name for m in table.modalities]) for name in ("codes", "concepts")]
    tokens = [[t for t, here in zip(table.tokens, p, strict=True) if here] for p in parts]
    assert tuple(map(len, tokens)) == SIZES
    got = error(truth, [table.vectors[p] for p in parts], tokens)
    matrices = [
        SiteMatrix(
            str(number), c.vocabularies["codes"].tokens, c.vocabularies["concepts"].tokens,
            claime_pmi(c), float(c.D.sum()),
        )
        for number, c in enumerate(counts)
    ]  # fmt: skip
    best = merge_matrices(matrices, RANK)
    assert got < 1.1 * error(truth, (best.v1, best.v2), (best.first, best.second))
    assert got < 0.5 * max(np.linalg.norm(t @ t.T) for t in truth)
    # what nobody counted: a quarter of the rows with the other quarter of the columns, both ways
    assert facts["merged"]["unseen_cells"] == pytest.approx(
        (12 * 10 + 13 * 10) / (SIZES[0] * SIZES[1])
    )
    assert facts["pairs"] == {"codes x concepts": sum(int(c.D.sum()) for c in counts)}
    assert json.loads((tmp_path / "both" / "embedding.json").read_text()) == facts
    fits = {site["alignment"]["verdict"]: site["alignment"] for site in facts["merged"]["sites"]}
    assert fits["safe"]["tokens"] == 25 + 20
    assert fits["safe"]["residual"] < 0.7 * fits["safe"]["residual_by_chance"]


def test_counts_that_do_not_add_up_name_the_command(cohort):
    with pytest.raises(ArtefactError, match="medmcl cooccur merge-embeddings"):
        merge(*cohort[2])


def test_codes_that_mean_something_else_are_refused_and_nothing_is_written(cohort, sites, tmp_path):
    """The second site's tokens dealt out anew: the same names, other things."""
    x = cohort[0]
    kept = [np.arange(size) for size in SIZES]
    mixed = [np.random.default_rng(5).permutation(size) for size in SIZES]
    other = [x[m][:, mixed[m]] for m in (0, 1)]
    embed(counted(other, slice(0, 4000), kept), tmp_path / "mixed", EmbedSettings(rank=RANK))
    with pytest.raises(ArtefactError, match="do not say how its vectors lie"):
        merge_embedded([sites[0], tmp_path / "mixed"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_token_without_a_vector_somewhere_takes_the_one_it_has_elsewhere(sites, tmp_path):
    """Zeros are no observation: they must not pull a token towards nothing."""
    table, facts = load_vectors(sites[1]), read_facts(sites[1])
    shared = next(t for t in load_vectors(sites[0]).tokens if t in table.tokens)
    empty = table.vectors.copy()
    empty[table.tokens.index(shared)] = 0.0
    emptied = type(table)(table.tokens, table.modalities, empty)
    write_vectors(emptied, facts, tmp_path / "y")
    told = merge_embedded([sites[0], tmp_path / "y"], tmp_path / "out")
    found, whole = load_vectors(tmp_path / "out"), load_vectors(sites[0])
    assert told["without_vector"] == 0
    lengths = [np.linalg.norm(one.vectors[one.tokens.index(shared)]) for one in (found, whole)]
    assert lengths[0] > 0.7 * lengths[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"association": "log"}, "embedded alike: association"),
        ({"window": "month"}, "embedded alike: window"),
        ({"versions": {"codes": "2", "concepts": ""}}, "one version before counting"),
        ({"pairs": None}, "embed the site's counts again"),
        ({"pairs": {"codes x concepts": -5}}, "pairs that were seen"),
        ({"merged": {}}, "was merged before"),
        ({"pairs": {"a": "b"}, "rank": "two"}, "holds what it cannot: rank, pairs"),
        ({"versions": {}, "sites": True}, "holds what it cannot: sites, versions"),
    ],
)
def test_what_does_not_go_together_is_refused(sites, tmp_path, change, message):
    facts = {**read_facts(sites[1]), **change}
    facts = {key: value for key, value in facts.items() if value is not None or key != "pairs"}
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "embedding.json").write_text(json.dumps(facts))
    load_vectors(sites[1]).save(tmp_path / "y" / "vectors.parquet")
    with pytest.raises(ArtefactError, match=message):
        merge_embedded([sites[0], tmp_path / "y"], tmp_path / "out")


def test_one_site_a_copy_and_too_many_dimensions_are_refused(sites, tmp_path):
    load = load_vectors(sites[0])
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "embedding.json").write_text(json.dumps(read_facts(sites[0])))
    load.save(tmp_path / "copy" / "vectors.parquet")
    for folders, rank, message in (
        (sites[:1], None, "two folders or more"),
        ([sites[0], sites[0]], None, "given twice"),
        ([sites[0], tmp_path / "copy"], None, "exactly the same vectors"),
        (sites, RANK + 1, "more dimensions than it was embedded in"),
        ([sites[0], tmp_path / "none"], None, "cooccur embed COUNTS"),
    ):
        with pytest.raises(ArtefactError, match=message):
            merge_embedded(folders, tmp_path / "out", rank=rank)
