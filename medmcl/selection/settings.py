"""Scorers, selectors and rules as a recipe says them: maps and settings, read without torch."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import BeforeValidator, Field, PydanticUserError, TypeAdapter, model_validator

from medmcl.core.config import Config
from medmcl.core.errors import ConfigError
from medmcl.core.lazy import Parts, has


class TargetSpec(Config):
    """The rows that a pool should be near to; never those of held_out."""

    cohort: str | None = None
    """Another cohort, by path or name; this one if not given."""
    split: Literal["train", "tuning"] | None = None
    """Its split; of another cohort train, of this one tuning, if not given."""
    task: str | None = None
    """Only rows whose label of this task is known."""
    label: str | None = None
    """Only rows that have this label of the task: one of its columns, or of its classes."""

    @model_validator(mode="after")
    def _label_of_a_task(self) -> TargetSpec:
        if self.label is not None and self.task is None:
            raise ValueError("label: of which task? name it with `task`")
        return self


class ScoreSettings(Config):
    """Base of the settings of a scorer; one of its own says its ``kind`` as a `Literal`."""

    chooses: ClassVar[bool] = False
    """Whether it keeps `ChoosesFromPool`: no number before the rule has chosen."""

    kind: str

    def sides(self, pair: tuple[str, str]) -> tuple[str, ...]:
        """Modalities that it reads, of a pair that is selected."""
        return pair

    def targets(self) -> tuple[TargetSpec, ...]:
        """Rows that it should be near to, the setting ``target``; none if it has none."""
        return ()

    @property
    def needs_temperature(self) -> bool:
        """Whether it asks for the temperature that the teacher was trained to."""
        return False


class ClipScoreSettings(ScoreSettings):
    """Cosine of the two sides of a pair."""

    kind: Literal["clip_score"]


class NegClipLossSettings(ScoreSettings):
    """Negative CLIP loss of a pair in random batches of the pool (Wang et al. 2024)."""

    kind: Literal["neg_clip_loss"]
    temperature: float | None = Field(default=None, gt=0)
    """The one the teacher was trained to, if not given."""
    batch_size: int = Field(default=32768, ge=2)
    """Rows of a batch; a smaller pool is one batch."""
    divisions: int = Field(default=10, ge=1)
    """Random divisions of the pool into batches."""
    tail: Literal["wrap", "official"] = "wrap"
    """What is done with a last batch that is smaller."""

    @property
    def needs_temperature(self) -> bool:
        """If none is given."""
        return self.temperature is None


class _OneSided(ScoreSettings):
    modality: str | None = None
    """The first of the pair if not given."""

    def sides(self, pair: tuple[str, str]) -> tuple[str, ...]:
        """The one modality."""
        return (self.modality or pair[0],)


class NormSimSettings(_OneSided):
    """Nearness of one modality to the rows of a target (Wang et al. 2024)."""

    kind: Literal["norm_sim"]
    p: Literal[1, 2, 3, "inf"] = 2
    """2: near to the spread of the target; ``inf``: near to any one row of it; both of the paper"""
    target: TargetSpec = TargetSpec()

    def targets(self) -> tuple[TargetSpec, ...]:
        """The one target."""
        return (self.target,)


class NormSimDynamicSettings(_OneSided):
    """Nearness of one modality to what the rule leaves, round by round, without a target."""

    chooses: ClassVar[bool] = True

    kind: Literal["norm_sim_dynamic"]
    rounds: int = Field(default=100, ge=1)


class Step(Config):
    """A step of a rule; shares are of the *pool*, not of what the step before has left."""

    by: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """A score, or several whose ranks are fused, all of equal weight."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Share of the pool that is left after it."""
    at_least: float | None = None
    """Lowest score that stays, in the place of a share."""

    @model_validator(mode="after")
    def _one_cut(self) -> Step:
        if (self.share is None) == (self.at_least is None):
            raise ValueError("a step keeps a `share`, or what has a score of `at_least`: say one")
        if self.at_least is not None and len(self.names) > 1:
            raise ValueError("at_least: of one score; fused ranks have no scale")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Scores it reads."""
        return (self.by,) if isinstance(self.by, str) else self.by

    def __str__(self) -> str:
        named = " + ".join(self.names)
        if self.share is not None:
            return f"best {100 * self.share:g} % of the pool by {named}"
        return f"{named} of at least {self.at_least:g}"


class SelectorSettings(Config):
    """Base of the settings of a selector within batches; one of its own says its ``kind``.

    The other rows of a batch are scored, and left out. Fields besides ``kind`` and ``pair`` are
    given to the selector when it is built.
    """

    kind: str
    pair: tuple[str, str]
    """The two modalities by which a row is judged."""
    share: float = Field(default=0.5, gt=0, le=1)
    """Share of a batch that is kept."""


class DifferentialSettings(SelectorSettings):
    """Pairs that have fallen most against their own history: DISSect (Zhao et al. 2025)."""

    kind: Literal["differential"]
    mode: Literal["warmup", "momentum"] = "warmup"
    """History is that of a warm-up, or a running mean."""
    warmup_epochs: int = Field(default=5, ge=1)
    """Epochs of the warm-up."""
    beta: float = Field(default=0.9, ge=0, lt=1)
    """Share of the old in the running mean."""
    first_epoch: Literal["random", "all", "official"] = "random"
    """Rows to train on while there is no history: as many ``random`` ones, ``all``, or as the
    ``official`` code, which begins the momentum version with the pairs that fit worst."""


class RandomChoiceSettings(SelectorSettings):
    """Pairs at random; others in every epoch."""

    kind: Literal["random"]


class SmallLossSettings(SelectorSettings):
    """Pairs of smallest contrastive loss."""

    kind: Literal["small_loss"]


class BigLossSettings(SelectorSettings):
    """Pairs of largest contrastive loss."""

    kind: Literal["big_loss"]


class HighestCorrelationSettings(SelectorSettings):
    """Pairs of highest cosine: the CLIP score of the model in training."""

    kind: Literal["clip_score"]


SCORERS = Parts(
    {
        "clip_score": "medmcl.selection.scorers:ClipScore",
        "neg_clip_loss": "medmcl.selection.scorers:NegClipLoss",
        "norm_sim": "medmcl.selection.scorers:NormSim",
        "norm_sim_dynamic": "medmcl.selection.scorers:NormSimDynamic",
    },
    group="medmcl.scorers",
    keeps=has("medmcl.scorers", "score", "choose", named_by="kind"),
    settings="medmcl.selection.settings",
)
"""What a select stage judges a pool by: keeps the contract `Scorer`, or `ChoosesFromPool`."""

SELECTORS = Parts(
    {
        "differential": "medmcl.selection.differential:Differential",
        "random": "medmcl.selection.choices:RandomChoice",
        "small_loss": "medmcl.selection.choices:SmallLoss",
        "big_loss": "medmcl.selection.choices:BigLoss",
        "clip_score": "medmcl.selection.choices:HighestCorrelation",
    },
    group="medmcl.selectors",
    keeps=has("medmcl.selectors", "scores", "_positions", named_by="kind"),
    settings="medmcl.selection.settings",
)
"""What a train stage chooses rows of each batch by: a `medmcl.selection.choices.Choice`."""


@cache
def _by_kind(of_scorers: bool) -> TypeAdapter[Any]:
    """What tells settings by their ``kind``; made once modules of packages can be imported."""
    parts = SCORERS if of_scorers else SELECTORS
    kinds: Any = Union[*parts.settings.values()]
    try:
        return TypeAdapter(Annotated[kinds, Field(discriminator="kind")])
    except PydanticUserError as error:
        raise ConfigError(
            "a part of another package cannot be told by its kind",
            where=f"entry points '{parts.group}'",
            got=error.message,
            fix='give its settings `kind: Literal["name"]`, the name that recipes write',
        ) from None


if TYPE_CHECKING:
    AnyScore = ScoreSettings
    AnySelector = SelectorSettings
else:
    AnyScore = Annotated[Any, BeforeValidator(lambda one: _by_kind(True).validate_python(one))]
    AnySelector = Annotated[Any, BeforeValidator(lambda one: _by_kind(False).validate_python(one))]
