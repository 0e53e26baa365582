"""Where the join's rows lie: in memory, or, above a size, in what the shell supplies (a file).

The core holds no files, so it is given a maker of row memories. It asks for one row memory a kind, once the rows of the
kind outgrow the bound, copies them there, and from then on cannot tell the difference.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from service.core.join.rows import Raw


class RowMemory(Protocol):
    """An array of opaque rows that can be resized. Its owner keeps no view of `rows` over a call of `resize`."""

    @property
    def rows(self) -> Raw:
        """The array. Rows that were never written are zeros."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it holds, and that nobody but its owner can take back."""
        ...

    def resize(self, count: int) -> None:
        """Become as long; rows below both lengths keep their content. Raises OSError where there is no room."""
        ...

    def rest(self) -> None:
        """Be told that a batch is done: what was read for it need not be kept at hand."""
        ...


class Spill(NamedTuple):
    """Above how many rows of one kind they lie elsewhere, and who supplies the place."""

    above_rows: int
    make: Callable[[int], RowMemory]
    """Takes the bytes of a row."""


class HeapRows:
    """Rows in memory.

    It grows by `ndarray.resize`, which is realloc: for memory of this size glibc moves pages (mremap) and copies
    nothing, so that growing needs no second copy. Elsewhere it may cost one. `refcheck=False` is safe here because no
    view of the array outlives the method that made it.
    """

    def __init__(self, row_bytes: int) -> None:
        self.rows: Raw = np.zeros(0, f"V{row_bytes}")

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.rows.nbytes

    def resize(self, count: int) -> None:
        """Become as long."""
        self.rows.resize(count, refcheck=False)

    def rest(self) -> None:
        """Do nothing: all is at hand."""
