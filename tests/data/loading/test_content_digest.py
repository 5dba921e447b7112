"""Copies are known by what records hold: all of it, however long, in whatever form it is read."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from medmcl.data.loading.reading import content_digest

LONG = 5_000
BASE = np.linspace(0, 1, LONG)


def changed(middle):
    other = BASE.copy()
    other[LONG // 2] += middle
    return other


FORMS = {
    "table": lambda x: pd.DataFrame({"minute": np.arange(LONG), "counts": x}),
    "column": pd.Series,
    "tensor": torch.as_tensor,
    "array": lambda x: x,
    "list of arrays": lambda x: [x, x],
    "tables by name": lambda x: {"left": pd.DataFrame({"counts": x})},
    "texts": lambda x: np.array([f"{one:.9f}" for one in x], dtype=object),
    "plain list": list,
}


@pytest.mark.parametrize("form", FORMS)
def test_two_records_that_differ_in_the_middle_are_no_copies_and_equal_ones_are(form):
    one, again, other = FORMS[form](BASE), FORMS[form](BASE.copy()), FORMS[form](changed(1e-3))
    assert content_digest(one) == content_digest(again) == content_digest(copy.deepcopy(one))
    assert content_digest(one) != content_digest(other)


def test_what_columns_are_called_counts():
    one, other = pd.DataFrame({"a": BASE}), pd.DataFrame({"b": BASE})
    assert content_digest(one) != content_digest(other)
