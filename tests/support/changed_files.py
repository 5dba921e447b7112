"""Copies of cohorts and runs of which a file is changed."""

import shutil

import pandas as pd
import yaml

from medmcl.core.sealed import SEAL, sealed


def rewrite(path, change, **read):
    """Change what a file holds, a table or the tree of a YAML file.

    Args:
        path: A file .csv, .tsv, .parquet or .yaml.
        change: Takes it and gives another, or changes it in place and gives None.
        read: Settings of the reader of CSV.
    """
    kind = path.suffix
    if kind == ".yaml":
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        seal = tree.pop(SEAL, None)  # of a run
        found = change(tree)
        tree = tree if found is None else found
        text = yaml.safe_dump(tree if seal is None else sealed(tree), sort_keys=False)
        path.write_text(text, encoding="utf-8")
        return
    sep = "\t" if kind == ".tsv" else ","
    table = pd.read_parquet(path) if kind == ".parquet" else pd.read_csv(path, sep=sep, **read)
    found = change(table)
    table = table if found is None else found
    if kind == ".parquet":
        table.to_parquet(path, index=False)
    else:
        table.to_csv(path, sep=sep, index=False)


def changed_copy(folder, to, name, change, **read):
    """Copy a folder and `rewrite` one file of the copy; give where it is."""
    shutil.copytree(folder, to)
    rewrite(to / name, change, **read)
    return to
