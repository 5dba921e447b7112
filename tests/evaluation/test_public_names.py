import json
import subprocess
import sys

CHECK = """
import inspect
import medmcl.evaluation as e
assert all(callable(getattr(e, name)) or name == "METRICS" for name in e.__all__), [
    name for name in e.__all__ if not callable(getattr(e, name))]
assert not any(inspect.ismodule(getattr(e, name)) for name in e.__all__)
y, p = [0, 1, 0, 1, 1, 0], [0.1, 0.8, 0.4, 0.7, 0.3, 0.2]
assert e.delong(y, p).value == e.auroc(y, p)
assert e.bootstrap("auroc", y, p, draws=20).value == e.auroc(y, p)
assert e.net_benefit(y, p, [0.5]).model[0] == 2 / 6
assert e.calibration(y, p, e.Resampling(draws=20)).n == 6
assert e.c_index([1, 1, 0], [1, 2, 3], [3, 2, 1]) == 1.0
assert e.integrated_brier([1, 1, 1], [1, 2, 3], [[0.5, 0.5]] * 3, [1.0, 2.0]) == 0.25
"""

ORDERS = [
    "",
    "import medmcl.evaluation.metrics.calibration_curve, medmcl.evaluation.metrics.decision_curve",
    "import medmcl.evaluation.report.page, medmcl.stages.evaluate.evaluate",
    "import medmcl.evaluation.models.knn, medmcl.evaluation.aspects.retrieval.measure",
    "import medmcl.evaluation.metrics.survival.d_calibration",
    "from medmcl.evaluation.metrics.survival.calibration import survival_calibration",
    "import medmcl; medmcl.evaluation",
]


FORKS = """
import json, os, sys, traceback
import matplotlib, pandas, scipy.stats, torch
for code in json.loads(sys.argv[1]):
    assert not [name for name in sys.modules if name.startswith("medmcl")]
    child = os.fork()
    if not child:
        try:
            exec(code, {})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(code)
"""


def test_functions_are_functions_whatever_was_imported_before():
    """Each order in a fork of a process that has imported libraries, and nothing of medmcl."""
    codes = [f"{before}\n{CHECK}\n{before}\n{CHECK}" for before in ORDERS]
    words = [sys.executable, "-c", FORKS, json.dumps(codes)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
