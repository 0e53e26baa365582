"""Which version of a model serves, and since which record."""

import numpy as np

from service.core.columns import Int


class Serving:
    """The version that was first seen last, or deployed."""

    def __init__(self, version: str | None = None) -> None:
        self.version = version
        self._since = [] if version is None else [(-1, version)]
        """Since which record which version served: the newest, and those since `at` was asked last."""

    def begin(self, version: str, sequence: int) -> None:
        """Let a version serve from the record with this number on; -1: an earlier step's."""
        self.version = version
        self._since.append((sequence, version))

    def at(self, sequence: Int) -> list[str]:
        """Name the version that served at each of some records, whose numbers rise and are asked for once; "": none."""
        places = (np.searchsorted([number for number, _ in self._since], sequence) - 1).tolist()
        names = [self._since[place][1] if place >= 0 else "" for place in places]
        self._since = self._since[-1:]
        return names
