"""Tasks as an aspect: how well outcomes are predicted, how sure, for whom, against what.

They are measured by the evaluate stage itself, which fits, keeps and applies what predicts them.
"""

from __future__ import annotations

from medmcl.evaluation.aspects.aspect import Aspect, AspectSpec


class Tasks(Aspect[AspectSpec]):
    """Metrics with intervals, calibration, decision curves, risk groups, subgroups, differences."""

    page = "medmcl.evaluation.aspects.tasks.page"
