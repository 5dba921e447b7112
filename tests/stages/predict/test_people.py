"""What happened to each person who was scored, as known at a horizon."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from made_targets import targets_of

from medmcl.evaluation import evaluate_task, linear_probe
from medmcl.evaluation.protocol.predicted import Method
from medmcl.stages.predict.people import scored_people


def test_what_was_observed_is_the_status_at_the_horizon():
    rng = np.random.default_rng(0)
    values = np.stack([rng.exponential(800, 100), rng.random(100) < 0.5], axis=1)
    values[90:96] = [[100, 1], [400, 1], [100, 0], [400, 0], [365.25, 0], [100, 0]]
    competing = np.arange(100) == 95
    about = {"unit": "days", "horizons_years": (1.0, 2.0), "competing": competing}
    targets = targets_of("survival", values, name="death", **about)
    split = np.where(np.arange(100) < 60, "train", "tuning").astype(object)
    split[80:] = "held_out"
    x = Method(features=rng.normal(size=(100, 2)), fit=linear_probe, protocol="linear_probe")
    done = evaluate_task({"x": x}, targets, split, np.arange(100), bootstrap_draws=20)
    samples = pd.DataFrame({"subject": np.arange(100), "sample": np.arange(100)})
    table = scored_people(SimpleNamespace(samples=samples, splits=split), [("death", done)])
    own = table[table["subject"].astype(int).between(90, 95)]
    first, second = (own[own["horizon_years"] == year] for year in (1, 2))
    assert first["observed"].fillna(-1).tolist() == [1, 0, -1, 0, 0, 0]
    assert second["observed"].fillna(-1).tolist() == [1, 1, -1, -1, -1, 0]
    for part in (first, second):
        assert part["event"].tolist() == [1, 1, 0, 0, 0, 2]
        assert part["time"].tolist() == [100, 400, 100, 400, 365.25, 100]
