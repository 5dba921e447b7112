"""What each expert of a shared tower takes: words that stand out, and the pieces it is sure of.

    medmcl simulate shapes --out shapes --subjects 1000
    medmcl pretrain --cohort shapes --recipe limoe_toy --out runs/limoe
    python -m benchmarks.experts.taken runs/limoe shapes [--stage contrast] [--pieces 8]

Rows are of the tuning split, drawn by the seed (held_out is not opened), and routed as in
evaluation: no noise, nothing dropped. The words are kept; figures go into ``taken.html`` where
``--html`` asks for it. Words and pieces come from people: a word is named only if an expert takes
it from five of them, and pieces are shown only where somebody asks for them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.study import Study, number, percent, table
from medmcl.core.rng import numpy_generator
from medmcl.core.shown import SHOWN_LEADS
from medmcl.core.suppression import FEWEST_SUBJECTS
from medmcl.evaluation.aspects.experts.lines import MEANS_LITTLE
from medmcl.evaluation.report.cards import SINGLE_PEOPLE
from medmcl.evaluation.report.columns import rounded, written
from medmcl.evaluation.report.frame import page_of
from medmcl.evaluation.report.pictures import (
    COLOURS,
    PAGE,
    TALLEST,
    Picture,
    colour,
    drawing,
    shorten,
    small_multiples,
)
from medmcl.evaluation.report.section import Section
from medmcl.evaluation.report.words import listed

if TYPE_CHECKING:
    from medmcl.core.batch import InputShape

SPLIT = "tuning"
"""Rows that are looked at: no weight was fitted to them, and held_out is not opened for it."""
MOST_EXPERTS = 12  # drawn; words of all are in the table
MOST_PIECES = 8  # of an expert, beside one another
COLOUR = ("red", "green", "blue")
NEAR = 1.25
"""A mean gate below this many times 1/E is hardly above an even one: whatever the other gates are,
the information is then below log 1.25 / log E."""
SIGNS = (
    " ▁ marks the start of a word, ## a piece of one; <cls> and <end> are the start and end of a "
    "text, <unk> is a word without a number."
)


@dataclass(frozen=True, kw_only=True)
class Routed:
    """Tokens of one modality in R rows that have it, in the last layer of experts.

    Attributes:
        name: The modality.
        shape: What is known of its inputs.
        subject: Whose each row is, (R,).
        inputs: What the encoder read, (R, ...).
        expert: Who took each token, (R, T); below 0: nobody.
        gate: With which gate, (R, T).
        shares: Share of the tokens that each expert takes, (E,).
        about: Rows and split, in words.
    """

    name: str
    shape: InputShape
    subject: np.ndarray
    inputs: np.ndarray
    expert: np.ndarray
    gate: np.ndarray
    shares: np.ndarray
    about: str


def routed(run: Any, prepared: Any, stage: str, most: int) -> tuple[Any, list[Routed]]:
    """Route rows of the tuning split through the tower of a stage; the tower, and what became."""
    from medmcl.encoders.shared.routes import routes
    from medmcl.stages.run.features import chunks, plain_view

    tower = run.towers(stage, "cpu")
    names = [name for name in run.stage(stage).towers if name in prepared.adapters]
    rows = prepared.rows(SPLIT, names, "any")
    if len(rows) > most:
        rows = np.sort(numpy_generator(0, "experts", stage).choice(rows, most, replace=False))
    view = plain_view(run.stage(stage).model_copy(update={"towers": tuple(names)}), prepared)
    parts: dict[str, list[tuple[np.ndarray, ...]]] = {}
    for chosen in chunks(rows):
        batch = view(prepared.batch(chosen, modalities=names))
        for name, one in routes(tower, batch).items():
            here = batch.present[name]
            made = (batch.inputs[name][here], one.expert[here, :, -1], one.gate[here, :, -1])
            own = (chosen[here.numpy()], *(x.numpy() for x in made))
            parts.setdefault(name, []).append(own)
    found = []
    for name, part in parts.items():
        own, inputs, expert, gate = (np.concatenate(x) for x in zip(*part, strict=True))
        counts = np.bincount(expert[expert >= 0], minlength=tower.experts)
        found.append(Routed(
            name=name, shape=prepared.adapters[name].input_shape, subject=prepared.subjects[own],
            inputs=inputs, expert=expert, gate=gate, shares=counts / max(1, counts.sum()),
            about=f"{len(rows):,} samples of the {SPLIT} split",
        ))  # fmt: skip
    return tower, found


@dataclass(frozen=True, kw_only=True)
class TakenWord:
    """A token of text that an expert takes more often than chance would have it.

    Attributes:
        expert: Number of the expert.
        number: Number of the token.
        tokens: How often the expert took it.
        of_expert: Its share of the tokens that the expert takes, 0 to 1.
        of_word: Share of its occurrences that this expert takes, 0 to 1.
        lift: ``of_expert`` over the token's share of all tokens; above 1.
        word: What the number stands for.
    """

    expert: int
    number: int
    tokens: int
    of_expert: float
    of_word: float
    lift: float
    word: str = ""


@dataclass(frozen=True, kw_only=True)
class TakenPiece:
    """A patch of an image, or a stretch of a signal, that an expert takes with a high gate.

    Attributes:
        expert: Number of the expert.
        gate: Its gate, 0 to 1.
        place: Row and column of the patch in the grid of tokens.
        pixels: The patch in the middle of its neighbours, see `cut`.
    """

    expert: int
    gate: float
    place: tuple[int, int]
    pixels: np.ndarray


def taken_words(
    expert: np.ndarray,
    number: np.ndarray,
    subject: np.ndarray,
    *,
    most: int,
    fewest: int = FEWEST_SUBJECTS,
) -> tuple[list[TakenWord], int]:
    """Find the tokens that stand out with each expert.

    They are ranked by what they add to the mutual information of expert and token number: count
    times log lift.

    Args:
        expert: Who took each token, (N,) int64; below 0: nobody.
        number: Number of the token, (N,) int64.
        subject: Whose text it is in, (N,) int64.
        most: Words an expert.
        fewest: Subjects from whom the expert must take it for it to be named.

    Returns:
        Words, expert after expert, the most telling first; and how many (expert, token) pairs with
        a lift above 1 are of fewer subjects and stay unnamed.
    """
    here = expert >= 0
    expert, number, subject = expert[here], number[here], subject[here]
    if not len(expert):
        return [], 0
    _, own = np.unique(number, return_counts=True)
    word_totals = dict(zip(np.unique(number).tolist(), own.tolist(), strict=True))
    pairs, counts = np.unique(np.stack([expert, number], 1), axis=0, return_counts=True)
    triples = np.unique(np.stack([expert, number, subject], 1), axis=0)[:, :2]
    _, people = np.unique(triples, axis=0, return_counts=True)  # in the order of the pairs
    taken = np.bincount(expert)
    found: dict[int, list[TakenWord]] = {}
    hidden = 0
    for (e, w), count, persons in zip(
        pairs.tolist(), counts.tolist(), people.tolist(), strict=True
    ):
        of_expert = count / taken[e]
        lift = of_expert / (word_totals[w] / len(number))
        if lift <= 1:
            continue
        if persons < fewest:
            hidden += 1
            continue
        found.setdefault(e, []).append(
            TakenWord(expert=e, number=w, tokens=count, of_expert=float(of_expert),
                      of_word=count / word_totals[w], lift=float(lift))
        )  # fmt: skip
    ranked = {
        e: sorted(words, key=lambda one: (-one.tokens * np.log(one.lift), one.number))
        for e, words in sorted(found.items())
    }
    return [one for words in ranked.values() for one in words[:most]], hidden


def surest(
    expert: np.ndarray, gate: np.ndarray, subject: np.ndarray, *, most: int
) -> dict[int, list[tuple[int, int]]]:
    """Find the tokens that each expert takes with the highest gates, one a subject.

    Args:
        expert: Who took each token, (B, T) int64; below 0: nobody.
        gate: With which gate, (B, T).
        subject: Whose row it is, (B,) int64.
        most: Tokens an expert.

    Returns:
        Expert to (row, token), the highest gate first; of equal gates the first row, then token.
    """
    length = expert.shape[1]
    found: dict[int, list[tuple[int, int]]] = {}
    for place in np.argsort(-gate.reshape(-1), kind="stable").tolist():
        row, token = divmod(place, length)
        own = found.setdefault(int(expert[row, token]), [])
        if len(own) < most and all(subject[row] != subject[other] for other, _ in own):
            own.append((row, token))
    return {e: places for e, places in sorted(found.items()) if e >= 0}


def can_cut(shape: InputShape, grid: tuple[int, ...] | None) -> bool:
    """Whether tokens that lie in ``grid`` are patches of a flat image, or stretches of a signal."""
    if grid is None or len(grid) != 2:
        return False
    if shape.is_signal:
        leads, samples = shape.shape
        return leads % grid[0] == 0 and samples % grid[1] == 0
    is_picture = len(shape.shape) == 3 and not (shape.vocabulary or shape.channels)
    return is_picture and shape.shape[1] % grid[0] == 0 and shape.shape[2] % grid[1] == 0


def cut(
    x: np.ndarray, shape: InputShape, grid: tuple[int, ...], token: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Cut a token with a neighbour on every side out of one row of encoder input.

    Args:
        x: The row: (channels, H, W), or (leads, samples).
        shape: What is known of it.
        grid: (rows, columns) of tokens.
        token: Which one.

    Returns:
        Of an image (3h, 3w) or, in colour, (3h, 3w, 3) in 0 to 1, its own darkest and brightest
        hundredth cut off; of several frames the last. Of a signal (leads, 3 samples), and the names
        of its leads. NaN beyond the edge.
    """
    row, column = divmod(token, grid[1])
    if shape.is_signal:
        return _stretch(x, shape.names, grid, row, column)
    in_colour = shape.names == COLOUR
    image = x if in_colour else x[-1:]
    low, high = np.quantile(image, [0.01, 0.99])
    image = np.clip((image - low) / max(high - low, 1e-9), 0, 1).transpose(1, 2, 0)
    height, width = image.shape[0] // grid[0], image.shape[1] // grid[1]
    wide = np.pad(
        image, ((height, height), (width, width), (0, 0)), constant_values=np.nan
    )  # the patch at (r, c) and its neighbours start at (r, c) of this
    piece = wide[row * height : (row + 3) * height, column * width : (column + 3) * width]
    return (piece if in_colour else piece[..., 0]), ()


def _stretch(
    x: np.ndarray, names: tuple[str, ...], grid: tuple[int, ...], row: int, column: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    span, samples = x.shape[0] // grid[0], x.shape[1] // grid[1]
    leads = list(range(row * span, (row + 1) * span))
    if span > len(SHOWN_LEADS):
        named = [lead for lead in leads if names and names[lead] in SHOWN_LEADS]
        leads = (named or leads)[: len(SHOWN_LEADS)]
    wide = np.pad(x[leads], ((0, 0), (samples, samples)), constant_values=np.nan)
    own = tuple(names[lead] for lead in leads) if names else ()
    return wide[:, column * samples : (column + 3) * samples], own


def against_even(what: str, gate: float, experts: int) -> str:
    """Set a mean gate beside that of a router that cannot decide."""
    said = f"{what} is {gate:.3f}; even gates are {1 / experts:.3f}"
    # below 1/E it was no first choice: experts chose, or a bias did
    is_even = experts > 1 and 0.99 / experts < gate < NEAR / experts
    return f"{said}. So {MEANS_LITTLE}." if is_even else f"{said}."


def _most(one: Routed, found: Sequence[int]) -> list[int]:
    """The experts that take most of a modality, of those that have something to show."""
    return sorted(sorted(set(found), key=lambda e: (-one.shares[e], e))[:MOST_EXPERTS])


def _rest(found: Sequence[int], drawn: Sequence[int]) -> str:
    more = len(set(found)) - len(drawn)
    return f" {more} more experts, which take less, are in the table only." if more else ""


def words_picture(one: Routed, found: Sequence[TakenWord], hidden: int) -> Picture:
    """Draw the words of a modality, a panel an expert."""
    every = [word.expert for word in found]
    experts = _most(one, every)
    longest = max(every.count(e) for e in experts)
    lacking = [str(e) for e in range(len(one.shares)) if e not in every]
    wordless = f" Without any word: expert {listed(lacking, MOST_EXPERTS)}." if lacking else ""
    mean = float(one.gate[one.expert >= 0].mean(dtype=np.float64))
    with small_multiples(len(experts), 0.45 + 0.17 * longest) as (figure, panels):
        for axes, expert in zip(panels, experts, strict=True):
            own = [word for word in found if word.expert == expert]
            _panel(axes, own, longest, f"expert {expert}: {one.shares[expert]:.0%}")
        return Picture.of(
            figure,
            {"title": f"Words of {one.name} that stand out with each expert",
             "aid": "Beside the expert, its share of all tokens. Words that it takes more often than "
            "others do, the most telling first; the bar is the share of a word's occurrences that "
            f"go to it. {one.about}; a word counts once for each token, start and end of a text "
            f"are tokens too. Not named: {hidden:,} pairs of expert and word from fewer than "
            f"{FEWEST_SUBJECTS} people.{wordless}{SIGNS} "
            + against_even("The mean gate of all tokens", mean, len(one.shares))
            + _rest(every, experts),
             "lead": "Words by expert"},
            said=[_said(found, expert) for expert in experts],
            **written(
                found, "expert", "word", ("taken", "tokens"),
                ("share of the expert's tokens", lambda row: f"{row.of_expert:.1%}"),
                ("share of the word's occurrences", lambda row: f"{row.of_word:.1%}"),
                ("lift", rounded("lift", 1)),
            ),
        )  # fmt: skip


def _panel(axes: Any, words: Sequence[TakenWord], longest: int, title: str) -> None:
    places = np.arange(len(words))
    axes.barh(places, [1.0] * len(words), color="#F0F0F0", height=0.72)
    axes.barh(places, [one.of_word for one in words], color=COLOURS[5], height=0.72)
    for place, one in enumerate(words):
        axes.text(0.02, place, shorten(one.word, 22), va="center", fontsize=8)
        axes.text(1.02, place, f"{one.of_word:.0%}", va="center", fontsize=8, color="#555555")
    axes.set(xlim=(0, 1.2), ylim=(longest - 0.4, -0.6), xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
    for side in axes.spines.values():
        side.set_visible(False)


def _said(found: Sequence[TakenWord], expert: int) -> str:
    own = [one for one in found if one.expert == expert][:3]
    return f"expert {expert}: " + ", ".join(f"{one.word} {one.of_word:.0%}" for one in own)


def pieces_picture(one: Routed, found: Sequence[TakenPiece], leads: tuple[str, ...]) -> Picture:
    """Draw the pieces of a modality, a line an expert."""
    every = [piece.expert for piece in found]
    experts, is_signal = _most(one, every), bool(leads)
    most = max(every.count(e) for e in experts)
    columns = min(MOST_PIECES, most) if is_signal else MOST_PIECES  # patches keep their size
    side = min(0.62, (TALLEST - 0.3) / len(experts))
    span = _span(found) if is_signal else 0.0
    with drawing(PAGE, 0.3 + side * len(experts), len(experts), columns) as (figure, grid):
        for axes in grid.flat:
            axes.axis("off")
        for line, expert in zip(grid, experts, strict=True):
            own = [piece for piece in found if piece.expert == expert][:columns]
            for axes, piece in zip(line, own, strict=False):
                _trace(axes, piece, span) if is_signal else _crop(axes, piece)
            line[0].text(-0.12, 0.5, f"expert {expert}\n{one.shares[expert]:.0%}", ha="right",
                         va="center", transform=line[0].transAxes, fontsize=8)  # fmt: skip
        mean = float(np.mean([piece.gate for piece in found]))
        return Picture.of(
            figure,
            {"title": f"Pieces of {one.name} that each expert takes most surely",
             "aid": "In the frame (of a signal: in colour), one token, with its neighbours around it; "
            f"the highest gates first, one a person, of {one.about}. Under the expert's number, "
            f"its share of all tokens of {one.name}."
            + (f" Leads, from above: {', '.join(leads)}. " if leads else " ")
            + against_even("The mean gate of those shown", mean, len(one.shares))
            + _rest(every, experts),
             "lead": "Pieces by expert"},
            said=[f"expert {e}: {every.count(e)}" for e in experts],
            raster=not is_signal,
            **written(found, "expert", ("gate", rounded("gate")),
                      ("row and column of the grid", lambda row: f"{row.place}")),
        )  # fmt: skip


def _crop(axes: Any, one: TakenPiece) -> None:
    """The patch framed among its neighbours; white beyond the edge of the image."""
    pixels = np.where(np.isfinite(one.pixels), one.pixels, 1.0)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    height, width = pixels.shape[0] / 3, pixels.shape[1] / 3
    x, y = width - 0.5, height - 0.5
    axes.plot([x, x + width, x + width, x, x], [y, y, y + height, y + height, y],
              color=colour(1), linewidth=1.1)  # fmt: skip


def _span(found: Sequence[TakenPiece]) -> float:
    """Distance between the leads of a stretch: what nearly all of them keep within."""
    sizes = [np.nanmax(one.pixels, axis=1) - np.nanmin(one.pixels, axis=1) for one in found]
    return max(1e-9, float(np.quantile(np.concatenate(sizes), 0.9)))


def _trace(axes: Any, one: TakenPiece, span: float) -> None:
    """The stretch in colour between its neighbours, lead under lead on one scale."""
    samples = one.pixels.shape[1] // 3
    inner = slice(samples, 2 * samples)
    for place, lead in enumerate(one.pixels):
        level = lead - np.nanmedian(lead) - place * span
        axes.plot(np.arange(3 * samples), level, color="#B5B5B5", linewidth=0.7)
        axes.plot(np.arange(3 * samples)[inner], level[inner], color=COLOURS[0], linewidth=0.9)
    axes.set_ylim(-span * (len(one.pixels) - 0.2), span * 0.9)


def words_of(one: Routed, adapter: Any, most: int) -> tuple[list[TakenWord], int]:
    """Words of a text modality, and how many pairs of expert and word stay unnamed."""
    if one.inputs.shape != one.expert.shape:
        return [], 0  # its tokens are not those of the text
    whose = np.broadcast_to(one.subject[:, None], one.expert.shape).reshape(-1)
    found, hidden = taken_words(one.expert.reshape(-1), one.inputs.reshape(-1), whose, most=most)
    return [replace(word, word=adapter.spell(word.number)) for word in found], hidden


def pieces_of(one: Routed, grid: Any, most: int) -> Picture | None:
    """The figure of the surest pieces of a modality; None where its tokens are no pieces."""
    if not most or not can_cut(one.shape, grid):
        return None
    made, leads = [], ()
    for expert, places in surest(one.expert, one.gate, one.subject, most=most).items():
        for row, token in places:
            pixels, leads = cut(one.inputs[row], one.shape, grid, token)
            made.append(TakenPiece(expert=expert, gate=float(one.gate[row, token]),
                                   place=divmod(token, grid[1]), pixels=pixels))  # fmt: skip
    return pieces_picture(one, made, leads)


def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Words of every text modality, a row a word; the figures where they are asked for."""
    import medmcl
    from medmcl.core.contracts import Spells

    of = medmcl.load(given.run)
    prepared = of.prepare(medmcl.open_cohort(given.cohort), of.stage(given.stage).towers)
    tower, found = routed(of, prepared, given.stage, given.rows)
    rows, pictures = [], []
    for one in found:
        adapter = prepared.adapters[one.name]
        if isinstance(adapter, Spells):
            words, hidden = words_of(one, adapter, given.words)
            rows += [{"modality": one.name, **asdict(word)} for word in words]
            pictures += [words_picture(one, words, hidden)] if words else []
        else:
            pictures.append(pieces_of(one, tower.tower(one.name).facts.grid, given.pieces))
    if given.html:
        section = Section.of("taken", "What each expert takes", *pictures,
                             warnings=(SINGLE_PEOPLE,) if given.pieces else ())  # fmt: skip
        page = page_of([section], f"What the experts of stage {given.stage} take")
        (given.out / "taken.html").write_text(page, encoding="utf-8")
    return rows


def parts(rows: list[dict[str, Any]]) -> dict[str, str]:
    columns = {
        "expert": "expert",
        "word": lambda row: f"`{row['word']}`",
        "taken": "tokens",
        "share of the expert's tokens": percent("of_expert", 1),
        "share of the word's occurrences": percent("of_word"),
        "lift": number("lift", ".1f"),
    }
    return {"words": table(columns, rows)}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path)
    parser.add_argument("cohort")
    parser.add_argument("--stage", default="contrast")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--words", type=int, default=8)
    parser.add_argument("--pieces", type=int, default=0)
    parser.add_argument("--html", action="store_true", help="figures, too: taken.html")


STUDY = Study(__file__, parts=parts, run=run, options=options)

if __name__ == "__main__":
    STUDY.main()
