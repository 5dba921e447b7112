"""``medmcl export``: a run's encoders as files that open without medmcl."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medmcl.cli.command import OverwriteOption


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="torch: programs that torch.export opens; onnx: for ONNX Runtime (extra [onnx]); "
            "hf: the first, with safetensors, laid out for the Hugging Face Hub.",
        ),
    ] = "torch",
    modality: Annotated[
        str | None, typer.Option(help="Modality; all that the stage has if not given.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Stage whose towers to write.")] = None,
    space: Annotated[
        str, typer.Option(help="features (before the projection) or pooled (shared space).")
    ] = "features",
    overwrite: OverwriteOption = False,
) -> None:
    """Write a run's encoders as files that open without medmcl: no ids, no paths."""
    from medmcl.stages.run.export import export as run_export

    folder = run_export(
        run, out, format=format_, modality=modality, stage=stage, space=space, overwrite=overwrite
    )
    print(f"export: {folder}")
