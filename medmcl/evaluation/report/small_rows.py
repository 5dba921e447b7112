"""Rows of results as they may leave: counts of few people hidden, and what would tell them.

A count is few if 1 to 4 people are meant, and hidden too if few are left of a whole that is shown:
117 scored of 120. Numbers of which few people decide are withheld; those from which a hidden count
would follow are rounded to a step no finer than 1 / n.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

from medmcl.core.suppression import (
    FEWEST_SUBJECTS,
    TOO_FEW,
    WITHHELD,
    Covered,
    Hidden,
    hide,
    read_count,
    shown_count,
    step_of,
    to_steps,
)
from medmcl.evaluation.protocol.results import (
    CROSS_VALIDATION,
    FEWEST_DECIDING,
    FOR_A_VERDICT,
    MAJORITY,
    WHOLES,
)
from medmcl.evaluation.protocol.scoring import CONSTANT
from medmcl.evaluation.protocol.subgroups import RANKED

NUMBERS = ("value", "low", "high", "seed_spread")
OF_DIFFERENCES = ("difference", "difference_low", "difference_high")
_SAME_PEOPLE = ("split", "method", "versus", "label_fraction", "cohort", "scored_on", "name",
                "condition")  # fmt: skip
"""Fields by which rows of a task are of the same people, in results and in a leaderboard."""
TEST = "d_calibration_p"
"""Metric whose value is a p value."""
Counted = TypeVar("Counted")
Outcomes = tuple[list[int], list[int]]
"""How many have an outcome, of the splits that are scored, and of others."""

_PEOPLE = re.compile(
    r"(?<![<\w.,-])(?<!than )(?<!least )(?<! to )(\d[\d,]*|one(?= subject:))(?: of (\d[\d,]*))?"
    r"(?= (?:(?:[a-z-]+ )?(?:people|persons?|subjects?|patients?|samples?|records?|rows?|events?)"
    r"|by id|with (?:an equal|a near))\b)"
)
_TEST = re.compile(r", chi-square [\d.e+]+")
_VERDICT = re.compile(rf"\(\d+\)(?= {FOR_A_VERDICT})")
_DRAWS = re.compile(
    r"\d[\d,]*(?= of \d[\d,]* (?:draws were not|hold nobody|hold a single|vectors are))"
)
"""The share of draws, or of folds, without an event tells how many few are; folds of one, all."""
_LOST = re.compile(r"\d[\d,]* samples? without a vector \([^)]*\)")
"""Who has no vector, by split: who was scored, or fitted on, is beside it."""
_ONE = re.compile(r"(?<=<5 )((?:[a-z-]+ )?)(person|subject|patient|sample|record|row|event)\b"
                  r"(?: (has|is|was|lacks)\b)?")  # fmt: skip
_OF_SEVERAL = {"has": "have", "is": "are", "was": "were", "lacks": "lack"}
_THRESHOLD = re.compile(r"at a risk threshold of [\d.e-]+, ")


@dataclass(frozen=True)
class Known:
    """What a report shows of the people of its tasks: by it, all parts decide what they hide.

    Attributes:
        wholes: Counts that are shown of people whom those who are scored are among.
        others: Counts that are shown of other people: of splits that are not scored.
        tasks: Those whose people, or one of whose outcomes, are hidden: then a sum over classes is.
        classes: Of tasks with a rare class those whose counts would tell its, by `_classes_of`.
        outcomes: Task to how many people have its outcome, where Table 1 tells that.
    """

    wholes: tuple[int, ...] = ()
    others: tuple[int, ...] = ()
    tasks: Collection[str] = ()
    classes: Mapping[object, Collection[str]] = field(default_factory=dict)
    outcomes: Mapping[object, Outcomes] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rows: Iterable[Any],
        wholes: Iterable[int] = (),
        others: Iterable[int] = (),
        outcomes: Mapping[object, Outcomes] = MappingProxyType({}),
        called: Mapping[str, str] = MappingProxyType({}),
    ) -> Known:
        """Decide it, from all rows and from wholes that are shown elsewhere.

        Args:
            rows: Results, or rows of another class with their fields.
            wholes: As of the class.
            others: As of the class.
            outcomes: As of the class.
            called: What a field of `Result` is called in the rows, where that is another name.
        """
        rows, counts = list(rows), tuple(wholes)
        rare = _rare(rows, called)
        known = cls(wholes=counts, others=tuple(others), classes=rare, outcomes=outcomes)
        shown = [hidden_row(row, known, called)[0] for row in rows]
        return replace(known, tasks={row.task for row in shown if _is_hidden(row, called)})

    def of_task(self, task: object) -> Known:
        """The same for one task: those who have its outcome are a whole too."""
        if task not in self.outcomes:
            return self
        scored, others = self.outcomes[task]
        wholes, others = (*self.wholes, *scored), [*self.others, *others]
        return replace(self, wholes=wholes, others=tuple(others), outcomes={})

    def hides(self, row: Any, name: str) -> bool:
        """Whether a class has a count that would tell one of a rare class."""
        return bool(self.classes) and row.target in self.classes.get(_classes_of(row, name), ())

    def has_rare(self, row: Any) -> bool:
        """Whether some class of a task is rare: then no sum over classes may be told."""
        return bool(self.classes) and _classes_of(row, "events") in self.classes

    def said(self, text: str, task: object = None) -> str:
        """A sentence without counts of few people, or of those of a task that are hidden."""
        if isinstance(text, Covered):
            return text.shown
        is_hidden = task in self.tasks

        def count(found: re.Match[str]) -> str:
            number = 1 if found[1] == "one" else int(found[1].replace(",", ""))
            of = () if found[2] is None else (int(found[2].replace(",", "")),)
            shown = shown_count(number, *self.wholes, *self.others, *of)
            if is_hidden and not 0 < number < FEWEST_SUBJECTS:
                return "some"
            return str(shown) + found[0][len(found[1]) :] if isinstance(shown, Hidden) else found[0]

        if is_hidden:
            text = _VERDICT.sub(f"(<{FEWEST_DECIDING})", _TEST.sub("", text))
        told = _PEOPLE.sub(count, _LOST.sub("some samples without a vector", text))
        return _ONE.sub(_several, _DRAWS.sub("some", told))

    def spoken(self, found: Any, task: object = None) -> Any:
        """What was found, with `said` notes and reasons in it, and in its parts."""
        task = vars(found).get("task", task)
        changes: dict[str, Any] = {}
        for name, value in vars(found).items():
            if name in ("note", "reason", "mark"):
                changes[name] = self.said(value, task)
            elif name == "notes":
                changes[name] = type(value)(self.said(one, task) for one in value)
            elif is_dataclass(value) and not isinstance(value, type):
                changes[name] = self.spoken(value, task)
        return replace(found, **changes) if changes else found


def _several(found: re.Match[str]) -> str:
    """Words of one person as of several: how many there are is hidden."""
    noun = "people" if found[2] == "person" else f"{found[2]}s"
    return f"{found[1]}{noun}" + (f" {_OF_SEVERAL[found[3]]}" if found[3] else "")


def _is_hidden(row: Any, called: Mapping[str, str]) -> bool:
    names = ("n", "subjects", "events", "non_events")
    return any(isinstance(getattr(row, called.get(name, name), None), Hidden) for name in names)


def _classes_of(row: Any, name: str) -> object:
    told = vars(row)
    return name, row.task, *(told.get(one, "") for one in _SAME_PEOPLE)


def _rare(rows: Sequence[Any], called: Mapping[str, str]) -> dict[object, Collection[str]]:
    """Classes that are hidden for the others of a task, where one of them is rare."""
    counts: dict[object, dict[str, int]] = {}
    for row in rows:
        if vars(row).get(called.get("kind", "kind")) == "multiclass" and not is_mean(row):
            for name in ("events", "train_events"):
                if (count := getattr(row, name, None)) is not None:
                    counts.setdefault(_classes_of(row, name), {})[row.target] = count
    shown = {key: hide(each) for key, each in counts.items()}
    return {
        key: [one for one, text in each.items() if text == WITHHELD]
        for key, each in shown.items()
        if any(isinstance(text, str) for text in each.values())
    }


def is_mean(row: Any) -> bool:
    """Whether a row is a mean over the others."""
    return row.target in WHOLES


def hidden_row(
    row: Counted, known: Known, called: Mapping[str, str] = MappingProxyType({})
) -> tuple[Counted, bool]:
    """One row as shown, and whether its numbers are withheld.

    Args:
        row: The row.
        known: What is shown of people.
        called: What a field of `Result` is called in it, where that is another name.
    """

    def read(name: str) -> Any:
        return getattr(row, called.get(name, name), None)

    people = read("subjects") or read("n")
    if not people:
        return row, False
    known = known.of_task(read("task"))
    events, without = read("events"), read("non_events")
    count = shown_count(people, *known.wholes)
    is_hidden, held = isinstance(count, Hidden), people < FEWEST_SUBJECTS
    changes = _of_training(row, read, known, is_hidden)
    if is_hidden:
        changes["subjects"] = count if read("subjects") else read("subjects")
        changes["n"] = Hidden(read("n"), str(count) if read("n") == people else WITHHELD)
    if events is not None and is_mean(row):  # a sum over classes
        if read("task") in known.tasks:
            changes["events"], is_hidden = Hidden(events), True
            changes["non_events"] = without if without is None else Hidden(without)
        held |= 0 < events < FEWEST_SUBJECTS
    elif events is not None:
        rest = people - events if without is None else without
        with_event, others = within(events, count), within(rest, count)
        many = read("kind") == "multiclass"
        if (is_hidden and (events == people or many)) or (many and known.hides(row, "events")):
            with_event = Hidden(events)  # the same number, or one of those that add up to it
        if is_hidden or isinstance(with_event, Hidden) or isinstance(others, Hidden):
            changes |= _sides(with_event, others, count, without is not None)
            is_hidden = True
        held |= 0 < events < FEWEST_SUBJECTS
        held |= 0 < rest < FEWEST_SUBJECTS and read("kind") != "survival"
    held |= tells_share(read) and (is_hidden or known.has_rare(row))
    if held:
        note = "; ".join(text for text in (TOO_FEW, changes.get("note", read("note"))) if text)
        gone = dict.fromkeys((*NUMBERS, *OF_DIFFERENCES, "p_value"))
        return _replaced(row, called, {**changes, **gone, "note": note}), True
    done = _replaced(row, called, changes)
    return (rounded(done, called) if is_hidden else done), False


def tells_share(read: Any) -> bool:
    """Whether a number follows from the share with the event: predictions are the same for all."""
    constant = read("method") == MAJORITY or CONSTANT in (read("note") or "")
    return constant and not read("versus") and read("metric") not in RANKED


def within(count: int, people: int) -> int:
    """Some of the people as shown; of hidden people no range, whose ends would tell them."""
    shown = shown_count(count, people)
    few = count < FEWEST_SUBJECTS
    return (
        Hidden(count)
        if isinstance(people, Hidden) and isinstance(shown, Hidden) and not few
        else shown
    )


def _sides(events: int, others: int, people: int, has_others: bool) -> dict[str, Any]:
    """Those with and without the event, neither of which may tell the other."""
    if isinstance(people, Hidden):
        if people < FEWEST_SUBJECTS:
            events, others = (Hidden(one, str(people)) for one in (events, others))
        elif not isinstance(others, Hidden):
            others = Hidden(others)
    elif isinstance(events, Hidden) and not isinstance(others, Hidden):
        others = Hidden(others)
    elif isinstance(others, Hidden) and not isinstance(events, Hidden):
        events = Hidden(events)
    return {"events": events, **({"non_events": others} if has_others else {})}


def _of_training(row: Any, read: Any, known: Known, is_hidden: bool) -> dict[str, Any]:
    """Counts of whom a row was fitted on; in folds they are a share of those that are scored."""
    names = ("train_subjects", "tuning_subjects", "train_events")
    counts = {name: count for name in names if (count := read(name)) is not None}
    in_folds = read("split") == CROSS_VALIDATION
    if in_folds and is_hidden:
        return {name: Hidden(count) if count else 0 for name, count in counts.items()}
    wholes = () if in_folds else (*known.wholes, *known.others)
    found: dict[str, Any] = {name: shown_count(one, *wholes) for name, one in counts.items()}
    if (events := counts.get("train_events")) is not None:
        people = found.get("train_subjects")
        found["train_events"] = shown_count(events) if people is None else within(events, people)
        many = read("kind") == "multiclass" and isinstance(people, Hidden)  # they add up to it
        if many or known.hides(row, "train_events"):
            found["train_events"] = Hidden(events)
        if read("note") and any(isinstance(one, Hidden) for one in found.values()):  # their share
            found["note"] = _THRESHOLD.sub(
                "at a risk threshold that few people decide, ", read("note")
            )
    return found


def rounded(row: Counted, called: Mapping[str, str], to: int = 1) -> Counted:
    """A row with its numbers at a step that tells no count, no finer than ``to`` of its people."""
    people = getattr(row, called.get("subjects", "subjects"), 0)
    step = step_of(least_of(people or getattr(row, called.get("n", "n")) or 1) / to)
    given = {name: getattr(row, name, None) for name in (*NUMBERS, *OF_DIFFERENCES)}
    told = {name: value for name, value in given.items() if value is not None}
    numbers: dict[str, float] = {**to_steps(told, step), **({"rounded_to": step} if told else {})}
    for name in ("p_value", *(["value"] if row.metric == TEST else [])):  # type: ignore[attr-defined]  # of any class
        if (value := getattr(row, name, None)) is not None:
            numbers[name] = float(f"{value:.2g}")
    return _replaced(row, called, numbers)


def middle(people: int) -> float:
    """About how many people a count as shown is: the middle of its range, or of five."""
    if not isinstance(people, Hidden):
        return people
    least, _, most = str(people).replace(",", "").partition(" to ")
    return (int(least) + int(most)) / 2 if most else people - people % FEWEST_SUBJECTS + 2


def least_of(people: int) -> int:
    """How many people a count as shown is at least; not finer than fives where no range is."""
    if not isinstance(people, Hidden):
        return people
    least = int(read_count(str(people)))
    return least or people - people % FEWEST_SUBJECTS or 1


def _replaced(row: Counted, called: Mapping[str, str], changes: Mapping[str, Any]) -> Counted:
    """A row with other values in those of the fields that it has."""
    own = {called.get(name, name): value for name, value in changes.items()}
    own = {name: value for name, value in own.items() if hasattr(row, name)}
    return replace(row, **own)  # type: ignore[type-var]  # rows are of several dataclasses
