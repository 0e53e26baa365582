"""Laws of stored reference windows: what they hold, and which are refused."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.learning import close_windows, learnt
from service.core.reference import StoredReferenceError, check_reference, decode_reference, encode_reference
from service.core.settings import (
    ConceptDriftSettings,
    CoreSettings,
    FeatureDriftSettings,
    ModelProfile,
    ReferenceProfile,
)
from service.core.version import VersionMonitor
from tests.core.stream import Driver, Source, drifting, label, prediction

COUNT = 400


def windows(events: int, outcomes: int) -> CoreSettings:
    profile = ModelProfile(
        feature_drift=FeatureDriftSettings(reference_events=events),
        concept_drift=ConceptDriftSettings(reference_outcomes=outcomes),
    )
    return CoreSettings(default=profile)


def numbers(count: int) -> Source:
    """A regression with features that are now missing, now of the wrong type, and calls that fail."""
    predictions, labels = [], []
    for n in range(count):
        features = {"x": n / 7, "kind": "abc"[n % 3] if n % 5 else None, "odd": "?" if n % 11 == 3 else float(n % 4)}
        if n % 50 == 7:
            predictions.append(prediction(n, None, error=True, features=features))
        else:
            embeddings = {"text": [n % 7 / 3, n % 5 / 2]} if n % 13 else {"text": [0.5]}
            predictions.append(prediction(n, n / 3 + 0.25, features=features, embeddings=embeddings))
            labels.append(label(n, n / 3 + (n % 9) / 8))
    return Source([], predictions, labels)


def monitor_of(source: Source, core: CoreSettings) -> VersionMonitor:
    driver = Driver(source, core)
    driver.run()
    (model,) = driver.task.models.values()
    return model.versions["1"]


@pytest.fixture(scope="module")
def stored() -> dict[str, dict[str, Any]]:
    found = {}
    for name, source in (("classes", drifting(COUNT, COUNT)), ("numbers", numbers(COUNT))):
        monitor = monitor_of(source, windows(10_000, 10_000))
        close_windows(monitor)
        found[name] = learnt(monitor)
    return found


@pytest.mark.parametrize("name", ["classes", "numbers"])
def test_a_window_that_is_closed_is_one_that_was_as_long_from_the_start(
    name: str, stored: dict[str, dict[str, Any]]
) -> None:
    source = drifting(COUNT, COUNT) if name == "classes" else numbers(COUNT)
    answered = COUNT if name == "classes" else COUNT * 49 // 50
    whole = learnt(monitor_of(source, windows(COUNT, answered)))
    of_answers = learnt(monitor_of(source, windows(answered, answered)))
    expected = {**of_answers, "features": whole["features"], "embeddings": stored[name]["embeddings"]}
    assert encode_reference(expected) == encode_reference(stored[name])
    assert stored[name]["loss"]["count"] == answered


def test_closing_a_window_that_is_whole_or_empty_changes_nothing() -> None:
    for source in (drifting(COUNT, COUNT), Source([], [prediction(1, "a")], [])):
        monitor = monitor_of(source, windows(100, 50))
        before = learnt(monitor)
        close_windows(monitor)
        after = learnt(monitor)
        assert {name: after[name] for name in ("features", "labels", "loss")} == {
            name: before[name] for name in ("features", "labels", "loss")
        }


@pytest.mark.parametrize("name", ["classes", "numbers"])
def test_a_stored_window_is_read_as_it_was_written(name: str, stored: dict[str, dict[str, Any]]) -> None:
    encoded = encode_reference(stored[name])
    data, reference = decode_reference(encoded)
    assert encode_reference(data) == encoded
    assert reference.features is not None
    assert reference.features.sample_count == COUNT


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give the way to each member of plain data; of long lists to the first members and the last."""
    inner = list(data.items()) if isinstance(data, dict) else list(enumerate(data)) if isinstance(data, list) else []
    chosen = inner if isinstance(data, dict) else [*inner[:2], *inner[2:][-1:]]
    return [path, *(place for key, member in chosen for place in places(member, (*path, key)))]


def damaged(data: Any, path: tuple[Any, ...], change: Any) -> Any:
    """Copy plain data with one member changed: dropped where `change` is the word for it, or doubled, else replaced."""
    if not path:
        return change
    copy = dict(data) if isinstance(data, dict) else list(data)
    if len(path) > 1 or change not in ("(drop)", "(double)"):
        copy[path[0]] = damaged(copy[path[0]], path[1:], change)
    elif change == "(drop)":
        del copy[path[0]]
    elif isinstance(copy, list):
        copy.insert(path[0], copy[path[0]])
    return copy


CHANGES = [None, -1, 0, 1, 2, 7, 0.5, 1e300, -1e300, "?", True, [], {}, [0], [[0]], "(drop)", "(double)"]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_is_done_to_a_window_it_is_refused_or_can_be_watched_against(
    stored: dict[str, dict[str, Any]], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["classes", "numbers"]))
    whole = stored[name]
    path = data.draw(st.sampled_from(places(whole)[1:]))
    changed = orjson.loads(orjson.dumps(damaged(whole, path, data.draw(st.sampled_from(CHANGES)))))
    try:
        check_reference(changed)
    except StoredReferenceError:
        return
    profile = ModelProfile(
        reference=ReferenceProfile(data=changed),
        feature_drift=FeatureDriftSettings(
            reference_events=100,
            block_events=50,
            window_blocks=1,
            statistic=data.draw(st.sampled_from(["js", "wasserstein", "ks", "chi_square", "psi"])),
        ),
    )
    source = drifting(120, 60) if name == "classes" else numbers(120)
    Driver(source, CoreSettings(default=profile)).run()


def test_a_window_of_a_newer_program_is_refused_by_name(stored: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(StoredReferenceError, match=r"\$\.version: 2 was written by a newer program; this one knows 1"):
        check_reference({**stored["classes"], "version": 2})


def test_what_is_wrong_is_named_by_its_path(stored: dict[str, dict[str, Any]]) -> None:
    wrong = msgspec.json.decode(encode_reference(stored["classes"]))
    wrong["features"]["drift"]["histogram"]["counts"][1].append(0)
    with pytest.raises(StoredReferenceError, match=r"^\$\.features\.drift\.histogram\.counts\[1\]: expected"):
        check_reference(wrong)
    wrong = msgspec.json.decode(encode_reference(stored["numbers"]))
    wrong["embeddings"]["embeddings"][0]["sum"][0] = 1e9
    with pytest.raises(
        StoredReferenceError, match=r"^\$\.embeddings\.embeddings\[0\]\.sum: expected at most the count"
    ):
        check_reference(wrong)
    with pytest.raises(StoredReferenceError, match="not JSON"):
        decode_reference(b"{")
