"""What commands import as they go, libraries too: half of the time of a fork that imports it."""

from __future__ import annotations

import importlib
import warnings
from contextlib import suppress

IMPORTED_ONCE = (
    "PIL.JpegImagePlugin", "filelock", "jinja2.ext", "matplotlib.backends.backend_svg",
    "matplotlib.figure", "matplotlib.offsetbox",
    "medmcl.cli.main", "medmcl.evaluation.report.page", "medmcl.stages.evaluate.evaluate",
    "medmcl.stages.run.pretrain", "medmcl.stages.train.train", "sympy", "torch._dynamo",
)  # fmt: skip
BETWEEN_SITES = (
    "medmcl.cooccurrence.count.command", "medmcl.stages.cooccur.release", "opendp.prelude",
    "medmcl.stages.cooccur.evaluate", "sklearn.linear_model",
)  # fmt: skip


def import_once(names: tuple[str, ...] = IMPORTED_ONCE) -> None:
    """Import what no fork is to import again; extras where they are."""
    with warnings.catch_warnings(action="ignore"):
        for name in names:
            with suppress(ModuleNotFoundError):
                importlib.import_module(name)
