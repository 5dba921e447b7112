"""A cohort: who, which records, which split, which outcomes; opened from cohort.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.config import nearest, read_yaml
from medmcl.core.errors import CohortError, OverrideError
from medmcl.core.findings import Finding, cohort_error, counted
from medmcl.core.overrides import apply_override, blame, corrected, written
from medmcl.core.targets import Targets
from medmcl.data.cohort.garbage import collector_paused
from medmcl.data.cohort.loader import Opened, Opening
from medmcl.data.cohort.locate import choose_root, find_cohort, how_to_get, list_cohorts
from medmcl.data.cohort.manifest import parse_spec, refuse
from medmcl.data.cohort.outcomes import build_targets
from medmcl.data.cohort.spec import SITE, CohortSpec
from medmcl.data.cohort.splits import SPLITS

__all__ = ["Cohort", "find_cohort", "list_cohorts", "load_cohort", "open_cohort"]


@dataclass(kw_only=True)
class Cohort(Opened):
    """The studied set.

    Attributes:
        name: Name of its folder (or file).
        spec: Its cohort.yaml, checked.
        path: Its cohort.yaml.
        root: Folder that paths start from.
        fingerprint: Hash of what cohort.yaml says and of the bytes of its tables; of shards and
            folders of images, of the rows that they are read as.
        subjects: Indexed by subject id: ``split``, `SITE` and the columns of the table; text that
            repeats as categories.
        records: Modality to its records, indexed by record id: ``subject, date, place``.
        samples: One row a sample: ``sample, subject, split`` and the record of each modality
            (None where absent). The row number is the sample's number everywhere.
        findings: What was found at opening: left out and counted, or at fault.
        overrides: What was laid over cohort.yaml, dotted key to value.
        counts: The first steps of `flow`.
        labels: Task to where its labels stand.
        maps: Code maps that expressions may read.
        noise: Which pairs ``noisy_pairs:`` made wrong; None where it made none. The truth that a
            selection of data is judged by: for evaluation only, never read by training.
        choices: Name to pairs of samples, for the metric ``paired_choice``.
    """

    name: str
    spec: CohortSpec
    path: Path
    root: Path
    findings: list[Finding]
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        subjects = counted(len(self.subjects), "subject")
        return f"Cohort({self.name!r}, {subjects}, {counted(len(self.samples), 'sample')})"

    @property
    def sites(self) -> pd.Series:
        """Site of each subject, of the column `subjects.group`; None where there is none."""
        return self.subjects[SITE]

    def split(self, name: str) -> np.ndarray:
        """Give the numbers of the samples of a split."""
        if name not in SPLITS:
            raise CohortError(f"there is no split '{name}'{nearest(name, SPLITS)}")
        return np.flatnonzero((self.samples["split"] == name).to_numpy())

    def sides(self, modality: str) -> np.ndarray:
        """Give the split that the subject of each record is in, (R,) object."""
        whose = self.records[modality]["subject"].to_numpy(object)
        known = pd.Index(whose, dtype=object)  # as text of Arrow it would be copied
        return self.subjects["split"].reindex(known).to_numpy(object)

    def train_rows(self, modalities: Iterable[str]) -> np.ndarray:
        """Give the train samples with a record of any of the modalities, (N,).

        Names of modalities that the cohort does not have are passed over; of none, all samples.
        """
        known = [name for name in modalities if name in self.spec.modalities]
        has = self.samples[known].notna().any(axis=1) if known else self.samples["split"].notna()
        return np.flatnonzero((self.samples["split"] == "train") & has)

    def own_records(self, modality: str) -> pd.Series:
        """Give the record of each sample that is its own, whatever ``noisy_pairs:`` exchanged.

        For describing people; what is trained on is ``samples``.
        """
        if self.noise is None or self.noise.modality != modality:
            return self.samples[modality]
        return pd.Series(self.noise.own, index=self.samples.index, dtype=object)

    @cached_property
    def _built(self) -> dict[str, tuple[Targets | None, list[Finding]]]:
        return {
            name: build_targets(name, task, self.labels[name], self.maps)
            for name, task in self.spec.tasks.items()
            if name in self.labels
        }

    def task_findings(self, name: str) -> list[Finding]:
        """Give what is wrong with a task; errors refuse only what uses it."""
        if name not in self.spec.tasks:
            raise CohortError(
                f"there is no task '{name}'{nearest(name, self.spec.tasks)}", where=self.path
            )
        return [finding for finding in self.findings if finding.task == name]

    @property
    def usable_tasks(self) -> list[str]:
        """Tasks without an error."""
        return [
            name
            for name in self.spec.tasks
            if all(finding.level != "error" for finding in self.task_findings(name))
        ]

    def targets(self, name: str) -> Targets:
        """Give the targets of a task, aligned with ``samples``.

        Raises:
            CohortError: There is no such task, or it has faults.
        """
        faults = [f for f in self.task_findings(name) if f.level == "error"]
        if faults:
            raise refuse(faults, f"{self.path}, task {name}")
        targets = self._built[name][0]
        assert targets is not None  # a task that cannot be built has an error finding
        return targets

    def flow(self) -> list[tuple[str, int, int]]:
        """Give the participant flow: (step, subjects, samples or rows), from table to splits."""
        steps = list(self.counts)
        for name in self.spec.modalities:
            has = self.samples[self.samples[name].notna()]
            steps.append((f"with {name}", has["subject"].nunique(), len(has)))
        for name in SPLITS:
            part = self.samples[self.samples["split"] == name]
            steps.append((name, part["subject"].nunique(), len(part)))
        return steps

    def missingness(self) -> pd.DataFrame:
        """Count samples by pattern of modalities (``ecg + cmr``) and split."""
        names = list(self.spec.modalities)
        has = self.samples[names].notna().to_numpy()
        pattern = [" + ".join(n for n, ok in zip(names, row, strict=True) if ok) for row in has]
        counts = pd.crosstab(pd.Series(pattern, name="modalities"), self.samples["split"])
        counts = counts.reindex(columns=list(SPLITS), fill_value=0)
        order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
        return counts.loc[order]


def open_cohort(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
) -> Cohort:
    """Open a cohort.

    Args:
        path: A folder with cohort.yaml, a yaml file, or the name of a folder under ``cohorts/``.
        overrides: Dotted key to value (``on_bad_record``), laid over the file; also ``data_root``.
        data_root: Folder that paths start from. Otherwise ``data_root:`` of the file, otherwise
            ``$MEDMCL_DATA/<name>`` if there is one, otherwise the folder of the file.

    Raises:
        CohortError: Every fault of the file and its tables at once, each with its fix.
    """
    cohort, findings = load_cohort(path, overrides, data_root)
    errors = [f for f in findings if f.level == "error" and f.scope == "cohort"]
    errors = list(dict.fromkeys(errors))
    if errors or cohort is None:
        raise refuse(errors, str(path))
    return cohort


def at_hand(cohort: Cohort | str | Path, overrides: Mapping[str, Any]) -> Cohort:
    """Open a cohort, unless it is open: then it must have been opened with these overrides.

    Raises:
        CohortError: It was opened otherwise; or as `open_cohort` says.
    """
    if not isinstance(cohort, Cohort):
        return open_cohort(cohort, overrides)
    named = {key.removeprefix("cohort."): value for key, value in overrides.items()}
    for key, value in named.items():
        if key not in cohort.overrides or cohort.overrides[key] != value:
            raise CohortError(
                "a cohort that is open takes no overrides any more",
                where=cohort.path,
                got=written(key if key == "data_root" else f"cohort.{key}", value),
                fix="lay them over as you open it: medmcl.open_cohort(path, overrides)",
            )
    return cohort


def load_cohort(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
) -> tuple[Cohort | None, list[Finding]]:
    """Open a cohort as far as its faults allow: what `medmcl check` does.

    Returns:
        The cohort, or None if its faults leave nothing to look at; and every finding.
    """
    file = find_cohort(path)
    name = file.parent.name if file.name == "cohort.yaml" else file.stem
    tree = read_yaml(file)
    if "stages" in tree or str(tree.get("schema")).startswith("medmcl/recipe"):
        raise CohortError("is a recipe, not a cohort", where=file, fix=f"--recipe {file}")
    applied = {}
    for key, value in (overrides or {}).items():
        plain = key.removeprefix("cohort.")
        text = written(plain if plain == "data_root" else f"cohort.{plain}", value)
        if value is None:
            _refuse_nothing(tree, plain, text)
        applied[apply_override(tree, plain, value, where=text)] = text
    _leave_out_nulls(tree)
    if isinstance(tree.get("dataset"), str):
        tree["dataset"] = dataset_under(tree["dataset"], overrides or {})
    spec, findings = parse_spec(tree, str(file))
    findings = [_said_of_override(one, applied) for one in findings]
    if spec is None:
        return None, findings
    asked = data_root if data_root is not None else (overrides or {}).get("data_root")
    try:
        root = choose_root(asked, spec.keys.data_root, name, file)
    except CohortError as error:
        return None, [*findings, _no_root(error, how_to_get(spec.keys.access, file))]
    opening = Opening(spec, file, root, findings)
    with collector_paused():
        opened = opening.run(tree)
    if opened is None:
        return None, opening.findings
    cohort = Cohort(
        name=name,
        spec=opening.spec,
        path=file,
        root=root,
        findings=opening.findings,
        overrides={key.removeprefix("cohort."): value for key, value in (overrides or {}).items()},
        **vars(opened),
    )
    for task in cohort.labels:
        cohort.findings += cohort._built[task][1]
    return cohort, cohort.findings


def dataset_under(said: str, overrides: Mapping[str, Any]) -> str:
    """Say which data set a cohort is where keys of it are overridden.

    ``ptbxl:fold 10`` is about who is scored by the split of the file; by another one anybody of
    ``ptbxl`` is.

    Args:
        said: What the file says, ``NAME`` or ``NAME:PART``.
        overrides: Dotted key to value.
    """
    keys = {key.removeprefix("cohort."): value for key, value in overrides.items()}
    if keys.get("dataset") is not None:
        return str(keys["dataset"])
    moved = any(key.split(".")[0] == "subjects" for key in keys)
    return said.partition(":")[0] if moved else said


_LEFT_OUT = {"tasks": ("tasks", "prompts"), "modalities": ("modalities",), "choices": ("choices",)}


def _refuse_nothing(tree: Mapping[str, Any], key: str, text: str) -> None:
    """Refuse to leave out what is not there: the name is misspelt, and all would stay."""
    kind, _, name = key.partition(".")
    known = tree.get(kind)
    if kind in _LEFT_OUT and isinstance(known, dict) and "." not in name and name not in known:
        raise OverrideError(
            f"there is no {name!r} to leave out{nearest(name, known)}",
            where=text,
            expected=", ".join(map(str, known)),
        )


def _leave_out_nulls(tree: dict[str, Any]) -> None:
    """Take out what ``--set cohort.tasks.NAME=null`` names; modalities and choices alike."""
    for kind, sections in _LEFT_OUT.items():
        if isinstance(tree.get(kind), dict):
            gone = {name for name, given in tree[kind].items() if given is None}
            for section in sections:
                if isinstance(tree.get(section), dict):
                    tree[section] = {k: v for k, v in tree[section].items() if k not in gone}


def _no_root(error: CohortError, access: str | None) -> Finding:
    fix = error.fix or ""
    return cohort_error(
        "cohort.data_root",
        str(error.where),
        f"{error.what} (got {error.got})",
        fix if access is None else f"{access}; or {fix}: --set data_root=FOLDER",
    )


def _said_of_override(finding: Finding, applied: Mapping[tuple[str, ...], str]) -> Finding:
    """Let a finding about a key name the override that set the key, if there is one."""
    field_ = re.search(r"'([\w.]+)'", finding.what)
    text = blame(field_[1].split("."), applied) if field_ else None
    if text is None:
        return finding
    fix = corrected(text, finding.what) or "correct the override"
    return replace(finding, where=text, fix=fix)
