"""The contracts between the parts. A newcomer that keeps one of these needs no edit elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from torch import Tensor, nn

    from medmcl.core.batch import Batch, Embeddings, InputShape, Term
    from medmcl.core.config import Config
    from medmcl.core.findings import Finding
    from medmcl.core.rng import RowGenerator
    from medmcl.core.shown import Shown
    from medmcl.core.targets import Targets


@dataclass(frozen=True, kw_only=True)
class RecordRef:
    """Where one record of one modality lies.

    Attributes:
        subject: Subject id.
        record: Record id, unique within the modality.
        paths: Named files, resolved; a single file is named ``path``.
        values: Column to cell of the record's row, of columns that ``path`` or the source names
            (`NamesCells`; its keys ``row``, ``column``, ``columns``); None where it is empty.
        roots: What the real names of its files begin with: folders that they may lie in, links
            followed; empty: anywhere.
    """

    subject: str
    record: str
    paths: Mapping[str, Path] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    roots: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"{self.subject}/{self.record}"


class Adapter(Protocol):
    """One modality: from a record on disk to the tensor an encoder reads.

    ``Source`` is what the cohort says of the files (reader, units, columns); ``Settings`` is how a
    recipe prepares them; ``Augment`` is how a view disturbs them. What `fit` learns (a vocabulary,
    a mean) is in `state` and travels in the run.

    That is all it must have. What it says of its kind beyond the defaults of `Traits`, and the
    hooks below (`NamesFiles` to `EndsInPadding`), are its own choice; nothing else is asked of it.
    """

    kind: ClassVar[str]
    measured: ClassVar[bool]
    """Whether its records are measurements: they never agree to the last bit unless one is a copy
    of the other, so equal ones are faults, and a record tells whose it is."""
    Source: ClassVar[type[Config]]
    Settings: ClassVar[type[Config]]
    Augment: ClassVar[type[Config]]
    settings: Any
    """The settings it was built with."""

    def __init__(self, source: Any, settings: Any) -> None: ...

    def read(self, place: RecordRef) -> Any:
        """Read one record as it is; `RecordError` if it cannot be read."""

    def inspect(self, raw: Any, place: RecordRef) -> list[Finding]:
        """Faults of one record as read: units, rate, leads, NaN, constant signal, ..."""

    def fit(self, raws: Iterable[Any]) -> None:
        """Learn what preparation needs, from records of the train split only."""

    def prepare(self, raw: Any) -> np.ndarray:
        """The fixed-shape array of one record, cached once. ``(*prepared_shape)``."""

    @property
    def prepared_shape(self) -> tuple[int, ...]:
        """Shape of what `prepare` gives; known after `fit`."""

    @property
    def input_shape(self) -> InputShape:
        """What the encoder sees; known after `fit`."""

    def plain(self, x: Tensor) -> Tensor:
        """Prepared rows (B, *prepared_shape) to encoder input, without randomness."""

    def augment(self, x: Tensor, options: Any, generator: RowGenerator) -> Tensor:
        """Prepared rows to encoder input, with the random disturbances of ``options``."""

    def state(self) -> dict[str, Any]:
        """What `fit` learned, as plain JSON values."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What is true of every record of a kind: attributes of its adapter, with their defaults.

    An adapter sets those that differ, on its class or in its ``__init__``; `traits` reads them.

    Attributes:
        tabular: A raw record is a row of cells by column: what a risk model may read beside
            embeddings, and ``covariates:`` may name.
        free_text: A raw record is a `str` that may say anything, an outcome included.
        pictured: Records are pictures: of several modalities the one to look at first.
        inspects_fitted: `Adapter.inspect` says more of a record after `Adapter.fit`.
        records_from: Where records come from: rows of a ``table`` (or files that a template
            names); ``events``, dated in a table or MEDS files, of which each person's are one
            record; ``genotypes``, files that list who is in them.
        triggers: Which triggers of ``medmcl poison`` go on them: those of ``pixels``, of a
            ``signal``, of ``words``; none if empty. Such an adapter has the raw records and
            settings of images, ECGs or texts.
        input_projection: How they enter a shared tower (`medmcl.encoders.build.INPUT_PROJECTIONS`)
            where a recipe does not say it; empty: it must name an encoder.
        endings: Ending of a file to its reader, where endings say it.
        of_many: Keys of ``Source`` that name columns of a table of many people, and so say nothing
            of a single file.
        packed: Reader to the column that holds its records in shards (tar files): where they are
            the only ones of their reader, and beside others (``{name}.txt``); see `Packs`.
    """

    tabular: bool = False
    free_text: bool = False
    pictured: bool = False
    inspects_fitted: bool = False
    records_from: Literal["table", "events", "genotypes"] = "table"
    triggers: Literal["", "pixels", "signal", "words"] = ""
    input_projection: str = ""
    endings: Mapping[str, str] = field(default_factory=dict)
    of_many: tuple[str, ...] = ()
    packed: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def traits(adapter: Any) -> Traits:
    """Give the traits of an adapter or of its class."""
    names = (one.name for one in fields(Traits))
    return Traits(**{name: getattr(adapter, name) for name in names if hasattr(adapter, name)})


@runtime_checkable
class WeighsOdds(Protocol):
    """What an adapter adds whose `inspect` judges by likelihood, not by contradiction.

    Among many records the strangest sound one is strange indeed: what is an error in one record
    must be likelier by the logarithm of their number to be one among ``among``.
    """

    among: int
    """Records of the cohort that are judged with this adapter; 1 until it is told."""


@runtime_checkable
class NamesFiles(Protocol):
    """What an adapter adds where a record is made of more files than the paths of its place."""

    def files(self, place: RecordRef) -> list[Path]:
        """Every file that `read` reads, also those that are missing; raises nothing."""


@runtime_checkable
class LooksAtRows(Protocol):
    """What an adapter of rows of a table adds that can look at all of them at once."""

    def look(self, cells: pd.DataFrame) -> list[str]:
        """Tell which rows are sound, without reading each; called before `fit`.

        Args:
            cells: The columns that records read, a row a record.

        Returns:
            For each row a text, the same of rows with the same content, in other calls too, if
            `inspect` would find nothing in it; empty where the row must be read to tell.
        """


@runtime_checkable
class InspectsTogether(Protocol):
    """What an adapter adds where some faults show only in many records of a modality."""

    def inspect_together(self, raws: Iterable[Any]) -> list[Finding]:
        """Faults of many records, each read as they are asked for; called before and after `fit`.

        Records with faults of their own are among them: most may have the fault looked for.
        """


@runtime_checkable
class Shows(Protocol):
    """What an adapter adds so that people can look at its records, before any preparation."""

    def show(self, raw: Any) -> Shown:
        """A record as read: a picture, a signal, cells, or a text."""


@runtime_checkable
class Spells(Protocol):
    """What an adapter adds whose prepared rows are numbers of tokens that people can read."""

    def spell(self, number: int) -> str:
        """What a token number stands for."""


@runtime_checkable
class EncodesTexts(Protocol):
    """What an adapter adds that prepares texts which are no records, as prompts or phrases."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Prepare texts, (N, *prepared_shape)."""


@runtime_checkable
class GuessesReader(Protocol):
    """What an adapter class adds whose files say by their content which reader is theirs."""

    @classmethod
    def reader_of(cls, path: Path) -> str:
        """The reader of a file; `RecordError` if none reads it."""

    @classmethod
    def unsaid(cls, source: Mapping[str, Any], path: Path) -> Mapping[str, tuple[str, str]]:
        """Keys that a file of this ``source`` does not say, nor anybody: (what, an example)."""


@runtime_checkable
class Packs(Protocol):
    """What an adapter adds whose records can lie in shards; see `Traits.packed`."""

    def pack(self, place: RecordRef) -> tuple[str, bytes]:
        """A record as a shard holds it: the ending of its file, and its bytes."""


@runtime_checkable
class NamesCells(Protocol):
    """What a ``Source`` adds whose adapter reads cells of a record's row beside its files."""

    def named_cells(self) -> Iterable[str]:
        """Columns that the row must have; `RecordRef.values` holds their cells, None if empty."""


@runtime_checkable
class AcceptsFaults(Protocol):
    """What a ``Source`` adds by which a person accepts faults of records."""

    accept: Mapping[str, Sequence[str]]
    """Record id, or ``*``, to codes of faults."""


@runtime_checkable
class Normalises(Protocol):
    """What ``Settings`` add that take a mean and a deviation out of each channel."""

    @property
    def mean_and_std(self) -> tuple[Sequence[float], Sequence[float]] | None: ...


@runtime_checkable
class SharesVocabulary(Protocol):
    """What ``Settings`` add that can take the tokens of an earlier run."""

    vocabulary_of: Path | None


@runtime_checkable
class KnowsInputs(Protocol):
    """What ``Settings`` of an encoder add whose weights know records prepared in one way."""

    @property
    def input_kind(self) -> str:
        """Kind of modality that it reads."""

    def inputs(self) -> Mapping[str, Any]:
        """Settings of its adapter: what ``inputs.NAME`` is where a recipe says nothing else."""


@runtime_checkable
class Sketches(Protocol):
    """What an adapter of measurements adds, so that copies that were saved anew are found."""

    def sketch(self, raw: Any) -> np.ndarray | None:
        """A few dozen numbers of length 1 that saving anew leaves as they are; None if unfit."""

    def distance(self, raw: Any, other: Any) -> float:
        """How far two records are from being one measurement: 0 = equal, 1.41 = unrelated."""


@runtime_checkable
class SimpleFeatures(Protocol):
    """What an adapter adds so that embeddings can be compared with what is plain to see.

    Of a kind without it there is no simple baseline.
    """

    def simple_features(self, raw: Any) -> Mapping[str, float] | Sequence[str]:
        """What a plain model reads of one record, as read; called after `fit`.

        Numbers by name, the same names in the same order for every record, NaN where one cannot be
        told. Or terms (words, codes), which are counted, and weighed on train rows.
        """


@runtime_checkable
class PreparesArrays(Protocol):
    """What an adapter class adds so that a record in memory is prepared as one of a file is."""

    @classmethod
    def prepare_array(cls, array: np.ndarray, settings: Any, **about: Any) -> np.ndarray:
        """Prepare a record without a file; ``about`` is what its file would say of it."""


@runtime_checkable
class TakesWhole(Protocol):
    """What an adapter adds that cuts records into pieces, of which ``prepare`` gives a number.

    The first of longer records; those of shorter ones again.
    """

    pieces: ClassVar[str]
    """Code of what `Adapter.inspect` finds of a record with more or fewer."""

    def prepare_whole(self, raw: Any) -> np.ndarray:
        """All pieces of one record, (W, ...)."""


@runtime_checkable
class LacksLeads(Protocol):
    """What an adapter of signals adds whose records may lack some of their leads."""

    def present_leads(self, x: Tensor) -> Tensor | None:
        """Which leads of prepared rows (B, *prepared_shape) are there, (B, L) bool; None: all.

        What stands in the others changes nothing that `Adapter.plain` and `Adapter.augment` give.
        """


@runtime_checkable
class EndsInPadding(Protocol):
    """What an adapter adds whose prepared rows are as long as the longest may be."""

    def padding(self, x: Tensor) -> Tensor:
        """Which tokens of prepared rows (B, *prepared_shape) are padding, (B, T) bool.

        What follows the last that is none is padding too in what `Adapter.plain` and
        `Adapter.augment` give.
        """


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What an objective must know of the model it charges, to size its own parameters.

    Attributes:
        inputs: Modality to the shape of its input.
        widths: Modality to E, the width of its features and tokens.
        num_tokens: Modality to T where tokens are maskable, otherwise absent.
        patch: Modality to samples per patch where the encoder cuts a (lead, time) signal.
        tasks: Task name to its targets (header; rows may be empty).
        experts: Experts of a router; 0 where the model has no routers.
        teacher_widths: Modality to the width of the features of the model that it learns from.
    """

    inputs: Mapping[str, InputShape]
    widths: Mapping[str, int]
    num_tokens: Mapping[str, int] = field(default_factory=dict)
    patch: Mapping[str, int] = field(default_factory=dict)
    tasks: Mapping[str, Targets] = field(default_factory=dict)
    experts: int = 0
    teacher_widths: Mapping[str, int] = field(default_factory=dict)


class Objective(Protocol):
    """Names the views it reads, and charges for what a model made of them; an `nn.Module`.

    ``across_ranks`` says how it behaves in a distributed run. ``gather``: it needs every row of the
    global batch; the engine gathers the fields of `Embeddings` named in ``gathers``, presence and
    targets, and each rank computes the whole value. ``stream``: as ``gather``, but in large batches
    ``pooled`` stays where it is: it holds the rows `Batch.own` of the batch, and what the
    objective gives of them to `info_nce`, `nt_xent` and `sigmoid_loss` is compared with the rows of
    all. ``rows``: its terms are means over rows; the engine weights them by `Term.count`.
    A term without enough rows is left out of the answer, never zero. An objective of which a part
    keeps `Watches` is shown rows that it is not charged for. One that says the `Term.chance` of its
    terms lets the engine tell a stage that learned from one that is wrecked. What it may keep
    besides: `ComparesPairs`, `SharesScale`, `TakesGroups`, `Predicts`; and its `Settings`
    `LearnsFromTeacher`, `AsksForProbe`.
    """

    views: tuple[str, ...]
    terms: tuple[str, ...]
    gathers: tuple[str, ...]

    @property
    def across_ranks(self) -> Literal["gather", "stream", "rows"]: ...

    def __call__(self, seen: Mapping[str, Embeddings], batch: Batch) -> dict[str, Term]: ...


@runtime_checkable
class ComparesPairs(Protocol):
    """What an objective adds that compares modalities at a logit scale, 1 / temperature."""

    def scale_of(self, pair: tuple[str, str]) -> Callable[[], Tensor] | None:
        """What gives the scale, (1,), of a pair in either order; None if it is not compared."""


class SharesScale(Protocol):
    """What an objective adds whose `Settings` have ``scale``: others may take it over."""

    scale: nn.Module


@runtime_checkable
class TakesGroups(Protocol):
    """What an objective adds that compares rows of one group only, where a batch mixes groups."""

    takes_groups: ClassVar[bool]


class Predicts(Protocol):
    """What an objective adds that answers a task, as `supervised` does."""

    def predict(self, embeddings: Embeddings) -> Tensor:
        """Probabilities, values or log-hazards, (B, outputs); NaN where what it reads is absent."""


@runtime_checkable
class LearnsFromTeacher(Protocol):
    """What the `Settings` of an objective add that learns from the teacher of its stage."""

    is_taught: ClassVar[bool]


@runtime_checkable
class AsksForProbe(Protocol):
    """What the `Settings` of an objective add of which a part keeps `Watches`."""

    @property
    def probe(self) -> ProbeRows | None:
        """Rows that no step may train on; None if none are asked for."""


@dataclass(frozen=True, kw_only=True)
class ProbeRows:
    """How much of the train split is kept for watching.

    Attributes:
        share: Share of the train subjects.
        most: The most rows, one a subject.
    """

    share: float
    most: int


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a part of an objective saw.

    Attributes:
        row: Plain values for the record of the run.
        changed: Whether the loss means something else from here on, so that earlier tuning losses
            are no longer comparable.
    """

    row: Mapping[str, Any]
    changed: bool


@runtime_checkable
class Watches(Protocol):
    """What a part of an objective (an `nn.Module`) adds that learns from rows no step trains on.

    The stage keeps ``probe`` rows of the train split apart. After each step that is ``due`` (and
    before the first one, step 0) the engine encodes them in plain view, in evaluation mode and
    without gradient, and every rank is shown the same embeddings, on the CPU. What is learned must
    be in the module's state.
    """

    @property
    def probe(self) -> ProbeRows: ...

    def due(self, step: int, steps: int) -> bool: ...

    def observe(self, seen: Embeddings, step: int, steps: int) -> Observation: ...

    def findings(self) -> list[Finding]: ...


@runtime_checkable
class MovesAfterSteps(Protocol):
    """What a part of a learner (an `nn.Module`) adds that a rule moves, not a gradient.

    The engine calls ``after_step`` once a step, on every rank and for all such parts in one order,
    before anything is saved. What has moved must be in the module's state, and what a part gathered
    during the step must be gone afterwards: a checkpoint does not hold it.
    """

    def after_step(self, total: Callable[[Tensor], Tensor], *, taken: bool) -> None:
        """Move.

        Args:
            total: Sums a tensor over the ranks; a collective, so all ranks call it alike.
            taken: Whether the optimiser moved; it did not if the batch had nothing to charge for,
                or a loss or gradient that is not finite.
        """


class PairGraph(Protocol):
    """Which pairs of modalities are aligned, and how strongly."""

    @property
    def possible(self) -> Sequence[tuple[str, str]]:
        """Every pair it may ever align, each once."""

    def __call__(self, embeddings: Embeddings, batch: Batch, /) -> dict[tuple[str, str], float]: ...


class Sampler(Protocol):
    """Which samples make a batch, before anything is loaded."""

    def __call__(self, epoch: int) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True, kw_only=True)
class ScoredPool:
    """Rows of the train split, N of them, as one teacher sees them.

    Attributes:
        ids: Sample numbers, (N,) int64.
        pooled: Modality to embeddings of unit length, (N, D); may be memory-mapped.
        pair: The two modalities that are selected.
        device: Where to compute.
        seed: Of what is left to chance.
        temperature: Gives the temperature at which the teacher was trained to tell the pair;
            `ConfigError` if it has none.
        target: Gives embeddings (M, D) of a modality of the rows that a `TargetSpec` names.
        told: Takes plain values that the keep file shall say of the score.
    """

    ids: Tensor
    pooled: Mapping[str, np.ndarray]
    pair: tuple[str, str]
    device: torch.device
    seed: int
    temperature: Callable[[], float]
    target: Callable[[str, Any], np.ndarray]
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of the two modalities of the pair."""
        first, second = self.pair
        return self.pooled[first], self.pooled[second]


class Scorer(Protocol):
    """Judges the rows of a pool; built from its ``Settings``, a `ScoreSettings`."""

    def score(self, pool: ScoredPool) -> Tensor:
        """Give a number for each row, (N,), higher = keep; never NaN."""


@runtime_checkable
class ChoosesFromPool(Protocol):
    """What stands in the place of a `Scorer` where what is left decides, step by step."""

    def choose(self, pool: ScoredPool, left: Tensor, number: int) -> Tensor:
        """Give the ``number`` rows that stay of those that are left, (number,) int64."""

    def tell(self, pool: ScoredPool, kept: Tensor) -> Tensor:
        """Give a number for each row once the rule has kept some (N,) bool, for the keep file."""


class Selector(Protocol):
    """Which rows of a global batch deserve a step. What it remembers is kept with the weights."""

    def show(self, batch: Batch) -> Batch:
        """Give the view by which rows are judged."""
        ...

    def measure(self, seen: Embeddings) -> Tensor:
        """Give a number for each row of the global batch, (B,); NaN where it cannot be judged."""
        ...

    def choose(self, ids: Tensor, values: Tensor, epoch: int) -> Tensor:
        """Give the positions to keep, sorted, (K,) int64, the same on every rank."""
        ...

    def state_dict(self) -> Mapping[str, Tensor]:
        """What a resumed run needs to choose as if never interrupted."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        ...
