"""`cooccur evaluate --groups`: the jackknife's formula over embeddings made from the patients."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from medmcl.cooccurrence import Vocabulary, claime_pmi, count_tokens, factorise
from medmcl.cooccurrence.embed.embed import EmbedSettings
from medmcl.cooccurrence.exchange.folder import save_counts
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.simulation.ehr.tokens import simulate_tokens as simulate
from medmcl.stages.cooccur.embed import embed, load_vectors
from medmcl.stages.cooccur.evaluate import evaluate, open_groups, said

GROUPS, RANK = 4, 2
WORDS = {
    "codes": Vocabulary(tuple(f"a{i:02d}" for i in range(14))),
    "concepts": Vocabulary(tuple(f"b{i:02d}" for i in range(12))),
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Patients, the folder of vectors of all, and folders of counts of four groups."""
    x1, x2, *_ = simulate(1200, 14, 12, RANK, 2, seed=2)
    folder = tmp_path_factory.mktemp("groups")
    for number in range(GROUPS):
        part = slice(number, None, GROUPS)
        save_counts(count_tokens(x1[part], x2[part], vocabularies=WORDS), folder / str(number))
    embed(count_tokens(x1, x2, vocabularies=WORDS), folder / "v", EmbedSettings(rank=RANK))
    return (x1, x2), folder / "v", [folder / str(number) for number in range(GROUPS)]


def test_errors_are_those_of_embeddings_without_each_group(cohort, tmp_path):
    (x1, x2), vectors, groups = cohort
    found = evaluate(
        load_vectors(vectors), tmp_path, neighbours_of=["a03"], groups=open_groups(vectors, groups)
    )
    table = pd.read_csv(tmp_path / "neighbours.csv")
    left_out = []
    for number in range(GROUPS):
        rest = np.arange(x1.shape[0]) % GROUPS != number
        v = np.concatenate(factorise(claime_pmi(count_tokens(x1[rest], x2[rest])), RANK))
        units = v / np.linalg.norm(v, axis=1, keepdims=True)
        names = [t for one in WORDS.values() for t in one.tokens]
        left_out.append([units[3] @ units[names.index(t)] for t in table["neighbour"]])
    mean = np.mean(left_out, axis=0)
    by_hand = np.sqrt((GROUPS - 1) / GROUPS * sum((np.array(one) - mean) ** 2 for one in left_out))
    np.testing.assert_allclose(table["standard_error"], by_hand, atol=6e-5)
    assert (by_hand > 1e-3).any()
    assert found["standard_errors"]["groups"] == GROUPS
    assert json.loads((tmp_path / "evaluation.json").read_text()) == found
    assert "4 groups left out one by one, themselves good to about 41%" in "\n".join(said(found))


def test_groups_of_other_patients_are_refused(cohort, tmp_path):
    (x1, x2), vectors, groups = cohort
    moved = sparse.csr_array(x1[::GROUPS][::-1])  # the same totals, other cells
    save_counts(count_tokens(moved, x2[::GROUPS], vocabularies=WORDS), tmp_path / "moved")
    opened = open_groups(vectors, [tmp_path / "moved", *groups[1:]])
    with pytest.raises(ArtefactError, match="not the patients of these vectors"):
        evaluate(load_vectors(vectors), tmp_path / "e", neighbours_of=["a03"], groups=opened)
    with pytest.raises(ArtefactError, match="totals"):
        open_groups(vectors, groups[1:])


def test_what_is_no_group_is_refused(cohort, tmp_path):
    (x1, x2), vectors, groups = cohort
    whole = count_tokens(x1, x2, vocabularies=WORDS)
    release_threshold(whole, 5).save(tmp_path / "released")
    for named, message in (
        (groups[:1], "one group at a time"),
        ([groups[0], groups[0]], "given twice"),
        ([groups[0], tmp_path / "released"], "is a release"),
    ):
        with pytest.raises(ArtefactError, match=message):
            open_groups(vectors, named)
    with pytest.raises(ConfigError, match="--neighbours TOKEN"):
        evaluate(
            load_vectors(vectors), tmp_path / "e", relations=tmp_path,
            groups=open_groups(vectors, groups),
        )  # fmt: skip
