"""What is fitted on frozen embeddings, and what is predicted without fitting.

To add one that ``probe: {protocol: NAME}`` of an evaluate stage names: a `medmcl.evaluation.models.
contract.Model` in a file here and a line in `MODELS`, or an entry point of a package of its own.
"""

from __future__ import annotations

from medmcl.core.lazy import Parts

MODELS = Parts(
    {
        "linear_probe": "medmcl.evaluation.models.probe:LINEAR_PROBE",
        "knn": "medmcl.evaluation.models.knn:KNN",
        "cox": "medmcl.evaluation.models.survival_models:COX",
        "discrete_time": "medmcl.evaluation.models.survival_models:DISCRETE_TIME",
    },
    group="medmcl.models",
)
"""Ways to predict from frozen features; ``fine_tune`` and ``zero_shot`` name predictions that were
made elsewhere."""
LINEAR = ("linear_probe", "cox")
"""Those that end in weights of features, which experts and learned fusions are made of."""
