"""Evaluation: metrics with intervals, probes, retrieval, geometry, localisation and the report.

Functions are found here whatever was imported before: no module of the package is called as one of
them, or the function is bound after its module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.evaluation.aspects.attack.rates import attack_rates, attack_success
    from medmcl.evaluation.aspects.maps.localisation import (
        Localisation,
        cosine_map,
        localise,
        mass_inside,
    )
    from medmcl.evaluation.aspects.paired_choice.measure import (
        compare_choices,
        paired_choice,
        right_pairs,
    )
    from medmcl.evaluation.aspects.retrieval.measure import ranks, recall_at_k, retrieval
    from medmcl.evaluation.metrics.calibration_curve import calibration
    from medmcl.evaluation.metrics.calibration_metrics import (
        calibration_intercept,
        calibration_slope,
        ici,
    )
    from medmcl.evaluation.metrics.decision_curve import (
        net_benefit,
        net_benefit_metric,
        net_benefit_survival,
    )
    from medmcl.evaluation.metrics.delong_method import delong
    from medmcl.evaluation.metrics.geometry import alignment, degeneracy, effective_rank, uniformity
    from medmcl.evaluation.metrics.intervals import Resampling, bootstrap, paired_difference
    from medmcl.evaluation.metrics.metric import NotEstimable
    from medmcl.evaluation.metrics.multiclass import brier_classes
    from medmcl.evaluation.metrics.predictions import (
        METRICS,
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
    from medmcl.evaluation.metrics.sampled import Interval
    from medmcl.evaluation.metrics.survival.calibration import survival_calibration
    from medmcl.evaluation.metrics.survival.competing_calibration import competing_calibration
    from medmcl.evaluation.metrics.survival.d_calibration import d_calibration
    from medmcl.evaluation.metrics.survival.incidence_curve import incidence_curve
    from medmcl.evaluation.metrics.survival.kaplan_meier import kaplan_meier
    from medmcl.evaluation.metrics.survival.metric import (
        auc_metric,
        brier_metric,
        c_index_ipcw_metric,
        integrated_brier_metric,
    )
    from medmcl.evaluation.metrics.survival.metrics import (
        brier_at,
        c_index_ipcw,
        integrated_brier,
        time_dependent_auc,
    )
    from medmcl.evaluation.metrics.thresholds import (
        sensitivity_at_specificity,
        specificity_at_sensitivity,
        tpr_at_top,
    )
    from medmcl.evaluation.models.baselines import combined, majority
    from medmcl.evaluation.models.competing import cumulative_incidence
    from medmcl.evaluation.models.contract import Fitted
    from medmcl.evaluation.models.cross_validation import out_of_fold
    from medmcl.evaluation.models.knn import knn
    from medmcl.evaluation.models.probe import cox_probe, discrete_time_probe, linear_probe
    from medmcl.evaluation.models.zero_shot import ensemble, zero_shot_classes, zero_shot_labels
    from medmcl.evaluation.protocol.evaluate import evaluate_embeddings, evaluate_task
    from medmcl.evaluation.protocol.evaluation import Evaluation
    from medmcl.evaluation.protocol.evidence import FittedOn, SubgroupRow, TaskEvidence
    from medmcl.evaluation.protocol.predicted import Given, Method
    from medmcl.evaluation.protocol.results import Result, load_results, save_results
    from medmcl.evaluation.protocol.subsets import label_subset
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "METRICS",
    "Evaluation",
    "Fitted",
    "FittedOn",
    "Given",
    "Interval",
    "Localisation",
    "Method",
    "NotEstimable",
    "Resampling",
    "Result",
    "SubgroupRow",
    "TaskEvidence",
    "accuracy",
    "alignment",
    "attack_rates",
    "attack_success",
    "auc_metric",
    "auprc",
    "auroc",
    "balanced_accuracy",
    "bootstrap",
    "brier",
    "brier_at",
    "brier_classes",
    "brier_metric",
    "c_index",
    "c_index_ipcw",
    "c_index_ipcw_metric",
    "calibration",
    "calibration_intercept",
    "calibration_slope",
    "combined",
    "compare_choices",
    "competing_calibration",
    "cosine_map",
    "cox_probe",
    "cumulative_incidence",
    "d_calibration",
    "degeneracy",
    "delong",
    "discrete_time_probe",
    "effective_rank",
    "ensemble",
    "evaluate_embeddings",
    "evaluate_task",
    "ici",
    "incidence_curve",
    "integrated_brier",
    "integrated_brier_metric",
    "kaplan_meier",
    "knn",
    "label_subset",
    "linear_probe",
    "load_results",
    "localise",
    "macro",
    "mae",
    "majority",
    "mass_inside",
    "net_benefit",
    "net_benefit_metric",
    "net_benefit_survival",
    "out_of_fold",
    "paired_choice",
    "paired_difference",
    "pearson",
    "r2",
    "ranks",
    "recall_at_k",
    "retrieval",
    "right_pairs",
    "save_results",
    "sensitivity_at_specificity",
    "specificity_at_sensitivity",
    "survival_calibration",
    "time_dependent_auc",
    "tpr_at_top",
    "uniformity",
    "zero_shot_classes",
    "zero_shot_labels",
]
