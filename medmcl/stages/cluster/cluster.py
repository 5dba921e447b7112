"""The cluster stage: rows that a stage cannot part form a group, over all stages so far."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from typing_extensions import override

from medmcl.core.errors import ConfigError
from medmcl.core.findings import counted
from medmcl.core.rng import derive_seed, numpy_generator
from medmcl.core.split_guard import SplitGuard
from medmcl.data.loading.prepare import Prepared
from medmcl.grouping import (
    Groups,
    accumulate,
    added,
    choose_clusters,
    kmeans,
    merge_small,
    nearest_centre,
    product,
    share_below,
)
from medmcl.grouping.clusters import unit_rows
from medmcl.grouping.groups import NOWHERE
from medmcl.stages.cluster.spec import ClusterSpec, nearly_all
from medmcl.stages.run.run import embed_samples
from medmcl.stages.stage import Context, Stage
from medmcl.stages.train.spec import TrainSpec
from medmcl.stages.train.train_filter import given_rows, kept_rows

MOST = 0.5
"""Share of rows in groups that are too small beyond which another stage does not pay."""
_MOST_LABELS = 2**62


class Cluster(Stage[ClusterSpec]):
    """Embed, cluster, accumulate and merge."""

    by_first_rank = True

    @override
    def dry_run(self, prepared: Prepared, context: Context) -> None:
        rows = able_rows(self.spec, prepared, context)
        for name in self.spec.modalities:
            self.spec.refuse_many(name, int(prepared.present[name][rows].sum()))

    def run(self, prepared: Prepared, context: Context) -> dict[str, Any]:
        """Give each train and tuning row its group.

        Raises:
            MedmclError: The embedding is constant or not finite.
            LeakageError: A row that is clustered is of `held_out`, or its subject is.
        """
        spec, began = self.spec, time.perf_counter()
        groups, facts = _Work(spec, prepared, context).cluster()
        context.run.save(spec.name, groups)
        for note in facts["notes"]:
            context.record.say(f"{spec.name}: {note}")
        seconds = round(time.perf_counter() - began, 3)
        facts = {"fingerprint": groups.fingerprint, "seconds": seconds, **facts}
        facts["sentence"] = "; ".join([f"Stage {spec.name}: {facts['notes'][0]}",
                                       *facts["notes"][1:], f"{seconds:.1f} s."])  # fmt: skip
        return facts


def able_rows(spec: ClusterSpec, prepared: Prepared, context: Context) -> np.ndarray:
    """Give the train rows that clusters are learned from, of those that have the modality.

    Those that the stage they come from could have trained on: without the fold it leaves out, and
    kept by its selection and by the file of ``--keep``.
    """
    of = context.run.of(TrainSpec).get(spec.of)
    rows = prepared.rows("train")
    if of is None:
        return given_rows(rows, prepared, context.run.given_keep)
    return kept_rows(rows, of, prepared, context)


@dataclass
class _Work:
    """One cluster stage at work."""

    spec: ClusterSpec
    prepared: Prepared
    context: Context
    notes: list[str] = field(default_factory=list)
    told: str = ""

    def cluster(self) -> tuple[Groups, dict[str, Any]]:
        """Give the groups of train and tuning rows, and the facts."""
        spec, prepared = self.spec, self.prepared
        rows = np.concatenate([prepared.rows("train"), prepared.rows("tuning")])
        able = able_rows(spec, prepared, self.context)
        sides = SplitGuard(splits=prepared.splits, subjects=prepared.subjects)
        sides.refuse_leak(able, f"the clusters of stage {spec.name}")
        vectors = {name: self._vectors(spec.of, name, rows) for name in spec.modalities}
        fit = np.isin(rows, able)
        fits = {name: fit & prepared.present[name][rows] for name in spec.modalities}
        clusters, number = self._parted(vectors, fits, rows)
        before, radix = self._before(rows)
        if radix * number > _MOST_LABELS:
            raise ConfigError(
                "there may be more labels than can be numbered",
                where=f"stage {spec.name}",
                got=f"{radix:,} before, times {number:,} clusters",
                fix="fewer clusters, fewer modalities, or a shorter chain of `after`",
            )
        labels = accumulate(before, clusters, number)
        self.notes.insert(0, f"{int(fit.sum()):,} train rows of {spec.of} in clusters: {self.told}")
        beside = np.concatenate([unit_rows(one) for one in vectors.values()], axis=1)
        groups = self._merged(beside, labels, before, prepared.subjects[rows], fit)
        if spec.placebo:
            is_tuning = self.prepared.splits[rows] == "tuning"
            parts = [fit, is_tuning, ~fit & ~is_tuning]
            labels, groups, clusters = self._dealt_out([labels, groups, clusters], parts)
        found = Groups(
            ids=prepared.samples["sample"].to_numpy()[rows],
            groups=groups,
            labels=labels,
            clusters=clusters,
            cohort=prepared.cohort.fingerprint,
            provenance={
                "stage": spec.name,
                "of": spec.of,
                "clusters": number,
                "labels_at_most": radix * number,
                "seed": self.context.run.seed,
                "after": spec.after,
            },
        )
        stopped = self._stopped(beside[fit], labels[fit], rows[fit])
        if stopped:
            self.notes.append(f"no stage is trained within these groups: {stopped}")
        sizes = np.unique(groups[fit], return_counts=True)[1]
        facts = {
            "rows": int(fit.sum()),
            "clusters": number,
            "groups": len(sizes),
            "largest_share": round(float(sizes.max() / sizes.sum()), 4),
            "notes": self.notes,
            **({"stopped": stopped} if stopped else {}),
        }
        return found, facts

    def _vectors(self, stage: str, name: str, rows: np.ndarray) -> np.ndarray:
        """Embed a modality of some samples with a stage, (N, D); zeros where it is absent."""
        self.context.stop.check_interrupt(f"{self.spec.name}: embedding")
        device = self.context.world.device
        towers = self.context.run.towers(stage, device)
        return embed_samples(towers, self.prepared, name, rows, self.spec.space, device)

    def _parted(
        self, vectors: Mapping[str, np.ndarray], fits: Mapping[str, np.ndarray], rows: np.ndarray
    ) -> tuple[np.ndarray, int]:
        """Give the cluster of each row and their number; rows that lack a modality are one more."""
        has = {name: self.prepared.present[name][rows] for name in vectors}
        sides, every = dict(vectors), dict(fits)
        if self.spec.together == "side_by_side" and len(vectors) > 1:
            whole = " and ".join(vectors)
            sides = {whole: np.concatenate([unit_rows(x) for x in vectors.values()], axis=1)}
            every = {whole: np.logical_and.reduce([*fits.values()])}
            has = {whole: np.logical_and.reduce([*has.values()])}
        parts, numbers, told = [], [], []
        for name, x in sides.items():
            seed = derive_seed(self.context.run.seed, "clusters", self.spec.name, name)
            fit = every[name]
            if self.spec.clusters == "auto":
                number = choose_clusters(x[fit], seed)
            else:
                number = self.spec.clusters
            where = f"stage {self.spec.name}, embeddings of {self.spec.of}"
            found = kmeans(x[fit], number, seed, self.spec.backend, where)
            parts.append(np.where(has[name], nearest_centre(x, found.centres), number))
            used = len(np.unique(found.labels))
            if used < number:
                self.notes.append(f"warning: only {used} of {number} clusters of {name} have rows")
            lacks = int((~has[name]).sum())
            numbers.append(number + (lacks > 0))
            told.append(f"{number} of {name}")
            if lacks:
                self.notes.append(f"{counted(lacks, 'row')} without {name}: a cluster of their own")
        self.told = " x ".join(told)
        return product(parts, numbers), int(np.prod(numbers))

    def _before(self, rows: np.ndarray) -> tuple[np.ndarray, int]:
        """Labels that go on, and how many they may be; zeros before the first stage."""
        if self.spec.after is None:
            return np.zeros(len(rows), dtype=np.int64), 1
        cohort = self.prepared.cohort.fingerprint
        earlier = self.context.run.artefact(self.spec.after, Groups, cohort)
        assert earlier is not None  # the order of stages is checked
        ids = self.prepared.samples["sample"].to_numpy()[rows]
        return earlier.of(ids, "labels"), int(earlier.provenance["labels_at_most"])

    def _merged(
        self,
        vectors: np.ndarray,
        labels: np.ndarray,
        before: np.ndarray,
        people: np.ndarray,
        fit: np.ndarray,
    ) -> np.ndarray:
        """Join groups of few people among whom clusters are learned from; others go with them.

        A person counts once in a group, since a batch takes one record of each.
        """
        spec = self.spec
        pairs = np.stack([labels[fit], people[fit]])
        once = np.flatnonzero(fit)[np.unique(pairs, axis=1, return_index=True)[1]]
        names, sizes = np.unique(labels[once], return_counts=True)
        joined = merge_small(vectors[once], labels[once], spec.smallest, before[once])
        becomes = dict(zip(labels[once].tolist(), joined.tolist(), strict=True))
        merged = np.array([becomes[label] for label in labels[fit].tolist()])
        groups = np.array([becomes.get(label, NOWHERE) for label in labels.tolist()])
        unseen = (groups == NOWHERE) & (labels != NOWHERE)
        if unseen.any():
            kept = np.unique(merged)
            means = np.stack([vectors[fit][merged == one].mean(axis=0) for one in kept])
            groups[unseen] = kept[
                np.argmax(unit_rows(vectors[unseen]) @ unit_rows(means).T, axis=1)
            ]
        small = int((sizes < spec.smallest).sum())
        left = np.unique(merged, return_counts=True)[1]
        self.notes.append(
            f"{counted(len(left), 'group')} of {int(left.min()):,} to {int(left.max()):,} rows"
        )
        if small:
            moved = int((labels[fit] != merged).sum())
            self.notes.append(
                f"{small} of {len(names)} groups had fewer than {spec.smallest} people: {moved:,} "
                "rows joined the nearest group"
            )
        self.notes += nearly_all(left)
        return groups.astype(np.int64)

    def _dealt_out(self, values: list[np.ndarray], sides: list[np.ndarray]) -> list[np.ndarray]:
        """Give the values of each row to another of its side."""
        generator = numpy_generator(self.context.run.seed, "placebo", self.spec.name)
        order = np.arange(len(sides[0]))
        for side in sides:
            order[side] = generator.permutation(np.flatnonzero(side))
        self.notes.append("placebo: the groups are dealt out at random")
        return [value[order] for value in values]

    def _stopped(self, vectors: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> str:
        """Say why to train within the groups would not pay; empty if it may."""
        spec = self.spec
        if not spec.stop:
            return ""
        small = share_below(labels, spec.smallest)
        if small > MOST:
            return (
                f"groups too small, {100 * small:.0f} % of the rows are in groups of fewer than "
                f"{spec.smallest}"
            )
        specs = self.context.run.of(ClusterSpec)
        before: list[ClusterSpec] = []  # the first stage first
        after = self.spec.after
        while after is not None:
            before.insert(0, specs[after])
            after = specs[after].after
        if not before:
            return ""
        seed = derive_seed(self.context.run.seed, "added", spec.name)
        earlier = [unit_rows(self._vectors(s.of, n, rows)) for s in before for n in s.modalities]
        adds = added(vectors, np.concatenate(earlier, axis=1), seed)
        told = ", ".join(dict.fromkeys(one.of for one in before))
        self.notes.append(f"{spec.of} adds {100 * adds:.0f} % to {told}")
        if adds < spec.adds:
            return f"{spec.of} adds {100 * adds:.1f} %, less than {100 * spec.adds:g} %"
        return ""
