from __future__ import annotations

import numpy as np
import pytest

from medmcl.core.errors import ArtefactError
from medmcl.evaluation import Result, bootstrap, load_results, save_results
from medmcl.evaluation.protocol.results import difference_rows, flipped, headline_rows

ABOUT = {
    "task": "mi", "target": "mi", "kind": "binary", "metric": "auroc",
    "direction": "higher", "method": "ours", "protocol": "linear_probe",
}  # fmt: skip


def rows():
    y = np.arange(40) % 2
    interval = bootstrap("auroc", y, y + np.random.default_rng(0).normal(size=40), draws=50)
    nothing = bootstrap("auroc", np.ones(40), np.arange(40.0), draws=50)
    return [
        Result.of(interval, **ABOUT),
        Result.of(nothing, **ABOUT, note='1 % labels, "quoted", ä'),
        Result(**{**ABOUT, "versus": "scratch"}, value=0.1, low=-0.1, high=0.3, seed_spread=0.02),
    ]


@pytest.mark.parametrize("name", ["results.json", "deep/results.csv"])
def test_rows_come_back_as_they_were(tmp_path, name):
    save_results(tmp_path / name, rows())
    assert load_results(tmp_path / name) == rows()
    assert not list(tmp_path.rglob("*.part"))


def test_a_table_never_holds_nan():
    with pytest.raises(ValueError, match="give None"):
        Result(**ABOUT, value=float("nan"))


def test_what_is_not_estimable_is_shown_in_words():
    assert rows()[1].shown == "not estimable"
    assert "one class" in rows()[1].note
    assert rows()[2].shown == "+0.100 (-0.100 to +0.300)"


def test_broken_and_missing_files_are_refused(tmp_path):
    with pytest.raises(ArtefactError, match="no such"):
        load_results(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('[{"task": 1}]')
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    for name in ("bad.json", "bad.csv"):
        with pytest.raises(ArtefactError, match="not a results file"):
            load_results(tmp_path / name)


def test_headline_and_differences_are_told_apart_and_turned_around():
    table = rows()
    assert headline_rows(table, "mi") == table[:2]
    assert difference_rows(table, "mi") == table[2:]
    turned = flipped(table[2])
    assert (turned.method, turned.versus, turned.value) == ("scratch", "ours", -0.1)
    assert (turned.low, turned.high) == (-0.3, 0.1)
    assert flipped(turned) == table[2]
