"""How a view disturbs texts: their words and sentences by marks, their tokens by chance.

Steps by marks (`delete`, `swap`, `sentence_drop`, `sentence_shuffle`) leave what a report says
with few letters: numbers and units, negations and what they deny, sides, comparisons, uncertainty,
dates, and all signs (`medmcl.modalities.text.marks`). What stays keeps its tokens.

Source:
    EDA (Wei and Zou 2019, arXiv 1901.11196), and CleanCLIP (Bansal et al. 2023, arXiv 2303.03323),
    which uses it for its in-modal term. Differs: drawn anew each step, not once when a dataset is
    made; each step has a chance of its own, where EDA picks one of four; words change places with
    their neighbours only; protected words stay, where EDA takes any and removes digits and
    hyphens; nothing is replaced by synonyms and nothing inserted, since a near synonym of a finding
    is another finding; whole sentences go or change places.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from medmcl.core.rng import RowGenerator
from medmcl.modalities.text.marks import ENDS, PLAIN, STARTS, WORD
from medmcl.modalities.text.settings import TextAugment


class Special(Protocol):
    """Numbers of the tokens that are no text."""

    @property
    def pad(self) -> Any: ...  # noqa: D102  # the class says what they are
    @property
    def cls(self) -> Any: ...  # noqa: D102  # the class says what they are
    @property
    def end(self) -> Any: ...  # noqa: D102  # the class says what they are


def disturb_words(
    ids: Tensor, marks: Tensor, options: TextAugment, tokens: Special, generator: RowGenerator
) -> Tensor:
    """Take and move words and sentences of each row; what stays moves up, padding follows.

    A text keeps a sentence with words, a sentence a word. A last sentence without its stop (or cut
    at the end of the row) stays last: before another, its denial would reach into that one.

    Args:
        ids: Token numbers, (B, T) int64.
        marks: Their marks, (B, T) int64.
        options: Chances.
        tokens: What is start, end and padding.
        generator: Source of the draws, five a token whatever the options are.

    Returns:
        (B, T) int64.
    """
    rows, length = ids.shape
    draws = generator.uniform(5, rows, length + 1, row_dim=1)
    is_text = (ids != tokens.pad) & (ids != tokens.cls) & (ids != tokens.end)
    ends = ((marks & ENDS) > 0) & is_text
    sentence = ends.long().cumsum(dim=1) - ends.long()
    piece = (((marks & STARTS) > 0) & is_text).long().cumsum(dim=1).masked_fill(~is_text, 0)
    plain = _any_of(piece, ((marks & PLAIN) > 0) & is_text)  # (B, T + 1), of pieces
    is_word = ((marks & WORD) > 0) & is_text

    worded = _any_of(sentence, is_word)
    stays = _kept_sentences(draws[0] >= options.sentence_drop, worded, draws[0])
    stays = stays.gather(1, sentence)
    whose = torch.zeros_like(plain, dtype=torch.int64).scatter_(1, piece, sentence)
    drawn = draws[1] >= options.delete
    kept = _kept_words(~plain | drawn, _any_of(piece, is_word), whose, draws[1]).gather(1, piece)
    place = _swapped(plain & _any_of(piece, is_text), draws[2] < options.swap).gather(1, piece)
    shuffled = draws[3, :, :1] < options.sentence_shuffle
    rank = _ranks(draws[4], ends.sum(dim=1, keepdim=True), shuffled).gather(1, sentence)

    gone = is_text & ~(stays & kept)
    key = rank * (length + 1) + place
    last = (length + 1) ** 2
    key = key.masked_fill(ids == tokens.cls, -1).masked_fill(ids == tokens.end, last)
    key = key.masked_fill((ids == tokens.pad) | gone, last + 1)
    order = key.argsort(dim=1, stable=True)
    return ids.masked_fill(gone, tokens.pad).gather(1, order)


def _any_of(group: Tensor, flags: Tensor) -> Tensor:
    """Whether any token of each group (B, T) has a flag: (B, T + 1) bool."""
    counts = torch.zeros(len(group), group.shape[1] + 1, dtype=torch.int64, device=group.device)
    return counts.scatter_add_(1, group, flags.long()) > 0


def _kept_sentences(stays: Tensor, worded: Tensor, draws: Tensor) -> Tensor:
    """What stays (B, S); of a text without a sentence with words left, the highest drawn of them.

    All of it where no sentence has words.
    """
    highest = torch.where(worded, draws, -1.0).argmax(dim=1, keepdim=True)
    bare = ~(stays & worded).any(dim=1, keepdim=True)
    numbers = torch.arange(stays.shape[1], device=stays.device)
    return stays | (bare & ((numbers == highest) | ~worded.any(dim=1, keepdim=True)))


def _kept_words(stays: Tensor, is_word: Tensor, whose: Tensor, draws: Tensor) -> Tensor:
    """Which pieces stay (B, P); of a sentence (by ``whose``) without words left, its highest."""
    drawn = torch.where(is_word, draws, -1.0)
    left = torch.zeros_like(draws).scatter_add_(1, whose, (stays & is_word).to(draws.dtype))
    highest = torch.full_like(draws, -1.0).scatter_reduce_(1, whose, drawn, "amax")
    bare = left.gather(1, whose) == 0
    return stays | (bare & (drawn == highest.gather(1, whose)))


def _swapped(plain: Tensor, drawn: Tensor) -> Tensor:
    """New places of the pieces (B, P): pairs of plain neighbours, from the left, each once."""
    numbers = torch.arange(plain.shape[1], device=plain.device).expand(plain.shape)
    hit = drawn & plain & _next(plain)
    before = torch.where(hit, -1, numbers).cummax(dim=1).values  # the last that was not hit
    first = hit & ((numbers - before) % 2 == 1)
    second = _next(first.flip(1)).flip(1)
    return numbers + first.long() - second.long()


def _next(flags: Tensor) -> Tensor:
    """The flag of the right neighbour; of the last, False."""
    return torch.cat([flags[:, 1:], torch.zeros_like(flags[:, :1])], dim=1)


def _ranks(draws: Tensor, whole: Tensor, shuffled: Tensor) -> Tensor:
    """Places of the sentences (B, S): random among the ``whole`` first ones where shuffled."""
    numbers = torch.arange(draws.shape[1], device=draws.device).expand(draws.shape)
    keys = torch.where(shuffled & (numbers < whole), draws, 1.0 + numbers)
    return keys.argsort(dim=1, stable=True).argsort(dim=1)
