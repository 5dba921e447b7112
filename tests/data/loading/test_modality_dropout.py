"""Dropping whole modalities of a row, never all of them."""

from __future__ import annotations

import pytest
import torch
from made_batches import batch_of

from medmcl.core.config import check
from medmcl.core.errors import ConfigError
from medmcl.core.rng import RowGenerator, torch_generator
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.data.loading.views import View, draw_absence
from medmcl.modalities.tabular.adapter import Tabular, TabularAugment

ROWS = 20_000


class Plain:
    """An adapter that leaves rows as they are."""

    kind = "tabular"
    Augment = TabularAugment
    augment = Tabular.augment

    def plain(self, x):
        return x


def presence(rows=ROWS, names="abc", share=0.8, seed=0):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    drawn = {n: torch.rand(rows, generator=generator, device="cpu") < share for n in names}
    return drawn


def generator(seed=1):
    return RowGenerator(torch_generator(seed, "views", device="cpu"))


def test_shares_of_entries_and_pairs_are_what_the_page_says():
    full = {n: torch.ones(ROWS, dtype=torch.bool, device="cpu") for n in "abc"}
    kept = torch.stack(list(draw_absence(full, dict.fromkeys("abc", 0.4), generator()).values()))
    assert kept.any(0).all()
    lost = 1 - kept.float().mean().item()
    assert lost == pytest.approx(0.4 - 0.4**3 / 3, abs=0.006)
    assert (kept[0] & kept[1]).float().mean().item() == pytest.approx(0.6**2, abs=0.012)


def test_only_what_is_there_goes_and_never_all_of_it():
    has = presence()
    kept = draw_absence(has, {"a": 0.9, "b": 0.9, "c": 0.9}, generator())
    for name in has:
        assert not (kept[name] & ~has[name]).any()
    before, after = (torch.stack(list(x.values())) for x in (has, kept))
    assert torch.equal(before.any(0), after.any(0))
    alone = before.sum(0) == 1
    assert alone.any()
    assert torch.equal(before[:, alone], after[:, alone])


def test_whom_a_bare_row_keeps_is_drawn_evenly():
    full = {n: torch.ones(ROWS, dtype=torch.bool, device="cpu") for n in "ab"}
    kept = draw_absence(full, {"a": 0.999, "b": 0.999}, generator())
    assert kept["a"].float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_a_modality_without_a_chance_is_never_dropped():
    has = presence()
    kept = draw_absence(has, {"a": 0.5}, generator())
    assert torch.equal(kept["b"], has["b"])
    assert (kept["a"] != has["a"]).any()


def view_of(drop, **more):
    settings = check(ViewSettings, {"drop": drop, **more}, where="views.x", error=ConfigError)
    return View(settings, {n: Plain() for n in "abc"}, {}, where="views.x")


def batch(rows=200):
    has = presence(rows)
    x = {n: torch.randn(rows, 2, 3, device="cpu") for n in has}
    return batch_of(x, has)


def test_a_view_drops_in_training_only_and_empties_the_rows():
    given, view = batch(), view_of(0.3)
    shown = view(given, generator())
    assert len(shown) == len(given)  # rows stay, and are counted where they have a pair
    assert any((shown.present[n] != given.present[n]).any() for n in "abc")
    for name, x in shown.inputs.items():
        assert not x[~shown.present[name]].any()
        assert torch.equal(x[shown.present[name]], given.inputs[name][shown.present[name]])
    still = view(given, generator(), disturb=False)
    assert all(torch.equal(still.present[n], given.present[n]) for n in "abc")
    same = view_of(0.3, at_tuning="same")(given, generator(), disturb=False)
    assert any((same.present[n] != given.present[n]).any() for n in "abc")


def test_same_seed_same_rows_another_seed_others():
    given, view = batch(), view_of({"a": 0.5, "b": 0.1})
    one, two, other = (view(given, generator(seed)).present for seed in (1, 1, 2))
    assert all(torch.equal(one[n], two[n]) for n in "abc")
    assert not torch.equal(one["a"], other["a"])


@pytest.mark.parametrize(
    ("drop", "said"),
    [({"d": 0.1}, "does not show"), ({"a": 1.0}, "below 1"), (-0.1, "at least 0")],
)
def test_what_cannot_be_dropped_is_refused(drop, said):
    with pytest.raises(ConfigError, match=said):
        view_of(drop)
