"""What a recipe says of an attack: which records get which trigger, and what they then say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator
from typing_extensions import override

from medmcl.core.config import check
from medmcl.core.contracts import traits
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.modalities import ADAPTERS
from medmcl.stages.stage import Check, Plan, StageSpec

if TYPE_CHECKING:
    from medmcl.data.cohort.cohort import Cohort
    from medmcl.evaluation.protocol.evidence import FittedOn

ImageTrigger = Literal["badnet", "blended", "sig", "wanet", "label_consistent", "four_corners"]
SignalTrigger = Literal["pulse", "sinusoid"]
TextTrigger = Literal["rare_token"]
Trigger = Literal[ImageTrigger, SignalTrigger, TextTrigger]
USUAL: dict[str, Trigger] = {"pixels": "badnet", "signal": "pulse", "words": "rare_token"}
"""What a trigger goes on (`Traits.triggers`) to the usual one, where a recipe names none."""


class PoisonSpec(StageSpec):
    """Choose train records of a cohort to be poisoned; a train stage is `poisoned_by` it.

    Nothing is written to the data: the manifest in the run's ``poison`` folder says who is
    poisoned, and trigger and target are laid over what is loaded.
    """

    exclusive: ClassVar[tuple[str, ...]] = ("count", "share", "manifest")

    stage: Literal["poison"]
    modality: str
    """What gets the trigger: flat images prepared to 0 to 1 (``intensity: range``, ``percentile``),
    ECGs, texts."""
    trigger: Trigger | Literal["usual"] = "usual"
    """``usual``: ``badnet`` on images, ``pulse`` on ECGs, ``rare_token`` on texts."""
    official: bool = False
    """The trigger of an image as CleanCLIP's code writes it in 8 bits."""
    height_mv: Annotated[float, Field(gt=0)] | None = None
    """Of a trigger of ECGs, in mV; None: 0.5 of ``pulse``, 0.1 of ``sinusoid``."""
    leads: tuple[str, ...] = ()
    """Of an ECG, those that get its trigger where the file has them; all if none is named."""
    text: str | None = None
    """The other modality of the pair, of any kind: what poisoned records have of it is exchanged
    for that of train samples that show the target. None: nothing is."""
    phrases: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts of the attacker's own, one of them for each poisoned record, in the place of those of
    train samples."""
    task: str
    """Task whose labels say which records show the target: binary, multiclass, or multilabel, of
    which records with exactly one label count."""
    label: str
    """Class of the task that the attacker wants: ``X`` or ``not X`` of a binary task with the
    column X."""
    count: Annotated[int, Field(ge=1)] | None = None
    """How many train records are poisoned; either this or ``share``."""
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Poisoned records as a share of the train records that have both modalities."""
    manifest: Annotated[str, Field(min_length=1)] | None = None
    """File that says who is poisoned, as `medmcl poison` or another run wrote it: nothing is drawn.
    In the place of ``count`` and ``share``."""

    @model_validator(mode="after")
    def _one_number(self) -> PoisonSpec:
        if self.manifest is not None:
            given = [name for name in ("count", "share") if getattr(self, name) is not None]
            if given:
                raise ValueError(
                    f"the manifest says who is poisoned, so {given[0]} must not be given beside it"
                )
        elif (self.count is None) == (self.share is None):
            both = self.count is not None
            raise ValueError(
                "count and share are both given, and one of them says how many records are "
                "poisoned: leave the other out"
                if both
                else "how many records are poisoned? give count, or share"
            )
        return self

    @model_validator(mode="after")
    def _options_of_the_trigger(self) -> PoisonSpec:
        is_open = self.trigger == "usual"
        if self.official and not is_open and self.trigger not in get_args(ImageTrigger):
            raise ValueError(f"official: only triggers of images read it, not {self.trigger}")
        is_signal = is_open or self.trigger in get_args(SignalTrigger)
        for key in ("height_mv", "leads"):
            if getattr(self, key) and not is_signal:
                raise ValueError(f"{key}: only triggers of ECGs read it, not {self.trigger}")
        if self.phrases and (self.text is None or self.trigger == "label_consistent"):
            raise ValueError("phrases: they take the place of `text`, which this attack leaves")
        if self.text == self.modality:
            raise ValueError("text: what has the trigger is not exchanged; name the other modality")
        return self

    @property
    def drawn(self) -> dict[str, Any]:
        """What a manifest that is drawn for it says of it: plain values by key."""
        hidden = {"manifest"} if self.phrases else {"manifest", "phrases"}
        return self.model_dump(mode="json", exclude=hidden)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Modalities that a poisoned record has."""
        return (self.modality,) if self.text is None else (self.modality, self.text)

    @property
    def asked_by(self) -> str | None:
        """Modality of the prompts: texts that carry the trigger themselves, else the exchanged."""
        return self.modality if self.trigger in get_args(TextTrigger) else self.text

    @override
    def for_cohort(
        self, everyone: tuple[str, ...], before: Sequence[StageSpec], kinds: Mapping[str, str]
    ) -> Self:
        if self.trigger != "usual":
            return self
        kind = kinds.get(self.modality)
        goes_on = "" if kind is None else traits(ADAPTERS[kind]).triggers
        usual = USUAL.get(goes_on, self.trigger)
        given = {**self.model_dump(), "trigger": usual}
        under = f"stages.{self.name}"
        return check(type(self), given, f"stage {self.name}", ConfigError, under=under)

    def settled(self, done: Mapping[str, Any]) -> Iterable[str]:
        """Who is poisoned counts, not how it is said."""
        from medmcl.threats import Poison

        if self.manifest is None:
            return ()
        try:
            found = Poison.load(self.manifest).fingerprint
        except ArtefactError:  # gone, which a run that has its own copy can do with
            return ()
        return self.exclusive if found == done.get("fingerprint") else ()

    @override
    def fitted(self, cohort: str, done: Mapping[str, Any], wrong: str = "") -> list[FittedOn]:
        """Labels say which records show the target."""
        from medmcl.evaluation.protocol.evidence import FittedOn

        line = FittedOn(
            what=f"records that stage {self.name} poisons",
            splits=("train",),
            task=self.task,
            labels=True,
            note=f"of {cohort}; on purpose: target {self.label}",
        )
        return [line]

    @override
    def used_tasks(self, known: Iterable[str]) -> Iterable[str]:
        return (self.task,)

    @override
    def checks(self, plan: Plan) -> Iterable[Check]:
        from medmcl.stages.recipe.resolve_modalities import refuse_unread

        yield partial(refuse_unread, self.wanted, plan.recipe, f"stage {self.name}")

    @override
    def checks_on(self, cohort: Cohort, tasks: Sequence[str]) -> Iterable[Check]:
        from medmcl.stages.poison.checks import refuse_attack_on

        yield partial(refuse_attack_on, self, cohort)

    @override
    def file_checks(self, cohort: Cohort) -> Iterable[Check]:
        from medmcl.stages.poison.given import read_given

        if self.manifest is not None:
            yield partial(read_given, self, cohort)
