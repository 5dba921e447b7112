import json
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from row_draws import row_generator as generator

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ConfigError, RecordError
from medmcl.modalities.tabular.adapter import (
    Tabular,
    TabularAugment,
    TabularSettings,
    TabularSource,
)

COLUMNS = {
    "age": {"kind": "number", "unit": "years", "min": 0, "max": 120},
    "sex": "category",
    "bmi": "number",
}
TRAIN = [
    {"age": 40, "sex": "f", "bmi": 20.0},
    {"age": 60, "sex": "m", "bmi": None},
    {"age": None, "sex": "f", "bmi": 30.0},
    {"age": 50, "sex": math.nan, "bmi": 25.0},
]


def place(values):
    return RecordRef(subject="s1", record="r1", values=values)


def adapter(columns=None, **chosen):
    return Tabular(TabularSource(columns=columns or COLUMNS), TabularSettings(**chosen))


def fitted(rows=TRAIN, **chosen):
    table = adapter(**chosen)
    table.fit(table.read(place(row)) for row in rows)
    return table


def prepared(table, rows):
    rows = [table.prepare(table.read(place(row))) for row in rows]
    return torch.from_numpy(np.stack(rows))


def codes(table, values):
    where = place(values)
    return {(f.code, f.level) for f in table.inspect(table.read(where), where)}


def test_numbers_are_standardised_over_the_present_training_cells():
    table = fitted()
    row = table.prepare(table.read(place({"age": 60, "sex": "m", "bmi": 30})))
    assert row.shape == table.prepared_shape == (2, 3)
    assert row.dtype == np.float32
    assert row[0, 0] == pytest.approx((60 - 50) / np.std([40, 60, 50]))
    assert row[0, 2] == pytest.approx((30 - 25) / np.std([20, 30, 25]))
    assert row[1].tolist() == [1, 1, 1]


def test_columns_with_one_value_or_none_in_train_are_named_once_for_all():
    rows = [{"age": 40, "sex": "f", "bmi": None}, {"age": 60, "sex": "f", "bmi": None}]
    table = fitted(rows)
    (finding,) = table.inspect_together([])
    assert (finding.code, finding.level) == ("tabular.constant", "warning")
    assert finding.what.startswith("2 columns of 3 ")
    assert finding.what.endswith(": sex, bmi")
    assert fitted().inspect_together([]) == []
    elsewhere = adapter()
    elsewhere.load_state(table.state())  # another cohort: nothing was learned from it
    assert elsewhere.inspect_together([]) == []


@pytest.mark.parametrize(
    ("ages", "told"),
    [
        ([*range(40, 70), 999, 999], "999 stands in 2 cells of the 32 looked at"),
        ([*range(40, 70), -9], "-9 stands in 1 cell"),
        ([*range(21, 76), -9, -9], "-9 stands in 2 cells of the 57 looked at, and no other is"),
        ([*range(40), -1, -3, -1], "-1 stands in 2 cells"),
        ([*range(40, 70), -9, -9, 999, 999, 999], "999 stands in 3 cells of the 35 looked at, far"),
        ([*range(21, 76), -9], ""),  # one slip among numbers that lie as far apart
        ([*range(21, 76), -1.5, -1.5], ""),  # no whole number
        ([0, 1, 2, 3, -1, -2] * 9, ""),  # a scale
        ([*range(-4, 60), -1, -2], ""),  # more than a few numbers below zero
        ([*range(40, 100), 99], ""),  # an age like others
        ([*np.linspace(0, 900, 30), 999], ""),  # not far from others
        ([1, 2, 3, 999], ""),  # of four cells nothing is far
    ],
)
def test_a_number_of_nines_far_from_all_others_may_stand_for_a_gap(ages, told):
    rows = [{"age": float(age), "sex": "f", "bmi": None} for age in ages]
    found = [one for one in adapter().inspect_together(rows) if one.code == "tabular.gap_code"]
    assert [told in one.what for one in found] == [True] * bool(told)


@pytest.mark.parametrize(
    ("ages", "told"),
    [
        (
            [*range(40, 70), 880],
            "880 in 1 cell of the 31 looked at, far from all others (40 to 69)",
        ),
        ([*range(40, 70), 0.5], "0.5 in 1 cell of the 31"),
        ([*range(40, 70), 0, 0, 0.5], "0.5 in 1 cell of the 33"),  # none at all is not far
        ([*range(-15, 15), 300], "300 in 1 cell"),
        ([*range(60, 140, 4), *np.linspace(0.7, 1.5, 15)], "0.7 to 1.5 in 15 cells of the 35"),
        ([*range(40, 70), 110], ""),
        (np.exp(np.random.default_rng(0).normal(0, 2, 500)), ""),  # large by many small factors
        ([*[0.0] * 50, *np.exp(np.random.default_rng(1).normal(0, 2, 200))], ""),
        ([*np.random.default_rng(2).normal(0, 1, 500)], ""),
        ([0, 1] * 20, ""),
        ([*range(1, 9), 500], ""),  # of few numbers nothing is far
    ],
)
def test_a_number_far_from_all_others_may_be_a_slip_or_of_another_unit(ages, told):
    rows = [{"age": float(age)} for age in ages]
    found = adapter({"age": "number"}).inspect_together(rows)
    assert [told in one.what for one in found] == [True] * bool(told)
    assert {one.code for one in found} <= {"tabular.far_apart"}
    said = {"age": {"kind": "number", "min": -1000, "max": 1000}}
    assert not adapter(said).inspect_together(rows)  # it is said what is possible


def test_categories_that_differ_by_capitals_or_spaces_are_told():
    cells = ["m", "f", "M", "m ", "f"]
    rows = [{"age": 1.0, "sex": cell, "bmi": None} for cell in cells]
    (found,) = adapter().inspect_together(rows)
    assert (found.code, found.level) == ("tabular.two_spellings", "warning")
    assert found.what.startswith("'m' (1) and 'M' (1) and 'm ' (1) are taken as 3 categories")
    for other, told in (("female", True), ("FEMALE ", True), ("other", False)):
        rows = [{"age": 1.0, "sex": cell, "bmi": None} for cell in (*"fmfm", other)]
        assert bool(adapter().inspect_together(rows)) == told, other


@pytest.mark.parametrize(("wards", "told"), [(2, False), (9, False), (11, True), (20, True)])
def test_a_category_that_hardly_two_people_share_is_told(wards, told):
    rows = [{"age": 1.0, "sex": f"ward {n % wards}", "bmi": None} for n in range(20)]
    found = [one for one in adapter().inspect_together(rows) if one.code == "tabular.many_levels"]
    assert [one.level for one in found] == ["warning"] * told
    if told:
        once = sum(n + wards > 19 for n in range(wards))
        assert found[0].what.startswith(f"{wards} categories in the 20 cells looked at, {once} of")


def test_categories_are_numbered_from_one_and_new_ones_are_zero_and_counted():
    table = fitted()
    x = prepared(table, [{**TRAIN[0], "sex": sex} for sex in ("f", "m", "x", "x")])
    assert x[:, 0, 1].tolist() == [1, 2, 0, 0]
    assert x[:, 1, 1].tolist() == [1, 1, 1, 1]
    assert table.unseen == {"sex": 2}
    assert codes(table, {**TRAIN[0], "sex": "x"}) == {("tabular.unseen", "warning")}
    assert table.input_shape.cardinalities == (0, 3, 0)
    assert table.input_shape.names == ("age", "sex", "bmi")
    assert table.input_shape.shape == (2, 3)


def test_categories_seen_too_rarely_count_as_unseen():
    table = fitted(min_count=2)
    assert table.input_shape.cardinalities == (0, 2, 0)
    x = prepared(table, [TRAIN[1]])
    assert x[0, 0, 1] == 0


@pytest.mark.parametrize("one", [1, 1.0, "1", np.int64(1), np.float32(1), " 1 "])
def test_a_whole_number_is_one_category_however_it_is_stored(one):
    table = adapter({"sex": "category"})
    assert table.read(place({"sex": one})) == {"sex": "1"}


@pytest.mark.parametrize(
    "cell", [None, math.nan, pd.NA, pd.NaT, np.nan, "", " ", "n/a", "NA", "NaN", "None", "."]
)
def test_missing_cells_are_absent_in_every_spelling_and_no_finding(cell):
    table = fitted()
    values = {"age": cell, "sex": cell, "bmi": 22}
    row = table.prepare(table.read(place(values)))
    assert row[1].tolist() == [0, 0, 1]
    assert row[0, :2].tolist() == [0, 0]
    assert codes(table, values) == set()


@pytest.mark.parametrize("cell", ["89+", "3,5", "old", "<4", "inf", math.inf, [1]])
def test_numbers_that_are_none_are_found_and_treated_as_absent(cell):
    table = fitted()
    values = {"age": cell, "sex": "f", "bmi": 22}
    assert codes(table, values) == {("tabular.number", "error")}
    assert table.prepare(table.read(place(values)))[1, 0] == 0


def test_numbers_out_of_range_are_found_with_their_unit():
    table = fitted()
    for age in (-1, 121):
        values = {"age": age, "sex": "f", "bmi": 22}
        (finding,) = table.inspect(table.read(place(values)), place(values))
        assert finding.code == "tabular.range"
        assert f"{age} years" in finding.what
    assert codes(table, {"age": 120, "sex": "f", "bmi": 22}) == set()


def test_a_record_without_any_cell_is_found():
    assert codes(fitted(), dict.fromkeys(COLUMNS)) == {("tabular.empty", "error")}


def test_a_missing_column_is_an_error_that_names_the_known_ones():
    with pytest.raises(RecordError, match=r"(?s)'bmi'.*age, sex"):
        adapter().read(place({"age": 1, "sex": "f"}))


def test_columns_without_spread_or_without_cells_stay_finite():
    rows = [{"age": 50, "sex": None, "bmi": None}] * 3
    table = fitted(rows)
    x = prepared(table, [*rows, {"age": 51, "sex": "f", "bmi": 30}])
    assert torch.isfinite(x).all()
    assert table.input_shape.cardinalities == (0, 1, 0)


def test_outliers_are_cut_where_asked():
    table = fitted(clip_sd=3.0)
    x = prepared(table, [{"age": 119, "sex": "f", "bmi": -1000}])
    assert x[0, 0].tolist() == [3, 1, -3]


def test_what_was_learned_survives_json():
    table, other = fitted(), adapter()
    with pytest.raises(RuntimeError):
        _ = other.input_shape
    other.load_state(json.loads(json.dumps(table.state())))
    assert other.input_shape == table.input_shape
    assert torch.equal(prepared(other, TRAIN), prepared(table, TRAIN))
    for columns in ({"weight": "number"}, {**COLUMNS, "age": "category"}):
        with pytest.raises(ConfigError, match="the column 'age' was a number where it was learned"):
            adapter(columns).load_state(table.state())
    every = r"'age' was .*'sex' was a category .*(?s:.*)age, bmi, sex"
    with pytest.raises(ConfigError, match=every):
        adapter({"weight": "number"}).load_state(table.state())  # all that are not there, at once


def test_a_word_for_a_gap_in_a_number_is_first_offered_as_missing():
    values = {"age": "ND", "sex": "f", "bmi": 22}
    (finding,) = fitted().inspect(fitted().read(place(values)), place(values))
    assert finding.fix.startswith("if ND stands for unknown, write `missing: {age: [ND]}` at the")


def test_a_column_that_is_not_there_is_written_into_the_table():
    with pytest.raises(ConfigError, match="add an empty column of that name") as caught:
        adapter({"weight": "number"}).load_state(fitted().state())
    assert "recode" not in caught.value.fix


def test_who_applies_what_was_learned_is_told_to_recode_and_not_in_a_circle():
    table, other = fitted(), adapter()
    with pytest.raises(ConfigError, match=r"age: number .* recode the cells of age as in training"):
        adapter({**COLUMNS, "age": "category"}).load_state(table.state())
    with pytest.raises(ConfigError, match=r"recode the cells of sex as in training \('f', 'm'\)"):
        adapter({**COLUMNS, "sex": "number"}).load_state(table.state())
    other.load_state(table.state())
    where = place({"age": "old", "sex": "f", "bmi": 30})
    for one, said in ((table, "age: category"), (other, "as in training (numbers)")):
        (found,) = one.inspect(one.read(where), where)
        assert found.fix.endswith(said)


def test_whatever_stands_in_an_absent_cell_changes_nothing():
    table = fitted()
    x = prepared(table, TRAIN)
    spoiled = x.clone()
    absent = spoiled[:, 1] == 0
    for rubbish in (math.nan, math.inf, -7.0, 1e30):
        spoiled[:, 0][absent] = rubbish
        assert torch.equal(table.plain(spoiled), x)
        noisy = TabularAugment(corruption=0.5, dropout=0.3, noise=0.5)
        for options in (noisy, TabularAugment(corruption=0.5, dropout=0.3), TabularAugment()):
            one = table.augment(spoiled, options, generator(1))
            assert torch.equal(one, table.augment(x, options, generator(1)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.one_of(st.none(), st.integers(0, 5).map(float))] * 3),
        min_size=1,
        max_size=9,
    ),
    st.integers(0, 99),
)
def test_corruption_takes_only_values_that_the_batch_has_in_that_column(cells, seed):
    values = torch.tensor([[v or 0.0 for v in row] for row in cells], device="cpu")
    flags = torch.tensor([[float(v is not None) for v in row] for row in cells], device="cpu")
    x = torch.stack([values, flags], dim=1)
    options = TabularAugment(corruption=1.0, dropout=0.0)
    y = adapter().augment(x, options, generator(seed))
    assert torch.equal(y[:, 1], flags)  # absence stays absence
    for column in range(3):
        had = {row[column] for row in cells if row[column] is not None}
        got = set(y[:, 0, column][flags[:, column] > 0].tolist())
        assert got <= had


def test_corruption_draws_evenly_and_at_its_rate():
    values = torch.arange(5000.0, device="cpu")[:, None]
    x = torch.stack([values, (values % 2 == 0).float()], dim=1) * 1.0
    table = adapter({"a": "number"})
    x = table.plain(x)
    y = table.augment(x, TabularAugment(corruption=0.4), generator())
    present = x[:, 1, 0] > 0
    changed = (y[:, 0, 0] != x[:, 0, 0])[present]
    assert float(changed.float().mean()) == pytest.approx(0.4, abs=0.03)
    drawn = y[:, 0, 0][present][changed]
    assert (drawn % 2 == 0).all()
    assert float(drawn.mean()) == pytest.approx(2500, abs=120)


def test_dropout_makes_present_cells_absent_at_its_rate():
    x = torch.ones(2000, 2, 3, device="cpu")
    y = adapter().augment(x, TabularAugment(corruption=0.0, dropout=0.25), generator())
    assert float(y[:, 1].mean()) == pytest.approx(0.75, abs=0.02)
    assert torch.equal(y[:, 0], y[:, 1])
    still = adapter().augment(x, TabularAugment(corruption=0.0, dropout=0.0), generator())
    assert torch.equal(still, x)


def test_noise_is_added_to_present_numbers_alone_and_of_its_size():
    table = fitted()
    rows = prepared(table, TRAIN).repeat(2000, 1, 1)
    options = TabularAugment(corruption=0.0, noise=0.3)
    y = table.augment(rows, options, generator())
    assert torch.equal(y[:, 1], rows[:, 1])  # absence stays absence
    change = y[:, 0] - rows[:, 0]
    present = rows[:, 1] > 0
    assert not change[~present].any()
    assert not change[:, 1].any()  # sex is a category: its number is a name
    for number in (0, 2):
        moved = change[:, number][present[:, number]]
        assert float(moved.std()) == pytest.approx(0.3, abs=0.015)  # units of prepared cells
        assert abs(float(moved.mean())) < 0.02
    both = change[present[:, 0] & present[:, 2]]
    assert abs(float(torch.corrcoef(both[:, [0, 2]].T)[0, 1])) < 0.05
    again = table.augment(rows, options, generator(1))
    assert not torch.equal(y, again)


def test_noise_of_zero_draws_what_was_drawn_before_it_was_known():
    table = fitted()
    rows = prepared(table, TRAIN).repeat(10, 1, 1)
    generators = [generator(3), generator(3)]
    one = table.augment(rows, TabularAugment(corruption=0.4, dropout=0.2), generators[0])
    generators[1].uniform(3, *rows[:, 0].shape, row_dim=1)
    assert torch.equal(*(one.uniform(9) for one in generators))
    noisy = table.augment(
        rows, TabularAugment(corruption=0.4, dropout=0.2, noise=1e-6), generator(3)
    )
    torch.testing.assert_close(noisy, one, atol=1e-4, rtol=0)
    for wrong in (-0.1, math.inf, math.nan):
        with pytest.raises(ValidationError, match="noise"):
            TabularAugment(noise=wrong)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"age": "integer"},
        {"age": {"kind": "number", "min": 3, "max": 2}},
        {"sex": {"kind": "category", "min": 0}},
        {"age": {"kind": "number", "units": "years"}},
    ],
)
def test_impossible_columns_are_refused(columns):
    with pytest.raises(ValidationError):
        TabularSource(columns=columns)


@pytest.mark.skipif("MEDMCL_DATA" not in os.environ, reason="MEDMCL_DATA names no data folder")
def test_a_real_table_is_read_with_its_gaps():
    path = Path(os.environ["MEDMCL_DATA"]) / "ptbxl" / "ptbxl_database.csv"
    if not path.is_file():
        pytest.skip("there is no ptbxl folder in MEDMCL_DATA")
    records = pd.read_csv(path).head(200).to_dict("records")
    columns = {"age": "number", "height": "number", "weight": "number", "sex": "category"}
    table = adapter(columns)
    raws = [table.read(place(record)) for record in records]
    table.fit(raws)
    x = np.stack([table.prepare(raw) for raw in raws])
    assert table.input_shape.cardinalities == (0, 0, 0, 3)
    missing = np.array([[pd.isna(record[name]) for name in columns] for record in records])
    np.testing.assert_array_equal(x[:, 1] == 0, missing)
    for column in range(3):
        cells = x[:, 0, column][~missing[:, column]]
        assert cells.mean() == pytest.approx(0, abs=1e-5)
        assert cells.std() == pytest.approx(1, abs=1e-5)


NUMBERS = st.one_of(st.none(), st.floats(allow_infinity=True), st.integers(-5, 5))
MIXED = st.one_of(st.none(), st.integers(-5, 5), st.sampled_from(["3", "x", " ", "NA", "2.0"]))


@settings(deadline=None, max_examples=80)
@given(rows=st.lists(st.tuples(NUMBERS, MIXED, MIXED), min_size=1, max_size=8))
def test_rows_looked_at_together_are_sound_only_where_each_alone_is(rows):
    columns = {"age": {"kind": "number", "min": 0, "max": 4}, "any": "number", "sex": "category"}
    one = adapter(columns)
    cells = pd.DataFrame(rows, columns=[*columns])
    cells["age"] = cells["age"].astype(float)
    told = one.look(cells)
    alone = []
    for row in cells.to_dict("records"):
        here = place(
            {name: None if cell is None or cell != cell else cell for name, cell in row.items()}
        )
        raw = one.read(here)
        alone.append((raw, one.inspect(raw, here)))
    assert not any(found for (_, found), digest in zip(alone, told, strict=True) if digest)
    known = [(digest, raw) for digest, (raw, _) in zip(told, alone, strict=True) if digest]
    assert all((a == b) == (x == y) for a, x in known for b, y in known)
    assert len(known) >= sum(not found for _, found in alone if cells["any"].dtype.kind in "fi")


def test_what_was_fitted_is_not_looked_at_at_once():
    assert fitted().look(pd.DataFrame(TRAIN)) == [""] * len(TRAIN)
