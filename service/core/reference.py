"""A reference window at rest: the JSON that `tidegauge profile build` writes and `core.models.*.reference` names.

The monitors give and take its parts as plain data. These structs are the layout of that data, so that a file that was
damaged, or edited by hand, is refused with the path of what is wrong before any monitor trusts it.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import orjson
from msgspec import Meta

from detectors.dependence import LARGEST
from detectors.protocol import State, StateError
from schemas.events import MAX_DIMENSION, MAX_EMBEDDINGS, MAX_ID_CHARS
from service.core.inputs.quality_reference import PROBLEMS
from service.core.metrics.confidence import CELLS

REFERENCE_VERSION: Final = 1
"""Of the whole. It rises only if an older program could not use what is written."""

MAX_REFERENCE_BYTES: Final = 100_000_000
"""A longer one is refused: 500 features of 100 bins take 2.5 MB, 10,000 such features 50 MB."""

_EXTRA: Final = 2
"""Columns of a count matrix behind the bins: unseen and missing (`detectors.histogram`)."""

Whole = Annotated[int, Meta(ge=0)]
Moment = Annotated[float, Meta(ge=0.0, le=1.01)]
"""Of a vector of length 1, so at most 1 but for rounding."""
Part = Annotated[int, Meta(ge=1, le=1)]
"""Version of a part: there is only 1 of each so far."""


class StoredReferenceError(ValueError):
    """A stored reference window cannot be used; the message begins with the path of what is wrong."""


class Bins(msgspec.Struct, frozen=True):
    """Where the values of one column go."""

    edges: tuple[float, ...]
    bin_of: tuple[Whole, ...]
    bins: Annotated[int, Meta(ge=1)]
    low: float
    high: float


class Histogram(msgspec.Struct, frozen=True):
    """Counts of a window, a row a column of the events; see `detectors.histogram`."""

    version: Part
    name: str
    categorical: tuple[bool, ...]
    counts: tuple[tuple[Whole, ...], ...]
    positions: tuple[tuple[float, ...], ...]
    spread: tuple[Annotated[float, Meta(gt=0.0)], ...]
    features: tuple[Bins, ...]

    @property
    def sample_count(self) -> int:
        """Events in the window."""
        return sum(self.counts[0]) if self.counts else 0


class Drift(msgspec.Struct, frozen=True):
    """What drift is judged against."""

    histogram: Histogram
    before: tuple[float | str | None, ...]
    """Of each column the mean, or its most frequent category with its share."""


class Table(msgspec.Struct, frozen=True):
    """Names and kinds of the features."""

    version: Part
    names: tuple[str, ...]
    categories: tuple[tuple[str, ...] | None, ...]
    """Names by code; null where the feature is numeric."""
    undecided: tuple[Whole, ...]
    unwatched: tuple[str, ...]
    features_over_limit: Whole
    categories_over_limit: Whole


class Quality(msgspec.Struct, frozen=True):
    """What data quality is judged against."""

    total: Annotated[int, Meta(ge=1)]
    counts: tuple[Whole, ...]
    """Events with each problem of each feature, problem by problem."""
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    categories: tuple[float | None, ...]


class Features(msgspec.Struct, frozen=True):
    """The features' window."""

    version: Part
    table: Table
    drift: Drift | None
    quality: Quality | None
    left_out: tuple[str, ...] = ()
    """Columns that are no features."""

    @property
    def sample_count(self) -> int:
        """Events in the window."""
        if self.quality is not None:
            return self.quality.total
        return 0 if self.drift is None else self.drift.histogram.sample_count


class Embedding(msgspec.Struct, frozen=True):
    """One embedding's window, as `detectors.mmd` keeps it."""

    name: Annotated[str, Meta(max_length=MAX_ID_CHARS)]
    dimension: Annotated[int, Meta(ge=1, le=MAX_DIMENSION)]
    features: Annotated[int, Meta(ge=2, le=1024, multiple_of=2)]
    seed: Annotated[int, Meta(ge=0, le=2**53)]
    bandwidth: Annotated[float, Meta(ge=1e-45)]
    """No two 32-bit floats are closer."""
    count: Annotated[int, Meta(ge=1)]
    sum: tuple[float, ...]
    spectrum: tuple[Moment, Moment, Moment]


class Embeddings(msgspec.Struct, frozen=True):
    """The embeddings' windows."""

    version: Part
    embeddings: Annotated[tuple[Embedding, ...], Meta(max_length=MAX_EMBEDDINGS)]
    quality: Quality | None

    @property
    def sample_count(self) -> int:
        """Vectors in the shortest window."""
        return min((embedding.count for embedding in self.embeddings), default=0)


class Values(msgspec.Struct, frozen=True):
    """The window of predictions and their scores, or of labels."""

    version: Part
    drift: Drift

    @property
    def sample_count(self) -> int:
        """Values in the window."""
        return self.drift.histogram.sample_count

    @property
    def is_classes(self) -> bool:
        """Whether the values are classes; else they are numbers."""
        return any(self.drift.histogram.categorical[:1])


class Loss(msgspec.Struct, frozen=True):
    """The window of the loss; regression: in the label's unit, with what its cap makes of it in `scaled`."""

    count: Annotated[int, Meta(ge=1)]
    mean: Annotated[float, Meta(ge=0.0)]
    std: Annotated[float, Meta(ge=0.0)]
    cap: Annotated[float, Meta(gt=0.0)]
    scaled: tuple[Annotated[float, Meta(ge=0.0, le=1.0)], Annotated[float, Meta(ge=0.0, le=0.25)]]
    """Mean and variance of the losses as detectors see them, between 0 and 1: no variance there is above 1/4."""
    dependence: Annotated[float, Meta(ge=1.0, le=LARGEST)] = 1.0
    """By how much the dependence of losses on those before them raises the variance of their mean."""


class Confidence(msgspec.Struct, frozen=True):
    """The calibration of the model's confidence, by cell; see `metrics.confidence`."""

    version: Part
    seen: tuple[Whole, ...]
    right: tuple[Whole, ...]

    @property
    def sample_count(self) -> int:
        """Outcomes in the window that had a confidence."""
        return sum(self.seen)


class Reference(msgspec.Struct, frozen=True):
    """A stored reference window. A part that is null is learnt from the first events."""

    version: Annotated[int, Meta(ge=1)]
    model_id: Annotated[str, Meta(min_length=1)]
    classes: tuple[str, ...]
    """Names of the model's classes by code; empty for a regression."""
    model_version: str | None = None
    """It is for this version alone; null: for every one."""
    features: Features | None = None
    embeddings: Embeddings | None = None
    predictions: Values | None = None
    labels: Values | None = None
    loss: Loss | None = None
    confidence: Confidence | None = None


def encode_reference(data: Any) -> bytes:
    """Write a reference window: the same one, the same bytes. Raises StoredReferenceError where it cannot be used."""
    encoded = orjson.dumps(data, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    decode_reference(encoded)
    return encoded


def decode_reference(encoded: bytes) -> tuple[dict[str, Any], Reference]:
    """Read a reference window: as plain data, and checked. Raises StoredReferenceError."""
    if len(encoded) > MAX_REFERENCE_BYTES:
        raise StoredReferenceError(f"$: {len(encoded):,} bytes are more than {MAX_REFERENCE_BYTES:,}")
    try:
        data = orjson.loads(encoded)
    except orjson.JSONDecodeError as error:
        raise StoredReferenceError(f"$: not JSON: {error}") from error
    return data, check_reference(data)


def check_reference(data: Any) -> Reference:
    """Check plain data as a whole. Raises StoredReferenceError."""
    if not isinstance(data, dict) or not isinstance(data.get("version"), int):
        raise StoredReferenceError("$: expected an object with a version, as `tidegauge profile build` writes it")
    if data["version"] > REFERENCE_VERSION:
        raise StoredReferenceError(
            f"$.version: {data['version']} was written by a newer program; this one knows {REFERENCE_VERSION}"
        )
    try:
        reference = msgspec.convert(data, Reference)
    except msgspec.ValidationError as error:
        raise StoredReferenceError(str(error)) from error
    if reference.features is not None:
        _check_features(reference.features)
    if reference.embeddings is not None:
        _check_embeddings(reference.embeddings)
    for values, path, columns in ((reference.predictions, "$.predictions", 2), (reference.labels, "$.labels", 1)):
        if values is not None:
            _check_drift(values.drift, f"{path}.drift", columns)
    if reference.confidence is not None:
        _check_confidence(reference.confidence)
    return reference


def _check_confidence(confidence: Confidence) -> None:
    for name in ("seen", "right"):
        _expect(f"$.confidence.{name}", CELLS, getattr(confidence, name))
    if any(right > seen for seen, right in zip(confidence.seen, confidence.right, strict=True)):
        raise StoredReferenceError("$.confidence.right: expected at most what was seen in each cell")


def _check_features(features: Features) -> None:
    table, path = features.table, "$.features"
    watched = len(table.names)
    _expect(f"{path}.table.categories", watched, table.categories)
    if any(place >= watched for place in table.undecided):
        raise StoredReferenceError(f"{path}.table.undecided: expected numbers below {watched}")
    # Features that came behind a whole window are known, and not in it.
    if features.drift is not None:
        _check_drift(features.drift, f"{path}.drift", min(watched, len(features.drift.before)))
    if features.quality is not None:
        _check_quality(features.quality, f"{path}.quality", min(watched, len(features.quality.low)))


def _check_quality(quality: Quality, path: str, columns: int) -> None:
    _expect(f"{path}.counts", len(PROBLEMS) * columns, quality.counts)
    if any(count > quality.total for count in quality.counts):
        raise StoredReferenceError(f"{path}.counts: expected at most the total, {quality.total}")
    for name in ("low", "high", "categories"):
        _expect(f"{path}.{name}", columns, getattr(quality, name))


def _check_embeddings(embeddings: Embeddings) -> None:
    path = "$.embeddings"
    if len({embedding.name for embedding in embeddings.embeddings}) < len(embeddings.embeddings):
        raise StoredReferenceError(f"{path}.embeddings: expected each name once")
    for place, embedding in enumerate(embeddings.embeddings):
        _expect(f"{path}.embeddings[{place}].sum", embedding.features, embedding.sum)
        if any(abs(part) > embedding.count for part in embedding.sum):
            raise StoredReferenceError(f"{path}.embeddings[{place}].sum: expected at most the count, {embedding.count}")
    if embeddings.quality is not None:
        _check_quality(embeddings.quality, f"{path}.quality", len(embeddings.embeddings))


def _check_drift(drift: Drift, path: str, columns: int) -> None:
    histogram = drift.histogram
    _expect(f"{path}.before", columns, drift.before)
    path = f"{path}.histogram"
    if histogram.name != "reference_histogram":
        raise StoredReferenceError(f"{path}.name: expected reference_histogram, got {histogram.name!r}")
    for name in ("features", "categorical", "counts", "positions", "spread"):
        _expect(f"{path}.{name}", columns, getattr(histogram, name))
    width = max((column.bins for column in histogram.features), default=1)
    for place, column in enumerate(histogram.features):
        _expect(f"{path}.counts[{place}]", width + _EXTRA, histogram.counts[place])
        total = sum(histogram.counts[place])
        if total != histogram.sample_count or not total:
            raise StoredReferenceError(f"{path}.counts[{place}]: expected a sum of at least 1, the same in each row")
        _expect(f"{path}.positions[{place}]", width, histogram.positions[place])
        _check_bins(column, f"{path}.features[{place}]", categorical=histogram.categorical[place])


def _check_bins(column: Bins, path: str, *, categorical: bool) -> None:
    if np.any(np.diff(column.edges) <= 0):
        raise StoredReferenceError(f"{path}.edges: expected numbers that rise")
    _expect(f"{path}.bin_of", len(column.edges) if categorical else 0, column.bin_of)
    if any(place >= column.bins for place in column.bin_of):
        raise StoredReferenceError(f"{path}.bin_of: expected numbers below {column.bins}")
    if not categorical and column.bins != len(column.edges) + 1:
        raise StoredReferenceError(f"{path}.bins: expected {len(column.edges) + 1} for {len(column.edges)} edges")


def _expect(path: str, count: int, found: Sequence[object]) -> None:
    if len(found) != count:
        raise StoredReferenceError(f"{path}: expected {count} entries, got {len(found)}")


def stored_reference(data: State | None, model_version: str) -> State:
    """Give the parts of a stored profile that are for this version: all, unless it names another.

    Raises StateError when a newer program wrote it.
    """
    if data is None or data.get("model_version") not in (None, model_version):
        return {}
    if data.get("version", 0) > REFERENCE_VERSION:
        raise StateError(f"the reference profile has version {data['version']}; this program knows {REFERENCE_VERSION}")
    return {name: part for name, part in data.items() if part is not None}
