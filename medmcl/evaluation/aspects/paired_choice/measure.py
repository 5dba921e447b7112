"""Paired choice: do two statements each choose their own of two images that differ in one thing?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medmcl.core.errors import ConfigError
from medmcl.evaluation.metrics.intervals import PLAIN, Resampling, codes_of_labels
from medmcl.evaluation.metrics.metric import is_missing
from medmcl.evaluation.metrics.sampled import Sampled, mean_of
from medmcl.evaluation.metrics.shares import share_interval, share_metric
from medmcl.evaluation.protocol.results import Result

CHANCE = 0.25
"""Both of two statements right, where each chooses by a coin of its own."""
KIND = "paired_choice"
OVERALL, MACRO = "overall", "macro"
TIE = 1e-6  # cosines nearer than this are equal but for rounding: embeddings are float32
_SHARE = share_metric(KIND, "no pairs")
_ALIKE = "all pairs alike"


def paired_choice(
    image: Any,
    text: Any,
    pair: Any,
    attribute: Any = None,
    *,
    resampling: Resampling = PLAIN,
    task: str = "pairs",
    method: str = "model",
    split: str = "held_out",
) -> list[Result]:
    """Give the share of pairs of which both statements choose their own image; higher is better.

    A statement chooses the image of its pair whose embedding has the larger cosine with it; the
    pair is right only if both do, and a tie is wrong. Two coins are right in 25 % of pairs; a model
    that sees no difference lets both statements choose the same image, and is right in none.

    Args:
        image: Embeddings of the images, any length, (N, D).
        text: Embeddings of the statements, row i the one of image i. (N, D)
        pair: Id of the pair of each row; each of exactly two rows. (N,)
        attribute: What the two rows of a pair differ in; the same in both. (N,)
        resampling: How pairs are drawn, from what is known of each row: those that share a subject
            together, whole clusters (sites) where they are given. Default: each pair alone.
        task: Name of this set of pairs, for the rows.
        method: Name for the rows.
        split: Name of the split for the rows.

    Returns:
        Rows of the target ``overall`` (of all pairs), and with attributes of ``macro`` (the mean of
        their shares: the average of the paper) and of each attribute; ``n`` counts pairs. The same
        rows of the method ``chance``.

    Raises:
        ConfigError: Lengths that differ, an id of one row or of three, a row without id or
            attribute, attributes that differ inside a pair, or embeddings with NaN or of length 0.
    Source:
        Tong et al. 2024, arXiv 2401.06209, §3 (MMVP-VLM). Differs: a softmax over the two images of
        a pair ranks as their cosines do, so none is taken; a tie is wrong (the official code lets
        it choose the second image); the pair is told by its id, not by odd and even ones. Intervals
        are ours: percentiles of the bootstrap, Wilson 1927 where all pairs are right or all wrong.
    """
    return compare_choices(
        {method: (image, text)}, pair, attribute, resampling=resampling, task=task, split=split
    )


def compare_choices(
    models: Mapping[str, tuple[Any, Any]],
    pair: Any,
    attribute: Any = None,
    *,
    resampling: Resampling = PLAIN,
    task: str = "pairs",
    split: str = "held_out",
) -> list[Result]:
    """Score several models as `paired_choice`, and each later one against the first.

    Args:
        models: Name to its ``(image, text)`` embeddings of the same rows; widths may differ.
        pair: As in `paired_choice`, as all that follows.
        attribute: What a pair is about.
        resampling: How pairs are drawn.
        task: Name of this set of pairs.
        split: Name of the split.

    Returns:
        The rows of every model, those of ``chance``, then paired differences (later minus first,
        same draws; above 0: the later is better), with ``versus`` the first.

    Raises:
        ConfigError: As `paired_choice`, or no model.
    """
    if not models:
        raise ConfigError("paired_choice: no model", expected="at least one")
    sides = _sides(pair)
    about = _attributes(attribute, sides, pair)
    sampler = _of_pairs(resampling, sides)
    found = {
        name: _sampled(sampler, right_pairs(*both, pair), about) for name, both in models.items()
    }
    named: dict[str, Any] = {
        "task": task, "kind": KIND, "protocol": KIND, "metric": KIND, "direction": "higher",
        "split": split, "resampling": "pair" if resampling.clusters is None else "site",
    }  # fmt: skip
    rows = [
        Result.of(
            share_interval(one, resampling.level, alike=_ALIKE), target=target, method=name, **named
        )
        for name, parts in found.items()
        for target, one in parts.items()
    ]
    first, *later = found
    rows += [
        Result(method="chance", target=target, value=CHANCE, n=one.n, **named)
        for target, one in found[first].items()
        if one.n
    ]
    for name in later:
        for target, one in found[name].items():
            gap = one.minus(found[first][target])
            told = {**named, "target": target, "method": name, "versus": first}
            shown = share_interval(gap, resampling.level, is_share=False)
            rows.append(replace(Result.of(shown, **told), p_value=gap.p_value()))
    return rows


def right_pairs(image: Any, text: Any, pair: Any) -> np.ndarray:
    """Say of each pair whether both statements choose their own image, (P,) bool.

    Pairs are in the order of their first rows.

    Args:
        image: As in `paired_choice`. (N, D)
        text: As in `paired_choice`. (N, D)
        pair: As in `paired_choice`. (N,)

    Raises:
        ConfigError: As `paired_choice`.
    """
    sides = _sides(pair)
    images, texts = _unit(image, "image", sides.size), _unit(text, "text", sides.size)
    if images.shape[1] != texts.shape[1]:
        raise ConfigError(
            "paired_choice: images and statements are compared in one space",
            got=f"{images.shape[1]} and {texts.shape[1]} dimensions",
            expected="embeddings (N, D) of the same D",
        )
    own = (images * texts).sum(axis=1)[sides]
    other = (images[sides[:, ::-1]] * texts[sides]).sum(axis=2)
    return np.asarray((own > other + TIE).all(axis=1))


def _unit(vectors: Any, name: str, size: int) -> np.ndarray:
    found = np.asarray(vectors, dtype=np.float64)
    if found.ndim != 2 or len(found) != size:
        raise ConfigError(
            f"paired_choice: {name} must have one row for each pair id",
            got=f"shape {found.shape}, {size} ids",
            expected=f"({size}, D)",
        )
    length = np.linalg.norm(found, axis=1, keepdims=True)
    bad = ~np.isfinite(length[:, 0]) | (length[:, 0] == 0)
    if bad.any():
        raise ConfigError(
            f"paired_choice: {int(bad.sum())} rows of {name} are not finite or of length 0",
            got=f"row {int(bad.argmax())}, the first",
            fix="leave out pairs of which a side has no embedding",
        )
    return np.asarray(found / length)


def _sides(pair: Any) -> np.ndarray:
    """The two rows of each pair, (P, 2), pairs in the order of their first rows."""
    code = _codes(pair, "ids of pairs")
    count = np.bincount(code)
    if (count != 2).any():
        wrong = int((count != 2).argmax())
        raise ConfigError(
            f"paired_choice: {int((count != 2).sum())} pairs have not two rows",
            got=f"pair {np.asarray(pair)[code == wrong][0]} with {count[wrong]}",
            expected="two rows of each id",
            fix="leave out pairs of which a row is missing; ids are of one pair only",
        )
    sides = np.argsort(code, kind="stable").reshape(-1, 2)
    return sides[np.argsort(sides[:, 0])]


def _attributes(attribute: Any, sides: np.ndarray, pair: Any) -> np.ndarray | None:
    """The attribute of each pair, (P,) text; None without."""
    if attribute is None:
        return None
    both = _codes(attribute, "attributes", sides.size)[sides]
    names = np.asarray(attribute)
    differ = both[:, 0] != both[:, 1]
    if differ.any():
        rows = sides[differ.argmax()]
        raise ConfigError(
            f"paired_choice: attributes differ inside {int(differ.sum())} pairs",
            got=f"pair {np.asarray(pair)[rows[0]]}: {' and '.join(map(str, names[rows]))}",
            expected="the same attribute in both rows of a pair",
        )
    found = np.array([str(one) for one in names[sides[:, 0]]], dtype=object)
    taken = sorted({OVERALL, MACRO}.intersection(found))
    if taken:
        raise ConfigError(
            f"paired_choice: an attribute is called '{taken[0]}', as the row over all pairs is",
            fix="give it another name",
        )
    return found


def _sampled(
    sampler: Resampling, right: np.ndarray, attribute: np.ndarray | None
) -> dict[str, Sampled]:
    """Target to points and draws of its share."""
    correct = right.astype(np.float64)
    drawn = "pairs" if sampler.num_subjects == len(right) else "sets of pairs"

    def share(rows: np.ndarray | None = None) -> Sampled:
        return replace(sampler.sample(_SHARE, [], [correct], rows), drawn=drawn)

    found = {OVERALL: share()}
    if attribute is None or not len(attribute):
        return found
    parts = {name: share(attribute == name) for name in dict.fromkeys(attribute)}
    mean = replace(mean_of(list(parts.values()), list(parts)), n=len(right))
    mean = replace(mean, subjects=found[OVERALL].subjects, drawn=drawn)
    return {**found, MACRO: mean, **parts}


def _of_pairs(how: Resampling, sides: np.ndarray) -> Resampling:
    """What draws pairs: those that share a subject together, whole sites where they are given."""
    codes = np.empty(sides.size, dtype=np.int64)
    codes[sides] = np.arange(len(sides))[:, None]
    if how.subjects is not None:
        codes = _codes(how.subjects, "subjects", sides.size)
    units = _linked(codes[sides])
    if how.clusters is None:
        return replace(how, subjects=units)
    places = _codes(how.clusters, "clusters", sides.size)
    linked = _linked(np.concatenate([places[sides], units[:, None] + places.max(initial=0) + 1], 1))
    return replace(how, subjects=units, clusters=linked)


def _codes(labels: Any, name: str, rows: int | None = None) -> np.ndarray:
    """Number the labels of rows, (N,)."""
    found = np.asarray(labels)
    lost = int(is_missing(found).sum())
    if found.ndim != 1 or lost or rows not in (None, len(found)):
        raise ConfigError(
            f"paired_choice: {name} must have one entry a row",
            got=f"shape {found.shape}, {lost} missing",
            expected=f"({rows or 'N'},)",
            fix="leave out rows that are in no pair",
        )
    return codes_of_labels(found, name)


def _linked(labels: np.ndarray) -> np.ndarray:
    """Number pairs so that those that share a label, even by way of others, are one, (P,).

    Args:
        labels: Labels of each pair, numbers from 0. (P, L)
    """
    count, width = labels.shape
    _, codes = np.unique(labels, return_inverse=True)
    ends = (np.repeat(np.arange(count), width), count + codes.reshape(-1))
    size = count + int(codes.max(initial=-1)) + 1
    graph = coo_array((np.ones(count * width), ends), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1][:count])
