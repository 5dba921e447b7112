"""A run folder: what was asked, what was learned, and the embeddings it gives.

``config.yaml`` (all of it, resolved), ``preprocessing.json`` (settings and fitted state of every
adapter), ``tasks.json``, ``provenance.json``, ``checkpoint/<stage>/``, ``metrics.jsonl``,
``report.html`` and ``report.json``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from medmcl.core import host
from medmcl.core.atomic import write_atomically
from medmcl.core.batch import Batch, InputShape
from medmcl.core.config import (
    check,
    fingerprint,
    lookup,
    nearest,
    read_yaml,
    refuse_absent,
    yaml_text,
)
from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.core.lazy import packages_with_parts
from medmcl.core.progress import Bar, progress
from medmcl.core.sealed import CHANGED, SEAL, file_digest, sealed, unsealed
from medmcl.core.suppression import placeless
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared, cache_folder, prepare
from medmcl.data.loading.worker_pool import beside, shared_array
from medmcl.engine.freed_memory import keep_freed
from medmcl.engine.signals import stop_if_asked
from medmcl.modalities import ADAPTERS
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.run.folder import run_config, settings_fix
from medmcl.stages.run.leaky_columns import kept_names
from medmcl.stages.run.learners import Learners
from medmcl.stages.run.store import Store
from medmcl.stages.run.train_records import save_train_records
from medmcl.stages.stage import SKIPPED, STAGES, WRECKED, StageSpec, named
from medmcl.stages.train.spec import OTHER_WEIGHTS, TowersSpec

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from medmcl.encoders.towers import Towers
    from medmcl.engine.loop import Learner
    from medmcl.selection.keep import Keep
    from medmcl.stages.run.embedding import Embedding

log = logging.getLogger(__name__)

EMBED_BATCH = 256
S = TypeVar("S")
GIVEN = "given"
"""What stands for a stage in the name of the keep file that ``--keep`` gave."""
PACKAGES_WITH_PARTS = "packages_with_parts"
"""Key of ``provenance.json``: packages outside, with their versions and the parts they bring."""


SAME = ("cohort_fingerprint", "noisy_pairs", "tasks", "seed", "precision", "keep")
"""What of its configuration, beside the recipe, tells a run from others.

Runs that share a stage by ``--reuse`` agree in all of it.
"""


class Run(Store):
    """A run folder that exists, or that is being written.

    Args:
        path: The folder.
        cache: Folder for prepared records; if not given, see `cache_folder`.

    Attributes:
        config: What its ``config.yaml`` says.
        recipe: Its recipe, resolved: every modality and stage by name, once for all who read it.
        seed: Of everything random.
        learners: Those that are in memory.
        learning: Whether a stage of it is learning: then it prepares no cohort with held_out open.

    Raises:
        ArtefactError: It is not a run, or a file of it is damaged.
    """

    def __init__(self, path: Path | str, *, cache: Path | None = None) -> None:
        where = run_config(path)
        config = read_config(Store(Path(path)))
        _refuse_absent_parts(Store(Path(path)), config["recipe"])
        _warn_of_other_code(Store(Path(path)), config)
        written = check(RecipeSpec, config["recipe"], where=where, error=ArtefactError)
        self._begin(Path(path), config, written.expanded(config["tasks"]), cache)

    @classmethod
    def begun(
        cls, path: Path, config: Mapping[str, Any], recipe: RecipeSpec, keep: Keep | None = None
    ) -> Run:
        """Give the run that is written into a folder, before anything stands there.

        Args:
            path: The folder.
            config: What its ``config.yaml`` will say.
            recipe: The recipe, resolved.
            keep: What ``--keep`` gave.
        """
        run = cls.__new__(cls)
        run._begin(path, config, recipe, None)
        run.__dict__["given_keep"] = keep
        return run

    def _begin(
        self, path: Path, config: Mapping[str, Any], recipe: RecipeSpec, cache: Path | None
    ) -> None:
        super().__init__(path)
        self.config, self.recipe, self._cache = dict(config), recipe, cache
        own = {"recipe": fingerprint(placeless(config.get("recipe")))}
        self.identity = {key: config.get(key) for key in SAME} | own
        self.seed = int(config.get("seed", 0))
        self.learners = Learners()
        self.learning = False

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, recipe={self.recipe.name!r})"

    @property
    def precision(self) -> str:
        """Of its forward passes: ``fp32`` or ``bf16``."""
        return str(self.config["precision"])

    @property
    def cache(self) -> Path:
        """Folder for prepared records."""
        return self._cache or cache_folder(self.path.parent)

    @property
    def stages(self) -> dict[str, TowersSpec]:
        """Every stage that makes towers, by name and in order."""
        return self.of(TowersSpec)

    def of(self, kind: type[S]) -> dict[str, S]:
        """Give the stages of one kind by name, in order."""
        return named(self.recipe.stages, kind)

    @cached_property
    def given_keep(self) -> Keep | None:
        """What ``--keep`` gave; None if it gave nothing."""
        from medmcl.selection.keep import Keep

        if not self.config.get("keep"):
            return None
        file, way_out = self.file(GIVEN, Keep), f"put the file back; or {GIVE_KEEP}"
        try:
            found = Keep.load(file)
        except ArtefactError as error:
            raise error.again(ArtefactError, fix=way_out) from None
        if found.fingerprint != self.config["keep"]:
            raise ArtefactError("is not what --keep gave", where=file, fix=way_out)
        return found

    @property
    def could_name(self) -> dict[str, list[str]]:
        """Task to the modalities that could name its outcome in training (`leaky_columns`)."""
        return self.tree("could_name", {})

    @property
    def trains(self) -> bool:
        """Whether a stage of it learns anything."""
        return any(spec.learns for spec in self.recipe.stages)

    def skipped(self, stage: str) -> str:
        """Say why the run did without a stage; empty if it did not."""
        return str(self.facts(stage).get(SKIPPED, ""))

    @property
    def wrecked(self) -> dict[str, str]:
        """Every finished stage that is wrecked, with the reason (`medmcl.stages.train.wrecked`)."""
        done = {name: self.facts(name) for name in self.stages}
        return {name: str(facts[WRECKED]) for name, facts in done.items() if WRECKED in facts}

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Settings, fitted state and input shape of every adapter, by modality."""
        return self.tree("preprocessing")

    @property
    def shapes(self) -> dict[str, InputShape]:
        """Input shape of every modality."""
        return {
            name: InputShape(**_tuples(entry["input_shape"]))
            for name, entry in self.preprocessing.items()
        }

    @property
    def tasks(self) -> dict[str, Targets]:
        """Tasks the run knows, without rows."""
        tasks = {}
        for name, header in self.tree("tasks").items():
            width = len(header["columns"])
            tasks[name] = Targets(
                values=np.zeros((0, width)),
                known=np.zeros((0, width), dtype=bool),
                **_tuples(header),
            )
        return tasks

    def stage(self, name: str) -> TowersSpec:
        """The spec of a stage that makes towers, by name."""
        if name in self.specs and name not in self.stages:
            raise ConfigError(
                f"stage '{name}' ({self.specs[name].stage}) gives no embeddings",
                where=self.path,
                expected=f"one of: {', '.join(self.stages) or 'none of the run does'}",
            )
        refuse_absent(name, self.stages, f"the run has no stage '{name}'", where=self.path)
        return self.stages[name].as_run(self.facts)

    @property
    def specs(self) -> dict[str, StageSpec]:
        """Every stage, by name and in order."""
        return self.of(StageSpec)

    def spec(self, name: str) -> StageSpec:
        """The spec of any stage, by name."""
        return lookup("stage", name, self.specs, where=self.path).as_run(self.facts)

    def refuse_lacking(self, cohort: Cohort, modalities: Iterable[str]) -> None:
        """Refuse a cohort that lacks a modality which is asked of it.

        Raises:
            ConfigError: Says what run and cohort have.
        """
        for name in modalities:
            refuse_absent(
                name,
                cohort.records,
                f"the cohort has no modality '{name}'",
                got=f"run: {', '.join(self.recipe.inputs)}; cohort: {', '.join(cohort.records)}",
                fix="if the cohort has it under another name, call it as the run does in a copy of "
                "its cohort.yaml",
            )

    def refuse_unfinished(self, stage: str | None = None) -> None:
        """Refuse a run that stopped before its train stages, or the one named, were finished.

        Raises:
            ArtefactError: Names the stages that are missing.
        """
        wanted = self.stages if stage is None else {stage: self.stage(stage)}
        missing = [name for name in wanted if not self.is_finished(name)]
        if missing:
            finished = [name for name in self.stages if self.is_finished(name)]
            raise ArtefactError(
                "is an unfinished run: it stopped before the end of its training",
                where=self.path,
                got=f"unfinished: {', '.join(missing)}; finished: {', '.join(finished) or 'none'}",
                expected=", ".join(str(self._done(name)) for name in missing),
                fix="finish it: the same `medmcl pretrain` command with "
                f"`--out {self.path} --resume`",
            )

    def learner(self, stage: str, device: torch.device) -> Learner:
        """Towers and objectives of a finished stage, in evaluation mode; nobody may change them."""
        spec = self.stage(stage)
        if self.skipped(stage):
            raise ArtefactError(
                f"the run did without the stage '{stage}': {self.skipped(stage)}", where=self.path
            )
        key = (stage, str(device), self.checkpoints(stage).find(spec.keep))
        return self.learners.get(key, lambda: self._loaded(spec).to(device).eval())

    def _loaded(self, spec: TowersSpec) -> Learner:
        from medmcl.stages.train.distill_targets import teacher_widths
        from medmcl.stages.train.models import build_learner

        keep_freed()
        tasks = {} if spec.task is None else {spec.task: self.tasks[spec.task]}
        widths = teacher_widths(self, spec, self.shapes)
        learner = build_learner(self.recipe, spec, self.shapes, tasks, self.seed, widths)
        learner.load_state_dict(self.checkpoints(spec.name).weights(spec.keep))
        return learner

    def towers(self, stage: str, device: torch.device) -> Towers:
        """Towers of a finished stage; ``untrained`` gives the first weights, before any step."""
        if stage != "untrained":
            return self.learner(stage, device).model  # type: ignore[return-value]  # Towers
        first: dict[str, TowersSpec] = {}
        for spec in self.stages.values():
            for name in spec.towers:
                first.setdefault(name, spec)
        if not first:
            raise ConfigError(
                "no stage makes towers, so there are none untrained",
                where=self.path,
                fix="take 'untrained' out, or train a stage",
            )
        spec = next(iter(first.values()))
        widest = spec.model_copy(update={"towers": tuple(first), "encoder": {}, "frozen": ()})
        return widest.build(self.recipe, self.shapes, self.seed).to(device).eval()

    def prepare(
        self,
        cohort: Cohort,
        modalities: tuple[str, ...],
        check_interrupt: Callable[[int], object] | None = None,
    ) -> Prepared:
        """Prepare a cohort exactly as the run's training cohort was, all splits open.

        While a stage of the run learns, held_out stays shut.
        ``check_interrupt`` is told how many records are done; a bar shows it on a terminal.
        """
        entries = {name: self.preprocessing[name] for name in modalities}
        total = sum(len(cohort.records[name]) for name in modalities)
        with progress("reading records", total) as bar:

            def told(done: int) -> None:
                if check_interrupt is not None:
                    check_interrupt(done)
                bar(done)

            return prepare(
                cohort,
                {name: entry["settings"] for name, entry in entries.items()},
                cache=self.cache,
                fitted={name: entry["state"] for name, entry in entries.items()},
                splits=("train", "tuning") if self.learning else "all",
                progress=told,
            )

    def unseen_subjects(self, cohort: Cohort | str | Path) -> list[str]:
        """Subjects that no stage of the run has seen: the only ones whose scores are honest.

        Nobody of the train or tuning split of the run's own cohort. Of another cohort nobody who
        has a record that the run learned from, known by its content as the run prepares it.

        Args:
            cohort: Cohort, folder or name; the run's own is opened as the run was.

        Returns:
            Their ids, in the order of the cohort.

        Raises:
            ArtefactError: Whom the run learned from is unknown: it did not keep its records.
        """
        from medmcl.stages.run.own_cohort import open_as_own
        from medmcl.stages.run.seen import seen_people

        opened, _ = open_as_own(self, cohort, default={"on_bad_record": "exclude"})
        read = tuple(name for name in self.recipe.inputs if name in opened.spec.modalities)
        prepared = self.prepare(opened, read)
        seen = seen_people(self, prepared)
        if seen is None:
            raise ArtefactError(
                "did not keep whom it learned from, so nobody is known to be unseen",
                where=self.path,
                fix="train it again, or take people of whom you know that they were not in it",
            )
        known = set(prepared.samples["subject"].astype(str)[seen])
        return [one for one in opened.subjects.index.astype(str) if one not in known]

    def embed(
        self,
        cohort: Cohort | str | Path,
        *,
        modality: str | Sequence[str] | None = None,
        stage: str | None = None,
        space: str = "features",
        device: str = "auto",
        overrides: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Embed every record of one modality of a cohort, or every sample by several.

        Args:
            cohort: Cohort, folder or name.
            modality: Modality to embed; the first of the recipe if not given. Several, or ``all``:
                the mean of those that a sample has, in the space they share (``pooled``).
            stage: Stage whose tower to use; the last one trained without labels if not given.
            space: ``features`` (E wide, before the projection head: for probes) or ``pooled``
                (D wide, unit norm, shared by modalities: for retrieval).
            device: ``auto``, ``cpu`` or ``cuda``.
            overrides: Cohort overrides. A record with faults gets a quality flag unless they say
                otherwise; the run's own cohort is opened as the run was, where they do not.

        Returns:
            One row a record, indexed by (subject, record): ``quality`` (``ok``, or why there is no
            embedding) and ``e0 … e{E-1}``, missing where quality is not ``ok``. Which records are
            one sample says ``cohort.samples`` alone, also where ``noisy_pairs:`` exchanged them.
            Of several modalities one row a sample:
            `medmcl.stages.run.fused_embeddings.FusedEmbedding.about`.

        Raises:
            ArtefactError: The run, or the stage that is given, is not finished.
        """
        found = self.embedding(
            cohort, modality=modality, stage=stage, space=space, device=device, overrides=overrides
        )
        return found.table()

    def embedding(
        self,
        cohort: Cohort | str | Path,
        *,
        modality: str | Sequence[str] | None = None,
        stage: str | None = None,
        space: str = "features",
        device: str = "auto",
        overrides: Mapping[str, Any] | None = None,
    ) -> Embedding:
        """Give what `embed` embeds by what, before anything is; as for it."""
        from medmcl.engine.world import pick_device
        from medmcl.stages.run.embedding import Embedding

        opened = self._opened(cohort, stage, space, overrides)
        if modality == "all" or not isinstance(modality, str | None):
            return self._embedding_of_several(opened, modality, stage, space, device)
        modality = modality or next(iter(self.recipe.inputs))
        known = self.recipe.inputs
        near = "" if modality in known else nearest(modality, known)
        if modality not in known or modality not in opened.records:
            raise ConfigError(
                f"modality '{modality}' is not in both the run and the cohort{near}",
                got=f"run: {', '.join(self.recipe.inputs)}; cohort: {', '.join(opened.records)}",
                fix="if the cohort has it under another name, call it as the run does in a copy "
                "of its cohort.yaml",
            )
        stage = self.stage_with(modality, stage)
        where = pick_device(device)
        return Embedding(
            towers=self.towers(stage, where),
            prepared=self.prepare(opened, (modality,)),
            modality=modality,
            space=space,
            device=where,
            made_by=self.made_by(stage),
        )

    def made_by(self, stage: str) -> dict[str, Any]:
        """What embeddings say of the stage whose towers made them."""
        return {
            "recipe": self.recipe.name,
            "config_hash": self.tree("provenance", {}).get("config_hash"),
            "stage": stage,
            "weights": self._weights_digest(stage),
            "published": {} if stage == "untrained" else self.began_with(stage),
        }

    def began_with(self, stage: str) -> dict[str, Any]:
        """Say whose weights a stage, and all that it goes on from or learns by, began with.

        Returns:
            Tower, of another stage ``STAGE.TOWER``, to what is known of those weights.
        """
        found: dict[str, Any] = {}
        stages = [stage]
        for one in stages:  # grows
            facts = self.facts(one)
            began = {**facts.get(OTHER_WEIGHTS, {}), **facts.get("published", {})}
            found |= {
                tower if one == stage else f"{one}.{tower}": who for tower, who in began.items()
            }
            stages += [s for s in self.specs[one].sources() if s in self.specs and s not in stages]
        return found

    def _weights_digest(self, stage: str) -> str:
        """Tell the weights of a stage; of none that were trained, the seed."""
        kept = None
        if stage != "untrained":
            kept = self.checkpoints(stage).find(self.stage(stage).keep)
        return f"seed {self.seed}" if kept is None else file_digest(kept / "weights.safetensors")

    def _opened(
        self, cohort: Cohort | str | Path, stage: str | None, space: str, overrides: Any
    ) -> Cohort:
        """Open a cohort that is embedded; the run's own as the run did."""
        from medmcl.stages.predict.other_codes import other_codes
        from medmcl.stages.run.own_cohort import open_as_own
        from medmcl.stages.run.study import is_another

        if space not in ("features", "pooled"):
            raise ConfigError(
                "is not a space", where="space", got=space, expected="features, pooled"
            )
        if stage != "untrained":
            self.refuse_unfinished(stage)
        tolerant = {"on_bad_record": "exclude"}
        opened, said = open_as_own(self, cohort, overrides, default=tolerant)
        if said:
            log.info(said)
        have = opened.spec.modalities
        for name in self.recipe.inputs:
            if name in have and have[name].traits.records_from == "events":
                others = other_codes(opened, name, self.preprocessing[name])
                if others is not None and others.is_said and is_another(self, opened):
                    log.warning("%s", others)
        return opened

    def predict(
        self,
        cohort: Cohort | str | Path,
        *,
        tasks: Sequence[str] | None = None,
        method: str | None = None,
        curves: bool = False,
        device: str = "auto",
        overrides: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Predict everybody in a cohort by the probes that the run's evaluate stage kept.

        No outcome, split or site of the cohort is read, and nothing is fitted. Whoever the
        evaluate stage scored gets, to the last bit, what was scored (on the same machine); but
        nobody gets a number who has a category that training had not.

        Args:
            cohort: Cohort, folder or name.
            tasks: Tasks; all that the run can predict if not given.
            method: Name in the run's results (a probe, a baseline, a fine-tuned model); the first
                of its evaluate stage if not given.
            curves: Give survival curves instead.
            device: ``auto``, ``cpu`` or ``cuda``.
            overrides: Cohort overrides.

        Returns:
            A row a person (sample), task, target and horizon: ``predicted`` is a probability, a
            value or the risk of the event by ``horizon_years`` (``kind`` says which); ``quality``
            is ``ok``, or begins with ``implausible`` (a number far beyond those of train, which it
            names), or why there is no prediction; ``outside``: whether an input lies outside of
            what the run was trained on, missing where that is unknown, and ``outside_of`` which;
            ``modalities``: what was there; ``in_training``: whether the run learned from them.
            With ``curves``: ``subject, sample, task, method, years, time, unit, survival``, where
            survival is the chance of no event by the time, at 101 times up to the last event of
            train; where another event competes, one minus the absolute risk.

        Raises:
            ArtefactError: The run is not finished, or keeps nothing that predicts.
            CohortError: Nobody's value in a column is one that training had: it is recoded.
            ConfigError: There is no such task or method; or the cohort has none of its modalities.
        """
        from medmcl.stages.predict.predict import predict_people

        found = predict_people(
            self, cohort, tasks=tasks, method=method, device=device, overrides=overrides
        )
        for note in found.notes:
            log.info(note)
        return found.curves if curves else found.table

    def _embedding_of_several(
        self, cohort: Cohort, modality: str | Sequence[str], stage: str | None, space: str,
        device: str,
    ) -> Embedding:  # fmt: skip
        from medmcl.engine.world import pick_device
        from medmcl.stages.run.fused_embeddings import FusedEmbedding, shared_modalities

        if space != "pooled":
            raise ConfigError(
                "several modalities share no space but 'pooled'",
                where="space",
                got=space,
                fix="--space pooled, or space='pooled'",
            )
        names = tuple(self.recipe.inputs) if modality == "all" else tuple(modality)
        shared = shared_modalities(self, cohort, names)
        stage, where = stage or self.default_stage(shared[0]), pick_device(device)
        towers = self.towers(stage, where)
        for name in shared:
            what = f"stage '{stage}' has no tower for '{name}'"
            refuse_absent(name, towers.towers, what, where=self.path)
        return FusedEmbedding(
            towers=towers,
            prepared=self.prepare(cohort, shared),
            modality=" + ".join(shared),
            modalities=shared,
            space=space,
            device=where,
            made_by=self.made_by(stage),
            batch=EMBED_BATCH,
        )

    def stage_with(self, modality: str, stage: str | None) -> str:
        """Name the stage that is asked for, or the default one; refuse one without the tower."""
        stage = stage or self.default_stage(modality)
        if stage != "untrained":
            what = f"stage '{stage}' has no tower for '{modality}'"
            refuse_absent(modality, self.stage(stage).towers, what, where=self.path)
        return stage

    def default_stage(self, modality: str) -> str:
        """The last finished stage that trained this modality's tower without labels."""
        names = [
            name
            for name, spec in self.stages.items()
            if modality in spec.towers and self.checkpoints(name).find(spec.keep) is not None
        ]
        free = [name for name in names if self.stages[name].task is None]
        if not self.stages:
            raise ArtefactError(
                "has no encoder: its recipe trains none, so there is nothing to embed with",
                where=self.path,
                fix="give a run of a recipe that trains one (`medmcl recipes`); this one can be "
                "evaluated, and its kept models applied to another cohort",
            )
        if not names:
            raise ArtefactError(
                f"has no finished stage with a tower for '{modality}'",
                where=self.path,
                fix="finish it with `medmcl pretrain … --resume`",
            )
        return (free or names)[-1]


def _refuse_absent_parts(run: Store, recipe: Mapping[str, Any]) -> None:
    """Refuse to open a run whose stages or modalities came with a package that is not installed.

    Raises:
        ArtefactError: Names the part and, if the run says it, the package.
    """
    stages = [one.get("stage") for one in recipe.get("stages") or () if isinstance(one, dict)]
    kinds = [one.get("kind") for one in run.tree("preprocessing", {}).values()]
    for parts, what, names in ((STAGES, "stage", stages), (ADAPTERS, "modality", kinds)):
        for name in (one for one in names if isinstance(one, str) and one not in parts):
            packages = run.tree("provenance", {}).get(PACKAGES_WITH_PARTS, {})
            gave = [
                (package, one["version"])
                for package, one in packages.items()
                if name in one["parts"].get(parts.group, ())
            ]
            package, version = gave[0] if gave else ("", "")
            raise ArtefactError(
                f"was made with the {what} '{name}', which is not installed here",
                where=run.path,
                got=f"it came with the package {package} {version}" if gave else None,
                expected="the package that brings it",
                fix=f"pip install '{package}=={version}'" if gave else "install that package",
            )


def _warn_of_other_code(run: Store, config: Mapping[str, Any]) -> None:
    """Say which packages whose parts a run names have other code, or another version, by now."""
    made_with: dict[str, Any] = {}
    with suppress(ArtefactError):  # who asks for what is lost is told
        made_with = run.tree("provenance", {}).get(PACKAGES_WITH_PARTS, {})
    words = repr(config["recipe"]) + repr(run.tree("preprocessing", {})) if made_with else ""
    now = packages_with_parts() if made_with else {}
    for name, then in made_with.items():
        used = [part for parts in then["parts"].values() for part in parts if f"'{part}'" in words]
        here = now.get(name)
        if (
            used
            and here
            and any(here[key] != then.get(key, here[key]) for key in ("version", "code"))
        ):
            _warn_once(
                f"{run.path} was made with {name} {then['version']}; its code is another now "
                f"({here['version']}): what {', '.join(used)} give may differ from what was trained"
            )


@cache
def _warn_once(said: str) -> None:
    log.warning("warning: %s", said)


GIVE_KEEP = (
    "give it once more: the same `medmcl pretrain` command with --keep FILE and --resume; finished "
    "stages stay"
)


def read_config(run: Store) -> dict[str, Any]:
    """Read what a run was asked.

    Raises:
        ArtefactError: It is damaged, or not that of a run.
    """
    file = run.path / "config.yaml"
    try:
        tree = read_yaml(file)
        if SEAL not in tree and run.was_begun_with(file):  # cut off at a line, it is YAML still
            raise ArtefactError(CHANGED, where=file)
        config = run.with_places("config", unsealed(tree, file))
    except MedmclError as error:
        what = error.what if isinstance(error, ArtefactError) else f"is damaged: {error.what}"
        raise ArtefactError(what, where=file, got=run.finished(),
                            fix=settings_fix(run.path)) from None  # fmt: skip
    if not isinstance(config.get("recipe"), dict):
        raise ArtefactError(
            "is not the config.yaml of a run (it has no recipe)",
            where=file,
            got=run.finished(),
            fix="give the folder that `medmcl pretrain --out` named; if it is this one, "
            + run.on_resume,
        )
    return config


def load(path: Path | str | Run) -> Run:
    """Open a run folder; a run stays as it is."""
    return path if isinstance(path, Run) else Run(path)


def embed_records(
    towers: Towers,
    prepared: Prepared,
    modality: str,
    records: np.ndarray,
    space: str,
    device: torch.device,
    size: int = EMBED_BATCH,
    bar: Bar | None = None,
) -> np.ndarray:
    """Encode records (by their number) plainly, without gradients. Returns (N, E).

    ``size`` records a pass. With 1 an embedding is the same to the last bit whoever else is
    encoded; with more it is not, for kernels choose how to sum by the size of a batch, and experts
    read as many rows as are sent to them. ``bar`` is told how many are done, if one is shown.
    """
    import torch

    adapter, stored = prepared.adapters[modality], prepared.inputs(modality)
    towers.eval()

    def encode(first: int) -> None:
        stop_if_asked(f"embedding {modality}")
        chosen = records[first : first + size]
        x = torch.from_numpy(np.array(stored[chosen]))
        there = {modality: torch.ones(len(chosen), dtype=torch.bool, device="cpu")}
        batch = Batch(ids=torch.from_numpy(chosen), inputs={modality: x}, present=there)
        batch = batch.to(device)
        with torch.no_grad():
            shown = batch.with_inputs({modality: adapter.plain(batch.inputs[modality])})
            vectors = getattr(towers(shown), space)[modality]
        whole[first : first + size] = host.read(vectors.float())

    whole = shared_array((len(records), vector_width(towers, modality, space)), np.float32)
    own = progress(f"embedding {modality}", len(records)) if bar is None else nullcontext(bar)
    with own as told:
        firsts = range(0, len(records), size)
        for _ in beside(encode, firsts, forks=bears_copies(device), told=lambda n: told(n * size)):
            pass
    return whole


def bears_copies(device: torch.device) -> bool:
    """Whether copies of this process can compute what it computes on a device, to the last bit.

    What several threads compute a copy can neither do alike nor, with OpenMP, do at all.
    """
    import torch

    return torch.device(device).type == "cpu" and torch.get_num_threads() == 1


def embed_samples(
    towers: Towers,
    prepared: Prepared,
    modality: str,
    rows: np.ndarray,
    space: str,
    device: torch.device,
    alone: np.ndarray | None = None,
    bar: Bar | None = None,
) -> np.ndarray:
    """Encode a modality of samples, each record once. Returns (N, E); zeros where it is absent.

    ``alone``: samples whose records are encoded one a pass, (N,) bool: see `embed_records`.
    """
    index = prepared.index(modality)[rows]
    apart = np.zeros(len(rows), dtype=bool) if alone is None else alone
    full = np.zeros((len(rows), vector_width(towers, modality, space)), dtype=np.float32)
    parts = [
        (size, there, np.unique(index[there]))
        for size, which in ((EMBED_BATCH, ~apart), (1, apart))
        if (there := which & (index >= 0)).any()
    ]
    before = 0
    total = sum(len(one) for *_, one in parts)
    own = progress(f"embedding {modality}", total) if bar is None else nullcontext(bar)
    with own as shown:
        for size, there, records in parts:

            def told(done: float, note: str = "", before: int = before) -> None:
                shown(before + done, note)

            known = embed_records(towers, prepared, modality, records, space, device, size, told)
            full[there] = known[np.searchsorted(records, index[there])]
            before += len(records)
    return full


def vector_width(towers: Towers, modality: str, space: str) -> int:
    """Give the width of the embeddings of a modality: E of features, D of pooled."""
    tower = towers.tower(modality)
    return tower.facts.width if space == "features" or tower.head is None else tower.head.width


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has lists where our values have tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


_OF_ROWS = ("values", "known", "competing", "sides")
"""Parts of targets that say something of single samples: no run keeps them."""


def reading_of(cohort: Cohort, modality: str) -> dict[str, Any]:
    """Say how a cohort's files of a modality are read, without what names single records.

    Returns:
        ``source``: what its section says; ``missing``, where the cohort has such values: what
        stands for a missing cell.
    """
    source = cohort.spec.modalities[modality].source.model_dump(mode="json", exclude_defaults=True)
    codes = {name: list(some) for name, some in cohort.spec.keys.missing.items()}
    return {
        "source": {key: value for key, value in source.items() if key != "accept"},
        **({"missing": codes} if codes else {}),
    }


def write_run_files(run: Run, prepared: Prepared) -> None:
    """Write config, preprocessing and tasks of a run that is begun; what is asked stands first."""
    shared = run.without_places("config", run.config)
    config = yaml_text(sealed(shared))
    write_atomically(run.path / "config.yaml", config)
    preprocessing = {
        name: {
            "kind": adapter.kind,
            "settings": json.loads(adapter.settings.model_dump_json()),
            "state": adapter.state(),
            "input_shape": asdict(adapter.input_shape),
            **reading_of(prepared.cohort, name),
        }
        for name, adapter in prepared.adapters.items()
    }
    run.save_tree("preprocessing", preprocessing)
    headers = {}
    for name in prepared.cohort.usable_tasks:
        header = vars(replace(prepared.tasks(name))).copy()
        headers[name] = {k: v for k, v in header.items() if k not in _OF_ROWS}
    run.save_tree("tasks", headers)
    run.save_tree("could_name", kept_names(prepared))
    save_train_records(run, prepared)
