"""Presence as an aspect: tasks by the modalities that people have, and as if they had fewer.

It is measured with the tasks, by the same predictors.
"""

from __future__ import annotations

from medmcl.evaluation.aspects.aspect import Aspect, AspectSpec


class Presence(Aspect[AspectSpec]):
    """The headline of every method by pattern of modalities."""

    page = "medmcl.evaluation.aspects.presence.table"
