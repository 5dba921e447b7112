"""What was asked for of a task and could not be made, and why."""

from __future__ import annotations

from medmcl.evaluation.aspects.tasks.survival_figures import curve_of
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.words import about_what, listed

MOST_NAMED = 8  # tasks that share a reason


def not_shown(data: Evaluation) -> list[str]:
    """Say of what was asked for and could not be made why, each reason once."""
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    for one in data.evidence:
        parts: list[tuple[str, object]] = [
            ("calibration curve", one.calibration),
            ("decision curve", one.decision),
            ("D-calibration", one.d_calibration),
            *((f"survival curve ({group.name})", curve_of(group)) for group in one.risk_groups),
        ]
        for what, part in parts:
            if isinstance(part, NotEstimable):
                about = reasons.setdefault((what, part.reason), {})
                about[about_what(one.task, one.target)] = None
    by_reason: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (what, reason), tasks in reasons.items():
        by_reason.setdefault((reason, tuple(tasks)), []).append(what)
    lines = [
        f"{' and '.join(kinds)} of {listed(tasks, MOST_NAMED)}: {reason}."
        for (reason, tasks), kinds in by_reason.items()
    ]
    lines = [f"{line[0].upper()}{line[1:]}" for line in lines]
    return lines
