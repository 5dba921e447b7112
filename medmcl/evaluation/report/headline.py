"""The first lines of a report: plain sentences with intervals, question by question."""

from __future__ import annotations

from medmcl.evaluation.aspects.aspect import aspects
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.section import ORDER, Said


def headline(data: Evaluation) -> list[Said]:
    """Answer who, how well, how sure, for whom and against what; then what else was found."""
    said = [one for part in aspects().values() for one in part.sentences(data)]
    if data.wrecked:  # before all else
        why = "; ".join(f"{name} ({reason})" for name, reason in data.wrecked.items())
        line = (
            f"This run is wrecked: {why}. Results of models that hold such a stage say nothing of "
            f"the data or of the method. Try to {data.remedy}."
        )
        said.insert(0, Said("Wrecked", line))
    said.sort(key=lambda one: ORDER.index(one.question))
    return said or [Said("", f"{data.title}: nothing has been evaluated yet.")]
