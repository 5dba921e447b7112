"""What an evaluation hands to its report beside the rows of results: one shape for both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from medmcl.core.suppression import FEWEST_SUBJECTS as FEWEST_SUBJECTS
from medmcl.core.suppression import TOO_FEW, WITHHELD, few
from medmcl.evaluation.metrics.calibration_curve import Calibration
from medmcl.evaluation.metrics.decision_curve import DecisionCurve
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.sampled import in_brackets, people_among
from medmcl.evaluation.metrics.survival.d_calibration import DCalibration
from medmcl.evaluation.metrics.survival.incidence_curve import IncidenceCurve
from medmcl.evaluation.metrics.survival.kaplan_meier import SurvivalCurve

HISTOGRAM_BINS = 20
FEWEST_FOR_CURVE = 10
"""People with the outcome, and without it, below which no calibration or decision curve is made."""
THRESHOLD_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class RiskHistogram:
    """How predicted risks are spread.

    Attributes:
        edges: Bin edges, ascending. (B + 1,)
        counts: Rows of each bin. (B,)
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RiskGroup:
    """Subjects of neighbouring predicted risk, and what became of them.

    Attributes:
        name: As ``lowest third``; lowest risk first.
        low: Lowest predicted risk of the group.
        high: Highest.
        n: Rows.
        subjects: Subjects of these rows.
        events: Those of them with the event.
        curve: Observed Kaplan-Meier curve, or cumulative incidence (Aalen-Johansen) where other
            events compete, of the rows; whom it counts at risk are subjects. `NotEstimable` says
            why there is none.
    """

    name: str
    low: float
    high: float
    n: int
    subjects: int
    events: int
    curve: SurvivalCurve | IncidenceCurve | NotEstimable


@dataclass(frozen=True, kw_only=True)
class TaskEvidence:
    """What the figures of one task, target and method show; None where it was not computed.

    Attributes:
        task: Task name.
        target: Column of the task.
        kind: ``binary``, ``multilabel``, ``multiclass`` or ``survival``.
        method: What was evaluated.
        protocol: How predictions were made from it.
        label_fraction: Share of training labels used.
        split: Split that was scored.
        resampling: What the bootstrap of its intervals drew, see `Result`.
        horizon: For survival: the time at which risks are judged, in ``unit``.
        unit: Unit of time.
        calibration: Of predicted probabilities, or of the risk by the horizon.
        d_calibration: For survival.
        decision: Decision curve; thresholds from `sensible_thresholds` (figures show these).
        histogram: Spread of predicted risks.
        risk_groups: For survival: observed curves by predicted risk, lowest first.
        followed: For survival: rows, subjects, and subjects with the event, of all risk groups
            together; whoever has rows in several counts once.
        competing: Those of them with the competing event; None where none is named.
        note: Remarks a reader must see, as which of several seeds it is.
    """

    task: str
    target: str
    kind: str
    method: str
    protocol: str
    label_fraction: float = 1.0
    split: str = "held_out"
    resampling: str = "subject"
    horizon: float | None = None
    unit: str = ""
    calibration: Calibration | NotEstimable | None = None
    d_calibration: DCalibration | NotEstimable | None = None
    decision: DecisionCurve | NotEstimable | None = None
    histogram: RiskHistogram | None = None
    risk_groups: tuple[RiskGroup, ...] = ()
    followed: tuple[int, int, int] = (0, 0, 0)
    competing: int | None = None
    note: str = ""

    @property
    def people(self) -> tuple[object, ...]:
        """Whom it is about: split, rows and events; what differs in it is not set side by side."""
        if self.risk_groups:
            return (self.split, *self.followed)
        for part in (self.calibration, self.decision):
            if part is not None and not isinstance(part, NotEstimable):
                return (self.split, part.n, part.events)
        return (self.split,)


class OfSomePeople:
    """What is known of some of the scored people; nothing in numbers where they are too few."""

    value: float | None
    low: float | None
    high: float | None
    note: str
    suppressed: bool

    def __post_init__(self) -> None:
        """Refuse numbers of a suppressed group: it would show what must not be shown."""
        told = vars(self)
        numbers = {name for name, one in told.items() if isinstance(one, int | float)}
        if self.suppressed and numbers > {"suppressed", "label_fraction"}:
            what, name = ("group",) * 2 if "group" in told else ("pattern", "modalities")
            raise ValueError(f"{told['task']}: the suppressed {what} {told[name]} holds numbers")

    @property
    def shown(self) -> str:
        """The value with its interval, or why there is none."""
        if self.suppressed:
            return WITHHELD if self.note.startswith(WITHHELD) else TOO_FEW
        return (
            "not estimable" if self.value is None else in_brackets(self.value, self.low, self.high)
        )


@dataclass(frozen=True, kw_only=True)
class SubgroupRow(OfSomePeople):
    """One metric of one method among some of the scored subjects.

    Attributes:
        task: Task name.
        target: Column of the task.
        method: What was evaluated.
        metric: Metric by name.
        direction: Whether higher, lower, or closeness to a target value is better.
        attribute: What subjects were grouped by: ``sex``, ``age``, ``site``, ``modalities``,
            or ``everyone`` for the whole scored split (first, as the line to compare with).
        group: The group, as ``female`` or ``60-69``.
        value: The number; None = suppressed, or not estimable: the note says why.
        low: Lower end of the interval.
        high: Upper end.
        n: Rows; None where suppressed.
        events: People with it in any row; None where suppressed or without meaning.
        subjects: Subjects; None where suppressed.
        suppressed: Too few subjects to show any number.
        label_fraction: Share of training labels used.
        note: Remarks and reasons.
        resampling: What the bootstrap of the interval drew, see `Result`.
    """

    task: str
    target: str
    method: str
    metric: str
    direction: Literal["higher", "lower", "target"]
    attribute: str
    group: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    events: int | None = None
    subjects: int | None = None
    suppressed: bool = False
    label_fraction: float = 1.0
    note: str = ""
    resampling: str = "subject"


@dataclass(frozen=True, kw_only=True)
class PresenceRow(OfSomePeople):
    """The headline of one method among subjects who have, or might have, some modalities only.

    Attributes:
        task: Task name.
        target: Column of the task.
        method: What was evaluated.
        metric: Metric by name.
        direction: Whether higher, lower, or closeness to a target value is better.
        asked: ``as they are``: subjects with this pattern of modalities. ``as if``: subjects who
            have more, predicted as if only these were there; then the difference is paired, to
            the same subjects with all they have.
        modalities: As ``ecg + cmr``; patterns of few subjects are pooled.
        value: The number; None = suppressed, or not estimable: the note says why.
        low: Lower end of the interval.
        high: Upper end.
        difference: What is lost (or gained), if some were not there.
        difference_low: Lower end of its interval.
        difference_high: Upper end.
        p_value: Two-sided, of the difference; of the bootstrap.
        n: Rows; None where suppressed.
        events: People with it in any row; None where suppressed or without meaning.
        subjects: Subjects; None where suppressed.
        suppressed: Too few subjects to show any number.
        label_fraction: Share of training labels used.
        note: Remarks and reasons.
        resampling: What the bootstrap of the interval drew, see `Result`.
    """

    task: str
    target: str
    method: str
    metric: str
    direction: Literal["higher", "lower", "target"]
    asked: Literal["as they are", "as if"]
    modalities: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    n: int | None = None
    events: int | None = None
    subjects: int | None = None
    suppressed: bool = False
    label_fraction: float = 1.0
    note: str = ""
    resampling: str = "subject"


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What ``medmcl predict`` applies where folds were scored: none of the models of the folds.

    Attributes:
        task: Task name.
        method: Name in the results.
        protocol: How it was fitted.
        splits: Splits that it was fitted on.
        subjects: How many subjects; None = not counted.
        cohort: Their cohort.
        encoder: Whether it reads a stage of the run, trained on the same splits.
    """

    task: str
    method: str
    protocol: str
    splits: tuple[str, ...]
    subjects: int | None = None
    cohort: str
    encoder: bool = False


KEPT_BESIDE_FOLDS = "for medmcl predict and other cohorts; not scored on this one"
UNKNOWN_ENCODER = "whether the encoder saw these people, or their outcomes, is unknown"
"""Note of the ledger line of vectors of which nothing says what their encoder was trained on."""
LEARNED_FROM = "the run learned from: not scored"
"""In notes of people who would be scored, had the run not seen them."""
ENCODER_OF = "encoder of the vectors"
"""How the ledger line of vectors that were made elsewhere begins."""


@dataclass(frozen=True, kw_only=True)
class FittedOn:
    """A line of the leakage ledger: something was fitted, and on what.

    Attributes:
        what: What was fitted or chosen, as ``standardisation of ecg`` or ``threshold``.
        splits: Splits whose rows were used, as ``("train",)``.
        subjects: Subjects used; None if not recorded.
        rows: Rows used.
        task: Task it belongs to; empty for what all share.
        method: Method it belongs to; empty for what all share.
        labels: Whether outcomes were used.
        note: Remarks, as how it was chosen.
        use: ``fit``: predictions depend on it. ``out_of_fold``: fitted anew in each fold, so that
            the predictions of a subject come from fits without it. ``score``: it weighs the
            metric or sets its cut, alike for every method, and no prediction depends on it.
        label_fraction: Share of the train labels that was used; None where that says nothing.
    """

    what: str
    splits: tuple[str, ...]
    subjects: int | None = None
    rows: int | None = None
    task: str = ""
    method: str = ""
    labels: bool = False
    note: str = ""
    use: Literal["fit", "out_of_fold", "score"] = "fit"
    label_fraction: float | None = None

    @property
    def peeks(self) -> bool:
        """Whether predictions were fitted on rows of ``held_out``: then they are no test."""
        return self.use == "fit" and "held_out" in self.splits


def too_few_for_curve(with_event: int, without: int) -> str:
    """Say that too few people decide a calibration or decision curve; empty if enough do.

    Args:
        with_event: People with the event (of a survival task: by the horizon).
        without: People known to be without it.
    """
    count, what = min((with_event, "with"), (without, "without"))
    if count >= FEWEST_FOR_CURVE:
        return ""
    people = "person" if count == 1 else "people"
    return f"{few(count)} {people} {what} the event: a curve needs at least {FEWEST_FOR_CURVE}"


def sensible_thresholds(prevalence: float) -> tuple[float, ...]:
    """Give risk thresholds around a prevalence at which somebody might treat.

    From a tenth of the prevalence (at least 0.001) to five times it (at most 0.95, at least 0.2).

    Args:
        prevalence: Share with the outcome, inside [0, 1].
    """
    high = min(0.95, max(0.2, 5 * prevalence))
    low = min(high / 2, max(0.001, prevalence / 10))
    return tuple(float(f"{pt:.4g}") for pt in np.linspace(low, high, THRESHOLD_STEPS))


def risk_histogram(probability: np.ndarray, bins: int = HISTOGRAM_BINS) -> RiskHistogram:
    """Count predicted risks (N,) in equal bins from 0 to the highest risk (rounded up)."""
    risks = np.asarray(probability, dtype=np.float64)
    top = min(1.0, max(0.05, float(np.ceil(20 * risks.max(initial=0.0)) / 20)))
    counts, edges = np.histogram(np.clip(risks, 0, top), bins=bins, range=(0.0, top))
    return RiskHistogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def risk_groups(
    event: np.ndarray,
    time: np.ndarray,
    risk: np.ndarray,
    groups: int = 3,
    *,
    people: np.ndarray | None = None,
    level: float = 0.95,
    has_competing: bool | None = None,
) -> tuple[RiskGroup, ...]:
    """Part subjects by predicted risk and give the observed curve of each part, lowest first.

    Equal risks stay together, so that there may be fewer groups, and of unequal size.

    Args:
        event: True or 1 = the event was seen; 2 and above = a competing event, and then curves are
            cumulative incidences. (N,)
        time: Follow-up. (N,)
        risk: Higher = earlier event expected. (N,)
        groups: Number of parts.
        people: Subject of each row; default: each row is one. (N,)
        level: Coverage of the pointwise intervals.
        has_competing: Whether other events compete; default if any is there.
    """
    from medmcl.evaluation.metrics.calibration_curve import rank_groups
    from medmcl.evaluation.metrics.survival.incidence_curve import incidence_curve
    from medmcl.evaluation.metrics.survival.kaplan_meier import kaplan_meier

    codes, followed = np.asarray(event, dtype=np.float64), np.asarray(time, dtype=np.float64)
    competes = bool((codes > 1).any()) if has_competing is None else has_competing
    observed = incidence_curve if competes else kaplan_meier
    risks = np.asarray(risk, dtype=np.float64)
    own = np.arange(len(risks)) if people is None else np.asarray(people)
    if len(risks) == 0:
        return ()
    parts = rank_groups(risks, groups)
    names = _group_names(len(parts))
    return tuple(
        RiskGroup(
            name=name,
            low=float(risks[rows].min()),
            high=float(risks[rows].max()),
            n=len(rows),
            subjects=len(np.unique(own[rows])),
            events=people_among(own[rows], codes[rows] == 1),
            curve=_of_people(
                observed(codes[rows], followed[rows], level=level), own[rows], followed[rows]
            ),
        )
        for name, rows in zip(names, parts, strict=True)
    )


def _of_people(
    curve: SurvivalCurve | IncidenceCurve | NotEstimable, people: np.ndarray, time: np.ndarray
) -> SurvivalCurve | IncidenceCurve | NotEstimable:
    """Count subjects at risk in place of rows: those with a row followed to a time or longer."""
    if isinstance(curve, NotEstimable):
        return curve
    names, codes = np.unique(people, return_inverse=True)
    if len(names) == len(people):
        return curve
    longest = np.full(len(names), -np.inf)
    np.maximum.at(longest, codes.reshape(-1), time)
    ended = np.searchsorted(np.sort(longest), np.array(curve.times), side="left")
    return replace(curve, at_risk=tuple((len(names) - ended).astype(float).tolist()))


def _group_names(count: int) -> Sequence[str]:
    known = {
        1: ("everyone (one risk)",),
        2: ("lower risk", "higher risk"),
        3: ("lowest third of risk", "middle third of risk", "highest third of risk"),
    }
    return known.get(count, [f"risk group {k + 1} of {count}" for k in range(count)])
