"""What an evaluate stage asks its embeddings beside the tasks: site, sex, age, other columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from medmcl.core.findings import counted
from medmcl.core.progress import Pace
from medmcl.core.suppression import UNKNOWN, few
from medmcl.core.targets import Targets
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.aspects.confounders.aspect import ConfounderSpec
from medmcl.evaluation.aspects.confounders.measure import Confounder, confounder_of
from medmcl.evaluation.aspects.confounders.names import confounder_names
from medmcl.evaluation.aspects.scene import Scene
from medmcl.evaluation.protocol.evaluate import evaluate_task
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.evaluation.protocol.folds import CrossValidation
from medmcl.evaluation.protocol.resampling import site_codes
from medmcl.evaluation.protocol.sample_subgroups import sample_numbers

FEWEST = 10  # subjects of a class: below, a probe of it cannot be scored
MANY_VALUES = 10  # of a column of numbers: above, it is a number and no class
MOST_TOGETHER = 2000  # numbers that a probe of all classes at once may solve for
POOLED = "other (pooled)"


@dataclass
class Asked:
    """What is asked of each sample, before it is a target.

    Attributes:
        name: Of the confounder.
        labels: Class of each sample, ``unknown`` where there is none, (N,) text; None of a number.
        numbers: Number of each sample, NaN where there is none, (N,); None of classes.
        notes: What a reader must know; added to.
    """

    name: str
    labels: np.ndarray | None = None
    numbers: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def known(self) -> np.ndarray:
        """Samples with a value, (N,) bool."""
        if self.numbers is not None:
            return np.isfinite(self.numbers)
        return np.asarray(self.labels != UNKNOWN, dtype=bool)


def ask_confounders(spec: ConfounderSpec, scene: Scene) -> list[Confounder]:
    """Predict every confounder from the embeddings that the tasks of a stage are predicted from.

    As a task: same probe, same rows of those that have the inputs, intervals and seeds. Folds are
    of subjects always: a probe cannot tell a site that it never saw. Nothing is asked where kept
    probes are applied: they fit nothing there.
    """
    cohort = scene.prepared.cohort
    if scene.is_frozen:
        scene.say("confounders left out: kept probes are applied and nothing is fitted here; "
                  "--probe refit asks for them")  # fmt: skip
        return []
    names, notes = confounder_names(spec, cohort, where=scene.name, is_own=not scene.is_outside)
    for note in notes:
        scene.say(note)
    numbers = sample_numbers(cohort) if names else {}
    found, pace = [], Pace(len(names))
    for number, name in enumerate(names):
        scene.now(f"confounder {name} ({pace.place(number)})")
        one = _ask(scene, _values(name, scene, numbers))
        found += [] if one is None else [one]
    return found


def _values(name: str, scene: Scene, numbers: dict[str, np.ndarray]) -> Asked:
    """Look a confounder up: a number that has bands, a group, or a column of the subjects table."""
    if name in numbers:
        return Asked(name, numbers=numbers[name])
    if name in scene.subgroups:
        return Asked(name, labels=scene.subgroups[name])
    prepared = scene.prepared
    cells = prepared.cohort.subjects[name].reindex(prepared.samples["subject"])
    as_numbers = pd.to_numeric(cells, errors="coerce")
    if as_numbers.notna().sum() == cells.notna().sum() and as_numbers.nunique() > MANY_VALUES:
        given = as_numbers.to_numpy(np.float64)
        return Asked(name, numbers=np.where(np.isfinite(given), given, np.nan))
    known = cells.notna().to_numpy()
    labels = np.full(len(cells), UNKNOWN, dtype=object)
    labels[known] = [str(cell).strip() or UNKNOWN for cell in cells[known]]
    return Asked(name, labels=labels)


def _ask(scene: Scene, asked: Asked) -> Confounder | None:
    """Predict one confounder; None, with a note, where there is nothing to tell apart."""
    prepared = scene.prepared
    usable = np.all([np.isin(prepared.splits, prepared.opened), *scene.present.values()], axis=0)
    unknown = int((usable & ~asked.known).sum())
    if unknown:
        asked.notes.append(f"{counted(unknown, 'sample')} without a value left out")
    width = max(x.shape[1] for x in scene.features.values()) + 1
    targets = _targets(asked, prepared, usable, width)
    if targets is None:
        scene.say(f"confounder {asked.name} left out: " + "; ".join(asked.notes))
        return None
    folds = _folds(asked, scene)
    found = _scored(asked, targets, scene, folds, usable)
    if isinstance(found, str):
        scene.say(f"confounder {asked.name} left out: " + "; ".join([*asked.notes, found]))
        return None
    targets = found
    resample = scene.resample
    if resample == "site" and _is_of_sites(targets, scene.sites, prepared.subjects):
        resample = "subject"
        asked.notes.append("intervals draw subjects: whole sites would take its classes away")
    done = evaluate_task(
        {name: replace(method, variants=()) for name, method in scene.probes(targets).items()},
        targets,
        prepared.splits,
        prepared.subjects,
        seed=scene.seed,
        bootstrap_draws=scene.draws,
        level=scene.level,
        present=scene.present,
        cross_validation=folds,
        resample=resample,
        sites=scene.sites if resample == "site" else None,
        further_metrics=False,
    )
    return confounder_of(
        targets,
        done.results,
        notes=asked.notes,
        fitted=_scored_by(done.fitted),
    )


def _scored_by(lines: Sequence[FittedOn]) -> list[FittedOn]:
    """Ledger lines of what the results come from; beside folds a fit on train stands unused."""
    uses = {line.use for line in lines}
    unused = {"score", *(["fit"] if "out_of_fold" in uses else [])}
    return [line for line in lines if line.use not in unused]


def _targets(asked: Asked, prepared: Prepared, usable: np.ndarray, width: int) -> Targets | None:
    """Make the target of a confounder; None, with a note, if it does not vary.

    Of many classes each is asked on its own: a softmax of all at once solves for ``width`` numbers
    a class together, whose cost grows with the cube of their count.
    """
    known = asked.known & np.isin(prepared.splits, prepared.opened)
    if asked.numbers is not None:
        counting = known & usable
        if len(np.unique(prepared.subjects[counting])) < FEWEST:
            asked.notes.append(f"fewer than {FEWEST} subjects have a value")
            return None
        if len(np.unique(asked.numbers[counting])) < 2:
            asked.notes.append("everyone has the same value")
            return None
        values = np.where(known, asked.numbers, 0.0)
        return Targets(name=asked.name, kind="regression", columns=(asked.name,),
                       values=values[:, None], known=known[:, None],
                       sides=prepared.sides)  # fmt: skip
    labels = _pooled(asked, prepared.subjects, known & usable)
    known &= labels != UNKNOWN
    names = sorted({str(one) for one in labels[known & usable]}, key=lambda n: (n == POOLED, n))
    if len(names) < 2:
        asked.notes.append(f"fewer than two classes of {FEWEST} subjects")
        return None
    number = {name: k for k, name in enumerate(names)}
    known &= np.isin(labels.astype(str), names)  # a class that nobody usable has
    codes = np.array([number.get(str(one), 0) for one in labels], dtype=np.float64)
    if len(names) * width > MOST_TOGETHER:
        asked.notes.append(f"{len(names)} classes, each asked on its own against the rest")
        flags = known[:, None] & (codes[:, None] == np.arange(len(names)))
        return Targets(name=asked.name, kind="multilabel", columns=tuple(names),
                       values=flags.astype(np.float64), sides=prepared.sides,
                       known=np.repeat(known[:, None], len(names), axis=1))  # fmt: skip
    return Targets(name=asked.name, kind="multiclass", columns=(asked.name,), classes=tuple(names),
                   values=np.where(known, codes, 0.0)[:, None], known=known[:, None],
                   sides=prepared.sides)  # fmt: skip


def _class_of(targets: Targets) -> np.ndarray:
    """Number of the class of each row; 0 where unknown, (N,)."""
    many = targets.kind == "multilabel"
    return targets.values.argmax(axis=1) if many else targets.values[:, 0].astype(np.int64)


def _pooled(asked: Asked, subjects: np.ndarray, counting: np.ndarray) -> np.ndarray:
    """Pool classes of few subjects among ``counting`` rows; leave them out if still few. (N,)."""
    assert asked.labels is not None
    labels = np.asarray(asked.labels).astype(object)
    people = pd.DataFrame({"label": labels[counting], "subject": subjects[counting]})
    sizes = people.drop_duplicates()["label"].value_counts()
    small = [name for name, size in sizes.items() if size < FEWEST]
    if not small:
        return labels
    inside = np.isin(labels.astype(str), [str(name) for name in small])
    count = len(np.unique(subjects[counting & inside]))
    said = f"{len(small)} class{'es' if len(small) > 1 else ''} of fewer than {FEWEST} subjects"
    if count < FEWEST:
        asked.notes.append(f"{said} left out ({few(count)} subjects)")
    else:
        asked.notes.append(f"{said} pooled into '{POOLED}' ({count} subjects)")
    return np.where(inside, UNKNOWN if count < FEWEST else POOLED, labels)


def _folds(asked: Asked, scene: Scene) -> CrossValidation | None:
    """Say how it is scored out of fold; None: fitted on train, scored on held_out."""
    if scene.fold_by == "site":
        asked.notes.append("folds by subject, where those of the tasks are of whole sites")
    how = scene.folds()
    return None if how is None else replace(how, by="subject")


def _scored(
    asked: Asked, targets: Targets, scene: Scene, how: CrossValidation | None,
    usable: np.ndarray,
) -> Targets | str:  # fmt: skip
    """Give the target without classes that a probe cannot know, or say why nothing can be told.

    Of whole sites that are held out a probe of train knows none: those rows are left out.
    """
    prepared = scene.prepared
    known = usable & targets.known[:, 0]
    scored = known & (prepared.splits == "held_out" if how is None else how.unseen)
    if how is None and targets.kind != "regression":
        classes = _class_of(targets)
        new = scored & ~np.isin(classes, classes[known & (prepared.splits == "train")])
        if new.any():
            count = counted(len(np.unique(prepared.subjects[new])), "held-out subject")
            asked.notes.append(f"{count} of classes that train has not: left out")
            kept = targets.known & ~new[:, None]
            targets = replace(targets, values=np.where(kept, targets.values, 0.0), known=kept)
            scored &= ~new
    if len(np.unique(prepared.subjects[scored])) < FEWEST:
        return f"fewer than {FEWEST} people whom no stage has seen have a value that train knows"
    if targets.kind != "regression" and len(set(_class_of(targets)[scored])) < 2:
        return (
            "all people whom no stage has seen are of one class; `folds: 5 x 1` with `refit: all` "
            "trains every stage anew without some of each, where the cohort does not hold them out"
        )
    return targets


def _is_of_sites(targets: Targets, sites: np.ndarray | None, subjects: np.ndarray) -> bool:
    """Whether everyone of a site has the same class, as with the site itself, or the scanner."""
    if sites is None or targets.kind == "regression":
        return False
    known = targets.known[:, 0]
    pairs = np.stack([site_codes(sites, subjects)[known], _class_of(targets)[known]])
    return len(np.unique(pairs, axis=1).T) == len(np.unique(pairs[0]))
