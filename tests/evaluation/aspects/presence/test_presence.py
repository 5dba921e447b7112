"""A method by what subjects have, and as if they had less."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from made_targets import targets_of
from sklearn.metrics import roc_auc_score

from medmcl.evaluation import Method
from medmcl.evaluation.aspects.presence.measure import OTHERS
from medmcl.evaluation.aspects.presence.table import presence_tables
from medmcl.evaluation.models.fusion import fuse
from medmcl.evaluation.models.together import Together
from medmcl.evaluation.protocol.evaluate import evaluate_task
from medmcl.evaluation.protocol.evidence import PresenceRow
from medmcl.evaluation.protocol.folds import CrossValidation
from medmcl.evaluation.protocol.subgroups import pooled
from medmcl.evaluation.report.section import Section

NAMES = ("a", "b", "c")


def world(rows, seed=0):
    rng = np.random.default_rng(seed)
    state = rng.normal(size=rows)
    vectors = {n: state[:, None] + rng.normal(size=(rows, 3)) for n in NAMES}
    present = {"a": rng.random(rows) < 0.9, "b": rng.random(rows) < 0.7}
    present["c"] = rng.random(rows) < 0.05
    targets = targets_of("binary", state + 0.5 * rng.normal(size=rows) > 0)
    return Together(vectors=vectors, present=present), targets


def scored(rows, fusion, seed=0, **settings):
    together, targets = world(rows, seed)
    fused = fuse(together, fusion)
    split = np.array(["train", "train", "tuning", "held_out", "held_out"] * (rows // 5))
    method = Method(
        features=fused.features, fit=fused.fit, protocol="linear_probe", variants=fused.variants
    )
    found = evaluate_task(
        {"fused": method},
        targets,
        split,
        np.arange(rows),
        bootstrap_draws=100,
        present={"fused": fused.present},
        patterns=together.patterns(),
        **settings,
    )
    return together, targets, fused, split, found


def named(found, asked):
    return {row.modalities: row for row in found.presence if row.asked == asked}


def test_values_and_paired_differences_are_those_computed_by_hand():
    together, targets, fused, split, found = scored(1000, "learned")
    here = np.flatnonzero((split == "held_out") & together.any)
    train, tuning = (np.flatnonzero((split == s) & together.any) for s in ("train", "tuning"))
    fitted = fused.fit(fused.features, targets, train, tuning)
    whole = fitted.predict(fused.features)[:, 0]
    y, patterns = targets.values[:, 0], together.patterns()
    are = named(found, "as they are")
    headline = next(row for row in found.results if row.metric == "auroc" and not row.versus)
    assert are["everyone"].value == pytest.approx(headline.value, abs=1e-12)
    assert are["everyone"].n == len(here)
    counts = Counter(patterns[here])
    for pattern, count in counts.items():
        if count >= 20 and pattern in are and not are[pattern].suppressed:
            rows = here[patterns[here] == pattern]
            assert are[pattern].n == count
            assert are[pattern].value == pytest.approx(roc_auc_score(y[rows], whole[rows]))
    assert {"a", "a + b"} <= set(are)
    as_if = named(found, "as if")
    assert set(as_if) == {f"{word} {n}" for word in ("only", "without") for n in NAMES}
    for variant in fused.variants:
        rows = here[variant.has[here]]
        row = as_if[variant.name]
        if row.suppressed:
            continue
        assert row.n == len(rows)
        less = roc_auc_score(y[rows], fitted.predict(variant.features(rows))[:, 0])
        assert row.value == pytest.approx(less, abs=1e-12)
        gap = less - roc_auc_score(y[rows], whole[rows])
        assert row.difference == pytest.approx(gap, abs=1e-12)
        assert row.difference_low <= row.difference <= row.difference_high
    assert as_if["only a"].difference_high < 0  # b says much more than nothing
    assert as_if["only a"].p_value < 0.05


@pytest.mark.parametrize("fusion", ["mean", "product_of_experts"])
def test_folds_are_asked_as_well(fusion):
    together, _, _, _, found = scored(200, fusion, cross_validation=CrossValidation(
        folds=5, repeats=5, refit="probe", unseen=np.ones(200, bool)))  # fmt: skip
    headline = next(row for row in found.results if row.metric == "auroc" and not row.versus)
    are, as_if = named(found, "as they are"), named(found, "as if")
    assert are["everyone"].value == pytest.approx(headline.value, abs=1e-12)
    assert are["everyone"].n == int(together.any.sum())
    rows = together.present["a"] & (together.flags.sum(axis=1) > 1)
    assert as_if["only a"].n == int(rows.sum())
    assert as_if["only a"].p_value is None
    assert "no test out of fold" in as_if["only a"].note
    assert 0.6 < as_if["only a"].value < 1
    nothing = int((~together.any).sum())
    assert nothing > 0
    assert f"{nothing} labelled rows lack an input" in found.results[0].note or any(
        "lack an input" in row.note for row in found.results
    )


def test_patterns_of_few_are_pooled_and_small_pools_are_held_back():
    patterns = np.array(["a"] * 30 + ["b"] * 19 + ["c"] * 5 + ["a + b"] * 20, dtype=object)
    found = pooled(patterns, np.arange(len(patterns)), OTHERS)
    assert Counter(found.tolist()) == {"a": 30, OTHERS: 24, "a + b": 20}
    *_, found = scored(300, "mean")
    suppressed = [row for row in found.presence if row.suppressed]
    assert suppressed
    assert all(row.value is None and row.n is None and row.note for row in suppressed)


@pytest.mark.parametrize(
    "number",
    ["value", "low", "high", "difference", "difference_low", "difference_high", "p_value", "n",
     "events", "subjects"],
)  # fmt: skip
def test_a_suppressed_row_holds_no_number_at_all(number):
    with pytest.raises(ValueError, match="suppressed pattern only a holds numbers"):
        PresenceRow(
            task="t", target="t", method="m", metric="auroc", direction="higher",
            asked="as if", modalities="only a", suppressed=True, **{number: 3},
        )  # fmt: skip


def test_the_page_shows_both_tables():
    *_, found = scored(1000, "mean")
    are, as_if = presence_tables(found.presence)
    assert "everyone" in {row[5] for row in are.rows}
    only = next(row for row in as_if.rows if row[5] == "only a")
    assert only[7].startswith("-0.")
    assert all(len(row) == len(table.header) for table in (are, as_if) for row in table.rows)
    assert Section.of("presence", "of nobody", tables=presence_tables([])).is_empty


@pytest.mark.parametrize("lacking", [0, 3, 40])
def test_counts_as_if_are_withheld_where_they_would_tell_the_few_who_are_left(lacking):
    """Everyone less those whom a variant changes: three people would be told by subtraction."""
    rng = np.random.default_rng(5)
    rows = 500
    state = rng.normal(size=rows)
    vectors = {n: state[:, None] + rng.normal(size=(rows, 3)) for n in ("a", "b")}
    split = np.array(["train", "train", "tuning", "held_out", "held_out"] * 100)
    held = np.flatnonzero(split == "held_out")
    has = np.ones(rows, dtype=bool)
    has[held[:lacking]] = False
    together = Together(vectors=vectors, present={"a": np.ones(rows, dtype=bool), "b": has})
    fused = fuse(together, "mean")
    targets = targets_of("binary", state + rng.normal(size=rows) > 0)
    method = Method(features=fused.features, fit=fused.fit, protocol="linear_probe",
                    variants=fused.variants)  # fmt: skip
    found = evaluate_task(
        {"fused": method}, targets, split, np.arange(rows), bootstrap_draws=50,
        patterns=together.patterns(),
    )  # fmt: skip
    row = named(found, "as if")["only a"]
    assert row.value is not None
    if lacking == 3:
        assert (row.n, row.events, row.subjects) == (None, None, None)
        assert row.value == round(row.value, 2)
        assert row.difference == round(row.difference, 2)
        assert "told by subtraction" in row.note
    else:
        assert row.n == 200 - lacking
        assert "subtraction" not in row.note
