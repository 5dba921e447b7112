"""``medmcl prepare``: the records that a run will read, prepared before it, by shards if wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medmcl.core.findings import counted
from medmcl.core.progress import progress
from medmcl.data.loading.prepare import cache_folder, prepare_shard
from medmcl.data.loading.shared_work import Shard
from medmcl.stages.recipe.on_cohort import prepare_inputs, recipe_on


def prepare_records(
    cohort: str, recipe: str | None, out: Path, overrides: Mapping[str, Any], shard: str | None
) -> str:
    """Prepare the records that a recipe reads; give what was done, in words.

    Args:
        cohort: Folder, cohort.yaml or name.
        recipe: File or name; the cohort's own if not given.
        out: Run that will read them: they are cached beside it (`cache_folder`).
        overrides: As ``--set``.
        shard: Which share of them, as ``2/8``; whoever ends last joins all.

    Raises:
        MedmclError: Cohort, recipe or overrides cannot be used, or records cannot; of these whoever
            joins all shards tells.
    """
    one = None if shard is None else Shard.read(shard)
    opened, spec = recipe_on(cohort, recipe, overrides)
    cache = cache_folder(out.parent)
    if one is not None:
        total = sum(len(opened.records.get(name, ())) for name in spec.inputs)
        with progress("reading records", -(-total // one.of)) as bar:
            stand = prepare_shard(opened, spec.inputs, one, cache=cache, progress=bar)
        if stand.missing:
            return stand.told(one, f"joins them in {cache}")
    prepared = prepare_inputs(opened, spec, out)
    made = (counted(len(rows.usable), f"{name} record") for name, rows in prepared.stored.items())
    lost = prepared.exclusions()
    return f"prepared: {', '.join(made)}, in {cache}" + (f"\n{lost}" if lost else "")
