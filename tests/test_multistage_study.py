"""What one stage leaves unlearned, where that is known: one seed of its page in benchmarks/."""

import pytest
from short_runs import unwritten

from benchmarks.multistage import multistage
from benchmarks.multistage.multistage import (
    COHORTS,
    CONTROLS,
    FACTORS,
    VIT,
    chosen,
    clusters_of,
    recipe_of,
    run_of,
    scored,
)
from medmcl.simulation.kinds import simulate

SMALL_VIT = {**VIT, "options": {"embed_dim": 64, "depth": 1, "num_heads": 4}}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    return simulate("trifactor", tmp_path_factory.mktemp("vectors") / "c", COHORTS["vectors"])


def trained(world, cohort, folder, arms=(), changes=None):
    """Train MCL and further arms; without the report, whose pictures take longer than a stage."""
    tree = recipe_of(world, arms, changes or {}, FACTORS[world][-1])
    with unwritten():
        return run_of(world, cohort, tree, 0, folder)


def accuracies(run, cohort, arms, factors):
    """Share of the held-out subjects named right in percent, by arm and factor."""
    return {
        (row["arm"], row["factor"]): row["accuracy"] for row in scored(run, cohort, arms, factors)
    }


@pytest.fixture(scope="module")
def study(vectors, tmp_path_factory):
    """Accuracy of each arm on each factor, and what the clusters of each stage tell."""
    arms, factors = (*CONTROLS, "last"), FACTORS["vectors"]
    run = trained("vectors", vectors, tmp_path_factory.mktemp("main") / "run", arms)
    told = {(r["clusters"], r["factor"]): r["nmi"] for r in clusters_of(run, vectors, factors)}
    return accuracies(run, vectors, arms, factors), told


def test_one_stage_leaves_the_hard_factor_and_further_stages_find_it(study):
    """M1 of the acceptance page; seeds 0 to 4 at full length: benchmarks/."""
    found, _ = study
    assert found["base", "hard"] <= 45
    assert found["joined", "hard"] >= 70
    assert found["joined", "hard"] - found["base", "hard"] >= 30
    assert min(found["joined", "easy"], found["joined", "middle"]) >= 97
    assert found["ceiling", "hard"] >= 80  # it can be learned, with labels


def test_as_many_ordinary_encoders_find_less(study):
    """M2: concatenation alone is not what helps."""
    found, _ = study
    assert found["joined", "hard"] - found["ensemble", "hard"] >= 10


def test_groups_that_mean_nothing_are_no_better_than_ordinary_encoders(study):
    """M3: nor are smaller batches of fixed groups."""
    found, _ = study
    assert found["joined", "hard"] - found["placebo", "hard"] >= 10
    assert abs(found["placebo", "hard"] - found["ensemble", "hard"]) <= 10


def test_clusters_walk_down_the_order_of_ease(study):
    """M4: no stage falls back to what an earlier one saw; by the authors' labels the third does."""
    _, told = study
    assert told["groups_1", "easy"] >= 0.9
    assert told["groups_2", "easy"] <= 0.45
    assert told["groups_2", "middle"] >= 0.5
    assert max(told["groups_3", "easy"], told["groups_3", "middle"]) <= 0.3
    assert told["groups_3", "hard"] >= 0.3
    assert told["last_groups_3", "easy"] >= 0.75


def test_a_low_temperature_suppresses_less(vectors, tmp_path, monkeypatch):
    """M5: at a temperature of 0.07 there is little left to find."""
    monkeypatch.setattr(multistage, "MCL", ("base",))
    run = trained("vectors", vectors, tmp_path / "run", changes={"scale": 14.2857})
    assert accuracies(run, vectors, (), ("hard",))["base", "hard"] >= 60


def test_captions_leave_the_hard_factor_too(tmp_path):
    """M7, CLIP-style, half as long; ordinary encoders and the bounds that are missed: the page."""
    cohort = simulate("trifactor", tmp_path / "cohort", {**COHORTS["captions"], "seed": 0})
    run = trained("captions", cohort, tmp_path / "run", changes={"steps": 220})
    found = accuracies(run, cohort, (), ("hard",))
    assert found["base", "hard"] <= 70
    assert found["joined", "hard"] - found["base", "hard"] >= 15
    pairs = {row["arm"]: row["share"] for row in chosen(run, cohort, ())}
    assert pairs["joined"] - pairs["base"] >= 4
    assert pairs["joined"] >= 95


def test_bits_that_both_views_share_hide_the_digit_from_one_stage(tmp_path):
    """M8 with a smaller ViT, not half as long as on the page."""
    found = {}
    for bits in (0, 4):
        cohort = simulate("trifactor", tmp_path / f"c{bits}", {**COHORTS["digits"], "bits": bits})
        changes = {"bits": bits, "clusters": 8, "steps": 110, "encoder": SMALL_VIT}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(multistage, "MCL", multistage.MCL if bits else ("base",))
            run = trained("digits", cohort, tmp_path / f"r{bits}", changes=changes)
        found[bits] = accuracies(run, cohort, (), ("digit",))
    assert found[0]["base", "digit"] - found[4]["base", "digit"] >= 4
    assert found[4]["joined", "digit"] - found[4]["base", "digit"] >= 11
