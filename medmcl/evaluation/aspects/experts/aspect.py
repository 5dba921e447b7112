"""Experts as an aspect: what those of a shared tower took while it trained."""

from __future__ import annotations

from medmcl.evaluation.aspects.aspect import Aspect, AspectSpec


class Experts(Aspect[AspectSpec]):
    """Which expert takes what share of each modality, and how that came about.

    Read from the record of training: nothing is measured for it.
    """

    page = "medmcl.evaluation.aspects.experts.figures"
