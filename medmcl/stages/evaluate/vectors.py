"""``medmcl evaluate --embeddings``: vectors from elsewhere, scored as a run's own are.

What is written is a run of one evaluate stage: it keeps its probes, so that it can be set beside
others and applied to another cohort's vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.data.cohort.cohort import Cohort, at_hand
from medmcl.stages.evaluate.nobody import refuse_nobody
from medmcl.stages.evaluate.overlap import AskedModel
from medmcl.stages.recipe.settings import evaluate_overrides, only_cohort_overrides, with_settings

if TYPE_CHECKING:
    import pandas as pd

    from medmcl.evaluation.protocol.evaluation import Evaluation

NAME = "embeddings"
"""What the recipe of such a run is called."""
ABOUT = "Vectors that were made elsewhere, scored as they are"


def evaluate_vectors(
    vectors: Mapping[str, Path],
    cohort: Cohort | str | Path,
    *,
    out: str | Path | None,
    changes: Mapping[str, Any],
    overrides: Mapping[str, Any],
    seed: int,
    device: str,
    source: str = "",
    terms: str = "",
) -> Evaluation:
    """Score vectors on a cohort: fitted on train, chosen on tuning, held_out is scored.

    The covariates of the cohort's only table stand beside them; of several tables one is named:
    ``evaluate.covariates``.

    Args:
        vectors: Name to file; later ones are compared with the first.
        cohort: Cohort, folder or name.
        out: Run folder to write; must be new.
        changes: Keys of the stage that options of the command give.
        overrides: Dotted key to value: ``evaluate.x``, ``cohort.x``, ``data_root``.
        seed: Seed of label subsets and bootstrap.
        device: ``auto``, ``cpu`` or ``cuda``.
        source: Whose they are.
        terms: What is said of their use, on the first page.

    Raises:
        MedmclError: Vectors, cohort or settings cannot be used; nothing was written.
        CohortError: Nobody can be scored.
    """
    from medmcl.stages.run.pretrain import run_recipe

    out = new_folder(out)
    own, others = evaluate_overrides(overrides)
    opened = at_hand(cohort, only_cohort_overrides(others))
    tables = [name for name, one in opened.spec.modalities.items() if one.traits.tabular]
    stage = {
        "stage": "evaluate",
        "name": "results",
        "embeddings": {name: str(path) for name, path in vectors.items()},
        "covariates": tables[0] if len(tables) == 1 else None,
        **changes,
    }
    spec = with_settings(stage, own)
    recipe = {
        "schema": "medmcl/recipe@1",
        "name": NAME,
        "about": ABOUT + (f"; {terms}" if terms else ""),
        "source": source,
        "inputs": {} if spec.covariates is None else {spec.covariates: {}},
        "stages": [spec.model_dump(mode="json")],
    }
    run, evaluations = run_recipe(
        opened, recipe=recipe, out=out, overrides=others, seed=seed, device=device
    )
    assert run is not None  # one process
    (done,) = evaluations
    tasks = list(opened.spec.tasks) if spec.tasks == "all" else spec.tasks
    refuse_nobody(done, run, spec, tasks)
    return done


def new_folder(out: str | Path | None) -> Path:
    """Give the run folder that an evaluation of vectors becomes.

    Raises:
        ConfigError: None is named.
        ArtefactError: It is a run folder already.
    """
    if out is None:
        raise ConfigError("where the report is written is not said", fix="--out FOLDER")
    if (Path(out) / "config.yaml").exists():
        anew = f"delete {out} to evaluate anew, or name " if _is_ours(Path(out)) else ""
        raise ArtefactError("is a run folder already", where=out, fix=f"{anew}another --out")
    return Path(out)


def _is_ours(out: Path) -> bool:
    """Whether a run is an evaluation of vectors: one that was killed is made anew, not gone on."""
    from medmcl.stages.run.run import Run

    try:
        return bool(Run(out).recipe.name == NAME)
    except MedmclError:
        return False


@dataclass(frozen=True)
class OfModels:
    """What published models make of a cohort.

    Attributes:
        tables: Name of each to its table.
        source: Whose they are, with their licences.
        terms: Those that may not be used commercially; empty if there are none.
    """

    tables: Mapping[str, pd.DataFrame]
    source: str
    terms: str

    @classmethod
    def of(
        cls,
        models: Sequence[str],
        cohort: Cohort | str | Path,
        *,
        beside: Path,
        overrides: Mapping[str, Any],
        device: str,
    ) -> OfModels:
        """Embed a cohort; see `medmcl.stages.run.embedding.embedding_of_model`.

        Args:
            models: ``[LABEL=]NAME[:VARIANT]:FILE`` of each.
            cohort: Cohort, folder or name.
            beside: Folder beside which prepared records are cached.
            overrides: As those of `evaluate`.
            device: ``auto``, ``cpu`` or ``cuda``.
        """
        from medmcl.stages.run.embedding import embedding_of_model

        tables, said, barred = {}, [], []
        _, others = evaluate_overrides(overrides)
        for asked in map(AskedModel.of, models):
            found = embedding_of_model(
                asked.text, cohort, beside=beside, overrides=others, device=device
            )
            made_by = found.made_by
            name = asked.label or f"{made_by['model']}:{made_by['variant']}"
            name = name if name not in tables else f"{name} ({made_by['weights_sha256'][:8]})"
            tables[name] = found.table()
            barred += [] if made_by["commercial"] else [name]
            said.append(
                f"{name}: {made_by['source']}, {made_by['licence']}, sha256 of its file "
                f"{made_by['weights_sha256']}"
            )
        terms = f"NO COMMERCIAL USE of {', '.join(barred)}" if barred else ""
        return cls(tables, "; ".join(said), terms)
