"""A suite: the tasks that encoders are compared on, as data.

A suite is a YAML file under ``suites/``: a cohort, what is laid over it (data set, maps, tasks),
and how encoders are probed. Adding one is adding a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator

from medmcl.core.config import Config, check, lookup, nearest, read_yaml, refuse_absent
from medmcl.core.errors import ConfigError
from medmcl.core.path_suggestions import shipped
from medmcl.data.cohort.cohort import Cohort, dataset_under, open_cohort
from medmcl.data.cohort.locate import find_cohort
from medmcl.evaluation.models import MODELS
from medmcl.modalities import ADAPTERS
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.recipe.on_cohort import recipe_on

SUITES = shipped("suites")


class Transport(Config):
    """Trained at some sites, scored at another: each in turn, or as it says."""

    column: str = Field(description="column of the subjects table with the site")
    scored: tuple[str, ...] = Field(default=(), description="sites that are scored; none: each")
    trained: tuple[str, ...] = Field(
        default=(), description="sites that are learned from; none: all others"
    )
    tuning_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="share of the people learned from by whom settings are chosen"
    )
    datasets: dict[str, str] = Field(
        default={}, description="site to what the cards of models call its data, as `dataset`"
    )

    def settings(self, cohort: Cohort, asked: Sequence[str] = ()) -> list[Setting]:
        """Give who is scored and who is learned from, one setting a scored site.

        Args:
            cohort: With all sites.
            asked: Only these of the scored sites.

        Raises:
            ConfigError: There is no such column or site, or nobody to learn from.
        """
        what = f"the subjects table has no column '{self.column}'"
        columns = map(str, cohort.subjects.columns)
        refuse_absent(self.column, columns, what, where="transport.column")
        known = sorted({str(one) for one in cohort.subjects[self.column].dropna()})
        for name in (*asked, *self.scored, *self.trained):
            what = f"there is no site '{name}'"
            refuse_absent(name, known, what, where=f"column {self.column}")
        found = []
        for site in asked or self.scored or known:
            others = [one for one in self.trained or known if one != site]
            if not others:
                raise ConfigError(
                    "there is no other site to learn from",
                    where=f"column {self.column}",
                    got=", ".join(known),
                    fix="give data of two sites or more; is data_root the folder that holds them?",
                )
            split = {"column": self.column, "held_out": [site], "train": others,
                     "tuning_share": self.tuning_share}  # fmt: skip
            laid: dict[str, Any] = {"cohort.subjects.split": split}
            if site in self.datasets:
                laid["cohort.dataset"] = self.datasets[site]
            found.append(Setting(site, ", ".join(others), laid))
        return found


@dataclass(frozen=True)
class Setting:
    """Who is learned from and who is scored, where sites tell it.

    Attributes:
        scored_on: The site that is scored; empty where the split of the cohort stands.
        trained_on: The sites that are learned from.
        overrides: Laid over the cohort.
    """

    scored_on: str = ""
    trained_on: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)


class Network(Config):
    """A network that is trained for each task."""

    encoder: dict[str, Any] = Field(description="as `towers.NAME.encoder` of a recipe")
    inputs: dict[str, Any] = Field(
        default={}, description="how records are prepared; of a published encoder its card says it"
    )
    train: dict[str, Any] = Field(
        default={}, description="further keys of the train stage: epochs, optimiser, ..."
    )

    def recipe(self, modality: str, task: str) -> dict[str, Any]:
        """Give the recipe that trains it for a task, on all labels."""
        supervised = {"task": task, "modalities": [modality], "view": "plain"}
        stage = {
            "stage": "train",
            "name": task,
            "towers": [modality],
            "task": task,
            "objectives": {"supervised": supervised},
            **self.train,
        }
        return {
            "schema": "medmcl/recipe@1",
            "name": "benchmark",
            "inputs": {modality: dict(self.inputs)},
            "towers": {modality: {"encoder": dict(self.encoder)}},
            "stages": [stage],
        }


class Suite(Config):
    """What ``suites/NAME.yaml`` may say."""

    schema_: Literal["medmcl/suite@1"] = Field(alias="schema")
    about: str
    source: str = Field(default="", description="who defined it, and where the data are from")
    cohort: str = Field(description="cohort by name; the command may name another of its kind")
    modality: str = Field(description="what encoders read; the command may name another")
    dataset: str | None = Field(
        default=None,
        description="what the cards of models call the data, and behind a colon the part that is "
        "scored; as cohort.yaml says if not given",
    )
    set_: dict[str, Any] = Field(
        default={}, alias="set", description="laid over the cohort, as --set of a command"
    )
    maps: dict[str, Any] = Field(default={}, description="laid over those of the cohort")
    tasks: dict[str, Any] = Field(
        default={}, description="laid over those of the cohort, and scored; none: the cohort's own"
    )
    transport: Transport | None = Field(
        default=None, description="train at some sites, score at another; none: the split stands"
    )
    protocols: tuple[str, ...] = Field(
        default=("linear_probe", "knn"), description="ways to predict from frozen features"
    )
    label_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.01, 0.1, 1.0)
    draws: PositiveInt = Field(default=3, description="of each label fraction below 1, averaged")
    scratch: Network | None = Field(default=None, description="--scratch: a plain network")
    finetune: dict[str, Any] = Field(
        default={}, description="--finetune: keys of the stage that trains a published model on"
    )
    bootstrap_draws: Annotated[int, Field(ge=100)] = 1000
    disturbances: dict[str, dict[str, Any]] = Field(
        default={}, description="name to how held-out records are disturbed (inputs.ecg.disturb)"
    )
    random_seeds: PositiveInt = Field(
        default=1, description="first weights of the random encoder that are drawn, averaged"
    )

    @field_validator("protocols")
    @classmethod
    def _known(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            known_protocol(one)
        return given

    def overrides(self, given: Mapping[str, Any], dataset: str | None = None) -> dict[str, Any]:
        """What is laid over the cohort; what a user says goes before it.

        ``dataset``: what another cohort than the suite's says it is. A part of a data set is that
        of the cohort's own split: where suite or user lay another over it, anybody is scored.
        """
        laid = {f"cohort.maps.{name}": one for name, one in self.maps.items()}
        laid |= {f"cohort.tasks.{name}": one for name, one in self.tasks.items()}
        if said := dataset or self.dataset:
            laid["cohort.dataset"] = dataset_under(said, {**self.set_, **given})
        return {**self.set_, **laid, **given}

    def open(
        self, cohort: str | Path | None = None, overrides: Mapping[str, Any] | None = None
    ) -> Cohort:
        """Open the cohort with the tasks of the suite.

        Args:
            cohort: Another than the suite's.
            overrides: As ``--set`` of a cohort.

        Raises:
            CohortError: It cannot be opened, or has no such modality.
        """
        own = None if cohort is None else read_yaml(find_cohort(cohort)).get("dataset")
        given = {"on_bad_record": "exclude", **(overrides or {})}
        opened = open_cohort(cohort or self.cohort, self.overrides(given, own and str(own)))
        what = f"the suite is about '{self.modality}', which the cohort does not have"
        fix = "name that of them which encoders read: --modality NAME"
        where = f"cohort {opened.name}"
        refuse_absent(self.modality, opened.spec.modalities, what, where=where, fix=fix)
        self._refuse_wrong(opened)
        return opened

    def _refuse_wrong(self, cohort: Cohort) -> None:
        """Refuse disturbances and networks that could not be, before anything is embedded."""
        kind = cohort.spec.modalities[self.modality].kind
        model: type[Config] = ADAPTERS.settings[kind]
        for name, how in self.disturbances.items():
            where = f"suite, disturbances.{name}"
            if "disturb" not in model.model_fields:
                raise ConfigError(f"records of {kind} cannot be disturbed", where=where)
            check(model, {"disturb": how}, where, ConfigError)
        task = next(iter(cohort.usable_tasks), "task")
        if self.finetune:
            tuned = Network(encoder={"name": "PUBLISHED"}, train=self.finetune)
            read_recipe(tuned.recipe(self.modality, task), {}).stages[0].refuse_incomplete()
        if self.scratch is not None and cohort.usable_tasks:
            recipe_on(cohort, self.scratch.recipe(self.modality, task), {})

    def settings(self, cohort: Cohort, sites: Sequence[str] = ()) -> list[Setting]:
        """Give who is learned from and who is scored: once, or once a site that is held out.

        Raises:
            ConfigError: Sites are asked for that there are not.
        """
        if self.transport is not None:
            return self.transport.settings(cohort, sites)
        if sites:
            raise ConfigError("the suite holds no site out", where="--site", got=", ".join(sites))
        return [Setting()]

    def scored(self, cohort: Cohort) -> list[str]:
        """Names of the tasks that are scored."""
        return list(self.tasks) or list(cohort.usable_tasks)


def known_protocol(name: str, where: str = "protocols") -> str:
    """Give the name of a way to predict from features.

    Raises:
        ConfigError: There is none of this name.
    """
    lookup("protocol", name, [*MODELS], where=where, fix=f"one of: {', '.join(MODELS)}")
    return name


def list_suites() -> dict[str, Path]:
    """Every suite under ``suites/`` here and shipped with medmcl, by name."""
    found: dict[str, Path] = {}
    for folder in (SUITES, Path("suites")):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def read_suite(name: str | Path) -> tuple[str, Suite]:
    """Read a suite by its name or file; gives its name too.

    Raises:
        ConfigError: There is none, or it is not valid.
    """
    known = list_suites()
    path = known.get(str(name), Path(name))
    if not path.is_file():
        raise ConfigError(
            f"there is no suite '{name}'{nearest(str(name), known)}",
            expected=", ".join(known),
            fix="give one of these names, or a yaml file",
        )
    return path.stem, check(Suite, read_yaml(path), where=path, error=ConfigError)
