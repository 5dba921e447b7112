from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medmcl.core.batch import Embeddings
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.layers import masked_mean
from medmcl.objectives import build_objective, cox_partial_likelihood


def build(task, model_shape, **settings):
    torch.manual_seed(0)
    settings = {"task": task, "modalities": "ecg", **settings}
    return build_objective("supervised", settings, model_shape)


def test_predictions_have_the_shape_and_unit_of_the_task(model_shape, make_seen, tasks):
    seen, batch, _ = make_seen()
    view, has = seen["augmented"], batch.present["ecg"]
    for name, task in tasks.items():
        predicted = build(name, model_shape).predict(view).detach()
        assert predicted.shape == (7, task.num_outputs)
        assert predicted[~has].isnan().all()
        assert torch.isfinite(predicted[has]).all()
        if name in ("binary", "multilabel", "multiclass"):
            assert ((predicted[has] >= 0) & (predicted[has] <= 1)).all()
        if name == "multiclass":
            torch.testing.assert_close(predicted[has].sum(1), torch.ones(6, device="cpu"))


def test_regression_predicts_in_the_unit_of_the_target(model_shape, make_seen, tasks):
    objective = build("regression", model_shape)
    torch.nn.init.zeros_(objective.head.weight)
    torch.nn.init.zeros_(objective.head.bias)
    seen, batch, _ = make_seen()
    task = tasks["regression"]
    means = [task.values[task.known[:, c], c].mean() for c in range(2)]
    predicted = objective.predict(seen["augmented"])[batch.present["ecg"]]
    np.testing.assert_allclose(predicted[0].detach().numpy(), means, rtol=1e-6)
    everyone = {name: [1] * 7 for name in ("ecg", "cmr", "report")}
    seen, batch, _ = make_seen(present=everyone)
    loss = objective(seen, batch)["supervised/regression"]
    known = task.known.sum(0)
    assert loss.value.item() == pytest.approx(1.0, rel=1e-5)  # the mean explains nothing
    assert loss.count == known.sum()


def test_survival_is_cox_over_rows_with_the_input(model_shape, make_seen):
    objective = build("survival", model_shape)
    seen, batch, _ = make_seen()
    rows = batch.present["ecg"]
    hazard = objective.predict(seen["augmented"])[rows, 0]
    time, event = batch.targets["survival"][rows].T
    term = objective(seen, batch)["supervised/survival"]
    torch.testing.assert_close(term.value, cox_partial_likelihood(hazard, time, event))
    assert term.count == int(event.sum())
    assert objective.across_ranks == "gather"


def test_a_batch_without_an_event_is_left_out(model_shape, make_seen):
    objective = build("survival", model_shape)
    seen, batch, _ = make_seen()
    batch.targets["survival"][:, 1] = 0
    assert objective(seen, batch) == {}


def test_unknown_targets_have_no_influence(model_shape, make_seen):
    objective = build("multilabel", model_shape)
    seen, batch, _ = make_seen()
    before = objective(seen, batch)["supervised/multilabel"]
    batch.targets["multilabel"][~batch.known["multilabel"]] = torch.nan
    after = objective(seen, batch)["supervised/multilabel"]
    assert torch.equal(before.value, after.value)
    assert before.count == int(batch.known["multilabel"][batch.present["ecg"]].sum())


def test_several_modalities_side_by_side_need_all_and_their_mean_needs_any(model_shape, make_seen):
    seen, batch, _ = make_seen()
    ecg, cmr = batch.present["ecg"], batch.present["cmr"]
    both = build("binary", model_shape, modalities=["ecg", "cmr"])
    either = build("binary", model_shape, modalities=["ecg", "cmr"], join="mean")
    assert np.array_equal(both.rows(seen["augmented"]), ecg & cmr)
    assert np.array_equal(either.rows(seen["augmented"]), ecg | cmr)
    features = seen["augmented"].features
    mean = torch.where(
        (ecg & cmr)[:, None],
        (features["ecg"] + features["cmr"]) / 2,
        features["ecg"] + features["cmr"],
    )
    has = ecg | cmr
    torch.testing.assert_close(
        either.predict(seen["augmented"])[has], either.head(mean[has]).sigmoid()
    )
    uneven = replace(model_shape, widths={"ecg": 8, "cmr": 4, "report": 8})
    with pytest.raises(ConfigError, match="one width"):
        build("binary", uneven, modalities=["ecg", "cmr"], join="mean")


def test_balanced_weights_and_standardisation_travel_with_the_weights(model_shape, make_seen):
    for name, settings in (
        ("binary", {"class_weights": "balanced"}),
        ("multiclass", {"class_weights": "balanced"}),
        ("regression", {}),
    ):
        trained = build(name, model_shape, **settings)
        task = model_shape.tasks[name]
        empty = replace(
            model_shape, tasks={name: task.take(np.zeros(len(task.values), dtype=bool))}
        )
        fresh = build(name, empty, **settings)
        seen, batch, _ = make_seen()
        with pytest.raises(ArtefactError, match="no train targets"):
            fresh(seen, batch)
        with pytest.raises(ArtefactError, match="no train targets"):
            fresh.predict(seen["augmented"])
        fresh.load_state_dict(trained.state_dict())
        expected = trained(seen, batch)[f"supervised/{name}"].value
        assert torch.equal(fresh(seen, batch)[f"supervised/{name}"].value, expected)


def test_padding_is_not_pooled(model_shape, make_seen):
    seen, batch, _ = make_seen()
    view = seen["augmented"]
    padding = torch.zeros(7, 12, dtype=torch.bool, device="cpu")
    padding[:, 5:] = True
    for pooling in ("mean", "attention"):
        objective = build("binary", model_shape, pooling=pooling)
        answers = []
        for content in (0.0, 1e3):
            tokens = view.tokens["ecg"].masked_fill(padding[..., None], content)
            padded = Embeddings(batch=batch, tokens={"ecg": tokens}, padding={"ecg": padding})
            answers.append(objective.predict(padded)[batch.present["ecg"]])
        torch.testing.assert_close(*answers)
    tokens = view.tokens["ecg"]
    torch.testing.assert_close(masked_mean(tokens, padding), tokens[:, :5].mean(1))


def test_what_the_model_does_not_give_is_named(model_shape, make_seen):
    seen, batch, _ = make_seen()
    bare = Embeddings(batch=batch, features=seen["augmented"].features)
    objective = build("binary", model_shape, pooling="mean")
    with pytest.raises(ConfigError, match="gives no tokens of 'ecg'"):
        objective({"augmented": bare}, batch)
    with pytest.raises(ConfigError, match="hold no targets"):
        build("binary", model_shape)(seen, replace(batch, targets={}, known={}))


def test_dropout_is_silent_in_evaluation(model_shape, make_seen):
    objective = build("binary", model_shape, dropout=0.9).eval()
    seen, _, _ = make_seen()
    assert torch.equal(
        objective.predict(seen["augmented"]).nan_to_num(),
        objective.predict(seen["augmented"]).nan_to_num(),
    )
