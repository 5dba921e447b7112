import importlib
import os
import signal
import sys
import time

import pytest

from medmcl.engine import signals
from medmcl.engine.signals import StopRequest, spare_imports


def test_the_first_ctrl_c_asks_and_a_later_one_ends_at_once(monkeypatch, capfd):
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        assert "Ctrl-C again ends at once" in capfd.readouterr().err
        os.kill(os.getpid(), signal.SIGINT)  # the same press, sent to the group as well
        monkeypatch.setattr(signals, "ONE_PRESS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_waits_until_a_module_is_imported(tmp_path, monkeypatch):
    """It is put off, and then comes; that a hang is prevented by it is not shown here."""
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "pressed_within.py"
    file.write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(.2)\n"
    )
    imported = []

    def work():
        imported.append(importlib.import_module(file.stem))
        time.sleep(5)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        spare_imports()
        with pytest.raises(KeyboardInterrupt):
            work()
        assert imported
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a job in the background
        spare_imports()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
        sys.modules.pop(file.stem, None)
