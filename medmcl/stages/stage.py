"""What a stage of a recipe is: what it says, what is known of it beforehand, and what it does.

A stage is a folder, and one line in `STAGES`. Its spec says what a recipe may say of it, and
answers for it wherever a recipe is read, checked, listed, resumed or reused; it is read without
torch. Its work is a `Stage`. Whoever goes through the stages of a recipe knows none of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from medmcl.core.config import Config, FileName
from medmcl.core.lazy import Parts, has

if TYPE_CHECKING:
    from medmcl.data.cohort.cohort import Cohort
    from medmcl.data.loading.prepare import Prepared
    from medmcl.engine.record import Record
    from medmcl.engine.signals import StopRequest
    from medmcl.engine.world import World
    from medmcl.evaluation.protocol.evidence import FittedOn
    from medmcl.stages.recipe.spec import RecipeSpec
    from medmcl.stages.run.run import Run

STAGES = Parts(
    {
        "train": ("medmcl.stages.train.train:Train", "medmcl.stages.train.spec:TrainSpec"),
        "factorise": (
            "medmcl.stages.factorise.factorise:Factorise",
            "medmcl.stages.factorise.spec:FactoriseSpec",
        ),
        "cluster": (
            "medmcl.stages.cluster.cluster:Cluster",
            "medmcl.stages.cluster.spec:ClusterSpec",
        ),
        "join": ("medmcl.stages.join.join:Join", "medmcl.stages.join.spec:JoinSpec"),
        "select": ("medmcl.stages.select.select:Select", "medmcl.stages.select.spec:SelectSpec"),
        "poison": ("medmcl.stages.poison.poison:Poison", "medmcl.stages.poison.spec:PoisonSpec"),
        "evaluate": (
            "medmcl.stages.evaluate.stage:Evaluate",
            "medmcl.stages.evaluate.spec:EvaluateSpec",
        ),
    },
    group="medmcl.stages",
    keeps=has("medmcl.stages", "run", named_by="stage"),
)
S = TypeVar("S")
Check = Callable[[], object]
"""Raises what is wrong, or does nothing."""
Facts = Callable[[str], Mapping[str, Any]]
"""Name of a stage to the facts that it left; none of one that is not finished."""


@dataclass(frozen=True)
class Plan:
    """Where a stage stands in a recipe.

    Attributes:
        recipe: The recipe, as it is for the cohort.
        before: Stages before it.
        kinds: Modality of the cohort to its kind.
        written: What the recipe calls it; another name where it is written once for several.
    """

    recipe: RecipeSpec
    before: Sequence[StageSpec]
    kinds: Mapping[str, str]
    written: str


class StageSpec(Config):
    """What a recipe says of a stage, and what can be asked of that."""

    learns: ClassVar[bool] = True
    """Whether it makes something for later stages; one that does not only scores what they made."""
    alike: ClassVar[Mapping[str, str]] = {}
    """Keys that all stages of the kind must say alike, to why."""

    stage: str
    name: FileName

    @property
    def trained_task(self) -> str | None:
        """The task whose labels its weights learn."""
        return None

    @property
    def reads(self) -> bool:
        """Whether it reads modalities of the recipe."""
        return True

    def sources(self) -> list[str]:
        """Name the earlier stages that it reads."""
        return []

    def fix_source(self, name: str) -> str | None:
        """Say what was probably meant where it names a source that is no stage before it."""
        return None

    def written_out(self, tasks: Sequence[str]) -> Iterable[StageSpec]:
        """Give the stages that it stands for: itself, unless it is written once for several.

        Args:
            tasks: Tasks of the cohort.

        Raises:
            ConfigError: It does not say what it needs to.
        """
        return (self,)

    def refuse_incomplete(self) -> None:
        """Refuse what its keys leave open, or say twice.

        Raises:
            ConfigError: Names the keys.
        """

    def for_cohort(
        self, everyone: tuple[str, ...], before: Sequence[StageSpec], kinds: Mapping[str, str]
    ) -> Self:
        """Give it with what it leaves to the cohort said.

        Args:
            everyone: Modalities that the recipe reads and has towers for.
            before: Stages before it, as they are for the cohort.
            kinds: Modality of the cohort to its kind.
        """
        return self

    def by_modality(self) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """Give what it says by modality, each with its key below the stage."""
        return ()

    def used_tasks(self, known: Iterable[str]) -> Iterable[str]:
        """Name the tasks that it trains on, scores, or chooses rows near to.

        Args:
            known: Tasks of the cohort.
        """
        return ()

    def tables(self) -> Iterable[str]:
        """Name the modalities that it reads as columns of a table."""
        return ()

    def checks(self, plan: Plan) -> Iterable[Check]:
        """Give the checks that need no more than the recipe."""
        return ()

    def checks_on(self, cohort: Cohort, tasks: Sequence[str]) -> Iterable[Check]:
        """Give the checks that need the tables of a cohort, and none of its records.

        Args:
            cohort: The cohort.
            tasks: Its tasks that the recipe uses.
        """
        return ()

    def file_checks(self, cohort: Cohort) -> Iterable[Check]:
        """Give the checks of lists and manifests that it names."""
        return ()

    def why_skipped(self, facts: Facts) -> str:
        """Say why a run does without it, as its sources were; empty if it does not."""
        for name in self.sources():
            done = facts(name)
            if DEAD_END in done:
                return f"{name} is wrecked, {done[DEAD_END]}"
            if SKIPPED in done:
                return f"{name} was left out"
        return ""

    def settled(self, done: Mapping[str, Any]) -> Iterable[str]:
        """Name the keys that need not be said alike for a finished stage to be taken over.

        Args:
            done: The facts of that stage.
        """
        return ()

    def as_run(self, facts: Facts) -> Self:
        """Give it as a run had it, where what a source became changes what it is."""
        return self

    def fitted(self, cohort: str, done: Mapping[str, Any], wrong: str = "") -> list[FittedOn]:
        """Say what it fits or chooses, and on which split: its lines of the leakage ledger.

        Of a stage that learns and does not say it, the ledger claims nothing.

        Args:
            cohort: Name of the cohort.
            done: Its facts.
            wrong: Said of pairs that were made wrong on purpose.
        """
        from medmcl.evaluation.protocol.evidence import FittedOn

        if not self.learns:
            return []
        what = f"what stage {self.name} ({self.stage}) learns"
        return [FittedOn(what=what, splits=(), note="on which rows: not said by the stage")]

    def summary(self) -> str:
        """Say in a line what it does."""
        said = (type(self).__doc__ or "").split("\n")[0].rstrip(".")
        return f"{self.stage}: {said[0].lower()}{said[1:]}"


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the stages of a run share.

    Attributes:
        run: The run that is being written: its recipe, seed, and what earlier stages made.
        world: The processes that it has.
        record: Told how far it is.
        stop: Asked whether to stop.
        evaluations: What evaluate stages found, for the report.
    """

    run: Run
    world: World
    record: Record
    stop: StopRequest
    evaluations: list[Any] = field(default_factory=list)


class Stage(ABC, Generic[S]):
    """What a stage does, built from its spec."""

    by_first_rank: ClassVar[bool] = False
    """Whether the first process does it alone, and the others wait for what it writes."""

    def __init__(self, spec: S) -> None:
        self.spec = spec

    @property
    def bears_others(self) -> bool:
        """Whether it may be done while another process does stages that do not read it.

        Then what it writes has its own name in it, but for lines of the record; and it chooses
        nothing by how much memory is free or how fast something is.
        """
        return False

    def dry_run(self, prepared: Prepared, context: Context) -> None:
        """Refuse what cannot be done; called for every stage of a run before anything is done."""

    def refuse_other(self, done: Mapping[str, Any]) -> None:
        """Refuse to go on from what it did when it is asked for something else by now.

        Args:
            done: The facts of the finished stage.
        """

    @abstractmethod
    def run(self, prepared: Prepared, context: Context) -> dict[str, Any]:
        """Do it, from nothing or from where it stopped, and give the facts for the record."""


TAUGHT = "taught_subjects"
"""Fact of a stage: people of whom its head learned, where not all that it trains on."""
WRECKED = "wrecked"
"""Fact of a train stage that is: why (`medmcl.stages.train.wrecked`)."""
SKIPPED = "skipped"
"""Fact of a stage that a run did without: why."""
DEAD_END = "dead_end"
"""Fact of one that no stage can go on from: why."""


def named(stages: Iterable[StageSpec], kind: type[S]) -> dict[str, S]:
    """Give the stages of one kind by name, in order."""
    return {one.name: one for one in stages if isinstance(one, kind)}
