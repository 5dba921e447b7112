import numpy as np
import pytest
import torch

from medmcl.core.errors import MedmclError
from medmcl.selection import duplicates, exact_duplicates, near_duplicates


def by_loops(rows, threshold):
    group = list(range(len(rows)))
    cosine = (rows @ rows.T).tolist()
    for i in range(len(rows)):
        for j in range(i):
            if cosine[i][j] >= threshold and group[i] != group[j]:
                low, high = sorted((group[i], group[j]))
                group = [low if one == high else one for one in group]
    return group


@pytest.mark.parametrize("block", [2048, 16])
@pytest.mark.parametrize("threshold", [0.6, 0.9, 0.99])
def test_near_duplicates_equal_all_pairs(pairs, monkeypatch, block, threshold):
    monkeypatch.setattr(duplicates, "BLOCK", block)
    rows = pairs(120, width=6)[0]
    rows[50] = torch.nn.functional.normalize(rows[3] + 0.05 * rows[7], dim=0)
    rows[119] = rows[3]
    rows[90:100] = rows[80]
    assert near_duplicates(rows, threshold).tolist() == by_loops(rows, threshold)


def test_exact_duplicates_are_equal_to_the_last_bit(pairs):
    rows = pairs(10)[0]
    rows[4], rows[7] = rows[1], rows[1]
    rows[8] = rows[1] * (1 + 2e-16)
    assert exact_duplicates(rows).tolist() == [0, 1, 2, 3, 1, 5, 6, 1, 8, 9]
    assert exact_duplicates(rows.numpy()).tolist() == [0, 1, 2, 3, 1, 5, 6, 1, 8, 9]
    assert exact_duplicates(np.array([[0.0, 1], [-0.0, 1]])).tolist() == [0, 0]


def test_texts_repeat():
    texts = ["sinus rhythm", "atrial fibrillation", "sinus rhythm", "Sinus rhythm"]
    assert exact_duplicates(texts).tolist() == [0, 1, 0, 3]


def test_a_threshold_outside_the_cosines_is_refused(pairs):
    with pytest.raises(MedmclError, match="threshold"):
        near_duplicates(pairs(5)[0], 1.5)
