"""Pairs of samples that differ in one thing: ``choices:`` of cohort.yaml, and its faults.

Which statement belongs to which of two images is asked of them by the metric `paired_choice`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medmcl.core.findings import Finding, cohort_error, cohort_warning, counted, first_of
from medmcl.data.cohort.codes import CodeMap
from medmcl.data.cohort.spec import ChoiceKeys
from medmcl.data.expressions.expression import evaluate
from medmcl.data.expressions.syntax import columns_of
from medmcl.data.tables.files import as_text
from medmcl.data.tables.subject_rows import SubjectTable


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which samples are paired.

    Attributes:
        name: Its name in cohort.yaml.
        pair: Id of the pair of each sample, None where it is in none. (N,) object
        attribute: What its pair differs in, None where that is not known; None without. (N,) object
    """

    name: str
    pair: np.ndarray
    attribute: np.ndarray | None

    @property
    def sizes(self) -> pd.Series:
        """Samples of each pair, by its id."""
        return pd.Series(self.pair, dtype=object).value_counts(sort=False)


def read_choice(
    name: str,
    keys: ChoiceKeys,
    subjects: SubjectTable,
    samples: pd.DataFrame,
    maps: Mapping[str, CodeMap],
) -> Choice:
    """Read one entry of ``choices:`` for every sample.

    Args:
        name: Its name.
        keys: What it says.
        subjects: Whose columns it names.
        samples: Who is the subject of each sample.
        maps: Code maps that expressions may read.

    Raises:
        CohortError: A column that does not exist, or that differs between the rows of a subject.
    """
    position = pd.Series(np.arange(len(subjects.frame)), index=subjects.frame.index)
    rows = position.reindex(samples["subject"]).to_numpy(np.int64)

    def column(text: str, key: str) -> np.ndarray:
        where = f"choices.{name}.{key}"
        known = pd.Index([*subjects.frame.columns, *subjects.varying])
        on_purpose = "name a column that is one and the same in all rows of a subject"
        subjects.require(columns_of(text, known, where), where, on_purpose)
        said = evaluate(text, subjects.frame, maps, where)
        cells = [as_text(one) if known else None
                 for one, known in zip(said.data, said.known, strict=True)]  # fmt: skip
        return np.array([cell or None for cell in cells], dtype=object)[rows]

    attribute = None if keys.attribute is None else column(keys.attribute, "attribute")
    return Choice(name=name, pair=column(keys.pair, "pair"), attribute=attribute)


def choice_findings(choice: Choice, samples: pd.DataFrame) -> list[Finding]:
    """Say what is wrong with pairs: not two samples, two splits, two attributes or none."""
    where = f"choices.{choice.name}"
    sizes = choice.sizes
    if not (sizes == 2).any():
        what = f"no pair has two samples: {counted(len(sizes), 'id')} in {len(samples):,} samples"
        return [_finding(where, "choice.pair", what, "name the column in which two samples agree")]
    findings = []
    alone, more = sizes[sizes == 1], sizes[sizes > 2]
    if len(more):
        what = f"{counted(len(more), 'pair')} of more than two samples ({first_of(more.index, 3)})"
        fix = "give every two samples an id of their own; several records of a subject are several"
        findings.append(_finding(where, "choice.pair", what, f"{fix} samples"))
    if len(alone):
        what = (
            f"{counted(len(alone), 'pair')} of one sample ({first_of(alone.index, 3)}): not scored"
        )
        fix = "nothing, if that is meant; otherwise is the id of the other one right?"
        findings.append(_finding(where, "choice.pair", what, fix, level="warning"))
    for code, column, what, fix in (
        ("choice.split", samples["split"].to_numpy(object), "across splits",
         "put both samples of a pair in one split: by a column, not at random"),
        ("choice.attribute", choice.attribute, "with two attributes, or without",
         "give both samples of a pair the same"),
    ):  # fmt: skip
        if column is None:
            continue
        table = pd.DataFrame({"pair": choice.pair, "of": column})
        told = table[table["pair"].isin(sizes[sizes > 1].index)].groupby("pair", sort=False)["of"]
        odd = told.nunique(dropna=False) != 1
        odd |= told.count() == 0
        if odd.any():
            pairs = odd[odd].index
            said = f"{counted(len(pairs), 'pair')} {what} ({first_of(pairs, 3)})"
            findings.append(_finding(where, code, said, fix))
    return findings


def _finding(where: str, code: str, what: str, fix: str, *, level: str = "error") -> Finding:
    if level == "warning":
        return cohort_warning(code, where, what, fix)
    named = where.removeprefix("choices.")
    leave = f"; or leave it out: --set cohort.choices.{named}=null"
    return cohort_error(code, where, what, fix + leave)
