"""Evaluation: metrics with intervals, probes, retrieval, geometry and the report.

Functions are found here whatever was imported before: no module of the package is called as one of
them, or the function is bound after its module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmcl.core.lazy import lazy

if TYPE_CHECKING:
    from medmcl.evaluation.aspects.attack.rates import attack_rates as attack_rates
    from medmcl.evaluation.aspects.attack.rates import attack_success as attack_success
    from medmcl.evaluation.aspects.maps.localisation import cosine_map as cosine_map
    from medmcl.evaluation.aspects.paired_choice.measure import compare_choices as compare_choices
    from medmcl.evaluation.aspects.paired_choice.measure import paired_choice as paired_choice
    from medmcl.evaluation.aspects.paired_choice.measure import right_pairs as right_pairs
    from medmcl.evaluation.aspects.retrieval.measure import ranks as ranks
    from medmcl.evaluation.aspects.retrieval.measure import recall_at_k as recall_at_k
    from medmcl.evaluation.aspects.retrieval.measure import retrieval as retrieval
    from medmcl.evaluation.metrics.calibration_curve import calibration as calibration
    from medmcl.evaluation.metrics.calibration_metrics import (
        calibration_intercept as calibration_intercept,
    )
    from medmcl.evaluation.metrics.calibration_metrics import calibration_slope as calibration_slope
    from medmcl.evaluation.metrics.calibration_metrics import ici as ici
    from medmcl.evaluation.metrics.decision_curve import net_benefit as net_benefit
    from medmcl.evaluation.metrics.decision_curve import net_benefit_metric as net_benefit_metric
    from medmcl.evaluation.metrics.decision_curve import (
        net_benefit_survival as net_benefit_survival,
    )
    from medmcl.evaluation.metrics.delong_method import delong as delong
    from medmcl.evaluation.metrics.geometry import alignment as alignment
    from medmcl.evaluation.metrics.geometry import effective_rank as effective_rank
    from medmcl.evaluation.metrics.geometry import uniformity as uniformity
    from medmcl.evaluation.metrics.intervals import Resampling as Resampling
    from medmcl.evaluation.metrics.intervals import bootstrap as bootstrap
    from medmcl.evaluation.metrics.intervals import paired_difference as paired_difference
    from medmcl.evaluation.metrics.metric import NotEstimable as NotEstimable
    from medmcl.evaluation.metrics.multiclass import brier_classes as brier_classes
    from medmcl.evaluation.metrics.predictions import METRICS as METRICS
    from medmcl.evaluation.metrics.predictions import accuracy as accuracy
    from medmcl.evaluation.metrics.predictions import auprc as auprc
    from medmcl.evaluation.metrics.predictions import auroc as auroc
    from medmcl.evaluation.metrics.predictions import balanced_accuracy as balanced_accuracy
    from medmcl.evaluation.metrics.predictions import brier as brier
    from medmcl.evaluation.metrics.predictions import c_index as c_index
    from medmcl.evaluation.metrics.predictions import macro as macro
    from medmcl.evaluation.metrics.predictions import mae as mae
    from medmcl.evaluation.metrics.predictions import pearson as pearson
    from medmcl.evaluation.metrics.predictions import r2 as r2
    from medmcl.evaluation.metrics.sampled import Interval as Interval
    from medmcl.evaluation.metrics.survival.calibration import (
        survival_calibration as survival_calibration,
    )
    from medmcl.evaluation.metrics.survival.competing_calibration import (
        competing_calibration as competing_calibration,
    )
    from medmcl.evaluation.metrics.survival.d_calibration import d_calibration as d_calibration
    from medmcl.evaluation.metrics.survival.incidence_curve import (
        incidence_curve as incidence_curve,
    )
    from medmcl.evaluation.metrics.survival.kaplan_meier import kaplan_meier as kaplan_meier
    from medmcl.evaluation.metrics.survival.metric import auc_metric as auc_metric
    from medmcl.evaluation.metrics.survival.metric import brier_metric as brier_metric
    from medmcl.evaluation.metrics.survival.metric import c_index_ipcw_metric as c_index_ipcw_metric
    from medmcl.evaluation.metrics.survival.metric import (
        integrated_brier_metric as integrated_brier_metric,
    )
    from medmcl.evaluation.metrics.survival.metrics import brier_at as brier_at
    from medmcl.evaluation.metrics.survival.metrics import c_index_ipcw as c_index_ipcw
    from medmcl.evaluation.metrics.survival.metrics import integrated_brier as integrated_brier
    from medmcl.evaluation.metrics.survival.metrics import time_dependent_auc as time_dependent_auc
    from medmcl.evaluation.metrics.thresholds import (
        sensitivity_at_specificity as sensitivity_at_specificity,
    )
    from medmcl.evaluation.metrics.thresholds import tpr_at_top as tpr_at_top
    from medmcl.evaluation.models.baselines import combined as combined
    from medmcl.evaluation.models.baselines import majority as majority
    from medmcl.evaluation.models.competing import cumulative_incidence as cumulative_incidence
    from medmcl.evaluation.models.contract import Fitted as Fitted
    from medmcl.evaluation.models.cross_validation import out_of_fold as out_of_fold
    from medmcl.evaluation.models.knn import knn as knn
    from medmcl.evaluation.models.probe import linear_probe as linear_probe
    from medmcl.evaluation.models.survival_models import cox_probe as cox_probe
    from medmcl.evaluation.models.survival_models import discrete_time_probe as discrete_time_probe
    from medmcl.evaluation.models.zero_shot import ensemble as ensemble
    from medmcl.evaluation.models.zero_shot import zero_shot_classes as zero_shot_classes
    from medmcl.evaluation.models.zero_shot import zero_shot_labels as zero_shot_labels
    from medmcl.evaluation.protocol.evaluate import evaluate_embeddings as evaluate_embeddings
    from medmcl.evaluation.protocol.evaluate import evaluate_task as evaluate_task
    from medmcl.evaluation.protocol.evaluation import Evaluation as Evaluation
    from medmcl.evaluation.protocol.evidence import FittedOn as FittedOn
    from medmcl.evaluation.protocol.evidence import SubgroupRow as SubgroupRow
    from medmcl.evaluation.protocol.evidence import TaskEvidence as TaskEvidence
    from medmcl.evaluation.protocol.predicted import Given as Given
    from medmcl.evaluation.protocol.predicted import Method as Method
    from medmcl.evaluation.protocol.results import Result as Result
    from medmcl.evaluation.protocol.results import load_results as load_results
    from medmcl.evaluation.protocol.results import save_results as save_results
    from medmcl.evaluation.protocol.subsets import label_subset as label_subset
else:
    __getattr__, __dir__ = lazy(__name__)
