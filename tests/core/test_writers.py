"""Whatever is written goes through core: whole or absent, by one writer, on disk before it is told.

`WRITERS` lists the modules that call what writes a file themselves, each with where its files come
to be whole. A module that is not listed may write nothing but through `medmcl.core`.
"""

import ast
from pathlib import Path

import medmcl

HOUSE = Path(medmcl.__file__).parent
METHODS = {
    "write_text", "write_bytes", "to_csv", "to_parquet", "to_json", "to_pickle", "to_excel",
    "to_hdf", "to_feather", "savefig", "save_as", "touch", "symlink_to", "hardlink_to", "rename",
    "to_filename", "memmap", "open_memmap",
}  # fmt: skip
FUNCTIONS = {
    "np": {"save", "savez", "savez_compressed", "savetxt"}, "numpy": {"save", "savez"},
    "torch": {"save"}, "pq": {"write_table", "ParquetWriter", "write_to_dataset"},
    "nib": {"save"}, "os": {"replace", "rename", "link", "symlink", "mkfifo"},
    "shutil": {"copy", "copy2", "copyfile", "copytree", "move"}, "tarfile": {"open"},
    "wfdb": {"wrsamp"}, "Image": {"save"}, "yaml": {"dump"}, "json": {"dump"},
}  # fmt: skip
NAMES = {"save_file", "ParquetWriter"}
WRITERS = {
    "cooccurrence/count/parts.py": "into `file_aside`",
    "cooccurrence/embed/token_vectors.py": "into the `folder_aside` of `write_vectors`",
    "cooccurrence/exchange/folder.py": "into the `folder_aside` of `save_counts`",
    "cooccurrence/exchange/secure_files.py": "into `file_aside`",
    "cooccurrence/release/register.py": "into `file_aside`",
    "data/cohort/records.py": "into memory",
    "data/events/write.py": "into the `folder_aside` of `write_meds`",
    "data/loading/cache.py": "into the `folder_aside` of `write_entry`",
    "data/loading/shards.py": "into `whole_folder`",
    "data/loading/simple_features.py": "into `file_aside`",
    "engine/checkpoint.py": "into `folder_aside`",
    "engine/peers.py": "the last traceback of a rank, into the temporary folder",
    "simulation/": "into the `whole_folder` of `simulation.folder.whole`",
    "stages/cooccur/evaluate.py": "into `file_aside`",
    "stages/factorise/named_vectors.py": "into a temporary folder of the process",
    "stages/predict/meds_rows.py": "into `file_aside`",
    "stages/predict/one_person.py": "into a temporary folder of the process",
    "stages/run/embedding_parts.py": "into memory, and from there by `write_atomically`",
    "stages/run/export.py": "into `folder_aside`",
    "stages/run/outputs.py": "into `file_aside`",
    "stages/run/stage_reuse.py": "into `folder_aside`",
}


def writes(tree):
    """Lines of a module that write a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and is_write(node):
            yield node.lineno


def is_write(call):
    words = [one.value for one in (*call.args, *(k.value for k in call.keywords))
             if isinstance(one, ast.Constant) and isinstance(one.value, str)]  # fmt: skip
    if isinstance(call.func, ast.Name):
        name, owner = call.func.id, None
    elif isinstance(call.func, ast.Attribute):
        name = call.func.attr
        owner = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
    else:
        return False
    if name == "open":
        modes = [word for word in words if len(word) <= 3 and set(word) <= set("rwaxbt+")]
        return any(set(mode) & set("wax+") for mode in modes)
    if name == "open_memmap" or name == "memmap":
        return "w+" in words or "r+" in words
    if name == "to_csv":  # without a path it gives text
        return bool(call.args)
    if name == "rename":  # of a table it has keywords only
        return bool(call.args) and not call.keywords
    if owner is None:
        return name in NAMES
    return name in METHODS or name in FUNCTIONS.get(owner, ())


def test_nothing_is_written_but_through_core():
    found = {}
    for path in sorted(HOUSE.rglob("*.py")):
        name = path.relative_to(HOUSE).as_posix()
        lines = list(writes(ast.parse(path.read_text(encoding="utf-8"))))
        if lines and not name.startswith("core/"):
            found[next((one for one in WRITERS if name.startswith(one)), name)] = lines
    others = {name: lines for name, lines in found.items() if name not in WRITERS}
    assert not others, f"write through medmcl.core.atomic: {others}"
    gone = set(WRITERS) - set(found)
    assert not gone, f"listed, and write nothing any more: {sorted(gone)}"
