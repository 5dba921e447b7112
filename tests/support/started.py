"""Commands in a process of their own: what they said, what they had imported, what they cost."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

CODE = """
import contextlib, io, json, sys, time
from medmcl.cli.main import main
told = []
for words in json.loads(sys.argv[1]):
    sys.argv, code, said, begun = ["medmcl", *words], 0, io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as left:
            code = left.code
    told.append([code, said.getvalue(), sorted(sys.modules), time.process_time() - begun])
json.dump(told, sys.stdout)
"""


@dataclass(frozen=True)
class Started:
    """A command that has ended.

    Attributes:
        code: Its exit code.
        said: Standard output and error.
        modules: Names of all modules that were imported when it ended, by those before it too.
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


def started(folder, *commands, environment=os.environ):
    """Run commands, a list of words each, in one process with one thread; tell of each."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps([list(map(str, one)) for one in commands])],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr
    return [
        Started(code, said, frozenset(modules), seconds)
        for code, said, modules, seconds in json.loads(done.stdout)
    ]
