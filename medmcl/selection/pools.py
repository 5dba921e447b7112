"""Embeddings of a pool, read in blocks: in memory, memory-mapped, or from parquet.

A pool may be larger than memory: no scorer holds more of it than one block or one batch.

`LogSums` are those of all rows and all columns of a matrix of similarities that is never whole.
Tiles small enough for the cache of a CPU are multiplied, and each is used for its rows and for its
columns. Cosines are bounded, so one shift for the whole batch nearly always keeps every sum in
range: that is the fast way, which needs one exponential and no maximum. It is guarded: where a sum
is so small that terms too small for float32 could matter to it, the batch is taken again the exact
way, with the maximum of each row and of each column of a tile.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medmcl.core import host
from medmcl.core.atomic import file_aside
from medmcl.core.errors import ArtefactError, MedmclError
from medmcl.core.findings import first_of
from medmcl.core.writing import reserved_array

Rows = Tensor | np.ndarray
"""Embeddings (N, D): a tensor, an array or a `numpy.memmap`."""
BLOCK = 8192
"""Rows read at a time: 16 MiB of 512 float32 numbers."""
UNIT = 1e-3
"""How far a length may be from 1 before it is warned of; half precision stays well below."""


class Pool:
    """Rows of unit length, given block by block or by number.

    Every row is looked at once, at birth: NaN, infinite and zero rows are refused, for neither has
    a cosine; lengths other than 1 are warned of and fixed as rows are given.

    Args:
        rows: Embeddings (N, D) of one modality; half precision is widened to float32.
        name: What messages call them.
        device: Where to compute; of a tensor its own, of an array the CPU, if not given.

    Raises:
        MedmclError: If it is no matrix of numbers with a fraction, or a row has no direction.
    """

    def __init__(self, rows: Rows, name: str, device: torch.device | str | None = None) -> None:
        if rows.ndim != 2 or rows.shape[1] < 1:
            raise MedmclError(
                f"{name} must be a matrix of embeddings (rows, dimensions)",
                got=f"shape {tuple(rows.shape)}",
            )
        kind = str(rows.dtype).removeprefix("torch.")
        if "float" not in kind:
            raise MedmclError(f"{name} must hold floating-point numbers", got=kind)
        own = rows.device if isinstance(rows, Tensor) else torch.device("cpu")
        self.name, self._rows = name, rows.detach() if isinstance(rows, Tensor) else rows
        self.device = own if device is None else torch.device(device)
        self.dtype = torch.float64 if kind == "float64" else torch.float32
        self._lengths = self._look()

    def __len__(self) -> int:
        return int(self._rows.shape[0])

    @property
    def width(self) -> int:
        """D."""
        return int(self._rows.shape[1])

    def slices(self, size: int = BLOCK) -> Iterator[slice]:
        """Cut the pool into blocks of ``size`` rows."""
        return (slice(i, min(i + size, len(self))) for i in range(0, len(self), size))

    def block(self, at: slice) -> Tensor:
        """Rows of a block, of unit length, (rows, D)."""
        return self._read(at) / self._lengths[at, None]

    def take(self, numbers: Tensor) -> Tensor:
        """Rows by number, of unit length, (len(numbers), D)."""
        return self._read(numbers).div_(self._lengths[numbers.to(self.device), None])

    def _read(self, at: slice | Tensor) -> Tensor:
        if isinstance(self._rows, Tensor):
            index = at if isinstance(at, slice) else at.to(self._rows.device)
            return self._rows[index].to(self.device, self.dtype)
        width = np.float64 if self.dtype == torch.float64 else np.float32
        if isinstance(at, slice):  # a view, and perhaps of a file that is only to be read
            return torch.from_numpy(np.array(self._rows[at], dtype=width)).to(self.device)
        found = self._rows[at.cpu().numpy()]
        return torch.from_numpy(np.asarray(found, dtype=width)).to(self.device)

    def _look(self) -> Tensor:
        parts = [torch.linalg.vector_norm(self._read(at), dim=1) for at in self.slices()]
        if not parts:
            return torch.ones(0, dtype=self.dtype, device=self.device)
        lengths = torch.cat(parts)
        self._refuse(~torch.isfinite(lengths), "NaN or infinite numbers")
        self._refuse(lengths == 0, "zeros only, as absent rows have")
        off = (lengths - 1).abs() > UNIT
        if host.read(off).any():
            row = int(off.nonzero()[0])
            warnings.warn(
                f"{self.name}: {int(off.sum())} of {len(self)} rows are not of unit length (row "
                f"{row}: {lengths[row].item():.4g}); they are normalised here",
                UserWarning,
                stacklevel=4,
            )
        return lengths

    def _refuse(self, bad: Tensor, what: str) -> None:
        if host.read(bad).any():
            rows = bad.nonzero().flatten().tolist()
            raise MedmclError(
                f"{len(rows)} of {len(self)} rows hold {what}",
                where=self.name,
                got=f"rows {first_of(rows)}",
                expected="an embedding in every row",
                fix="take these rows out; keep only pairs of which both sides are present",
            )


def paired(image: Rows, text: Rows, device: torch.device | str | None = None) -> tuple[Pool, Pool]:
    """Give two pools of which row i belongs to row i; `MedmclError` if their shapes differ."""
    pair = Pool(image, "image", device), Pool(text, "text", device)
    if tuple(image.shape) != tuple(text.shape):
        raise MedmclError(
            "image and text must be matrices of one shape: row i belongs to row i",
            got=f"{tuple(image.shape)} and {tuple(text.shape)}",
        )
    if pair[0].device != pair[1].device:
        raise MedmclError(
            "image and text lie on two devices", got=f"{pair[0].device} and {pair[1].device}"
        )
    wider = torch.promote_types(pair[0].dtype, pair[1].dtype)
    for one in pair:
        one.dtype = wider
    return pair


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute without gradient, and with products as wide as their factors, also under autocast."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def map_parquet(table: Path, prefix: str, out: Path) -> np.ndarray:
    """Turn columns of a parquet file into a memory-mapped pool, one row group at a time.

    Args:
        table: Parquet with a column for each dimension.
        prefix: What their names begin with, before the number: ``e`` of ``e0``, ``e1``, ….
        out: The ``.npy`` file to write; must be new.

    Returns:
        (N, D) float32, memory-mapped for reading.

    Raises:
        ArtefactError: If the table cannot be read, has no such columns or an empty cell in them,
            or ``out`` is there already.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if out.exists():
        raise ArtefactError("the file is there already", where=out, fix="name another")
    try:
        with pq.ParquetFile(table) as file, file_aside(out) as aside:
            names = _numbered(file.schema_arrow.names, prefix, table)
            shape = (file.metadata.num_rows, len(names))
            pool = reserved_array(aside, np.float32, shape)
            start = 0
            for group in range(file.num_row_groups):
                read = file.read_row_group(group, columns=names)
                if any(column.null_count for column in read.columns):
                    raise ArtefactError(
                        f"row group {group} has empty cells in columns {prefix}0, …",
                        where=table,
                        fix="take rows without an embedding out",
                    )
                for at, name in enumerate(names):
                    pool[start : start + len(read), at] = read[name].to_numpy()
                start += len(read)
            pool.flush()
            del pool
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtefactError(f"is no parquet file that can be read: {error}", where=table) from None
    mapped: np.ndarray = np.load(out, mmap_mode="r")
    return mapped


def _numbered(columns: list[str], prefix: str, where: Path) -> list[str]:
    tails = {name.removeprefix(prefix): name for name in columns if name.startswith(prefix)}
    names = [tails[str(i)] for i in range(len(tails)) if str(i) in tails]
    if not names:
        raise ArtefactError(
            f"has no columns {prefix}0, {prefix}1, …",
            where=where,
            got=", ".join(columns[:8]),
            fix="name what the columns of the embedding begin with",
        )
    return names


TILE = {"cpu": 512}
"""Device type to rows and columns of a tile: 1 MiB on a CPU."""
TILE_ELSEWHERE = 8192
CEILING = 87.0
"""exp of no more than this is finite in float32, which ends at exp(88.7)."""
LEAST = -87.0
"""Smaller exponents are taken as this: exp is many times slower where its result is subnormal."""
FLOOR = -60.0
"""Logarithm of the least sum that is trusted; `LEAST` adds a 1e-7th to it in 50,000 rows."""


class LogSums:
    """Log-sum-exp over rows and columns of ``a @ b.T``, finite for all finite input.

    Args:
        bound: No entry of ``a @ b.T`` is larger: 1 / temperature for cosines over a temperature.
        exact: Whether to take the exact way at once. Set once the guard has refused a batch, as
            batches of one pool are alike.
    """

    def __init__(self, bound: float, *, exact: bool = False) -> None:
        self.bound, self.exact = bound, exact

    def __call__(
        self, a: Tensor, b: Tensor, *, rows: bool = True, columns: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Give log sum_j exp(a_i b_j), (n,), and log sum_i exp(a_i b_j), (m,).

        Args:
            a: (n, D).
            b: (m, D).
            rows: Whether the sums of rows are of interest; the others may be anything.
            columns: Likewise of columns.
        """
        with full_precision(a.device):
            if not self.exact:
                found = self._fast(a, b)
                least = self._shift(max(len(a), len(b))) + FLOOR
                sound = [bool(((one >= least) & one.isfinite()).all()) for one in found]
                if (sound[0] or not rows) and (sound[1] or not columns):
                    return found
                self.exact = True
            return self._exact(a, b)

    def _shift(self, most: int) -> float:
        return max(0.0, self.bound + math.log(most) - CEILING)

    def _fast(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        over_b, over_a = a.new_zeros(len(a)), a.new_zeros(len(b))
        shift = self._shift(max(len(a), len(b)))
        for at, to, tile in _tiles(a, b):
            if shift:
                tile.sub_(shift)
            if self.bound + shift > -LEAST:
                tile.clamp_(min=LEAST)
            tile.exp_()
            over_b[at] += tile.sum(1)
            over_a[to] += tile.sum(0)
        return over_b.log_().add_(shift), over_a.log_().add_(shift)

    def _exact(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        over_b, over_a = a.new_full((len(a),), -math.inf), a.new_full((len(b),), -math.inf)
        for at, to, tile in _tiles(a, b):
            tops, highs = tile.amax(1), tile.amax(0)
            sums = (tile - highs).clamp_(min=LEAST).exp_().sum(0).log_().add_(highs)
            over_a[to] = torch.logaddexp(over_a[to], sums)
            sums = tile.sub_(tops[:, None]).clamp_(min=LEAST).exp_().sum(1).log_().add_(tops)
            over_b[at] = torch.logaddexp(over_b[at], sums)
        return over_b, over_a


def _tiles(a: Tensor, b: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Give rows, columns and their product; the next one overwrites it."""
    size = TILE.get(a.device.type, TILE_ELSEWHERE)
    space = a.new_empty(min(size, len(a)) * min(size, len(b)))
    for i in range(0, len(a), size):
        for j in range(0, len(b), size):
            left, right = a[i : i + size], b[j : j + size]
            tile = space[: len(left) * len(right)].view(len(left), len(right))
            torch.mm(left, right.T, out=tile)
            yield slice(i, i + size), slice(j, j + size), tile
