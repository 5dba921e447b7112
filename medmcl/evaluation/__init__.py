"""Evaluation: metrics with intervals, probes, retrieval, geometry, localisation and the report."""

from __future__ import annotations

from medmcl.evaluation.cross_validation import repeated_cv
from medmcl.evaluation.evaluate import PROTOCOLS, evaluate_embeddings
from medmcl.evaluation.geometry import alignment, degeneracy, effective_rank, uniformity
from medmcl.evaluation.intervals import Interval, Resampler, bootstrap, paired_difference
from medmcl.evaluation.knn import knn
from medmcl.evaluation.localisation import Localisation, cosine_map, localise, mass_inside
from medmcl.evaluation.metrics import (
    METRICS,
    NotEstimable,
    accuracy,
    auprc,
    auroc,
    balanced_accuracy,
    brier,
    c_index,
    macro,
    mae,
    pearson,
    r2,
)
from medmcl.evaluation.probe import Fitted, linear_probe
from medmcl.evaluation.results import Result, load_results, save_results
from medmcl.evaluation.retrieval import ranks, recall_at_k, retrieval
from medmcl.evaluation.subsets import label_subset
from medmcl.evaluation.zero_shot import ensemble, zero_shot_classes, zero_shot_labels

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "Fitted",
    "Interval",
    "Localisation",
    "NotEstimable",
    "Resampler",
    "Result",
    "accuracy",
    "alignment",
    "auprc",
    "auroc",
    "balanced_accuracy",
    "bootstrap",
    "brier",
    "c_index",
    "cosine_map",
    "degeneracy",
    "effective_rank",
    "ensemble",
    "evaluate_embeddings",
    "knn",
    "label_subset",
    "linear_probe",
    "load_results",
    "localise",
    "macro",
    "mae",
    "mass_inside",
    "paired_difference",
    "pearson",
    "r2",
    "ranks",
    "recall_at_k",
    "repeated_cv",
    "retrieval",
    "save_results",
    "uniformity",
    "zero_shot_classes",
    "zero_shot_labels",
]
