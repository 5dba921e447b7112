"""A command that is killed, or meets a full disk, as it begins to write something: at its first
write, its second, …

An audit hook counts what a process opens to write, renames, makes and removes below a folder, and
sends SIGKILL to itself before the write that is asked for: nothing is tidied up. Or that write and
all later ones that need space fail, as on a full disk. Commands run in forks, so that what takes
seconds to import is imported once.
"""

import gc
import os
import signal
import sys
import time
import traceback

COUNTED = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate"}
FREEING = {"os.remove", "os.rmdir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def is_write(event, args, folder):
    """Whether an audited event is about to change something below a folder."""
    if event == "open":
        path, mode, flags = args
        writes = any(sign in mode for sign in "wxa+") if isinstance(mode, str) else flags & WRITING
    else:
        path, writes = args[0] if args else None, event in COUNTED
    return bool(writes) and isinstance(path, (str, os.PathLike)) and str(path).startswith(folder)


def forked(run, folder, at=None, fault=None, after=None, limit=None):
    """Run something in a fork; give its exit code (-9: killed) and how many writes it began.

    Args:
        run: What to do, without arguments.
        folder: Writes below it count.
        at: The write, from 1, that it does not live to do, or what the path of the first such write
            ends with; None: it lives.
        fault: Number of the error that the disk gives from there on, instead of being killed.
        after: Seconds after which it is killed, wherever it is.
        limit: Seconds after which it is given up: its exit code is None.
    """
    reads, writes = os.pipe()
    process = os.fork()
    if not process:
        gc.freeze()  # to look through what the parent holds copies its pages
        code = 1
        try:
            seen, failing = [0], [False]

            def hook(event, args):
                if is_write(event, args, str(folder)):
                    seen[0] += 1
                    path = str(args[1] if event == "os.rename" else args[0])
                    if seen[0] == at or (isinstance(at, str) and path.endswith(at)):
                        if fault is None:
                            os.kill(os.getpid(), signal.SIGKILL)
                        failing[0] = True
                    if failing[0] and event not in FREEING:
                        raise OSError(fault, os.strerror(fault), path)

            sys.addaudithook(hook)
            code = run() or 0
            os.write(writes, str(seen[0]).encode())
        except SystemExit as stopped:
            code = stopped.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writes)
    status = waited(process, after, limit)
    with os.fdopen(reads) as said:
        return status, int(said.read() or 0)


def waited(process, after, limit):
    """Wait for a process; kill it after some seconds; give its exit code, None beyond a limit."""
    began, found = time.monotonic(), (0, 0)
    while not found[0]:
        found = os.waitpid(process, os.WNOHANG if after or limit else 0)
        passed = time.monotonic() - began
        if not found[0] and any(one and passed > one for one in (after, limit)):
            os.kill(process, signal.SIGKILL)
            found = os.waitpid(process, 0)
            if limit and passed > limit:
                return None
        elif not found[0]:
            time.sleep(0.002)
    return os.waitstatus_to_exitcode(found[1])
