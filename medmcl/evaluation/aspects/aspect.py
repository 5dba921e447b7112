"""What an aspect of an evaluation is: one thing that is measured, and how a report shows it.

An aspect is a folder, and one line in `ASPECTS`. What a recipe says of it stands in the evaluate
stage under the name of the aspect; the stage goes through the map to measure, and the report to
show. Neither knows any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Self, TypeVar

from pydantic import Field
from typing_extensions import override

from medmcl.core.config import Config
from medmcl.core.lazy import Parts, has, refuse_slips

if TYPE_CHECKING:
    from medmcl.data.cohort.cohort import Cohort
    from medmcl.evaluation.aspects.scene import Scene
    from medmcl.evaluation.protocol.evaluation import Evaluation, Found
    from medmcl.evaluation.report.section import Drawn, Said

_HERE = "medmcl.evaluation.aspects"
ASPECTS = Parts(
    {
        "tasks": f"{_HERE}.tasks.aspect:Tasks",
        "presence": f"{_HERE}.presence.aspect:Presence",
        "selection": f"{_HERE}.selection.aspect:Selection",
        "confounders": f"{_HERE}.confounders.aspect:Confounders",
        "retrieval": f"{_HERE}.retrieval.aspect:Retrieval",
        "zero_shot": f"{_HERE}.zero_shot.aspect:ZeroShot",
        "paired_choice": f"{_HERE}.paired_choice.aspect:PairedChoice",
        "attack": f"{_HERE}.attack.aspect:Attack",
        "maps": f"{_HERE}.maps.aspect:Maps",
        "experts": f"{_HERE}.experts.aspect:Experts",
    },
    group="medmcl.aspects",
    keeps=has("medmcl.aspects", "measure"),
)
"""Name to aspect, in the order in which they are measured and told."""

Rows = list[dict[str, Any]]
"""Rows of plain values: a CSV file beside the report, and a key of ``report.json``."""


class AspectSpec(Config):
    """What a recipe says of an aspect, and what can be asked of that before anything is measured.

    It is read without torch, with every recipe.
    """

    asks_models: ClassVar[bool] = False
    """Whether it reads what ``probe`` and ``embeddings`` give: one of these must be said."""
    sets_beside: ClassVar[bool] = False
    """Whether models of other runs stand beside those of this one in it."""
    looks_inside: ClassVar[bool] = False
    """Whether it looks into the towers of a stage: those of a joined one are several."""

    @classmethod
    def assumed(cls, asked: Mapping[str, Any], cohort: Cohort) -> Self | None:
        """Give what is measured where a recipe says nothing of it; None: nothing.

        Args:
            asked: What it says of other aspects, by name.
            cohort: The cohort to score.
        """
        return None

    @property
    def is_asked(self) -> bool:
        """Whether it asks for anything."""
        return True

    def stages(self) -> list[str]:
        """Name the stages whose towers it reads."""
        return []

    def sources(self) -> list[str]:
        """Name the earlier stages that it reads, whatever these make."""
        return self.stages()

    def modalities(self) -> tuple[str, ...]:
        """Name the modalities that it reads together: without one of them it is left out."""
        return ()

    def for_cohort(self, towers: Callable[[str], Sequence[str]]) -> Self:
        """Give it with what it leaves to the cohort said.

        Args:
            towers: Name of an earlier stage to the modalities that it has towers for.
        """
        return self

    def checks_on(self, name: str, cohort: Cohort, tasks: Sequence[str]) -> object:
        """Raise what is wrong with it on a cohort, by its tables alone.

        Args:
            name: Of the stage.
            cohort: The cohort.
            tasks: Those of the cohort that the stage scores.
        """

    def wanted(
        self, name: str, cohort: Cohort, left_out: Callable[[str], str], *, is_own: bool
    ) -> tuple[Self | None, list[str]]:
        """Give what of it can be measured, None if nothing can, and notes of what cannot and why.

        Args:
            name: What a recipe calls it.
            cohort: The cohort to score.
            left_out: Name of a stage to why it was not trained; empty if it was.
            is_own: Whether the run was trained on this cohort.
        """
        missing = [one for one in self.modalities() if one not in cohort.spec.modalities]
        if missing:
            return None, [f"{name} left out: the cohort has no {', '.join(missing)}"]
        return self, []


S = TypeVar("S", bound=AspectSpec)


class OfStage(AspectSpec):
    """An aspect of the towers of one stage."""

    stage: str

    @override
    def stages(self) -> list[str]:
        return [self.stage]

    @override
    def wanted(
        self, name: str, cohort: Cohort, left_out: Callable[[str], str], *, is_own: bool
    ) -> tuple[Self | None, list[str]]:
        reason = left_out(self.stage)
        if reason:
            return None, [f"{name} left out: stage {self.stage} was not trained ({reason})"]
        return super().wanted(name, cohort, left_out, is_own=is_own)


class OfModels(AspectSpec):
    """An aspect of several stages, each under a name; later ones are compared with the first."""

    models: Annotated[dict[str, str], Field(min_length=1)]
    """Name in the results to stage."""

    @override
    def stages(self) -> list[str]:
        return [stage for stage in self.models.values() if stage != "untrained"]

    @override
    def wanted(
        self, name: str, cohort: Cohort, left_out: Callable[[str], str], *, is_own: bool
    ) -> tuple[Self | None, list[str]]:
        models, notes = trained_models(self.models, left_out)
        if not models:
            return None, notes
        found = self.model_copy(update={"models": models})
        wanted, more = super(OfModels, found).wanted(name, cohort, left_out, is_own=is_own)
        return wanted, [*notes, *more]


def trained_models(
    models: Mapping[str, str], left_out: Callable[[str], str]
) -> tuple[dict[str, str], list[str]]:
    """Give the models whose stages were trained, and a note of each that was not."""
    reasons = {label: left_out(stage) for label, stage in models.items()}
    notes = [
        f"{label} left out: stage {models[label]} was not trained ({reason})"
        for label, reason in reasons.items()
        if reason
    ]
    return {label: stage for label, stage in models.items() if not reasons[label]}, notes


class Aspect(Generic[S]):
    """One thing that an evaluation measures, and how a report shows it.

    Rows of `Result` whose ``kind`` is the name of the aspect are its own; all others are of tasks.
    What else it found (`Found.shown`) it finds again under its name: `Evaluation.shown`.
    """

    Settings: ClassVar[type[AspectSpec] | None] = None
    """What a recipe may say of it; None: it is measured with the tasks, or by another stage."""

    said: ClassVar[str] = ""
    """What is said while it is measured, where that is another word than its name."""
    has_rows: ClassVar[bool] = False
    """Whether rows of `Result` are of its own kind: ``report.json`` has them under its name."""
    page: ClassVar[str] = ""
    """Module that shows it, loaded once something is shown: functions of an `Evaluation`, any of
    ``sections``, ``sentences``, ``not_shown`` and ``files``."""

    def measure(self, spec: S, scene: Scene) -> Found:
        """Measure it."""
        from medmcl.evaluation.protocol.evaluation import Found

        return Found()

    def sections(self, data: Evaluation) -> Iterable[Drawn]:
        """Give its sections of the report; one with nothing in it is not shown."""
        return self._of_page("sections", data)

    def sentences(self, data: Evaluation) -> Iterable[Said]:
        """Give its sentences at the head of the report."""
        return self._of_page("sentences", data)

    def not_shown(self, data: Evaluation) -> Iterable[str]:
        """Say of what was asked for and could not be shown why, in lines of the appendix."""
        return self._of_page("not_shown", data)

    def files(self, data: Evaluation) -> Mapping[str, Rows]:
        """Give its numbers, name of a file to rows; empty ones are not written."""
        return dict(self._of_page("files", data))

    def _of_page(self, part: str, data: Evaluation) -> Any:
        module = import_module(self.page) if self.page else None
        return getattr(module, part)(data) if hasattr(module, part) else ()


def aspects() -> dict[str, Aspect[Any]]:
    """Build every aspect, in order. What fails of one from outside is told as its package's."""
    return {name: _outside(name) if name in ASPECTS.outside else ASPECTS[name]()
            for name in ASPECTS}  # fmt: skip


def _outside(name: str) -> Aspect[Any]:
    from medmcl.evaluation.protocol.evaluation import Found
    from medmcl.evaluation.report.section import Said, Section
    from medmcl.modalities.outside import fails

    part = f"the aspect '{name}' (package {ASPECTS.package(name)})"
    fix = "correct the package (docs/extend.md has the contract), and go on with --resume"
    with fails(f"{part} cannot be built", fix):
        aspect: Aspect[Any] = ASPECTS[name]()
    slips = ["measure is missing"] if type(aspect).measure is Aspect.measure else []
    refuse_slips(ASPECTS.group, name, ASPECTS.package(name), slips)

    def guarded(method: str, form: type) -> Callable[..., Any]:
        own = getattr(aspect, method)

        def call(*given: Any) -> Any:
            with fails(f"{part} failed in {method}", fix):
                found = own(*given)
                if not isinstance(found, Found | Mapping):
                    found = [one() if method == "sections" and callable(one) else one
                             for one in found]  # fmt: skip
                strange = [one for one in (found if isinstance(found, list) else [found])
                           if not isinstance(one, form)]  # fmt: skip
                if strange:
                    raise TypeError(f"it gave {strange[0]!r}, which is no {form.__name__}")
            return found

        return call

    gives = {"measure": Found, "sections": Section, "sentences": Said, "not_shown": str,
             "files": Mapping}  # fmt: skip
    for method, form in gives.items():
        setattr(aspect, method, guarded(method, form))
    return aspect
