"""``medmcl select``: a finished run judges the pairs of a cohort and writes a keep file."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medmcl.core.atomic import write_atomically
from medmcl.core.config import check, lookup, nearest
from medmcl.core.errors import ConfigError
from medmcl.core.file_lock import one_writer
from medmcl.core.overrides import apply_override
from medmcl.data.cohort.cohort import Cohort, at_hand
from medmcl.engine.world import pick_device
from medmcl.evaluation.aspects.selection.section import selection_page
from medmcl.selection.keep import Keep
from medmcl.selection.settings import SCORERS
from medmcl.stages.recipe.settings import only_cohort_overrides
from medmcl.stages.run.outputs import claim_file, refuse_input
from medmcl.stages.run.run import Run
from medmcl.stages.select.pairs import Selected, select_pairs
from medmcl.stages.select.report import evidence_of
from medmcl.stages.select.select import refuse_rule
from medmcl.stages.select.spec import SelectSpec
from medmcl.stages.select.teachers import scored_by
from medmcl.stages.train.train_filter import read_filter

DEFAULT = "neg_clip_loss:0.3"
"""What is kept if nobody says: 30 % by negCLIPLoss, the published share for web pages."""


@one_writer("a selection is being made")
def select(
    run: Run | str | Path,
    cohort: Cohort | str | Path,
    *,
    out: str | Path,
    by: Sequence[str] = (),
    pair: Sequence[str] | None = None,
    stages: Sequence[str] = (),
    target: str | Path | None = None,
    also: Sequence[str | Path] = (),
    or_else: Sequence[str | Path] = (),
    overwrite: bool = False,
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Selected:
    """Score the pairs of a cohort's train split with a run, and write which are worth training on.

    Args:
        run: A finished run, or its folder.
        cohort: Cohort, folder or name; the run's own or another one.
        out: The keep file to write (.parquet); a page for people, .html, beside it.
        by: Steps ``KIND:SHARE`` one after the other, shares of the pool. If none is given, those of
            the run's own select stage, else `DEFAULT`.
        pair: The two modalities; the run's first two if not given.
        stages: Teachers: a stage, or several that were trained without a fold each. If none is
            given, those of the run's own select stage, else the last that trained without labels.
        target: Cohort whose train split every norm_sim of the rule should be near to; as the
            selection says if not given.
        also: Keep files, or files of ids, of other filters: kept is what they keep as well.
        or_else: The same: kept is what they keep, too; after ``also``.
        overwrite: Write over what is there.
        overrides: Dotted key to value; ``select.x`` of the selection (`SelectSpec`), others of the
            cohort.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        MedmclError: The run, the cohort or the selection cannot be used; nothing was written.
    """
    path = Path(out)
    if path.suffix.lower() != ".parquet":
        raise ConfigError(
            "a keep file is parquet", where=path, fix=f"--out {path.with_suffix('.parquet')}"
        )
    for one in (path, path.with_suffix(".html")):
        claim_file(one, overwrite=overwrite)
        refuse_input(one, cohort, overrides or {})
    run = run if isinstance(run, Run) else Run(run)
    own = {k: v for k, v in (overrides or {}).items() if k.startswith("select.")}
    others = {k: v for k, v in (overrides or {}).items() if k not in own}
    opened = at_hand(cohort, only_cohort_overrides(others))
    spec = selection_of(run, by, pair, stages, own, target=target)
    for name in spec.teachers:
        run.refuse_unfinished(name)
    for name in spec.wanted:
        lookup("modality of the run", name, run.recipe.inputs, where=run.path)
    run.refuse_lacking(opened, spec.wanted)
    prepared = run.prepare(opened, spec.wanted)
    rows = prepared.rows("train", spec.wanted)
    refuse_rule(spec, scored_by(spec, run.stages, prepared, run.seed, rows))
    pool = opened.samples["sample"].astype(str).to_numpy()[rows]
    read = [(Keep.intersection, read_filter(one, opened, pool)) for one in also]
    read += [(Keep.union, read_filter(one, opened, pool)) for one in or_else]
    found = select_pairs(spec, run, prepared, pick_device(device), path.parent, rows)
    for combine, (other, _) in read:
        found = replace(found, keep=combine(found.keep, other))
    found = replace(found, notes=(*found.notes, *(note for _, (_, note) in read if note)))
    if not found.keep.kept.any():
        raise ConfigError(
            "the rule and the filters together keep no pair, so nothing is written",
            where=path,
            got=found.keep.rule,
            fix="keep a larger share, or look into the files of --and",
        )
    page = selection_page(
        evidence_of(spec, prepared, found.keep, found.rows, found.notes),
        title=f"{path.name}: pairs of {opened.name}",
        subtitle=found.sentence,
        provenance={**found.keep.provenance, "cohort fingerprint": opened.fingerprint},
    )
    found.keep.save(path, page=path.with_suffix(".html"))
    write_atomically(path.with_suffix(".html"), page)
    return found


def selection_of(
    run: Run,
    by: Sequence[str],
    pair: Sequence[str] | None,
    stages: Sequence[str],
    overrides: Mapping[str, Any],
    *,
    target: str | Path | None = None,
) -> SelectSpec:
    """Give the selection that a command line asks for, upon that of the run if it has one.

    Raises:
        ConfigError: A step or key that nobody knows; a run without two towers in one stage; a
            target, and no norm_sim that would be near to it.
    """
    earlier = list(run.of(SelectSpec).values())
    tree: dict[str, Any] = earlier[-1].model_dump(mode="json") if earlier else {}
    if not earlier:
        teacher = stages[0] if stages else run.default_stage(next(iter(run.recipe.inputs)))
        towers = run.stage(teacher).towers
        if pair is None and len(towers) < 2:
            raise ConfigError(
                f"stage '{teacher}' has one tower, and a pair needs two",
                where=run.path,
                got=", ".join(towers),
                fix="name a stage with two towers: --stage NAME",
            )
        tree = {"stage": "select", "name": "select", "teachers": [teacher], "pair": towers[:2]}
    tree |= {} if pair is None else {"pair": tuple(pair)}
    tree |= {"teachers": tuple(stages)} if stages else {}
    if by or not earlier:
        steps = [_step(text) for text in (by or (DEFAULT,))]
        kept = tree.get("scores", {})
        tree["scores"] = {kind: _settings_of(kind, kept) for kind, _ in steps}
        tree["rule"] = [{"by": kind, "share": share} for kind, share in steps]
    spec = _overridden(tree, overrides)
    if target is None:
        return spec
    read = {name for step in spec.rule for name in step.names}
    near = [name for name, one in spec.scores.items() if name in read and one.targets()]
    if not near:
        raise ConfigError(
            "a target is named, and the rule reads no norm_sim that would be near to it",
            where="--target",
            got=f"{target}; the rule reads {', '.join(sorted(read))}",
            fix="--by norm_sim:SHARE, or leave --target out",
        )
    for name in near:
        tree.setdefault("scores", {}).setdefault(name, {})["target"] = {}
    last = {f"scores.{name}.target.cohort": str(target) for name in near}
    return _overridden(tree, {**overrides, **last})


def _overridden(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> SelectSpec:
    laid = copy.deepcopy(dict(tree))
    for key, value in overrides.items():
        apply_override(laid, key.removeprefix("select."), copy.deepcopy(value))
    return check(SelectSpec, laid, where="the selection", error=ConfigError)


def _settings_of(kind: str, scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Settings of the run's own score of a kind, whatever its name; none if it has none."""
    alike = {name: dict(one) for name, one in scores.items() if one["kind"] == kind}
    if len(alike) > 1 and kind not in alike:
        raise ConfigError(
            f"the run's selection has several scores of kind {kind}, and one must be meant",
            where="--by",
            got=", ".join(alike),
            fix="name the score in a rule: --set 'select.rule=[{by: "
            f"{next(iter(alike))}, share: 0.3}}]'",
        )
    return alike.get(kind, next(iter(alike.values()), {}))


def _step(text: str) -> tuple[str, float]:
    """Read ``KIND:SHARE``."""
    kind, _, share = text.partition(":")
    known = tuple(SCORERS)
    try:
        number = float(share)
    except ValueError:
        number = 0.0
    if kind in known and 0 < number <= 1:
        return kind, number
    what = "is no step of a rule"
    if kind not in known:
        what = f"there is no score '{kind}'{nearest(kind, known)}"
    raise ConfigError(
        what,
        where="--by",
        got=text,
        expected=f"KIND:SHARE, a share of the pool above 0 and at most 1; kinds: "
        f"{', '.join(known)}",
        fix=f"--by {DEFAULT}",
    )
