"""What ``cohort.yaml`` may say (schema ``medmcl/cohort@1``).

A modality section has the fields of `ModalityKeys`; its others belong to the adapter of its kind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from medmcl.core.config import Config, FileName
from medmcl.core.contracts import NamesCells, Traits, traits
from medmcl.modalities import ADAPTERS

Scalar = str | int | float | bool
NoisyWithin = Literal["any", "within", "across"]
"""Among whom records change places: everybody, one class, different classes."""
UNITS_PER_YEAR = {"days": 365.25, "weeks": 365.25 / 7, "months": 12.0, "years": 1.0}


class JoinKeys(Config):
    """A table whose columns are added to another one's rows."""

    table: str
    on: Annotated[
        dict[str, str], BeforeValidator(lambda on: {on: on} if isinstance(on, str) else on)
    ]
    """Column of the left table to column of this one; one name if they are called alike."""


class RandomSplit(Config):
    """A split drawn by subject; the same subject always falls on the same side."""

    seed: int = 0
    tuning: float = Field(0.1, ge=0, lt=1)
    held_out: float = Field(0.2, ge=0, lt=1)

    @model_validator(mode="after")
    def _some_left(self) -> RandomSplit:
        if self.tuning + self.held_out >= 1:
            raise ValueError("tuning + held_out must leave something to train on")
        return self


class SplitKeys(Config):
    """Who is in which split: a column, a column with values for each split, or at random."""

    column: str | None = None
    train: tuple[Scalar, ...] = ()
    tuning: tuple[Scalar, ...] = ()
    held_out: tuple[Scalar, ...] = ()
    random: RandomSplit | None = None
    everyone: Literal["train", "tuning", "held_out"] | None = None
    """Put all subjects in one split: a cohort that is only scored says ``held_out``."""
    tuning_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """With a column and its ``held_out``: so many of the others are drawn for tuning, by id. The
    others are the values of ``train``, or all that are not held out."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        return {"column": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_way(self) -> SplitKeys:
        ways = [w for w in (self.column, self.random, self.everyone) if w is not None]
        if len(ways) != 1:
            raise ValueError("name either a column, or random: {...}, or everyone: held_out")
        if self.has_values and self.column is None:
            raise ValueError("train, tuning and held_out list values of a column: name it")
        if self.tuning_share is not None and (self.tuning or not self.held_out):
            raise ValueError("tuning_share stands beside held_out: [...], and not beside tuning:")
        return self

    @property
    def has_values(self) -> bool:
        """Whether values of the column are listed for each split."""
        return bool(self.train or self.tuning or self.held_out)


class DateKeys(Config):
    """A column of subjects made of events: when something happened, or whether in a window."""

    table: str
    """A row an event: ``data/**/*.parquet`` of MEDS, ``visit_occurrence.csv`` of OMOP."""
    id: str | None = None
    """Its column with the subject; called as in the subjects table if not given."""
    date: str = "time"
    """Its column with the date or time; as MEDS calls it if not given."""
    where: str | None = None
    """Expression over a row: which events are meant; all if not given."""
    which: Literal["first", "last"] = "first"
    after: str | None = None
    """Only events later than this one of the dates."""
    at: str | None = None
    """Only the row that is dated exactly as this one of the dates: a table of labels."""
    plus_days: float = 0
    """Days that are added to the date: 1, a day after an admission."""
    within_days: float | None = Field(default=None, gt=0)
    """Give, in place of the date, 1 if it happened in so many days after ``after``, 0 if not."""
    until: str | None = None
    """The same, up to this one of the dates; whoever has none after ``after`` is unknown."""
    new: bool = False
    """With a window: unknown for whoever had such an event by ``after``."""
    followed: str | None = None
    """With ``within_days``: a 0 needs this one of the dates to lie at or after the window's end."""
    value: str | None = None
    """Give this column of the row in place of its date."""

    @model_validator(mode="after")
    def _one_way(self) -> DateKeys:
        windows = [one for one in (self.within_days, self.until) if one is not None]
        if len(windows) > 1 or (windows and self.value is not None):
            raise ValueError("name one of within_days, until and value")
        if windows and self.after is None:
            raise ValueError("a window starts at another date: write after: NAME")
        if (self.new and not windows) or (self.followed and self.within_days is None):
            raise ValueError("new belongs to a window, followed to within_days")
        if self.after is not None and self.at is not None:
            raise ValueError("name either after or at")
        if self.plus_days and (windows or self.value is not None):
            raise ValueError("plus_days is added to a date; here a value takes its place")
        return self

    @property
    def is_date(self) -> bool:
        """Whether it holds a date; otherwise a value, or whether something happened."""
        return self.value is None and self.within_days is None and self.until is None

    @property
    def needs(self) -> tuple[str, ...]:
        """The other dates that it reads."""
        return tuple(o for o in (self.after, self.at, self.until, self.followed) if o is not None)


SITE = "subjects.group"
"""Column of `Cohort.subjects` with the site: no table calls one of its own so."""


class SubjectsKeys(Config):
    """The table of subjects; several rows a subject are allowed where used columns agree."""

    table: str
    id: str | None = None
    """Column that names the subject; without it every row is one, called by its number."""
    split: SplitKeys = SplitKeys(random=RandomSplit(tuning=0.1, held_out=0.2))
    group: str | None = None
    """Column with the site of a subject: hospital, centre, scanner."""
    group_min: int = Field(1, ge=1)
    """Sites of fewer subjects are pooled into one, ``pooled``."""
    group_varies: Literal["refuse", "unknown"] = "refuse"
    """Subjects whose rows name several sites, as people who were seen at two: a fault of the
    table, or a site that is not known, and counted. A row that names none differs from no other.
    """
    join: tuple[JoinKeys, ...] = ()
    dates: dict[str, DateKeys] = {}
    """Columns made of events, by their name; one may read others."""
    where: str | None = None
    """Expression; rows for which it is not true are left out and counted."""

    @field_validator("dates")
    @classmethod
    def _in_order(cls, dates: dict[str, DateKeys]) -> dict[str, DateKeys]:
        """Put each date below those that it reads."""
        found: dict[str, DateKeys] = {}
        while len(found) < len(dates):
            ready = {n: d for n, d in dates.items() if n not in found and {*d.needs} <= {*found}}
            if not ready:
                name = next(name for name in dates if name not in found)
                other = next(other for other in dates[name].needs if other not in found)
                why = "reads itself, by way of others" if other in dates else "is none"
                raise ValueError(f"{name} reads the date '{other}', which {why}")
            found |= ready
        for name, keys in found.items():
            for other in keys.needs:
                if not found[other].is_date:
                    raise ValueError(f"{name} reads '{other}', which holds no date")
        return found

    @property
    def declares_split(self) -> bool:
        """Whether somebody chose the split; otherwise it is drawn by the default."""
        return "split" in self.model_fields_set


class ModalityKeys(Config):
    """What a cohort says of any modality; the rest of its section belongs to its adapter."""

    kind: str | None = None
    reader: str | None = None
    table: str | None = None
    """Its own table: one row a record. Without it: the subjects table, one record a subject."""
    join: tuple[JoinKeys, ...] = ()
    id: str | None = None
    """Column with the subject; called as in the subjects table if not given."""
    record: str | None = None
    """Column with the record id; the subject id if not given."""
    path: str | dict[str, str] | None = None
    """Template over the columns of the row: ``ecg/{subject_id}``, ``{frame:02d}``."""
    date: str | None = None
    present: str | None = None
    """Expression: who has it. A missing path, text or row of cells is an absence too."""


class MapKeys(Config):
    """A table that takes codes to what they mean."""

    table: str
    key: str
    value: str
    where: str | None = None


class IndexKeys(Config):
    """The index date: inputs after it are left out, outcomes are counted from it."""

    column: str | None = None
    modality: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> IndexKeys:
        if (self.column is None) == (self.modality is None):
            raise ValueError("name either a column or a modality")
        return self


class SubgroupKeys(Config):
    """Groups of subjects that results are shown for."""

    column: str
    """Column of the subjects table or of a tabular modality, or an expression over columns."""
    bands: tuple[float, ...] = ()
    """Where bands of a number begin: ``[50, 60, 70]`` gives <50, 50 to <60, 60 to <70, >=70."""
    names: dict[str, str] = {}
    """What groups are called, where the column holds codes."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("names"), dict):
            given = {**given, "names": {str(k): v for k, v in given["names"].items()}}
        return {"column": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _ascending(self) -> SubgroupKeys:
        if any(b <= a for a, b in zip(self.bands, self.bands[1:], strict=False)):
            raise ValueError("bands must ascend")
        return self


class ChoiceKeys(Config):
    """Pairs of samples that differ in one thing: each statement must choose its own image."""

    pair: str
    """Column of the subjects table, or an expression over its columns: two samples with the same
    value are a pair; one without a value is in none."""
    attribute: str | None = None
    """Column or expression: what the pair differs in. Results are shown by it."""


class PairingKeys(Config):
    """Which records of a subject belong together."""

    on: Literal["subject", "record", "date"] = "subject"
    max_gap_days: float | None = Field(default=None, ge=0)
    anchor: str | None = None
    """One sample for each record of this modality; the first modality if not given."""

    @model_validator(mode="after")
    def _gap_needs_dates(self) -> PairingKeys:
        if self.max_gap_days is not None and self.on != "date":
            raise ValueError("max_gap_days needs on: date")
        return self


class RemoveKeys(Config):
    """Entries that are taken out at random, to study a method with fewer of them."""

    share: float = Field(ge=0, lt=1)
    """Of all entries; an entry is what a subject has of a modality. Nobody loses all."""
    seed: int = 0
    modalities: tuple[str, ...] = ()
    """Whose entries may go; all if not given."""


class NoisyPairsKeys(Config):
    """Pairs that exchange a record, to study methods on wrong pairs; held_out stays right."""

    modality: str
    """Whose records change places."""
    task: str | None = None
    """Whose label sets say what is within and across, and whether a swap makes noise."""
    share: float = Field(0.0, ge=0, lt=1)
    """Of the samples of each split that have the modality and another one."""
    within: NoisyWithin = "any"
    """Whose record: any sample's, one of the same label set (within) or of another (across)."""
    splits: Annotated[
        tuple[str, ...], BeforeValidator(lambda one: (one,) if isinstance(one, str) else one)
    ] = Field(("train",), min_length=1)
    seed: int = 0

    @field_validator("splits")
    @classmethod
    def _scores_stay_true(cls, splits: tuple[str, ...]) -> tuple[str, ...]:
        if "held_out" in splits:
            raise ValueError("held_out stays as it is, what is scored must be right: write [train]")
        if len(set(splits)) < len(splits) or not set(splits) <= {"train", "tuning"}:
            raise ValueError("takes train and tuning, each once: write [train]")
        return splits

    @model_validator(mode="after")
    def _label_sets_need_a_task(self) -> NoisyPairsKeys:
        if self.within != "any" and self.task is None:
            raise ValueError(f"within: {self.within} compares label sets: name their task")
        return self


class TaskKeys(Config):
    """What every task may say."""

    of: str | None = None
    """Modality whose records carry the labels; without it they belong to subjects."""
    leaky_columns: tuple[str, ...] = ()
    """Columns, or modalities, that tell the label though it is not made of them: no input should
    show them, and an encoder paired with one is not called better."""
    about: str = ""


class BinaryKeys(TaskKeys):
    """Yes or no."""

    kind: Literal["binary"]
    column: str


class MulticlassKeys(TaskKeys):
    """One of several."""

    kind: Literal["multiclass"]
    column: str
    classes: tuple[Scalar, ...] = ()
    """In the order of their numbers; all values of the column, sorted, if not given."""


def _as_mapping(columns: Any) -> Any:
    """Let a list of columns stand for columns that keep their names."""
    if isinstance(columns, (list, tuple)):
        return {str(name): str(name) for name in columns}
    return columns


Columns = Annotated[dict[str, str], BeforeValidator(_as_mapping)]
"""What each is called to its expression; a list of columns keeps their names."""


class MultilabelKeys(TaskKeys):
    """Several yes or no at once: a column for each, or one that holds the labels of a record."""

    kind: Literal["multilabel"]
    columns: Columns = {}
    labels: str | None = None
    """Column of codes, or expression (``map[column]``): there is a yes or no for each label that
    any record has, in the order of their names."""
    unlabelled: Literal["left_out", "negative"] = "left_out"
    """Of ``labels``: records without any are not of the task, or have none of them. An empty cell
    says nothing: such records are never of the task."""

    @model_validator(mode="after")
    def _one_way(self) -> MultilabelKeys:
        if bool(self.columns) == (self.labels is not None):
            raise ValueError("name either columns, one for each label, or labels: one with all")
        return self


class RegressionKeys(TaskKeys):
    """One or more numbers."""

    kind: Literal["regression"]
    columns: Columns = Field({}, validate_default=True)
    column: str | None = None
    unit: str = ""

    @model_validator(mode="after")
    def _one_way(self) -> RegressionKeys:
        if bool(self.columns) == (self.column is not None):
            raise ValueError("name either column or columns")
        return self


class SurvivalKeys(TaskKeys):
    """Time to an event, possibly censored: as time and event, or as dates from the index."""

    kind: Literal["survival"]
    time: str | None = None
    event: str | None = None
    event_date: str | None = None
    censor_date: str | None = None
    competing: str | None = None
    competing_date: str | None = None
    unit: Literal["days", "weeks", "months", "years"] = "days"
    horizons_years: Annotated[
        tuple[float, ...], BeforeValidator(lambda years: () if years is None else years)
    ] = ()

    @field_validator("horizons_years")
    @classmethod
    def _later_and_later(cls, years: tuple[float, ...]) -> tuple[float, ...]:
        if not all(isfinite(year) and year > 0 for year in years):
            raise ValueError("horizons are years after time 0: write numbers above 0, [1, 5]")
        if any(later <= sooner for sooner, later in pairwise(years)):
            wanted = ", ".join(f"{year:g}" for year in sorted(set(years)))
            raise ValueError(f"horizons stand in rising order, each once: write [{wanted}]")
        return years

    @model_validator(mode="after")
    def _one_way(self) -> SurvivalKeys:
        plain = self.time is not None and self.event is not None
        dated = self.event_date is not None and self.censor_date is not None
        named = [self.time, self.event, self.event_date, self.censor_date]
        if plain == dated or sum(name is not None for name in named) != 2:
            raise ValueError("name either time and event, or event_date and censor_date")
        if self.competing_date is not None and (plain or self.competing is not None):
            raise ValueError(
                "competing_date goes with event_date and censor_date, without competing"
            )
        return self

    @property
    def dated(self) -> bool:
        """Whether its time is counted from the index date."""
        return self.event_date is not None


Task = BinaryKeys | MulticlassKeys | MultilabelKeys | RegressionKeys | SurvivalKeys
TASKS: dict[str, type[Task]] = {
    "binary": BinaryKeys,
    "multiclass": MulticlassKeys,
    "multilabel": MultilabelKeys,
    "regression": RegressionKeys,
    "survival": SurvivalKeys,
}


class CohortKeys(Config):
    """The top level of cohort.yaml; sections of modalities and tasks are checked by their kind."""

    schema_: Literal["medmcl/cohort@1"] = Field(alias="schema")
    about: str = ""
    access: str | None = None
    """One line: how to get the data; shown where they are not found."""
    data_root: str | None = None
    roots: tuple[str, ...] = ()
    """Other folders in which files of records may lie; relative ones from cohort.yaml."""
    subjects: SubjectsKeys
    modalities: dict[str, dict[str, Any]] = {}
    maps: dict[str, MapKeys] = {}
    tasks: dict[FileName, dict[str, Any]] = {}
    index: IndexKeys | None = None
    pairing: PairingKeys = PairingKeys()
    subgroups: Annotated[dict[str, SubgroupKeys], BeforeValidator(_as_mapping)] = {}
    """Name to the column, with bands where it is a number, that results are shown by; a list of
    columns keeps their names."""
    missing: dict[str, tuple[str | int | float, ...]] = {}
    """Column of any table, or a pattern, to the values that stand for a missing cell; a list alone
    is of every column but ids and places of files."""
    derive: dict[str, str] = Field(default={}, max_length=100)
    """Name to the expression of a column that is made of others, in every table that has these:
    ``{creatinine: "88.4 * crea_mgdl"}``. One may read those before it, or replace its own."""
    on_bad_record: Literal["refuse", "exclude"] = "refuse"
    remove: RemoveKeys | None = None
    """Entries to take out at random: ``--set cohort.remove.share=0.4``."""
    noisy_pairs: NoisyPairsKeys | None = None
    """Pairs to make wrong: ``--set cohort.noisy_pairs.share=0.2``."""
    recipe: str | None = None
    dataset: str | None = None
    """Published data set that it is, as the cards of models call it (``seen``, ``clean``); behind a
    colon which part of it held_out is: ``ptbxl:fold 10``."""
    prompts: dict[str, dict[str, tuple[str, ...]]] = {}
    """Task to class (or label) to the texts that describe it, for zero-shot classification."""
    choices: dict[str, ChoiceKeys] = {}
    """Name to the column that pairs samples, for the metric ``paired_choice``."""

    @field_validator("missing", mode="before")
    @classmethod
    def _of_every_column(cls, codes: Any) -> Any:
        by_column = codes if isinstance(codes, Mapping) else {"*": codes}
        every = {
            str(name): tuple(some) if isinstance(some, (list, tuple)) else (some,)
            for name, some in by_column.items()
        }
        for one in (one for some in every.values() for one in some):
            if isinstance(one, bool) or one is None:
                raise ValueError(f"{one} is no value of a cell: write words in quotes, ['no']")
        return every

    @field_validator("prompts", mode="before")
    @classmethod
    def _one_prompt(cls, prompts: Any) -> Any:
        if not isinstance(prompts, Mapping):
            return prompts
        return {
            task: {k: (v,) if isinstance(v, str) else v for k, v in texts.items()}
            if isinstance(texts, Mapping)
            else texts
            for task, texts in prompts.items()
        }


@dataclass(frozen=True, kw_only=True)
class ModalitySpec:
    """One modality of a cohort: its kind, its place, and what its adapter is told of the files."""

    name: str
    kind: str
    keys: ModalityKeys
    source: Config

    @property
    def traits(self) -> Traits:
        """What is true of every record of its kind."""
        return traits(ADAPTERS[self.kind])

    @property
    def reader(self) -> str | None:
        """What reads its files; None of a kind with one reader."""
        told = self.source.model_dump().get("reader")
        return None if told is None else str(told)

    @property
    def needed_columns(self) -> list[str]:
        """Columns without which a record is absent: where its text or its array row stands."""
        told = self.source.model_dump()
        return [told[field] for field in ("column", "row") if isinstance(told.get(field), str)]

    @property
    def cell_columns(self) -> list[str]:
        """Columns that are the record itself; absent only if all of them are."""
        told = self.source.model_dump()
        texts = told.get("column")
        several = texts if isinstance(texts, tuple) else ()
        return list(map(str, told.get("columns") or several))

    @property
    def source_columns(self) -> list[str]:
        """All columns of its table that the adapter reads."""
        named = self.source.named_cells() if isinstance(self.source, NamesCells) else ()
        return [*self.needed_columns, *self.cell_columns, *named]


@dataclass(frozen=True, kw_only=True)
class CohortSpec:
    """What is valid of a cohort.yaml.

    Attributes:
        keys: The top level.
        modalities: Those that are valid.
        tasks: Those that are valid.
        left_out: Dotted names of what is at fault and was taken out (or replaced by its default),
            so that the rest can be checked; empty for a file without faults.
    """

    keys: CohortKeys
    modalities: dict[str, ModalitySpec]
    tasks: dict[str, Task]
    left_out: frozenset[str] = frozenset()

    def without(
        self, *, modalities: Collection[str] = (), tasks: Collection[str] = (), index: bool = False
    ) -> CohortSpec:
        """Take out what is at fault, with everything that hangs on it.

        Args:
            modalities: Modalities to leave out; an anchor, index or task of theirs goes with them.
            tasks: Tasks to leave out.
            index: Leave out the index date; the tasks that count from it go with it.
        """
        keys, changes = self.keys, dict[str, Any]()
        if keys.pairing.anchor in modalities:
            changes["pairing"] = keys.pairing.model_copy(update={"anchor": None})
        if index or (keys.index is not None and keys.index.modality in modalities):
            changes["index"] = None
        lost = {
            name
            for name, task in self.tasks.items()
            if name in tasks or task.of in modalities or ("index" in changes and _is_dated(task))
        }
        gone = {f"modalities.{name}" for name in modalities}
        gone |= {f"tasks.{name}" for name in lost.union(tasks)}
        return replace(
            self,
            keys=keys.model_copy(update=changes),
            modalities={k: v for k, v in self.modalities.items() if k not in modalities},
            tasks={name: task for name, task in self.tasks.items() if name not in lost},
            left_out=self.left_out.union(gone, changes),
        )

    def lost(self, section: str) -> list[str]:
        """Names of the modalities or tasks that were taken out because they are at fault."""
        prefix = f"{section}."
        return sorted(n.removeprefix(prefix) for n in self.left_out if n.startswith(prefix))

    @property
    def noisy_pairs(self) -> NoisyPairsKeys | None:
        """Which pairs are to be made wrong; None where none are."""
        keys = self.keys.noisy_pairs
        return keys if keys is not None and keys.share else None

    @property
    def anchor(self) -> str:
        """The modality whose records make samples; empty if there is no modality."""
        return self.keys.pairing.anchor or next(iter(self.modalities), "")


def _is_dated(task: Task) -> bool:
    return isinstance(task, SurvivalKeys) and task.dated
