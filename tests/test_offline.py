"""That no test reaches for the network is itself tested: here is one that would."""

import socket
import subprocess
import sys
import urllib.request

import offline
import pytest

AWAY = "192.0.2.1"  # of the block for documentation: nobody's
REACH = {
    "connect": lambda: reach(lambda one: one.connect((AWAY, 80))),
    "connect_ex": lambda: reach(lambda one: one.connect_ex((AWAY, 80))),
    "udp": lambda: reach(lambda one: one.sendto(b"", (AWAY, 80)), type=socket.SOCK_DGRAM),
    "v6": lambda: reach(lambda one: one.connect(("2001:db8::1", 80)), family=socket.AF_INET6),
    "a name": lambda: socket.getaddrinfo("example.invalid", 80),
    "urllib": lambda: urllib.request.urlopen(f"http://{AWAY}/", timeout=1),
}


def reach(how, **kind):
    with socket.socket(**kind) as one:
        how(one)


@pytest.fixture
def notes(network_notes):
    """What was noted in a test that reaches out on purpose."""
    before = network_notes.read_text()
    yield lambda: network_notes.read_text().removeprefix(before)
    network_notes.write_text(before)


@pytest.mark.parametrize("how", REACH)
def test_a_connection_off_this_machine_is_refused_and_noted(how, notes):
    with pytest.raises(offline.NetworkError, match="tests use no network"):
        REACH[how]()
    assert "socket." in notes()


def test_so_is_one_of_a_process_that_a_test_starts(notes):
    code = (
        f"import socket\ntry:\n    socket.create_connection(('{AWAY}', 80))\n"
        "except Exception:\n    print('went on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "went on\n"
    assert f"to '{AWAY}'" in notes()


def test_this_machine_may_be_reached(notes):
    with socket.create_server(("localhost", 0)) as server:
        socket.create_connection(server.getsockname()[:2]).close()
    socket.getaddrinfo(socket.gethostname(), None)
    assert notes() == ""
