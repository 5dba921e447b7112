"""What is screened: which stage's tower of which modality, and under which attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medmcl.core.config import lookup
from medmcl.core.contracts import traits
from medmcl.core.errors import ConfigError
from medmcl.data.cohort.cohort import Cohort
from medmcl.modalities import ADAPTERS
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.run.run import Run

NO_ATTACK = "none"
"""Said in the place of a poison stage: the rows are seen as they are, and nothing is judged."""
MOST_BESIDE = 2
"""Other modalities of a record that are shown beside the one that is screened."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is screened.

    Attributes:
        stage: Stage whose tower embeds.
        modality: What it embeds.
        attack: Poison stage that is laid over the rows; None: they are seen as they are.
        beside: Other modalities, shown with the suspects.
        notes: What a reader must know of these choices.
    """

    stage: str
    modality: str
    attack: PoisonSpec | None
    beside: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """Modalities that are shown of a suspect."""
        return (self.modality, *self.beside)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Modalities that must be prepared."""
        return tuple(dict.fromkeys((*self.shown, *(self.attack.wanted if self.attack else ()))))


def plan_of(
    run: Run,
    cohort: Cohort,
    stage: str | None = None,
    modality: str | None = None,
    attack: str | None = None,
) -> Plan:
    """Fill every default in.

    Args:
        run: The run.
        cohort: What is screened.
        stage: The last finished one that trained the modality's tower without labels, by default.
        modality: That of the attack by default, else the stage's first with pictures, else its
            first.
        attack: Poison stage; the one that the stage was trained under by default, if any;
            `NO_ATTACK` for none.

    Raises:
        ConfigError: No such stage, modality, tower or attack; or the cohort lacks a modality.
        ArtefactError: The stage was not finished.
    """
    if modality is not None:
        lookup("modality of the run", modality, run.recipe.inputs, where=run.path)
    chosen = stage or run.default_stage(modality or _likely(run))
    spec = run.stage(chosen)
    run.refuse_unfinished(chosen)
    direct = spec.attacked_by
    laid = _laid(run, attack or direct)
    modality = modality or _default(run, spec.towers, laid)
    if modality not in spec.towers:
        raise ConfigError(
            f"stage '{chosen}' has no tower for '{modality}'",
            where=run.path,
            expected=", ".join(spec.towers),
        )
    said = () if laid is None or laid.text is None else (laid.text,)
    others = [one for one in (*said, *spec.towers) if one != modality and one in cohort.records]
    plan = Plan(
        stage=chosen,
        modality=modality,
        attack=laid,
        beside=tuple(dict.fromkeys(others))[:MOST_BESIDE],
        notes=tuple(_notes(run, chosen, modality, laid, direct)),
    )
    run.refuse_lacking(cohort, plan.wanted)
    return plan


def _laid(run: Run, name: str | None) -> PoisonSpec | None:
    if name is None or name == NO_ATTACK:
        return None
    fix = f"--attack {NO_ATTACK} lays none"
    return lookup("poison stage", name, run.of(PoisonSpec), where=run.path, fix=fix)


def _likely(run: Run) -> str:
    """The modality that the first attack triggers, else the run's first."""
    attacks = run.of(PoisonSpec).values()
    return next((one.modality for one in attacks), next(iter(run.recipe.inputs)))


def _default(run: Run, towers: Sequence[str], attack: PoisonSpec | None) -> str:
    if attack is not None and attack.modality in towers:
        return attack.modality
    kinds = {name: run.preprocessing[name]["kind"] for name in towers}
    return next((name for name in towers if traits(ADAPTERS[kinds[name]]).pictured), towers[0])


def _notes(
    run: Run, stage: str, modality: str, attack: PoisonSpec | None, direct: str | None
) -> list[str]:
    if attack is not None and modality not in attack.wanted:
        return [
            f"the attack of stage {attack.name} does not touch {modality}: its detection here is "
            "chance"
        ]
    if attack is None and direct is not None:
        return [
            f"stage {stage} was trained under the attack of stage {direct}, which is not laid over "
            "the rows here: they are seen as they are and nothing is judged"
        ]
    if attack is None and run.of(PoisonSpec):
        names = ", ".join(run.of(PoisonSpec))
        return [
            f"stage {stage} was not trained under an attack itself, so the rows are seen as they "
            f"are and nothing is judged; the run has one ({names}), and --attack lays it over"
        ]
    return []
