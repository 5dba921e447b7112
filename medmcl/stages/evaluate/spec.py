"""What a recipe says of evaluate stages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    create_model,
    field_validator,
    model_validator,
)
from typing_extensions import override

from medmcl.core.config import Config, nearest, refuse_absent
from medmcl.core.errors import ConfigError
from medmcl.core.suppression import FEWEST_SUBJECTS, Rounding
from medmcl.evaluation.aspects.aspect import ASPECTS, AspectSpec, OfModels
from medmcl.evaluation.models import LINEAR, MODELS
from medmcl.stages.derived.spec import UntrainedSpec
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.stage import Check, Plan, StageSpec, named
from medmcl.stages.train.spec import TowersSpec

if TYPE_CHECKING:
    from medmcl.data.cohort.cohort import Cohort

Baseline = Literal["majority", "covariates", "simple", "covariates+embedding"]


Resample = Literal["subject", "site", "stratified"]


def _model(name: str) -> str:
    """Give the name of a model back.

    Raises:
        ValueError: There is no such model.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model '{name}'{nearest(name, MODELS)}")
    return name


Protocol = Annotated[str, AfterValidator(_model)]
"""Name in `MODELS`."""


def _untrained_last(models: dict[str, str]) -> dict[str, str]:
    return dict(sorted(models.items(), key=lambda model: model[1] == "untrained"))


class ProbeSpec(Config):
    """Frozen embeddings of one modality, or of several, each from a stage of the run."""

    modality: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """One, a list, or ``all`` of the recipe's inputs. Of several, any subset will do: rows that
    have at least one are predicted."""
    fusion: Literal["mean", "product_of_experts", "learned"] = "mean"
    """How several modalities are brought together."""
    models: Annotated[dict[str, str], AfterValidator(_untrained_last)]
    """Name in the results to stage; the report is about the first. ``untrained`` is the first
    tower before any step, and stands last."""
    protocol: Protocol = "linear_probe"
    """How tasks are predicted: a model that `medmcl parts` lists. ``cox`` and ``discrete_time``
    hold for survival tasks, others then have the linear probe."""
    space: Literal["features", "pooled"] = "features"
    """``pooled`` for the mean of several modalities: only there do they share a space."""

    @model_validator(mode="before")
    @classmethod
    def _shared_space(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "space" in given:
            return given
        several = given.get("modality") == "all" or isinstance(given.get("modality"), list | tuple)
        mean = given.get("fusion", "mean") == "mean"
        return {**given, "space": "pooled"} if several and mean else given

    @model_validator(mode="after")
    def _can_be_fused(self) -> ProbeSpec:
        if not self.several:
            return self
        if len(set(self.modality)) < len(self.modality) and self.modality != "all":
            raise ValueError("modality: one stands twice")
        if self.fusion == "mean" and self.space == "features":
            raise ValueError(
                "fusion: mean needs space: pooled, the space that modalities share; or choose "
                "fusion: learned"
            )
        if self.fusion != "mean" and self.protocol not in LINEAR:
            raise ValueError(
                f"fusion: {self.fusion} fits linear probes: protocol: linear_probe, or fusion: mean"
            )
        return self

    @property
    def several(self) -> bool:
        """Whether it reads several modalities, of which any subset will do."""
        return self.modality == "all" or not isinstance(self.modality, str)

    def read(self, inputs: Iterable[str]) -> tuple[str, ...]:
        """Give the modalities it reads of a recipe with these inputs."""
        if self.modality == "all":
            return tuple(inputs)
        return (self.modality,) if isinstance(self.modality, str) else self.modality


class EvaluateKeys(StageSpec):
    """Score frozen embeddings and fine-tuned models on the held-out split."""

    learns: ClassVar[bool] = False
    alike: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("level", "resample"), "one report shows their intervals"
    ) | dict.fromkeys(("round_to", "fewest"), "one report shows their counts")

    stage: Literal["evaluate"]
    name: str = "evaluate"
    probe: ProbeSpec | None = None
    finetuned: dict[str, str] = {}
    """Name in the results to stage, ``finetune-{task}-{label_fraction}``; the same encoder from
    scratch is one more of them."""
    embeddings: dict[str, str] = {}
    """Name in the results to a file of vectors that were made elsewhere, by subject or by record:
    methods after those of ``probe``."""
    covariates: str | None = None
    """Tabular modality that gives the covariates-only baseline; where nothing is embedded, the
    method that the report is about."""
    baselines: tuple[Baseline, ...] | Literal["all"] = "all"
    """Baselines to fit beside the probe; all that apply if not given."""
    tasks: tuple[str, ...] | Literal["all"] = "all"
    label_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0,)
    draws: int = Field(default=1, ge=1)
    """Draws of each label fraction below 1; results are averaged over them."""
    bootstrap_draws: int = Field(default=1000, ge=100)
    level: float = Field(default=0.95, gt=0, lt=1)
    """Coverage that intervals aim at; the same in every evaluate stage of a recipe."""
    resample: Resample = "subject"
    """What the bootstrap draws: ``subject``, ``site`` (whole sites), or ``stratified`` (subjects
    inside classes of the outcome); the same in every evaluate stage of a recipe."""
    round_to: int | None = Field(default=None, ge=5)
    """Rounds all counts of the report to multiples of this, as research environments ask for what
    leaves them; without it only what tells of few people is hidden. The same in every evaluate
    stage of a recipe."""
    fewest: int | None = Field(default=None, ge=5)
    """Beside ``round_to``: counts under it are not told (5; rounded to 5, none under 8 in any
    case). The same in every evaluate stage of a recipe."""
    folds: str | None = None
    """``K x R``: tasks are scored out of fold, in K folds drawn R times; without it probes are
    fitted on train, chosen on tuning, and held_out is scored, at every size. A held_out split that
    a column of the cohort declares is neither fitted on nor scored in folds."""
    refit: Literal["probe", "all"] = "probe"
    """What each fold makes anew. ``probe``: probes, and only people are scored that no stage has
    seen. ``all``: every stage, so that everybody can be scored; K x R times the training. Of a
    recipe that trains nothing how inputs are read is made anew in any case."""
    fold_by: Literal["subject", "site"] = "subject"
    """What a fold is made of: subjects, or whole sites."""
    predictions: bool = False
    """Whether `pretrain` writes what every method said of each person that was scored, into
    ``predictions-NAME.parquet`` of the run: a file about people, to be kept as the data are."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for name, one in self.asked.items():
            if one.asks_models and self.probe is None and not self.embeddings:
                raise ValueError(
                    f"{name}: they are asked of the models of `probe` or of `embeddings`: name some"
                )
        if self.finetuned and not self.predicts:
            raise ValueError(
                "finetuned: fine-tuned models are scored beside a probe: add probe: {modality: "
                "NAME, models: {untrained: untrained}}, or a stage of yours in place of untrained"
            )
        twice = sorted({*self.embeddings} & {*(self.probe.models if self.probe else ())})
        if twice:
            raise ValueError(f"embeddings: '{twice[0]}' is the name of a model of `probe`, too")
        if self.round_to is None and self.fewest is not None:
            raise ValueError("fewest: it is of counts that are rounded: add `round_to: 5`")
        if self.folds is None:
            for key in ("refit", "fold_by"):
                if key in self.model_fields_set and getattr(self, key) not in ("probe", "subject"):
                    raise ValueError(f"{key}: it says how folds are made: add `folds: 5 x 1`")
        return self

    @property
    def asked(self) -> dict[str, Any]:
        """Aspects beside the tasks, name to what is said of each, in the order of `ASPECTS`."""
        given = {name: getattr(self, name, None) for name in KEYS}
        return {name: one for name, one in given.items() if one is not None and one.is_asked}

    def asking(self, changes: Mapping[str, AspectSpec | None]) -> Self:
        """Give it with other things said of aspects; None leaves one out."""
        return self.model_copy(update=dict(changes))

    @property
    def rounding(self) -> Rounding | None:
        """How counts are rounded; None: they are not."""
        if self.round_to is None:
            return None
        return Rounding(to=self.round_to, fewest=self.fewest or FEWEST_SUBJECTS)

    @property
    def predicts(self) -> bool:
        """Whether tasks are predicted from features: embeddings, vectors, or covariates alone."""
        return self.probe is not None or bool(self.embeddings) or self.covariates is not None

    @property
    def protocol(self) -> Protocol:
        """How tasks are predicted; without ``probe`` by Cox, and by linear models without time."""
        return "cox" if self.probe is None else self.probe.protocol

    @field_validator("folds", mode="before")
    @classmethod
    def _k_by_r(cls, given: Any) -> str | None:
        if given in (None, "none", "auto"):  # auto: of runs made before folds were K x R
            return None
        found = re.fullmatch(r"\s*(\d+)\s*(?:[xX]\s*(\d+)\s*)?", str(given))
        folds, repeats = (int(found[1]), int(found[2] or 1)) if found else (0, 0)
        if folds < 2 or repeats < 1:
            raise ValueError("write K x R, as `5 x 2`: two or more folds, drawn R times")
        return f"{folds} x {repeats}"

    @property
    def folds_and_repeats(self) -> tuple[int, int]:
        """K and R of ``folds``."""
        folds, repeats = str(self.folds).split(" x ")
        return int(folds), int(repeats)

    @property
    def wanted_baselines(self) -> tuple[str, ...]:
        """Baselines by name."""
        return get_args(Baseline) if self.baselines == "all" else self.baselines

    @property
    @override
    def reads(self) -> bool:
        return not self.embeddings

    @property
    def embedded_by(self) -> dict[str, list[str]]:
        """Key to the stages whose towers it reads."""
        models = () if self.probe is None else self.probe.models.values()
        scored = [stage for stage in models if stage != "untrained"]
        return {"probe": scored, **{name: one.stages() for name, one in self.asked.items()}}

    @override
    def sources(self) -> list[str]:
        read = [stage for one in self.asked.values() for stage in one.sources()]
        return [*self.embedded_by["probe"], *read]

    @override
    def for_cohort(
        self, everyone: tuple[str, ...], before: Sequence[StageSpec], kinds: Mapping[str, str]
    ) -> Self:
        made = named(before, TowersSpec)

        def towers(stage: str) -> tuple[str, ...]:
            return made[stage].towers if stage in made else ()

        found = {name: one.for_cohort(towers) for name, one in self.asked.items()}
        return self.model_copy(update=found)

    @override
    def used_tasks(self, known: Iterable[str]) -> Iterable[str]:
        return known if self.tasks == "all" else self.tasks

    @override
    def tables(self) -> Iterable[str]:
        return () if self.covariates is None else (self.covariates,)

    @override
    def checks(self, plan: Plan) -> Iterable[Check]:
        made = named(plan.before, TowersSpec)
        yield partial(self._refuse_inside, plan.before, made)
        if "attack" in self.asked:
            yield partial(self._refuse_attacked, made, named(plan.before, PoisonSpec))

    def _refuse_inside(self, before: Sequence[StageSpec], made: Mapping[str, TowersSpec]) -> None:
        """Refuse models and aspects of stages that have not what they look at.

        That is a stage that gives no embeddings, a joined stage for what looks inside of one, of
        which it has several, and models without a tower for what is asked of each.

        Raises:
            ConfigError: Names the stage and the key.
        """
        unable = {one.name: one.stage for one in before if one.name not in made}
        for key, stages in self.embedded_by.items():
            for name in stages:
                if name in unable:
                    raise ConfigError(
                        f"stage '{name}' ({unable[name]}) gives no embeddings",
                        where=f"stage {self.name}, {key}",
                        expected=f"one of: {', '.join(made) or 'none before it does'}",
                    )
        joins = named(before, UntrainedSpec)
        for key, one in self.asked.items():
            joined = next((joins[name] for name in one.stages() if name in joins), None)
            if one.looks_inside and joined is not None:
                raise ConfigError(
                    "is looked at in one stage, not in joined or derived ones",
                    where=f"stage {self.name}, {key}.stage",
                    got=f"{joined.name} ({joined.stage}), of {', '.join(joined.goes_on_from())}",
                    expected=" or ".join(joined.goes_on_from()),
                )
            models = one.models.values() if isinstance(one, OfModels) else ()
            for model, side in product(models, one.modalities()):
                if model in made and side not in made[model].towers:
                    raise ConfigError(
                        f"stage '{model}' has no tower for '{side}'",
                        where=f"stage {self.name}, {key}",
                        expected=f"a stage with towers for {' and '.join(one.modalities())}",
                    )

    def _refuse_attacked(
        self, made: Mapping[str, TowersSpec], attacks: Mapping[str, PoisonSpec]
    ) -> None:
        """Refuse to judge an attack that is not there, or models that do not see its trigger."""
        spec = self.asked["attack"]
        where = f"stage {self.name}, attack"
        if spec.attack is None and len(attacks) != 1:
            raise ConfigError(
                "which attack is judged?",
                where=where,
                got=f"poison stages: {', '.join(attacks) or 'none'}",
                expected="one poison stage before it, or `attack: NAME`",
                fix="leave `attack` out of the evaluate stage, or go on from the recipe `poisoned`"
                if not attacks
                else None,
            )
        name = spec.attack or next(iter(attacks))
        what, none = f"'{name}' is no poison stage before it", "the name of a poison stage"
        refuse_absent(name, attacks, what, where=where, none=none)
        for model in spec.models.values():
            refuse_absent(model, made, f"'{model}' is no stage with towers before it", where=where)
            if attacks[name].modality not in made[model].towers:
                raise ConfigError(
                    f"stage '{model}' has no tower for '{attacks[name].modality}', which the "
                    "attack triggers",
                    where=where,
                    expected="a stage with that tower",
                )

    @override
    def checks_on(self, cohort: Cohort, tasks: Sequence[str]) -> Iterable[Check]:
        scored = tuple(self.used_tasks(cohort.spec.tasks))
        for one in self.asked.values():
            yield partial(one.checks_on, self.name, cohort, scored)
        if self.embeddings:
            from medmcl.stages.factorise.given_vectors import lay_vectors
        for name, path in self.embeddings.items():
            yield partial(lay_vectors, name, Path(path), cohort)


KEYS = tuple(name for name in ASPECTS if name in ASPECTS.outside or ASPECTS.settings[name])
"""Aspects that the evaluate stage measures, each by what its key says."""


def _field(name: str) -> tuple[Any, Any]:
    """Give the key of an aspect: its settings, or nothing; one of another package is read late."""
    if name in EvaluateKeys.model_fields or hasattr(EvaluateKeys, name):
        raise ConfigError(
            f"an aspect is called as something else of the evaluate stage is: '{name}'",
            where=f"entry points '{ASPECTS.group}'",
            got=ASPECTS.home(name),
            fix="give it another name in the pyproject.toml of its package, or uninstall the "
            "package",
        )
    if name not in ASPECTS.outside:
        model = ASPECTS.settings[name]
        return model | None, Field(default=None, description=(model.__doc__ or "").split("\n")[0])

    def read(given: Any) -> Any:
        return given if given is None else ASPECTS.settings[name].model_validate(given)

    about = f"Of the package that brings the aspect '{name}'"
    return Annotated[Any, BeforeValidator(read)], Field(None, description=about)


if TYPE_CHECKING:
    EvaluateSpec = EvaluateKeys
else:
    EvaluateSpec = create_model(
        "EvaluateSpec",
        __base__=EvaluateKeys,
        __module__=__name__,
        __doc__=EvaluateKeys.__doc__,
        **{name: _field(name) for name in KEYS},
    )
    EvaluateSpec.open_fields = {
        name: partial(lambda name: [ASPECTS.settings[name]], name) for name in ASPECTS.outside
    }
