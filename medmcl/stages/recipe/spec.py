"""A recipe: modalities, towers and a list of stages, as it is written into a run, and in order.

A stage with ``for_each`` becomes one stage for each combination of its variables, written
``{task}`` in its strings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, Union

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    TypeAdapter,
    field_validator,
    model_validator,
)

from medmcl.core.config import ONE_FILE, Config, alike, file_name, refuse_absent
from medmcl.core.errors import ConfigError
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.stages.stage import STAGES, StageSpec


@cache
def _stages() -> TypeAdapter[StageSpec]:
    """What tells stages by their ``stage``; made once all modules of packages can be imported."""
    kinds: Any = Union[*(STAGES.settings[name] for name in STAGES)]
    return TypeAdapter(Annotated[kinds, Field(discriminator="stage")])


if TYPE_CHECKING:
    EveryStage = StageSpec
else:
    EveryStage = Annotated[Any, BeforeValidator(lambda one: _stages().validate_python(one))]


class KindSpec(Config):
    """What a recipe does with a modality that it does not name, by its kind."""

    input: dict[str, Any] = {}
    """How its adapter prepares it."""
    tower: dict[str, Any] = {}
    """Its encoder and projection head; its input projection, where the tower is shared."""
    augment: dict[str, dict[str, Any]] = {}
    """View to how it disturbs the modality."""


class RecipeHead(Config):
    """What a recipe is and what it reads, without how that is encoded and trained."""

    schema_: Literal["medmcl/recipe@1"] = Field(alias="schema")
    name: str = ""
    about: str = ""
    source: str = ""
    roles: dict[str, str | tuple[str, ...]] = {}
    """Name in this recipe to a kind: the cohort's modality of that kind takes its place. Of several
    kinds the first that the cohort has."""
    modalities: tuple[str, ...] | Literal["all"] = ()
    """Modalities of the cohort that are read beside those of ``inputs``, as ``kinds`` says."""
    kinds: dict[str, KindSpec] = {}
    """Kind of modality to how it is prepared and encoded, for those that ``modalities`` adds."""
    inputs: dict[str, dict[str, Any]] = {}
    """Modality to how its adapter prepares it."""

    @field_validator("name")
    @classmethod
    def _no_path(cls, name: str) -> str:
        return file_name(name) if name else name

    def kinds_of(self, role: str) -> tuple[str, ...]:
        """Kinds of modality that may take a role."""
        able = self.roles[role]
        return (able,) if isinstance(able, str) else able

    @property
    def covariates(self) -> set[str]:
        """Modalities that stages read as columns of a table; none where no stage is read."""
        return set()


class RecipeSpec(RecipeHead):
    """A whole recipe, as it is written into the run."""

    open_fields: ClassVar[Mapping[str, Any]] = {"stages": STAGES.settings.values}

    towers: dict[str, dict[str, Any]] = {}
    """Modality to its encoder and projection head."""
    shared: dict[str, Any] | None = None
    """One tower for all modalities, in the place of ``towers``: the settings of
    `medmcl.encoders.shared.settings.SharedSettings`."""
    views: dict[str, ViewSettings] = {}
    stages: tuple[EveryStage, ...] = Field(min_length=1)
    _taken: dict[str, str] = PrivateAttr(default={})
    _stands: dict[str, str] = PrivateAttr(default={})
    _written: tuple[StageSpec, ...] = PrivateAttr(default=())
    _called: dict[str, str] = PrivateAttr(default={})

    @property
    def covariates(self) -> set[str]:
        """Modalities that stages read as columns of a table."""
        return {name for one in self.stages for name in one.tables()}

    @property
    def taken(self) -> dict[str, str]:
        """Role to the modality that took its place; empty before that, and without roles."""
        return self._taken

    def knowing(self, stands: Mapping[str, str], taken: Mapping[str, str] | None = None) -> Self:
        """Give the recipe that knows where more of its keys stand, and which roles it had.

        Nothing that is written says so.

        Args:
            stands: See `stands`.
            taken: See `taken`; as before if not given.
        """
        known = self.model_copy()
        known._stands = {**self._stands, **stands}
        known._taken = dict(self._taken if taken is None else taken)
        return known

    def expanded(self, tasks: Sequence[str]) -> RecipeSpec:
        """Give it with single stages, in order: a ``for_each`` stage once for each combination.

        Done once a run, or once for a run folder that is opened: whoever reads stages reads these.

        Args:
            tasks: Tasks of the cohort, for ``task: all``.

        Raises:
            ConfigError: A stage has both epochs and steps, or neither; names or order do not fit.
        """
        pairs: list[tuple[StageSpec, StageSpec]] = []
        for spec in self.stages:
            spec.refuse_incomplete()
            pairs += [(single, spec) for single in spec.written_out(tasks)]
        stages = [single for single, _ in pairs]
        # what all stages of one kind must say alike
        for key, why in {key: why for one in stages for key, why in one.alike.items()}.items():
            told = [one for one in stages if key in one.alike]
            found = sorted({str(getattr(one, key)) for one in told})
            if len(found) > 1:
                raise ConfigError(
                    f"{told[0].stage} stages differ in '{key}', but {why}", got=", ".join(found)
                )
        if pair := alike(one.name for one in stages):
            raise ConfigError(ONE_FILE.format(*pair), where="stages")
        made: list[str] = []
        for each, written in pairs:
            if each.name in made:
                keys = "-".join(f"{{{key}}}" for key in dict(written).get("for_each", {}))
                raise ConfigError(
                    f"two stages are named '{each.name}'",
                    fix=f"name: {written.name}-{keys}, one for each" if keys else None,
                )
            for wanted in each.sources():
                if wanted not in made:
                    what = f"stage '{each.name}' needs the stage '{wanted}' before it"
                    refuse_absent(wanted, made, what, fix=each.fix_source(wanted))
            made.append(each.name)
        known = self.model_copy(update={"stages": tuple(stages)})
        known._written = self.stages
        known._called = {single.name: spec.name for single, spec in pairs}
        return known

    @property
    def as_written(self) -> RecipeSpec:
        """The recipe with its stages as the file has them, one for all that ``for_each`` makes."""
        return self.model_copy(update={"stages": self._written or self.stages})

    def called(self, stage: str) -> str:
        """Give what the file calls a stage: with variables, if it stands for several there."""
        return self._called.get(stage, stage)

    def stands(self, key: str) -> str:
        """Give the dotted key under which the recipe file says what stands here under another.

        What a role is told (``inputs.picture``), or a kind (``kinds.image.input``), stands under
        the name of the cohort's modality (``inputs.cxr``) once the recipe is resolved for it.
        """
        return self._stands.get(key, key)

    @model_validator(mode="after")
    def _reads_something(self) -> RecipeSpec:
        if not self.inputs and not self.modalities and any(one.reads for one in self.stages):
            raise ValueError("inputs: at least one modality, or `modalities: all` and `kinds`")
        if self.shared is not None and self.towers:
            raise ValueError("shared: a recipe has one shared tower or `towers`, not both")
        return self
