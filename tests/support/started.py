"""The command line in a process of its own: what it said, what it had imported, what it cost."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass

CODE = """
import atexit, json, os, sys
def tell():
    with open(os.environ["LOADED"], "w") as file:
        json.dump(sorted(sys.modules), file)
atexit.register(tell)
from medmcl.cli.main import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["medmcl", *words]
    code = 0
    try:
        main()
    except SystemExit as left:
        code = left.code
sys.exit(code)
"""


@dataclass(frozen=True)
class Started:
    """A process that has ended.

    Attributes:
        code: Exit code of its last command.
        said: Standard output and error.
        modules: Names of all modules that were imported when it ended.
        seconds: Processor time.
    """

    code: int
    said: str
    modules: frozenset[str]
    seconds: float

    def packages(self, among):
        """Those of some packages that were imported."""
        return {name for name in self.modules if name in among}

    def below(self, *prefixes):
        """Modules whose names begin so."""
        return {name for name in self.modules if name.startswith(prefixes)}


def started(folder, *commands):
    """Run commands, a list of words each, in one process with one thread."""
    spent = _seconds()
    told = folder / "loaded.json"
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps([list(map(str, one)) for one in commands])],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "LOADED": str(told)},
    )
    modules = frozenset(json.loads(told.read_text())) if told.exists() else frozenset()
    return Started(done.returncode, done.stdout + done.stderr, modules, _seconds() - spent)


def _seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
