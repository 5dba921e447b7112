"""What commands import as they go, libraries too: half of the time of a fork that imports it."""

from __future__ import annotations

import importlib
import warnings
from contextlib import suppress

IMPORTED_ONCE = (
    "PIL.JpegImagePlugin", "encodings.utf_8_sig", "filelock._soft", "jinja2.ext",
    "matplotlib.backends.backend_svg", "matplotlib.figure", "matplotlib.offsetbox",
    "medmcl.cli.main", "medmcl.evaluation.report.page", "medmcl.stages.evaluate.evaluate",
    "medmcl.stages.run.pretrain", "medmcl.stages.run.report", "medmcl.stages.train.train",
    "pyarrow.pandas_compat", "sklearn.manifold", "sympy", "torch._dynamo",
)  # fmt: skip
BY_OTHERS = (
    "medmcl.cooccurrence.count.command", "medmcl.cooccurrence.count.kernels",
    "medmcl.stages.cooccur.release", "opendp.prelude", "medmcl.stages.cooccur.evaluate",
    "sklearn.linear_model", "medmcl.stages.run.export", "networkx", "torch._export",
    "torch._inductor.config",
)  # fmt: skip
"""What commands import that train nothing."""


def import_once(names: tuple[str, ...] = IMPORTED_ONCE) -> None:
    """Import what no fork is to import again; extras where they are."""
    with warnings.catch_warnings(action="ignore"):
        for name in names:
            with suppress(ModuleNotFoundError):
                importlib.import_module(name)
