import _imp
import importlib
import os
import signal
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import pytest

from medmcl import __main__
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ENDED, was_ended
from medmcl.data.loading.reading import read_record
from medmcl.engine import signals
from medmcl.engine.signals import StopRequest, spare_imports
from medmcl.stages.cooccur.count import _sigterm_as_ctrl_c


@pytest.fixture(autouse=True)
def fresh():
    ENDED.clear()
    yield
    ENDED.clear()


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


@pytest.fixture
def ctrl_c(monkeypatch):
    """Ctrl-C as Python has it."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of so much source; gives its name."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def written(source):
        names.append(f"pressed_within_{len(names)}")
        (tmp_path / f"{names[-1]}.py").write_text(source)
        return names[-1]

    yield written
    for name in names:
        sys.modules.pop(name, None)


def import_and_wait(name, profile=None):
    sys.setprofile(profile)
    importlib.import_module(name)
    time.sleep(5)


@contextmanager
def pressed_twice(monkeypatch):
    monkeypatch.setattr(signals, "ONE_PRESS", 0.0)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        yield


ENDS = {
    "Ctrl-C": (lambda _: nullcontext(spare_imports()), signal.SIGINT),
    "Ctrl-C again": (pressed_twice, signal.SIGINT),
    "SIGTERM of a count": (lambda _: _sigterm_as_ctrl_c(), signal.SIGTERM),
}
"""What ends work by an error, wherever the work is; and by which signal."""


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("how", ENDS)
def test_what_ends_work_waits_until_a_module_is_imported(module, how, monkeypatch):
    listening, number = ENDS[how]
    name = module(f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(.2)\n")
    with listening(monkeypatch), pytest.raises(KeyboardInterrupt):
        import_and_wait(name)
    assert name in sys.modules


class Freed:
    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)


def free_and_wait(way, number):
    if way == "__del__":
        Freed(number)
    else:
        key = nullcontext()
        seen = weakref.ref(key, lambda _: os.kill(os.getpid(), number))
        del key
        assert seen() is None
    time.sleep(5)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("way", ["__del__", "a weak reference"])
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM of a count"])
def test_what_python_drops_as_an_object_is_freed_comes_again(way, how, monkeypatch):
    listening, number = ENDS[how]
    spare_imports()
    with listening(monkeypatch), pytest.raises(KeyboardInterrupt):
        free_and_wait(way, number)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_as_importlib_takes_its_lock_lets_threads_import_still(module):
    """The hang of issue 24: Python dropped the error, and the lock was never given back."""

    def press(frame, event, what):
        taken = event == "c_return" and what is _imp.acquire_lock
        if taken and frame.f_code.co_name == "cb":  # of a weak reference, in _get_module_lock
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGINT)

    spare_imports()
    with ThreadPoolExecutor(1) as pool:
        try:
            name = module("")
            with pytest.raises(KeyboardInterrupt):
                import_and_wait(name, press)
            assert pool.submit(importlib.import_module, module("")).result(5)
        finally:
            sys.setprofile(None)
            while _imp.lock_held():
                _imp.release_lock()


def test_ctrl_c_that_is_ignored_stays_so(ctrl_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a job in the background
    spare_imports()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def pressed():
    os.kill(os.getpid(), signal.SIGINT)


def press_and_wait():
    pressed()
    time.sleep(5)


def stopped():
    raise SystemExit(75)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of click, as typer imports it
@pytest.mark.parametrize(("work", "code"), [(pressed, 130), (stopped, 75)])
def test_ctrl_c_outside_a_command_is_one_line_and_after_it_changes_no_exit_code(
    work, code, monkeypatch, capfd
):
    monkeypatch.setattr("medmcl.cli.main.main", work)
    process = os.fork()
    if not process:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            __main__.main()
        except SystemExit:
            pressed()  # as Python tidies up
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == code
    assert capfd.readouterr().err == ("\nstopped by Ctrl-C\n" if code == 130 else "")


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(("later", "is_cause"), [(0.0, True), (60.0, False)])
def test_a_press_that_a_library_swallowed_is_not_why_work_fails_much_later(
    later, is_cause, monkeypatch
):
    """Its message would be lost behind "stopped by Ctrl-C"."""
    spare_imports()
    with pytest.raises(KeyboardInterrupt):
        press_and_wait()
    now = time.monotonic()
    monkeypatch.setattr(signals.time, "monotonic", lambda: now + later)
    assert signals.was_ctrl_c(ValueError("a column is missing")) == is_cause
    signals.begin()


class AsCTellsIt:
    """C that calls Python may make an error of its own of Ctrl-C."""

    kind = "labs"

    def read(self, place):
        try:
            press_and_wait()
        except KeyboardInterrupt:
            raise ValueError("no table") from None


def test_work_after_what_a_notebook_pressed_away_meets_damage_as_damage(ctrl_c, monkeypatch):
    monkeypatch.setattr(signals, "ONE_PRESS", 0.0)
    with StopRequest():
        with StopRequest(speaks=False):
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert was_ended()  # C that was called meanwhile may say that a file is damaged
    assert not was_ended()


@pytest.mark.usefixtures("ctrl_c")
def test_a_record_that_was_being_read_as_ctrl_c_came_is_not_left_out_as_damaged():
    spare_imports()
    with pytest.raises(KeyboardInterrupt):
        read_record(AsCTellsIt(), RecordRef(subject="1", record="1"))
