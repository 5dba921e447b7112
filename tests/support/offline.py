"""No test reaches for the network, neither in its process nor in one that it starts.

An audit hook refuses connections and names that lead off this machine, and notes them in a file:
a test is failed by the note, also where its code went on without. Processes that Python starts
import this by `sitecustomize`, which stands beside.
"""

import os
import re
import sys

NOTES = "MEDMCL_TESTS_NETWORK_NOTES"
"""Variable that names the file of notes to all processes of a test run."""
WATCHED = {
    "socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
    "socket.gethostbyname", "socket.gethostbyaddr",
}  # fmt: skip


OWN = re.compile(r"(::ffff:)?127(\.\d{1,3}){3}")
"""Addresses of this machine; a name that begins so is none."""


class NetworkError(RuntimeError):
    """A test reached for the network."""


def is_here(host):
    """Whether a name or address is of this machine."""
    import socket  # who asks has it; a command that is timed does not

    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    own = {"", "localhost", "::1", "0.0.0.0", "::", socket.gethostname(), "localhost.localdomain"}
    return host is None or host in own or OWN.fullmatch(host) is not None


def asked_host(event, args):
    """The host that an audited event is about; None if it is of this machine, as files are."""
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        return args[0]
    address = args[1]  # of sockets of files it is a name
    return address[0] if isinstance(address, tuple) else None


def watch(event, args):
    """Refuse what leads off this machine, and note it."""
    if event not in WATCHED:
        return
    host = asked_host(event, args)
    if is_here(host):
        return
    note = f"{event} to {host!r}, process {os.getpid()}"
    if NOTES in os.environ:
        with open(os.environ[NOTES], "a", encoding="utf-8") as file:  # noqa: PTH123  (within an audit hook)
            file.write(f"{note}\n")
    raise NetworkError(f"tests use no network: {note}")


def begin():
    """Watch this process, and those that it starts from now on."""
    import tempfile
    from pathlib import Path

    handle, path = tempfile.mkstemp(prefix="medmcl-network-")
    os.close(handle)
    os.environ[NOTES] = path
    here = str(Path(__file__).parent)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others = [one for one in paths if one not in ("", here)]
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *others])
    sys.addaudithook(watch)
    return Path(path)
