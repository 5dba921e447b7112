"""Every score of a selection, and its rule, against slow loops over the pairs of a small run."""

import math

import numpy as np
import pandas as pd
import pytest
import small_squares
import torch
from changed_files import rewrite
from short_runs import unreported
from small_squares import write_squares

import medmcl
from medmcl.core.overrides import parse_overrides
from medmcl.core.rng import derive_seed, torch_generator
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.recipe.listing import one_recipe
from medmcl.stages.run.run import vector_width
from medmcl.stages.select import pairs
from medmcl.stages.train.train_filter import folds_of

CPU = torch.device("cpu")
NEAR = 0.9
SIDES = ("image", "caption")
SMALL = {
    **small_squares.SMALL,
    **{
        f"stages.{stage}.{key}": value
        for stage in ("teacher-{half}", "contrast")
        for key, value in {
            "batch_size": 24,
            "epochs": None,
            "steps": 12,
            "optimiser.lr": 1e-2,
        }.items()
    },
    "stages.results.retrieval": None,
    "stages.results.zero_shot": None,
}
SCORES = {
    "fit": {"kind": "neg_clip_loss", "batch_size": 10, "divisions": 2},
    "official": {"kind": "neg_clip_loss", "batch_size": 10, "divisions": 2, "tail": "official",
                 "temperature": 0.3},
    "plain": {"kind": "norm_sim"},
    "words": {"kind": "norm_sim", "modality": "caption", "p": "inf",
              "target": {"task": "colour", "label": "red"}},
    "marked": {"kind": "norm_sim", "p": 3, "target": {"task": "marks", "label": "low"}},
    "agreed": {"kind": "norm_sim_dynamic", "modality": "caption", "rounds": 3},
}  # fmt: skip


def made_up(towers, prepared, modality, records, space, device):
    """What a teacher might make of records: seven heaps of pictures and five of captions.

    Towers of a few steps see all pictures as one; these points lie apart, others for each teacher.
    """
    weights = torch.cat([one.detach().flatten() for one in towers.parameters()])
    seed = int(1e4 * weights.double().abs().sum().item()) + SIDES.index(modality)
    drawn = np.random.default_rng(seed)
    width = vector_width(towers, modality, space)
    heaps, noise = drawn.normal(size=(7, width)), drawn.normal(size=(200, width))
    vectors = heaps[records % (7, 5)[SIDES.index(modality)]] + 0.2 * noise[records]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def patched():
    """Encoding as `made_up`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "embed_records", made_up)
        yield


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """The squares, with a task of several labels of which some are unknown."""
    torch.set_num_threads(1)
    folder = write_squares(tmp_path_factory.mktemp("squares") / "cohort", people=144, side=32)
    table = pd.read_csv(folder / "pictures.csv")
    number = np.arange(len(table))
    table["low"] = (number % 5 < 2).astype(float)
    table["odd"] = (number % 2).astype(float)
    table.loc[number % 7 == 3, "low"] = np.nan
    table.to_csv(folder / "pictures.csv", index=False)
    marks = {"kind": "multilabel", "columns": ["low", "odd"]}
    rewrite(folder / "cohort.yaml", lambda tree: tree["tasks"].update(marks=marks))
    return folder


@pytest.fixture(scope="module")
def run(squares, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return unreported(squares, recipe="select_then_train_toy", out=out, overrides=SMALL)


@pytest.fixture(scope="module")
def prepared(run, squares):
    return run.prepare(medmcl.open_cohort(squares), SIDES)


@pytest.fixture(scope="module")
def select(run, squares, patched, tmp_path_factory):
    """Select by a rule."""

    def by(rule, scores=SCORES, **more):
        asked = {"scores": scores, "rule": rule, **more}
        return medmcl.select(
            run, squares, out=tmp_path_factory.mktemp("kept") / "k.parquet", device="cpu",
            overrides={f"select.{key}": value for key, value in asked.items()},
        )  # fmt: skip

    return by


@pytest.fixture(scope="module")
def found(select):
    """A selection with every score, by two of them."""
    return select([{"by": "fit", "share": 0.6}, {"by": "words", "share": 0.4}], near=NEAR)


@pytest.fixture(scope="module")
def parts(run, prepared):
    """Teacher to its rows, and to what it makes of every sample, side by side in float64."""
    fold = folds_of(prepared, 2, run.seed)
    train = prepared.rows("train", SIDES)
    made = {}
    for number in (0, 1):
        teacher = f"teacher-{number}"
        towers = run.learner(teacher, CPU).model
        vectors = {
            side: made_up(towers, prepared, side, prepared.index(side), "pooled", CPU)
            for side in SIDES
        }
        own = train[fold[train] == number]
        made[teacher] = own, {side: one.astype(np.float64) for side, one in vectors.items()}
    return made


def at(found, rows):
    return np.searchsorted(found.rows, rows)


def log_sum_exp(values):
    top = max(values)
    return top + math.log(sum(math.exp(one - top) for one in values))


def slow_loss(run, a, b, temperature, name, tail, size=10, divisions=2):
    """negCLIPLoss of (n, D) and (n, D), pair by pair, in the batches that the seed draws."""
    rows = len(a)
    assert rows % size  # there is a tail to be told from a whole batch
    seed = derive_seed(run.seed, "select", "chosen", name)
    total = np.zeros(rows)
    for number in range(divisions):
        drawn = torch_generator(seed, "neg_clip_loss", number, device="cpu")
        order = torch.randperm(rows, generator=drawn).tolist()
        for start in range(0, rows, size):
            own = order[start : start + size]
            batch = own + (order[: size - len(own)] if tail == "wrap" else [])
            for i in own:
                there = log_sum_exp([a[i] @ b[j] / temperature for j in batch])
                back = log_sum_exp([a[j] @ b[i] / temperature for j in batch])
                total[i] += a[i] @ b[i] - temperature / 2 * (there + back)
    return total / divisions


def slow_norm(pool, target, p):
    cosines = [[abs(float(one @ aim)) for aim in target] for one in pool]
    if p == math.inf:
        return np.array([max(line) for line in cosines])
    return np.array([sum(one**p for one in line) ** (1 / p) for line in cosines])


def best(scores, rows, number):
    """The ``number`` rows of the highest score, the earlier one first of equals."""
    return sorted(sorted(rows, key=lambda row: (-scores[row], row))[:number])


def test_the_loss_in_batches_is_that_of_a_slow_loop(run, found, parts):
    for teacher, (rows, vectors) in parts.items():
        a, b = (vectors[side][rows] for side in SIDES)
        own = run.learner(teacher, CPU).objectives["cross_modal"].scale().detach()
        fit = slow_loss(run, a, b, 1 / float(own), "fit", "wrap")
        np.testing.assert_allclose(found.keep.scores["fit"][at(found, rows)], fit, atol=2e-5)
        small = slow_loss(run, a, b, 0.3, "official", "official")
        np.testing.assert_allclose(found.keep.scores["official"][at(found, rows)], small, atol=2e-5)


def test_nearness_is_to_the_rows_that_the_target_names(found, prepared, parts):
    tuning = prepared.rows("tuning")
    table = prepared.cohort.subjects.iloc[tuning]
    red = tuning[(table["colour"] == "red").to_numpy()]
    low = tuning[(table["low"].astype(float) == 1).to_numpy()]
    assert 0 < len(red) < len(tuning)
    assert 0 < len(low) < table["low"].notna().sum() < len(tuning)
    for rows, vectors in parts.values():
        for name, side, target, p in (
            ("plain", "image", tuning, 2),
            ("words", "caption", red, math.inf),
            ("marked", "image", low, 3),
        ):
            slow = slow_norm(vectors[side][rows], vectors[side][target], p)
            got = found.keep.scores[name][at(found, rows)]
            np.testing.assert_allclose(got, slow, rtol=2e-5, err_msg=name)


def test_two_steps_keep_the_best_of_the_best_within_each_teachers_rows(found, parts):
    for rows, _ in parts.values():
        fit, words = (found.keep.scores[name][at(found, rows)] for name in ("fit", "words"))
        left = best(fit, range(len(rows)), int(0.6 * len(rows)))
        kept = best(words, left, int(0.4 * len(rows)))
        assert np.flatnonzero(found.keep.kept[at(found, rows)]).tolist() == kept


def test_the_dynamic_step_chooses_among_what_is_left(select, parts):
    found = select([{"by": "fit", "share": 0.7}, {"by": "agreed", "share": 0.3}])
    for rows, vectors in parts.values():
        words, number = vectors["caption"][rows], int(0.3 * len(rows))
        fit = found.keep.scores["fit"][at(found, rows)]
        left, met = best(fit, range(len(rows)), int(0.7 * len(rows))), range(len(rows))
        step = math.ceil((len(left) - number) / 3)
        while len(left) > number:
            score = {i: np.mean([(words[i] @ words[j]) ** 2 for j in met]) for i in left}
            left = met = best(score, left, max(number, len(left) - step))
        assert np.flatnonzero(found.keep.kept[at(found, rows)]).tolist() == left
        told = found.keep.scores["agreed"][at(found, rows)]
        np.testing.assert_allclose(told, slow_norm(words, words[left], 2), rtol=2e-5)


def test_near_duplicates_are_alike_on_both_sides(found, parts):
    def groups(vectors):
        """The first row of each row's chain of alike rows."""
        first = list(range(len(vectors)))
        for i in range(len(vectors)):
            for j in range(i):
                if vectors[i] @ vectors[j] >= NEAR and first[i] != first[j]:
                    low, high = sorted((first[i], first[j]))
                    first = [low if one == high else one for one in first]
        return first

    for rows, vectors in parts.values():
        image, caption = (groups(vectors[side][rows]) for side in SIDES)
        both = list(zip(image, caption, strict=True))
        slow = [both.index(one) for one in both]
        assert slow not in (image, caption)
        own = at(found, rows)
        np.testing.assert_array_equal(found.keep.copies["near"][own], own[slow])


@pytest.mark.parametrize("recipe", ["select_then_train", "select_then_train_toy"])
def test_the_recipe_takes_the_papers_infinite_p(recipe):
    def powers(*changes):
        stages = {one.name: one for one in read_recipe(recipe, parse_overrides(changes)).stages}
        return stages["chosen"].scores["norm_sim"].p

    assert powers("stages.chosen.scores.norm_sim.p=inf") == "inf"
    assert powers() == 2
    told = one_recipe(recipe, "stages.chosen.scores.norm_sim")
    assert "norm_sim.p  (1 | 2 | 3 | inf; default 2)" in told
    assert "``inf``: near to any one row of it" in told


def test_a_selection_under_an_infinite_p_is_that_of_a_slow_loop(select, prepared, parts):
    changes = parse_overrides(["stages.chosen.scores.norm_sim.p=inf"])
    chosen = {one.name: one for one in read_recipe("select_then_train", changes).stages}["chosen"]
    assert [one.by for one in chosen.rule] == ["neg_clip_loss", "norm_sim"]
    first, second = (one.share for one in chosen.rule)
    said = chosen.model_dump(mode="json", by_alias=True)
    said["scores"]["norm_sim"]["modality"] = "image"  # as this cohort calls its picture
    found = select(said["rule"], said["scores"])
    tuning, told = prepared.rows("tuning"), []
    for rows, vectors in parts.values():
        own = at(found, rows)
        fit = found.keep.scores["neg_clip_loss"][own]
        left = best(fit, range(len(rows)), int(first * len(rows)))
        slow, square = (
            slow_norm(vectors["image"][rows], vectors["image"][tuning], p) for p in (math.inf, 2)
        )
        np.testing.assert_allclose(found.keep.scores["norm_sim"][own], slow, rtol=2e-5)
        kept = best(slow, left, int(second * len(rows)))
        assert np.flatnonzero(found.keep.kept[own]).tolist() == kept
        told.append(kept != best(square, left, int(second * len(rows))))
    assert any(told)  # p = 2 would have kept others


def test_the_file_names_infinity_as_a_recipe_does(found):
    told = found.keep.provenance["teachers"]["teacher-0"]["scores"]
    assert told["words"]["p"] == "inf"
    assert told["official"]["temperature"] == 0.3
