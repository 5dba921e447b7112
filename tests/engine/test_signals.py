import os
import signal

import pytest

from medmcl.engine import signals
from medmcl.engine.signals import StopRequest


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
