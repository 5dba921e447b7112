"""The leaderboard of a suite: its rows, and the page that is made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path

from medmcl.core.atomic import write_atomically
from medmcl.core.suppression import TOO_FEW, Rounding, placeless, read_count
from medmcl.data.tables.spreadsheet import csv_text
from medmcl.evaluation.metrics.sampled import in_brackets
from medmcl.evaluation.protocol.scoring import CONSTANT
from medmcl.evaluation.report.rounded import Rounded
from medmcl.evaluation.report.small_counts import hidden_rows
from medmcl.evaluation.report.small_rows import Known
from medmcl.evaluation.report.words import escaped

FILES = ("leaderboard.json", "leaderboard.csv", "leaderboard.md")
HEADLINE = "auroc"
AS_RECORDED = "as recorded"
CALLED = {"subjects": "people", "n": "records", "train_subjects": "train_people",
          "kind": "outcome"}  # fmt: skip
"""What fields of `Result` are called here."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of a leaderboard, with all that is needed to read it.

    Attributes:
        suite: The suite.
        cohort: Whose records.
        task: Task of the suite.
        target: ``macro``, the mean over classes, or a class.
        name: What was evaluated.
        kind: model, run, embeddings, random, simple features, or trained: for the task, whole.
        protocol: How predictions were made.
        label_fraction: Share of train labels.
        condition: How the records that are scored were disturbed.
        scored_on: The site that is scored; empty where a suite holds none out.
        trained_on: The sites that were learned from.
        metric: By name.
        value: The number; None = not estimable, the note says why.
        low: Lower end of its interval over people who are scored.
        high: Upper end.
        people: People who are scored.
        records: Their records.
        events: Positive labels in them.
        classes: Classes of the task.
        left_out: Classes that nobody who is scored has: not in the mean.
        train_people: People whose labels were learned from.
        seeds: Fits that are averaged.
        seed_spread: Standard deviation over them.
        versus: Another; then this is the paired difference to it.
        overlap: Whether it may have seen the data: seen, other parts seen, not seen, not known.
        mark: What must be minded of that, and of the files that vectors were made of.
        terms: What must be said of its use.
        note: Remarks.
        command: What made this row.
        outcome: Kind of the task: binary, multilabel or multiclass; empty in older files.
    """

    suite: str
    cohort: str
    task: str
    target: str
    name: str
    kind: str
    protocol: str
    label_fraction: float
    condition: str
    scored_on: str = ""
    trained_on: str = ""
    metric: str
    value: float | None
    low: float | None
    high: float | None
    people: int
    records: int
    events: int | None
    classes: int
    left_out: str
    train_people: int | None
    seeds: int
    seed_spread: float | None
    versus: str
    overlap: str
    mark: str
    terms: str
    note: str
    command: str
    outcome: str = ""

    def __post_init__(self) -> None:
        """Read counts that are hidden in a file back."""
        for name in ("people", "records", "events", "train_people"):
            if isinstance(text := getattr(self, name), str):
                object.__setattr__(self, name, read_count(text))

    @property
    def shown(self) -> str:
        """The number with its interval."""
        if self.value is None:
            return TOO_FEW if self.note.startswith(TOO_FEW) else "not estimable"
        text = in_brackets(self.value, self.low, self.high, "+" if self.versus else "")
        return f"{text}, {CONSTANT}" if CONSTANT in self.note and not self.versus else text


def write_board(
    folder: Path,
    title: str,
    rows: Sequence[Row],
    notes: Sequence[str],
    sizes: Sequence[Sequence[int]] = (),
    rounding: Rounding | None = None,
) -> None:
    """Write rows as json and csv, and the page; small counts are hidden in all three.

    Args:
        folder: Where.
        title: Of the page.
        rows: Of all tasks.
        notes: What else is said.
        sizes: People of train, tuning and held_out of each split, which the notes tell.
        rounding: Rounds all counts instead.
    """
    if rounding is None:
        *others, scored = zip(*sizes, strict=True) if sizes else ((),)
        whole = {*scored, *(row.people for row in rows)}
        known = Known.of(rows, whole, {*chain(*others)}, called=CALLED)
        shown = [known.spoken(row) for row in hidden_rows(rows, known, CALLED)]
    else:
        shown = [Rounded(rounding).row(row, CALLED) for row in rows]
        notes = [*Rounded(rounding).plain([*notes], "notes"), rounding.said]
    plain = [placeless(asdict(row)) for row in shown]
    text = json.dumps(plain, indent=0, ensure_ascii=False)
    write_atomically(folder / FILES[0], text, page=folder / FILES[2])
    names = [field.name for field in fields(Row)]
    write_atomically(folder / FILES[1], csv_text(plain, names))
    write_atomically(folder / FILES[2], page(title, [Row(**one) for one in plain], notes))


def read_board(file: Path) -> list[Row]:
    """Read what `write_board` wrote as json."""
    return [Row(**one) for one in json.loads(file.read_text(encoding="utf-8"))]


def page(title: str, rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Write the page: whom to mind first, then each task, then records that are disturbed."""
    terms = {row.terms: None for row in rows if row.terms}
    minded = mind_lines(rows)
    lines = [f"# {escaped(title)}", "", *(f"{escaped(note)}\n" for note in notes)]
    lines += ["**Mind**", "", *minded, ""] if minded else []
    lines += [*(f"- {escaped(one)}" for one in terms), ""] if terms else []
    lines += body(rows)
    lines += ["## Command", "", *_commands(rows), ""]
    return "\n".join(lines)


def mind_lines(rows: Iterable[Row]) -> list[str]:
    """Write whom to mind, and why."""
    minded = dict.fromkeys((row.name, row.mark) for row in rows if row.mark)
    return [f"- {escaped(name)}: {escaped(mark)}" for name, mark in minded]


def body(rows: Sequence[Row]) -> list[str]:
    """Write the part about tasks: from site to site, then each of each site and cohort."""
    lines: list[str] = []
    for task in dict.fromkeys(row.task for row in rows):
        lines += _by_site(task, [row for row in rows if row.task == task])
    several = len({row.cohort for row in rows}) > 1
    for key in dict.fromkeys((row.cohort, row.task, row.scored_on) for row in rows):
        cohort, task, site = key
        title = f"{task}, scored on {site}" if site else task
        title += f" (cohort {cohort})" if several else ""
        own = [row for row in rows if (row.cohort, row.task, row.scored_on) == key]
        lines += task_lines(title, own)
    return lines


def _by_site(task: str, rows: Sequence[Row]) -> list[str]:
    """Scores at all labels, a column a site that was held out; none without sites."""
    sites = list(dict.fromkeys(row.scored_on for row in rows if row.scored_on))
    scores = {
        (row.name, row.protocol, row.scored_on): row
        for row in rows
        if (row.target == "macro" or row.classes == 1)
        and (row.metric, row.versus, row.condition) == (HEADLINE, "", AS_RECORDED)
        and row.label_fraction == 1
    }
    if not sites or not scores:
        return []
    table = []
    for name, protocol in dict.fromkeys(key[:2] for key in scores):
        found = [scores.get((name, protocol, site)) for site in sites]
        mark = " (!)" if any(row and row.mark for row in found) else ""
        table.append(
            [f"{name}{mark}", protocol, *("" if row is None else row.shown for row in found)]
        )
    said = "Scored on one source, trained on the others. Mean AUROC over classes, 95 % intervals."
    return [
        f"## {escaped(task)}: from site to site",
        "",
        said,
        "",
        *_table(["", "probe", *sites], table),
        "",
    ]


def task_lines(task: str, rows: Sequence[Row]) -> list[str]:
    """Write the part of a page about one task, its rows the best first; none without a score."""
    main = [row for row in rows if row.target == "macro" or row.classes == 1]
    plain = [row for row in main if row.condition == AS_RECORDED and not row.versus]
    scores = [row for row in plain if row.metric == HEADLINE]
    if not scores:
        return []
    first = scores[0]
    several = first.classes > 1
    positive = 0 if first.events is None else first.events
    classes = f", {first.classes} classes" if several else ""
    whose = "" if several else f", {positive:,} of them with a positive label"
    labels = f"; {positive:,} positive labels, each once a person" if several else ""
    lost = f"; nobody scored has {first.left_out}: not in the mean" if first.left_out else ""
    lines = [
        f"## {escaped(task)}",
        "",
        f"{first.people:,} people scored{whose} ({first.records:,} records{labels})"
        f"{classes}{escaped(lost)}. "
        f"{'Mean AUROC over classes' if several else 'AUROC'}, with 95 % intervals.",
        "",
    ]
    fractions = sorted({row.label_fraction for row in scores}, reverse=True)
    head = [
        "",
        "probe",
        *(f"{100 * one:g} % of labels" for one in fractions),
        "slope",
        "beside random",
    ]
    table = []
    best = [row for row in scores if row.label_fraction == fractions[0]]
    for row in sorted(best, key=lambda one: -(one.value or 0)):
        own = [one for one in main if (one.name, one.protocol) == (row.name, row.protocol)]
        at = {
            one.label_fraction: one.shown
            for one in own
            if one.metric == HEADLINE and not one.versus and one.condition == AS_RECORDED
        }
        slope = _first(own, "calibration_slope", versus=False)
        apart = _first(own, HEADLINE, versus=True)
        table.append(
            [
                f"{row.name}{' (!)' if row.mark else ''}",
                row.protocol,
                *(at.get(one, "") for one in fractions),
                slope,
                apart,
            ]
        )
    return [*lines, *_table(head, table), "", *_disturbed(main)]


def _first(rows: Iterable[Row], metric: str, *, versus: bool) -> str:
    return next(
        (
            row.shown
            for row in rows
            if row.metric == metric and bool(row.versus) == versus and row.condition == AS_RECORDED
        ),
        "",
    )


def _disturbed(rows: Sequence[Row]) -> list[str]:
    """Scores on disturbed records beside those as they were recorded, at all labels."""
    scores = [row for row in rows if row.metric == HEADLINE and not row.versus]
    conditions = list(dict.fromkeys(row.condition for row in scores))
    names = {(r.name, r.protocol): None for r in scores if r.condition != AS_RECORDED}
    if not names:
        return []
    table = [
        [
            name,
            protocol,
            *(
                next(
                    (
                        row.shown
                        for row in scores
                        if (row.name, row.protocol, row.condition) == (name, protocol, condition)
                        and row.label_fraction == 1
                    ),
                    "",
                )
                for condition in conditions
            ),
        ]
        for name, protocol in names
    ]
    return ["Records that are scored disturbed, probes fitted on records as they are:", "",
            *_table(["", "probe", *conditions], table), ""]  # fmt: skip


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    every = [[escaped(cell) for cell in cells] for cells in (head, *rows)]
    return [line(every[0]), line(["---"] * len(head)), *map(line, every[1:])]


def _commands(rows: Sequence[Row]) -> list[str]:
    commands = (" ".join(row.command.replace("`", "'").split()) for row in rows)
    return [f"`{one}`" for one in dict.fromkeys(commands)]
