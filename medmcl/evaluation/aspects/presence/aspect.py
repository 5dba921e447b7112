"""Presence as an aspect: tasks by the modalities that people have, and as if they had fewer.

It is measured with the tasks, by the same predictors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from typing_extensions import override

from medmcl.evaluation.aspects.aspect import Aspect, AspectSpec, Rows

if TYPE_CHECKING:
    from medmcl.evaluation.protocol.evaluation import Evaluation
    from medmcl.evaluation.report.section import Section


class Presence(Aspect[AspectSpec]):
    """The headline of every method by pattern of modalities."""

    @override
    def sections(self, data: Evaluation) -> Iterator[Section]:
        from medmcl.evaluation.aspects.presence.table import presence_tables
        from medmcl.evaluation.report.section import Section

        yield Section.of("presence", "By modalities present", short="By modalities",
                         part="For whom", tables=presence_tables(data.presence))  # fmt: skip

    @override
    def files(self, data: Evaluation) -> Mapping[str, Rows]:
        return {"presence": [asdict(row) for row in data.presence]}
