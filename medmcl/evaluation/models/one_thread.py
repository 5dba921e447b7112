"""One BLAS thread for small matrices: a second thread costs more than it saves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let numpy and scipy use one BLAS thread in a block or a function, whatever OMP_NUM_THREADS.

    Of 80 x 128 matrices a second thread takes none of the work, and both wait for one another: on a
    busy machine seven logistic fits took twenty times the CPU seconds. Sums are then also those of
    one thread, to the last bit. PyTorch keeps its threads.

    The limit is that of the process, threads begun in the block included; what was before comes
    back. threadpoolctl lets one Python thread at a time set it: in others the block changes nothing
    while that one lives. Costs some 40 microseconds, and 30 milliseconds the first time.
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    """The BLAS libraries of this process."""
    import scipy.linalg  # noqa: F401  # brings its own BLAS, beside numpy's
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
