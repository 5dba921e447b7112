"""Missing cells of a table as features: few people do not decide for all who lack them."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from small_tables import write_cohort

import medmcl
from medmcl.stages.run.features import Covariates, TrainGaps
from medmcl.stages.run.store import Store

SIGNS = ["meanbp", "hrt", "resp"]


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """The covariates of 200 train people of 300: how many lack what, by column; read twice."""
    folder = tmp_path_factory.mktemp("gaps")
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"id": [f"p{k}" for k in range(300)]})
    table["split"] = ["train"] * 200 + ["tuning"] * 50 + ["held_out"] * 50
    for name in ("age", *SIGNS, "alb", "bili", "nine", "ten"):
        table[name] = draw.normal(10, 2, 300)
    table["sex"] = np.where(draw.random(300) < 0.3, "f", "m")
    table["race"] = np.where(draw.random(300) < 0.3, "x", "y")
    table.loc[[7, 250], [*SIGNS, "sex"]] = None
    table.loc[20:59, ["alb", "bili", "race"]] = None
    table.loc[100:108, "nine"] = None
    table.loc[100:109, "ten"] = None
    names = [name for name in table.columns if name not in ("id", "split")]
    cohort = medmcl.open_cohort(
        write_cohort(
            folder / "c", table,
            subjects={"table": "table.csv", "id": "id", "split": "split"},
            modalities={"clinic": {"reader": "table", "columns": names}},
        )
    )  # fmt: skip
    run = SimpleNamespace(
        recipe=SimpleNamespace(inputs={}),
        cache=folder / "cache",
        path=folder / "run",
        tree=Store(folder / "run").tree,
    )
    own = Covariates.of(run, cohort, "clinic")
    (run.path / "probes").mkdir(parents=True)
    (run.path / "probes" / "covariates.json").write_text(json.dumps({"clinic": own.reading}))
    return own, Covariates.of(run, cohort, "clinic", is_frozen=True), table


def test_a_flag_needs_ten_people_with_and_without_and_stands_once(read):
    own, _, _ = read
    assert [name for name, what in own.terms if what == "measured"] == ["alb", "ten"]
    assert {(name, "") for name in SIGNS} <= set(own.terms)


def test_without_a_flag_the_train_mean_alone_stands_in(read):
    own, frozen, table = read
    rows = own.cells.columns
    train = (table["split"] == "train").to_numpy()
    for x in (own, frozen):
        values = pd.DataFrame(x.values, columns=pd.MultiIndex.from_tuples(x.terms))
        for name in SIGNS:
            assert values.loc[250, (name, "")] == 0  # standardised
        known = table["sex"][train].dropna()
        for level in ("f", "m"):
            assert values.loc[250, ("sex", level)] == pytest.approx((known == level).mean())
            assert set(values.loc[own.cells.known[:, rows.index("sex")], ("sex", level)]) == {0, 1}
    assert (own.values == frozen.values).all()
    assert own.stand_in("sex", "f") == pytest.approx((known == "f").mean())


def test_what_train_people_lacked_is_counted(read):
    _, frozen, _ = read
    assert frozen.gaps.people == 200
    assert [frozen.gaps.lacking[n] for n in ("age", "hrt", "alb", "nine", "ten")] == [
        0,
        1,
        40,
        9,
        10,
    ]
    names = ["age", "nine", "ten"]
    flagged = frozen.gaps.strange(names, np.eye(3, dtype=bool))
    assert flagged.any(axis=0).tolist() == [True, False, False]  # of nine 4 % are people like them
    assert frozen.gaps.rate == 2 / 201
    every = replace(frozen.gaps, limit=0.0).strange(names, np.eye(3, dtype=bool))  # older runs
    assert every.diagonal().tolist() == [True, True, False]


@pytest.mark.parametrize("people", [150, 600])
@pytest.mark.parametrize("rare", [0.0, 0.004, 0.02])
def test_of_people_like_those_in_training_no_more_than_one_percent_lack_too_much(people, rare):
    """40 columns, each lacked by few: a tenth of all lack a cell that fewer than ten lacked."""
    draw = np.random.default_rng(0)
    names = [f"x{column}" for column in range(40)]
    flagged, promised = [], []
    for _ in range(20):
        gone = draw.random((people + 2000, 40)) < rare * draw.random(40) * 2
        train, new = gone[:people], gone[people:]
        gaps = TrainGaps.of(names, ~train, np.arange(people))
        flagged.append(gaps.strange(names, new).any(axis=1).mean())
        promised.append(gaps.rate)
        assert gaps.strange(names, np.ones((1, 40), dtype=bool)).any() or rare * people > 5
    assert np.mean(flagged) <= 0.011
    assert max(promised) <= 0.01
    assert np.mean(flagged) <= np.mean(promised) + 0.001
