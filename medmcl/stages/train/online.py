"""The selector of a train stage, as its recipe says it."""

from __future__ import annotations

from collections.abc import Mapping

from medmcl.core import host
from medmcl.core.batch import Batch
from medmcl.core.config import lookup
from medmcl.core.contracts import Adapter
from medmcl.core.errors import ConfigError
from medmcl.core.rng import RowGenerator, derive_seed, torch_generator
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.data.loading.views import View
from medmcl.engine.loop import Learner
from medmcl.selection.choices import Choice, Online
from medmcl.selection.settings import SELECTORS
from medmcl.stages.train.models import scale_of
from medmcl.stages.train.spec import TrainSpec


def build_selector(
    spec: TrainSpec, learner: Learner, adapters: Mapping[str, Adapter], samples: int, seed: int
) -> Online | None:
    """Build the selector of a stage; None if it has none.

    Args:
        spec: The stage.
        learner: Its objectives know the logit scale.
        adapters: Of its modalities.
        samples: Of the cohort; history is kept by sample number.
        seed: Of the run.

    Raises:
        ConfigError: A modality of the pair has no tower here, or losses are read and no objective
            aligns the pair at a logit scale.
    """
    asked = spec.selector
    if asked is None:
        return None
    where = f"stage {spec.name}, selector"
    for name in asked.pair:
        lookup("tower", name, spec.towers)
    own = {name: getattr(asked, name) for name in type(asked).model_fields}
    choice: Choice = SELECTORS[own.pop("kind")](
        **{name: one for name, one in own.items() if name != "pair"},
        samples=samples, seed=derive_seed(seed, "selector", spec.name),
    )  # fmt: skip
    scale = scale_of(learner, asked.pair)
    if choice.reads == "loss" and scale is None:
        raise ConfigError(
            f"{asked.kind} reads the contrastive loss, and no objective has a scale of the pair",
            where=where,
            got=" and ".join(asked.pair),
            fix="train with cross_modal on this pair, or choose kind: clip_score",
        )
    view = View(ViewSettings(), adapters, {}, where=where)

    def show(batch: Batch) -> Batch:
        unused = torch_generator(seed, "selector", device=batch.ids.device)
        return view(batch, RowGenerator(unused), disturb=False)

    return Online(
        choice, asked.pair, show, lambda: 1.0 if scale is None else float(host.read(scale())[0])
    )
