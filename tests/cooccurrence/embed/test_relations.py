"""Relations: what is read, what is left out and counted, and what random pairs are."""

import numpy as np
import pandas as pd
import pytest

from medmcl.cooccurrence.embed.relations import (
    code_system,
    cosines,
    neighbours,
    pairs_of_parents,
    random_pairs,
    read_pairs,
    relations_of,
    token_types,
)
from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.core.errors import ArtefactError, CohortError


@pytest.fixture
def table():
    """Ten drugs and ten diseases on a circle; the last disease was never embedded."""
    angles = np.linspace(0, 3, 20)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.arange(1, 21)[:, None]
    vectors[19] = 0
    tokens = [f"RX//{i}" for i in range(10)] + [f"ICD//{i}" for i in range(10)]
    return TokenVectors.join({"codes": tokens}, {"codes": vectors})


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_pairs_from_a_file(table, tmp_path, ending):
    given = pd.DataFrame(
        {
            "first": ["RX//1", "ICD//2", "RX//1", "ICD//2", "RX//1", "RX//3", "nobody"],
            "second": ["ICD//2", "RX//1", "ICD//2", "ICD//2", "ICD//9", "ICD//4", "RX//1"],
            "relation": ["treats", "treats", "causes", "treats", "treats", "treats", "treats"],
        }
    )
    path = tmp_path / f"pairs.{ending}"
    if ending == "parquet":
        given.to_parquet(path)
    else:
        given.to_csv(path, sep="\t" if ending == "tsv" else ",", index=False)
    found = relations_of(read_pairs(path), table)
    assert list(zip(found.first, found.second, found.kinds, strict=True)) == [
        (1, 12, "treats"), (1, 12, "causes"), (3, 14, "treats")
    ]  # fmt: skip
    assert found.unknown == 2  # one without a vector, one unknown
    assert found.repeated == 2  # one the other way round, one with itself


def test_a_file_without_the_columns(table, tmp_path):
    (tmp_path / "pairs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CohortError, match="no column first and second"):
        relations_of(read_pairs(tmp_path / "pairs.csv"), table)
    with pytest.raises(CohortError, match=r"there is no such file; .* holds pairs\.csv"):
        relations_of(read_pairs(tmp_path / "none.csv"), table)
    for name in ("pairs.zip", "pairs.tar", "pairs.csv.gz", "pairs.parquet"):
        (tmp_path / name).write_text("first,second\n1,2\n")
        with pytest.raises(CohortError, match=rf"{name}: cannot be read"):
            read_pairs(tmp_path / name)


def test_pairs_from_a_hierarchy(table):
    parents = {
        "RX//1": ["RX//0"],
        "RX//2": ["RX//0"],
        "ICD//3": ["RX//0", "top"],
        "ICD//4": ["top"],
    }
    parent = relations_of(pairs_of_parents(parents, "parent"), table)
    assert set(zip(parent.first.tolist(), parent.second.tolist(), strict=True)) == {
        (1, 0),
        (2, 0),
        (13, 0),
    }
    assert parent.unknown == 2  # "top" has no vector
    sibling = relations_of(pairs_of_parents(parents), table)
    assert set(zip(sibling.first.tolist(), sibling.second.tolist(), strict=True)) == {
        (1, 2), (1, 13), (2, 13), (13, 14)
    }  # fmt: skip


def test_random_pairs_are_of_the_same_types_and_not_known(table):
    pairs = [(f"RX//{i}", f"ICD//{j}", "treats") for i in range(10) for j in range(6) if i != j]
    known = relations_of(pairs, table)
    types = token_types(table)
    assert set(types) == {"codes/RX", "codes/ICD"}
    second, exists = random_pairs(known, types, table.embedded, seed=1)
    assert exists.all()
    assert (types[second] == "codes/ICD").all()
    assert not set(zip(known.first, second, strict=True)) & set(
        zip(known.first, known.second, strict=True)
    )
    assert 19 not in second  # has no vector
    again, _ = random_pairs(known, types, table.embedded, seed=1)
    np.testing.assert_array_equal(second, again)


def test_a_token_related_to_all_of_a_type_has_no_random_pair(table):
    pairs = [("RX//0", f"ICD//{j}", "treats") for j in range(9)] + [("RX//1", "ICD//0", "treats")]
    known = relations_of(pairs, table)
    _, exists = random_pairs(known, token_types(table), table.embedded)
    assert exists.tolist() == [False] * 9 + [True]


def test_cosines_and_neighbours(table):
    step = 3 / 19
    np.testing.assert_allclose(
        cosines(table, np.array([0, 3]), np.array([2, 3])), [np.cos(2 * step), 1]
    )
    found = neighbours(table, "RX//0", 3)
    assert [token for _, token, _ in found] == ["RX//1", "RX//2", "RX//3"]
    assert found[0][2] == pytest.approx(np.cos(step))
    assert len(neighbours(table, "RX//0", 100)) == 18  # not itself, not the one without a vector
    with pytest.raises(CohortError, match=r"there is no token 'Rx//2'(.|\n)*nearest: .*RX//2"):
        neighbours(table, "Rx//2")
    with pytest.raises(CohortError, match="has no embedding"):
        neighbours(table, "ICD//9")


def test_types_of_codes():
    assert code_system("codes", "ICD//I10//x") == "codes/ICD"
    assert code_system("concepts", "C0003873") == "concepts"


def test_vectors_come_back_from_their_file(table, tmp_path):
    table.save(tmp_path / "v.parquet")
    back = TokenVectors.load(tmp_path / "v.parquet")
    assert (back.tokens, back.modalities) == (table.tokens, table.modalities)
    np.testing.assert_array_equal(back.vectors, table.vectors)


def test_files_that_are_no_vectors(table, tmp_path):
    path = tmp_path / "v.parquet"
    table.save(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ArtefactError, match="no parquet file"):
        TokenVectors.load(path)
    pd.DataFrame({"token": ["a"], "modality": ["b"], "vector": [[1.0]]}).to_parquet(path)
    with pytest.raises(ArtefactError, match="no table of token vectors"):
        TokenVectors.load(path)


def test_tokens_must_be_told_apart():
    both = {"codes": ["a"], "concepts": ["a"]}
    table = TokenVectors.join(both, {n: np.ones((1, 2)) for n in both})
    assert table.rows == {("codes", "a"): 0, ("concepts", "a"): 1}
    with pytest.raises(ArtefactError, match="several modalities have the token"):
        table.find("a")
    with pytest.raises(ArtefactError, match="stands twice"):
        TokenVectors(("a", "a"), ("x", "x"), np.ones((2, 2)))
    with pytest.raises(ArtefactError, match="differ in number"):
        TokenVectors(("a",), ("x",), np.ones((2, 2)))


@pytest.mark.parametrize(
    ("text", "signs", "said"),
    [("first,second\na,b\n", "utf-16", "UTF-16: save it as UTF-8"),
     ("first;second\na;b\n", "utf-8", "separated by ';'")],
)  # fmt: skip
def test_pairs_in_another_writing_say_what_to_do(tmp_path, text, signs, said):
    (tmp_path / "p.csv").write_text(text, encoding=signs)
    table = TokenVectors(("a", "b"), ("x", "y"), np.eye(2))
    with pytest.raises(CohortError, match=said):
        relations_of(read_pairs(tmp_path / "p.csv"), table)
