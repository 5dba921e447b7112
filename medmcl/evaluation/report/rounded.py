"""A report whose counts are all rounded: one rule, that need not know which count is part of which.

Research environments check what leaves them by it: counts under a threshold are not told, all
others are multiples of a step, and shares are of rounded counts. It goes over all that an
evaluation holds, by type: what is added to that later is rounded too, unless `KEPT` names it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.suppression import TOO_FEW, Covered, Hidden, Rounding, to_step
from medmcl.evaluation.metrics.calibration_curve import Calibration
from medmcl.evaluation.metrics.decision_curve import DecisionCurve
from medmcl.evaluation.metrics.metric import NotEstimable
from medmcl.evaluation.metrics.survival.gridded import CURVE_POINTS, gridded
from medmcl.evaluation.protocol.evidence import (
    OfSomePeople,
    RiskGroup,
    RiskHistogram,
    TaskEvidence,
    sensible_thresholds,
)
from medmcl.evaluation.protocol.results import WHOLES
from medmcl.evaluation.protocol.scoring import CONSTANT
from medmcl.evaluation.protocol.subgroups import RANKED
from medmcl.evaluation.report.patterns import counted_patterns
from medmcl.evaluation.report.small_evidence import even_curve, is_constant
from medmcl.evaluation.report.small_rows import NUMBERS, OF_DIFFERENCES, rounded, tells_share
from medmcl.evaluation.report.table_one import TableOne

if TYPE_CHECKING:
    from medmcl.evaluation.protocol.evaluation import Evaluation

KEPT = {
    "seeds", "sites", "classes", "kept_steps", "level", "seconds", "label_fraction", "horizon",
    "horizons", "edges", "predicted", "provenance", "compared", "step", "rounding", "folder",
}  # fmt: skip
"""Fields whose numbers are neither counts of people or records, nor shares of them."""
SENTENCES = {"note", "notes", "reason", "mark", "gaps", "strange", "training", "lines", "warnings",
             "subtitle", "left_out"}  # fmt: skip
"""Fields of sentences: there all whole numbers count, but for those beside `_OTHER`, `_NAMED`."""
NOBODY = ("subjects", "n", "train_subjects", "tuning_subjects", "train_events")
"""Fields whose 0 says that nobody was meant, or that no label was used."""
LEFT_OUT: dict[str, Any] = {"prepared": None, "people": [], "seen": None, "embedding_map": {},
                            "findings": (), "coefficients": [], "baselines": []}  # fmt: skip
"""Parts of an evaluation that hold single people or records, or tell counts in all digits."""
TESTS = ("p_value", "statistic")
"""Fields that are no shares, and are written with two figures."""
POINTS = 12  # of a decision curve, about
SAME_FOR_ALL = f"{CONSTANT}: not shown, as it follows from how many have the outcome"

_NUMBER = re.compile(r"(?<![\w.,/:=#^-])(<?)(\d+(?:,\d{3})*)(\.\d+)?(?![\w/:]|[.,-]\d)")
_OTHER = re.compile(
    r"\s?(?:%|x \d|(?:years?|months?|weeks?|days?|hours?|minutes?|seconds?|s|ms|Hz|px|mm|M|steps?|"
    r"draws?|seeds?|folds?|fits?|epochs?|stages?|leads?|layers?|digits?|thresholds?|methods?|"
    r"models?|times)\b)"
)
_NAMED = re.compile(r"(?:seed|step|stage|fold|least|than|x|& [A-Z]\w+|al\.) $")
_PEOPLE = re.compile(
    r" (?:of \d|(?:[a-z-]+ ){0,2}(?:people|persons?|subjects?|patients?|women|men|cases?|controls?|"
    r"samples?|records?|rows?|pairs?|events?|labels?|vectors?|values?)\b)"
)
_ONE = re.compile(r"\b(?:one|a single) (?=(?:person|subject|patient|sample|record|row)\b)")
_TRAIN_SHARE = re.compile(r"at a risk threshold of [\d.e-]+, ")


@dataclass(frozen=True)
class Rounded:
    """What leaves by a rule.

    Attributes:
        by: The rule.
    """

    by: Rounding

    def sentence(self, text: str, name: str = "note") -> str:
        """A sentence with rounded counts, without parts that count few: they tell there are any.

        Args:
            text: The sentence; of a reason all parts stay.
            name: Of the field that it stands in.
        """
        text = text.shown if isinstance(text, Covered) else text
        text = _TRAIN_SHARE.sub("at a risk threshold, ", text)
        parts = [self._part(part, name in SENTENCES)
                 for part in (text.split("; ") if name in SENTENCES else [text])]  # fmt: skip
        is_kept = name == "reason" or name not in SENTENCES
        return "; ".join(part for part, hides in parts if is_kept or not hides)

    def _part(self, text: str, is_sentence: bool) -> tuple[str, bool]:
        hides = [bool(_ONE.search(text))]

        def told(found: re.Match[str]) -> str:
            before, after = text[: found.start()], text[found.end() :]
            if found[3]:
                return f"{float(found[0].replace(',', '')):.3g}" if is_sentence else found[0]
            if _OTHER.match(after) or (_NAMED.search(before) and not found[1]):
                return found[0]
            if not is_sentence and not _PEOPLE.match(after):
                return found[0]
            if found[0] == f"<{self.by.first}":
                return found[0]
            count = self.by.count(0 if found[1] else int(found[2].replace(",", "")))
            hides.append(isinstance(count, Hidden))
            return f"{count:,}" if "," in found[0] else str(count)

        return _NUMBER.sub(told, _ONE.sub(f"<{self.by.first} ", text)), any(hides)

    def plain(self, value: Any, name: str = "", people: float | None = None) -> Any:
        """What was found as it leaves, by its type.

        Args:
            value: A plain value, or what is made of such: lists, mappings, dataclasses.
            name: Of the field that holds it.
            people: Whom its shares are of; None: numbers are written with three figures.

        Raises:
            TypeError: It is of another type, so that nobody knows whether it may leave.
        """
        if name in KEPT or value is None or isinstance(value, bool | Hidden):
            return value
        if isinstance(value, str):
            return self.sentence(value, name)
        if isinstance(value, int | np.integer):
            return 0 if name in NOBODY and not value else self.by.count(int(value))
        if isinstance(value, float | np.floating):
            if people and math.isfinite(value) and name not in TESTS:
                return to_step(float(value), self.by.step(people))
            return float(f"{value:.{2 if name in TESTS else 3}g}")
        if isinstance(value, Mapping):
            return {key: self.plain(one, str(key), people) for key, one in value.items()
                    if "/tokens/" not in str(key)}  # fmt: skip  # a multiple of records
        if isinstance(value, list | tuple):
            told = [self.plain(one, name, people) for one in value
                    if not (isinstance(one, OfSomePeople) and one.suppressed)]  # fmt: skip
            return type(value)(one for one in told if one != "" or name not in SENTENCES)
        if not is_dataclass(value) or isinstance(value, type):
            raise TypeError(f"{name}: {type(value).__name__} can not be rounded")
        if hasattr(value, "metric") and hasattr(value, "value"):
            return self.row(value)
        own: dict[type, Callable[[Any], Any]] = {
            TaskEvidence: self._evidence, Calibration: self._calibration,
            DecisionCurve: self._decision, RiskHistogram: self._histogram, TableOne: self._table,
        }  # fmt: skip
        return own[type(value)](value) if type(value) in own else self._fields(value, people)

    def _fields(self, value: Any, people: float | None = None, /, **known: Any) -> Any:
        """The same class, each field as it leaves but those that are known."""
        people = getattr(value, "subjects", 0) or getattr(value, "n", 0) or people
        told = {one.name: self.plain(getattr(value, one.name), one.name, people)
                for one in fields(value) if one.name not in known}  # fmt: skip
        return replace(value, **told, **known)

    def row(self, row: Any, called: Mapping[str, str] = MappingProxyType({})) -> Any:
        """A row of results as it leaves, without numbers that few people decide.

        Args:
            row: A result, or a row of another class with its fields.
            called: What a field of `Result` is called in it, where that is another name.
        """

        def read(name: str) -> Any:
            return getattr(row, called.get(name, name), None)

        told = {own: self.plain(getattr(row, own), name)
                for name in (*NOBODY, "events", "non_events", "note", "mark")
                if hasattr(row, own := called.get(name, name))}  # fmt: skip
        shown, people, events = replace(row, **told), read("subjects") or read("n"), read("events")
        if not people:
            return shown
        deciding = [people]
        if events is not None:
            rest = people - events if read("non_events") is None else read("non_events")
            is_one_sided = read("kind") == "survival" or read("target") in WHOLES
            deciding += [events] if is_one_sided else [events, rest]
        why = (
            TOO_FEW if min(deciding) < self.by.first else SAME_FOR_ALL if tells_share(read) else ""
        )
        if not why:
            is_fine = read("metric") in RANKED or read("kind") == "regression"
            return rounded(shown, called, 1 if is_fine else self.by.to)
        gone = {name: None for name in (*NUMBERS, *OF_DIFFERENCES, "p_value") if hasattr(row, name)}
        return replace(shown, **gone, note=why)

    def _table(self, table: TableOne) -> TableOne:
        return replace(table, notes=self.plain(table.notes, "notes"))  # made of rounded counts

    def _evidence(self, one: TaskEvidence) -> TaskEvidence:
        if is_constant(one):
            one = replace(one, calibration=one.calibration and NotEstimable(SAME_FOR_ALL),
                          decision=one.decision and NotEstimable(SAME_FOR_ALL))  # fmt: skip
        people = one.followed[1]
        return self._fields(one, people, risk_groups=self._risk_groups(one.risk_groups),
                            **({} if people else {"followed": one.followed}))  # fmt: skip

    def _calibration(self, found: Calibration) -> Calibration | NotEstimable:
        if min(found.subjects, found.events, found.subjects - found.events) < self.by.first:
            return NotEstimable(TOO_FEW)
        curve = found.curve and even_curve(found.curve)
        return self._fields(found, groups=(), curve=self.plain(curve, "curve", found.subjects))

    def _decision(self, curve: DecisionCurve) -> DecisionCurve | NotEstimable:
        """The curve of rounded counts of who is treated with the event, and without."""
        positive = curve.prevalence * curve.n
        if min(curve.subjects, curve.events, positive, curve.n - positive) < self.by.first:
            return NotEstimable(TOO_FEW)
        n, share = self.by.count(curve.n), self.by.count(positive) / self.by.count(curve.n)
        every = sensible_thresholds(share)
        grid = np.array(every[:: -(-len(every) // POINTS)])
        odds = grid / (1 - grid)

        def read(name: str) -> np.ndarray:
            own = np.array(getattr(curve, name), dtype=np.float64)
            return np.interp(grid, curve.thresholds, own)

        hits = curve.n * (read("model") + read("treated") * odds) / (1 + odds)
        true, false = (
            np.array([math.nan if isinstance(one, Hidden) else one
                      for one in map(self.by.count, np.nan_to_num(counts).tolist())])
            for counts in (hits, curve.n * read("treated") - hits)
        )  # fmt: skip
        benefit, every_one = (true - false * odds) / n, share - (1 - share) * odds
        steps = {name: np.round(read(name) / (step := self.by.step(curve.n))) * step + 0 * benefit
                 for name in ("low", "high")}  # fmt: skip
        columns = {"model": benefit, "treated": (true + false) / n, "standardised": benefit / share,
                   "avoided": 100 * (benefit - every_one) / odds, "treat_all": every_one,
                   "treat_none": 0 * grid, "thresholds": grid, **steps}  # fmt: skip
        told = {name: tuple(None if math.isnan(one) else round(one, 12) for one in column.tolist())
                for name, column in columns.items()}  # fmt: skip
        return self._fields(curve, prevalence=share, **told)

    def _histogram(self, bars: RiskHistogram) -> RiskHistogram:
        """Bars; those of few have no height."""
        counts = map(self.by.count, bars.counts)
        return replace(bars, counts=tuple(
            Hidden(0, str(one)) if isinstance(one, Hidden) else one for one in counts
        ))  # fmt: skip

    def _risk_groups(self, groups: Sequence[RiskGroup]) -> tuple[RiskGroup, ...]:
        """Groups with their curves at a few even times, until the first one has few at risk."""
        many = [one for one in groups if not isinstance(one.curve, NotEstimable)
                and min(one.subjects, one.events) >= self.by.first]  # fmt: skip
        ends = [max((time for time, people in zip(one.curve.times, one.curve.at_risk, strict=True)
                     if people >= self.by.first), default=0.0)
                for one in many if not isinstance(one.curve, NotEstimable)]  # fmt: skip
        end = min(ends, default=0.0)
        unit = 10 ** (math.floor(math.log10(end)) - 1) if end else 1
        times = np.linspace(0, end // unit * unit, CURVE_POINTS)

        def curve(one: RiskGroup) -> Any:
            if isinstance(one.curve, NotEstimable) or not end or one not in many:
                return NotEstimable(TOO_FEW)
            found = gridded(one.curve, times)
            main = "survival" if hasattr(one.curve, "survival") else "incidence"
            columns = {name: tuple(self.plain(values.tolist(), name, one.subjects))
                       for name, values in ((main, found.values), ("low", found.low),
                                            ("high", found.high))}  # fmt: skip
            columns["at_risk"] = tuple(float(self.by.count(n)) for n in found.at_risk)
            columns["events"] = (0.0,) * len(times)
            return replace(one.curve, times=tuple(times.tolist()), **columns)  # type: ignore[arg-type]  # each under its name

        return tuple(
            self._fields(one, curve=curve(one), low=float(f"{one.low:.2g}"),
                         high=float(f"{one.high:.2g}"))
            for one in groups
        )  # fmt: skip

    def evaluation(self, data: Evaluation) -> Evaluation:
        """All that was found, as it leaves; what nobody can round is left out, and that is said."""
        people = max((row.subjects or row.n for row in data.results), default=None)
        notes, shown = [*data.notes], {}
        for name, found in data.shown.items():
            try:
                shown[name] = self.plain(found, name, people)
            except TypeError:
                notes.append(f"{name} left out: it shows single people or records")
        patterns = counted_patterns(data.missingness)
        if not patterns.empty:  # that a pattern is there tells that somebody has it
            patterns = patterns[patterns["samples"] >= self.by.first]
            patterns = patterns.assign(samples=patterns["samples"].map(self.by.count))
        known = {**LEFT_OUT, "notes": self.plain(notes, "notes"), "shown": shown,
                 "missingness": patterns, "curves": self.plain(data.curves)}  # fmt: skip
        return self._fields(data, people, **known)
