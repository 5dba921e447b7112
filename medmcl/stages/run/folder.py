"""Whether a folder is a run: asked before anything is imported that takes seconds."""

from __future__ import annotations

from pathlib import Path

from medmcl.core.errors import ArtefactError

VECTORS = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz", ".npz")
"""Files of vectors that were made elsewhere, by their endings."""


def run_config(run: Path | str) -> Path:
    """Give the config.yaml of a run.

    Raises:
        ArtefactError: The folder has none.
    """
    file = Path(run) / "config.yaml"
    if file.is_file():
        return file
    if (Path(run) / "provenance.json").is_file():
        raise ArtefactError(
            "there is no such file, but for which this is a run folder",
            where=file,
            fix="put the file back; or give the same `medmcl pretrain` command with "
            f"`--out {run} --resume`, which writes it anew and trains no finished stage",
        )
    is_vectors = str(run).lower().endswith(VECTORS)
    raise ArtefactError(
        "is not a run folder" if is_vectors else "is not a run folder (it has no config.yaml)",
        where=run,
        fix=f"--embeddings {run}"
        if is_vectors
        else "give the folder that `medmcl pretrain --out` named",
    )
