"""The first lines of a report: plain sentences with intervals, question by question."""

from __future__ import annotations

from medmcl.evaluation.aspects.aspect import aspects
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.section import ORDER, Said


def headline(data: Evaluation) -> list[Said]:
    """Answer who, how well, how sure, for whom and against what; then what else was found."""
    said = [*_wrecked(data), *(one for part in aspects().values() for one in part.sentences(data))]
    said.sort(key=lambda one: ORDER.index(one.question))
    return said or [Said("", f"{data.title}: nothing has been evaluated yet.")]


def _wrecked(data: Evaluation) -> list[Said]:
    """Say before all else that the training is wrecked."""
    if not data.wrecked:
        return []
    said = "; ".join(f"{name} ({why})" for name, why in data.wrecked.items())
    line = (
        f"This run is wrecked: {said}. Results of models that hold such a stage say nothing of "
        f"the data or of the method. Try to {data.remedy}."
    )
    return [Said("Wrecked", line)]
