"""Whether a folder is a run: asked before anything is imported that takes seconds."""

from __future__ import annotations

from pathlib import Path

from medmcl.core.errors import ArtefactError
from medmcl.core.sealed import read_sealed

VECTORS = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz", ".npz")
"""Files of vectors that were made elsewhere, by their endings."""


def finished_stages(run: Path) -> list[str]:
    """Names of the stages that are done, sorted; also of a run whose other files are damaged."""
    return sorted(one.parent.name for one in run.glob("checkpoint/*/done.json"))


def on_resume(run: Path) -> str:
    """How a file of a run that is damaged is written anew."""
    return (
        "put the file back; or give the same `medmcl pretrain` command with "
        f"`--out {run} --resume`, which writes it anew and trains no finished stage"
    )


def settings_fix(run: Path) -> str:
    """How a run goes on whose config.yaml is damaged: provenance.json has a hash of it."""
    try:
        read_sealed(run / "provenance.json")
    except ArtefactError as error:
        return (
            f"put the file back, or {error.where}, which {_is(error)}, either: one of the two must "
            "say what this run was asked; finished stages stay in this folder meanwhile"
        )
    return on_resume(run)


def _is(error: ArtefactError) -> str:
    return "is not there" if "no such file" in error.what else "is not whole"


def run_config(run: Path | str) -> Path:
    """Give the config.yaml of a run.

    Raises:
        ArtefactError: The folder has none.
    """
    file = Path(run) / "config.yaml"
    if file.is_file():
        return file
    done = finished_stages(Path(run))
    if done or (Path(run) / "provenance.json").is_file():
        raise ArtefactError(
            "there is no such file, but for which this is a run folder",
            where=file,
            got=f"finished and kept: {', '.join(done) or 'no stage'}",
            fix=settings_fix(Path(run)),
        )
    is_vectors = str(run).lower().endswith(VECTORS)
    raise ArtefactError(
        "is not a run folder" if is_vectors else "is not a run folder (it has no config.yaml)",
        where=run,
        fix=f"--embeddings {run}"
        if is_vectors
        else "give the folder that `medmcl pretrain --out` named",
    )
