"""From events' feature objects to numbers: one row per event, one column per watched feature.

The hot path of the inputs. The schema (names in the order in which they were first seen, and whether each is numeric
or categorical) is learnt as events pass, within bounds:

* at most `max_features` names are watched; further ones are counted in `features_over_limit` (once each while four
  times as many are remembered, then at each event) and not watched;
* at most `max_categories` categories per feature have a code of their own; the rest share one, and are counted in
  `categories_over_limit`;
* a feature name or a category longer than 256 characters is treated as one beyond its limit.
"""

import json
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import starmap
from operator import itemgetter
from typing import Any, Final, TypedDict

import numpy as np

from schemas.events import MAX_ID_CHARS, FeatureValue
from service.core.columns import Bool, Float
from service.core.inputs.versions import require_version
from service.core.settings import FeatureDriftSettings

Event = Mapping[str, FeatureValue] | None

MISSING: Final = float("nan")
WRONG_TYPE: Final = float("-inf")
"""Stands for a value of the wrong type in the matrix: JSON has no infinity, so none can be a value.

Any infinity in the matrix reads as a wrong type, so one that a caller slips in is no number either.
"""

_SHOWN_CHARS: Final = 40
"""Longest example of a value."""

_VERSION = 1
_NAME_BYTES: Final = 180
_CATEGORY_BYTES: Final = 125
_EMPTY: Final[dict[str, FeatureValue]] = {}


class FeatureTableState(TypedDict):
    """The snapshot of a FeatureTable. `categories`: None while a feature is numeric; `undecided`: columns."""

    version: int
    names: list[str]
    categories: list[list[str] | None]
    undecided: list[int]
    unwatched: list[str]
    features_over_limit: int
    categories_over_limit: int


class FeatureTable:
    """Learns the features of one model version and turns events into a matrix.

    A feature is numeric or categorical by its first value that is not null: numbers and booleans (0 and 1) are
    numeric, strings are categories. Cut-invariant: encoding events in two calls gives the rows of one call, padded
    on the right with missing where the first call knew fewer features.
    """

    def __init__(self, settings: FeatureDriftSettings) -> None:
        self._settings = settings
        self._include = frozenset(settings.include)
        self._exclude = frozenset(settings.exclude)
        self._names: list[str] = []
        self._codes: list[dict[str | None, float] | None] = []
        """Per feature: None while numeric or undecided, else category to code; null has the code NaN."""
        self._known: dict[str, None] = {}
        """Watched and unwatched names, so that only a new name costs anything. At most 5 x max_features."""
        self._undecided: dict[int, None] = {}
        self._left_out: dict[str, None] = {}
        self.wrong: dict[str, str] = {}
        """The first value of the wrong type of each feature since this was cleared, as text: an example for people."""
        self.features_over_limit = 0
        self.categories_over_limit = 0
        self._index_columns()

    @property
    def names(self) -> list[str]:
        """Name of each column."""
        return self._names

    @property
    def wanted(self) -> Bool:
        """Whether the settings still ask for a column, shape (width,): they may have changed since it was met."""
        return self._wanted

    @property
    def width(self) -> int:
        """How many features are watched."""
        return len(self.names)

    @property
    def other_code(self) -> int:
        """The code that the categories beyond the limit share."""
        return self._settings.max_categories

    @property
    def left_out(self) -> list[str]:
        """Names of the columns that are no features: met, and not watched."""
        return list(self._left_out)

    def leave_out(self, names: Iterable[str]) -> None:
        """Watch these columns no more. They keep their places."""
        self._left_out = dict.fromkeys(names)
        self._index_columns()

    def discount(self, rows: Float) -> None:
        """Take back what columns that are left out counted as beyond the limit in these rows: all they ever encoded."""
        columns = [column for column in self._left_out_columns if self.is_categorical(column)]
        self.categories_over_limit -= int(np.count_nonzero(rows[:, columns] == self.other_code))

    def blanked(self, rows: Float) -> Float:
        """Give rows without the values of the columns that are left out, shape as before."""
        if not self._left_out_columns:
            return rows
        rows = rows.copy()
        rows[:, self._left_out_columns] = MISSING
        return rows

    def is_categorical(self, column: int) -> bool:
        """Say whether the column holds category codes."""
        return self._codes[column] is not None

    def categories(self, column: int) -> list[str]:
        """Names of a feature's categories in code order; empty where it is numeric."""
        return [name for name in self._codes[column] or () if name is not None]

    def copy(self) -> "FeatureTable":
        """Give one that is like this one and shares nothing with it."""
        table = FeatureTable(self._settings)
        table.restore(self.snapshot())
        table.leave_out(self._left_out)
        return table

    def is_like(self, other: "FeatureTable") -> bool:
        """Whether both would encode the same events alike, and learn the same from them."""
        return self.learnt() == other.learnt()

    def learnt(self) -> tuple[object, ...]:
        """Give what decides how events are encoded, to be compared with another's at this moment."""
        settings = self._settings
        limits = self._include, self._exclude, settings.max_features, settings.max_categories
        return self._names, self._codes, self._known.keys(), self._undecided.keys(), self._left_out.keys(), limits

    def encode(self, events: Sequence[Event]) -> Float:
        """Give shape (n, width): numbers, category codes, MISSING or WRONG_TYPE. The array may be read-only."""
        if not self._undecided and (rows := self._encode_regular(events)) is not None:
            return rows
        present = [event or _EMPTY for event in events]
        self.learn(present)
        return self._encode_irregular(present)

    # -- the hot path: all events have exactly the known names

    def _encode_regular(self, events: Sequence[Any]) -> Float | None:
        """As `encode` where every event has every known name and no other, and numbers where they belong; else None."""
        try:
            # As many keys as names are known and each of the names among them: the names, in whatever order.
            if set(map(len, events)) != self._regular_lengths:
                return None
            if self._get_unwatched is not None:
                deque(map(self._get_unwatched, events), maxlen=0)
            packed = b"".join(starmap(self._pack, map(self._get_numeric, events)))
            columns = [list(map(get, events)) for get in self._get_categories]
        except (KeyError, TypeError, OverflowError, struct.error):
            return None  # null, no features, wrong type or other names: the other path looks at each row
        return self._assemble(packed, columns, len(events))

    def _assemble(self, packed: bytes, columns: list[list[FeatureValue]], count: int) -> Float:
        """Put numeric values (packed by row) and categories (by column) where they belong."""
        numeric = np.frombuffer(packed, np.float64).reshape(count, len(self._numeric))
        if not columns:
            return numeric
        rows = np.empty((count, self.width))
        rows[:, self._numeric_columns] = numeric
        for feature, values in zip(self._categorical, columns, strict=True):
            left_out = feature in self._left_out_columns
            rows[:, feature] = MISSING if left_out else self._encode_categories(feature, values)
        return rows

    def _encode_categories(self, feature: int, values: list[FeatureValue]) -> list[float]:
        codes = self._codes[feature]
        assert codes is not None  # noqa: S101  # only categorical features come here
        try:
            return list(map(codes.__getitem__, values))  # type: ignore[arg-type]  # a number: KeyError
        except KeyError:
            encoded = [self._code(codes, value) for value in values]
            if WRONG_TYPE in encoded:
                self.wrong.setdefault(self._names[feature], shown(values[encoded.index(WRONG_TYPE)]))
            return encoded

    def _code(self, codes: dict[str | None, float], value: FeatureValue) -> float:
        """Look up one category, giving it a code where there is room."""
        if value is not None and not isinstance(value, str):
            return WRONG_TYPE
        code = codes.get(value)
        if code is not None:
            return code
        size = len(codes) - 1  # null is no category
        if value is None or size >= self._settings.max_categories or len(value) > MAX_ID_CHARS:
            self.categories_over_limit += 1
            return float(self.other_code)
        return codes.setdefault(value, float(size))

    # -- events with nulls, absent names, new names, wrong types

    def _encode_irregular(self, events: Sequence[Mapping[str, FeatureValue]]) -> Float:
        names = [self.names[feature] for feature in self._numeric]
        packed = b"".join([self._pack_row(names, event) for event in events])
        columns = [[event.get(self.names[feature]) for event in events] for feature in self._categorical]
        return self._assemble(packed, columns, len(events))

    def _pack_row(self, names: list[str], event: Mapping[str, FeatureValue]) -> bytes:
        try:
            values = self._get_numeric(event)
        except KeyError:
            values = tuple([event.get(name) for name in names])
        if None in values:
            values = tuple([MISSING if value is None else value for value in values])
        try:
            return self._pack(*values)
        except (OverflowError, struct.error):
            numbers = list(map(_number, values))
            for name, value, number in zip(names, values, numbers, strict=True):
                if number == WRONG_TYPE:
                    self.wrong.setdefault(name, shown(value))
            return self._pack(*numbers)

    # -- the schema

    def learn(self, events: Sequence[Mapping[str, FeatureValue]]) -> None:
        """Take up names and kinds in the order of events, and of names within an event. `encode` does it too."""
        known = self._known.keys()
        before = len(self._known), len(self._undecided)
        for event in events:
            if not event.keys() <= known:
                self._meet(event)
        self._decide(events)
        if before != (len(self._known), len(self._undecided)):
            self._index_columns()

    def _meet(self, event: Mapping[str, FeatureValue]) -> None:
        for name in event:
            if name in self._known:
                continue
            if not self._is_wanted(name):
                self._remember(name)
            elif len(self.names) >= self._settings.max_features or len(name) > MAX_ID_CHARS:
                self.features_over_limit += 1
                self._remember(name)
            else:
                self._known[name] = None
                self._undecided[len(self.names)] = None
                self._names.append(name)
                self._codes.append(None)

    def has_wanted(self, event: Mapping[str, FeatureValue]) -> bool:
        """Say whether an event has a feature that an empty table would watch. Takes up, and counts, nothing."""
        return any(len(name) <= MAX_ID_CHARS and self._is_wanted(name) for name in event)

    def _is_wanted(self, name: str) -> bool:
        return name not in self._exclude and (not self._include or name in self._include)

    def _remember(self, name: str) -> None:
        """Remember a name that is not watched. When memory is full it is judged, and counted, at each event."""
        if len(self._known) - self.width < 4 * self._settings.max_features and len(name) <= MAX_ID_CHARS:
            self._known[name] = None

    def _decide(self, events: Sequence[Mapping[str, FeatureValue]]) -> None:
        for feature in list(self._undecided):
            name = self.names[feature]
            value = next((value for event in events if (value := event.get(name)) is not None), None)
            if value is not None:
                self._codes[feature] = {None: MISSING} if isinstance(value, str) else None
                del self._undecided[feature]

    def _index_columns(self) -> None:
        """Prepare what the hot path needs for the columns as they are now."""
        self._numeric = [index for index, codes in enumerate(self._codes) if codes is None]
        self._categorical = [index for index, codes in enumerate(self._codes) if codes is not None]
        first, count = min(self._numeric, default=0), len(self._numeric)
        adjacent = self._numeric == list(range(first, first + count))
        self._numeric_columns = slice(first, first + count) if adjacent else np.array(self._numeric, dtype=np.intp)
        names = [self.names[index] for index in self._numeric]
        self._pack: Callable[..., bytes] = struct.Struct(f"{len(names)}d").pack
        self._get_numeric = _row_getter(names)
        self._get_categories = [itemgetter(self.names[index]) for index in self._categorical]
        self._wanted = np.array(
            [self._is_wanted(name) and (name not in self._left_out or name in self._include) for name in self._names],
            dtype=np.bool_,
        )
        self._left_out_columns = [column for column, name in enumerate(self._names) if name in self._left_out]
        watched = set(self.names)
        unwatched = [name for name in self._known if name not in watched]
        self._get_unwatched = _row_getter(unwatched) if unwatched else None
        self._regular_lengths = {len(self._known)}

    @property
    def size_bytes(self) -> int:
        """Bytes of names and categories, as Python keeps them."""
        categories = sum([len(codes) for codes in self._codes if codes])
        return _NAME_BYTES * len(self._names) + _CATEGORY_BYTES * categories

    def snapshot(self) -> FeatureTableState:
        """Give the schema and the counters as plain data."""
        return {
            "version": _VERSION,
            "names": list(self.names),
            "categories": [None if codes is None else self.categories(i) for i, codes in enumerate(self._codes)],
            "undecided": list(self._undecided),
            "unwatched": sorted(self._known.keys() - set(self.names)),
            "features_over_limit": self.features_over_limit,
            "categories_over_limit": self.categories_over_limit,
        }

    def restore(self, state: FeatureTableState) -> None:
        """Take over a snapshot. Raises StateError when it is newer than this code."""
        require_version(state, _VERSION, "feature table")
        self._names = list(state["names"])
        self._codes = [None if names is None else _code_table(names) for names in state["categories"]]
        self._known = dict.fromkeys([*self.names, *state["unwatched"]])
        self._undecided = dict.fromkeys(state["undecided"])
        self.features_over_limit = state["features_over_limit"]
        self.categories_over_limit = state["categories_over_limit"]
        self._index_columns()


def shown(value: FeatureValue) -> str:
    """Write a value as JSON does, cut to a readable length and to what a line can hold."""
    text = json.dumps(value[:_SHOWN_CHARS] if isinstance(value, str) else value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def _code_table(names: list[str]) -> dict[str | None, float]:
    return {None: MISSING, **{name: float(code) for code, name in enumerate(names)}}


def _row_getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Give a function from event to the tuple of its values; KeyError where a name is absent."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda event: tuple([event[name] for name in names])  # itemgetter gives a bare value for one name


def _number(value: FeatureValue) -> float:
    if value is None or isinstance(value, str):
        return MISSING if value is None else WRONG_TYPE
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1.8e308
        return WRONG_TYPE
