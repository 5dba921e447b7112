"""What was counted and what was left out; it stays at the site, beside the counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields


@dataclass
class Tally:
    """Numbers of events and patients, by what became of them.

    Attributes:
        shards: Files that were read.
        rows: Rows in them.
        subjects: Patients who were read, with or without an event that counts.
        other_splits: Events of subjects in splits that are not read.
        not_asked_for: Events that ``only`` leaves out (another site, for example).
        unassigned: Events that no modality claims.
        too_long: Events whose code is longer than any code (a note in the code column?).
        outside_vocabulary: Events of codes that the vocabulary does not have.
        events: Events that went into counting.
        without_time: Of those, left out because the window needs a date.
        implausible_time: Of those, left out because their date is a placeholder (year 1, 9999).
        without_visit: Of those, left out because the window needs a visit.
        duplicates: Events that equal another in patient, time, visit and code.
    """

    shards: int = 0
    rows: int = 0
    subjects: int = 0
    other_splits: int = 0
    not_asked_for: int = 0
    unassigned: int = 0
    too_long: int = 0
    outside_vocabulary: int = 0
    events: int = 0
    without_time: int = 0
    implausible_time: int = 0
    without_visit: int = 0
    duplicates: int = 0

    def __iadd__(self, other: Tally) -> Tally:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        return self

    def __str__(self) -> str:
        """Say what was left out or stands out, one line each."""
        return "\n".join([*self.left_out(), *self.repeats()])

    def left_out(self) -> list[str]:
        """Say what was left out, a line each, but for duplicates."""
        said = [(getattr(self, name), text) for name, text in _SAID.items()]
        return [f"{number:,} events {text}" for number, text in said if number]

    def repeats(self, *, dropped: bool | None = None) -> list[str]:
        """Say how many events equal another, and what became of them if that is known."""
        became = "" if dropped is None else ": left out" if dropped else ": kept and counted"
        what = "events equal another in patient, time, visit and code"
        return [f"{self.duplicates:,} {what}{became}"] if self.duplicates else []

    def as_dict(self) -> dict[str, int]:
        """Give the numbers as plain values for JSON."""
        return asdict(self)


_SAID = {
    "other_splits": "of subjects in other splits",
    "not_asked_for": "left out by `only`",
    "unassigned": "of no modality",
    "too_long": "left out: longer than any code",
    "outside_vocabulary": "of codes outside the vocabulary",
    "without_time": "left out: no date, which the window needs",
    "implausible_time": "left out: a date before 1700 or after 2399, taken for a placeholder",
    "without_visit": "left out: no visit, which the window needs",
}
