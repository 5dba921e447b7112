"""Selection as an aspect: what the ``select`` stages of a run kept; those stages measure it."""

from __future__ import annotations

from medmcl.evaluation.aspects.aspect import Aspect, AspectSpec


class Selection(Aspect[AspectSpec]):
    """How many pairs each selection kept, of whom, and by which scores."""

    page = "medmcl.evaluation.aspects.selection.section"
