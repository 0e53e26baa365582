"""The reference model and its store."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.online_model import ModelError, ModelStore, OnlineModel, is_positive, numbers
from examples.shop_stream import visits


def trained(count: int = 200) -> OnlineModel:
    model = OnlineModel()
    for visit in visits(count, count):
        model.learn(visit.features, visit.buys)
    return model


def test_a_version_that_was_stored_goes_on_exactly_as_the_model_would_have(tmp_path: Path) -> None:
    model, store = trained(), ModelStore(tmp_path)
    store.save("v1", model)
    loaded = store.load("v1")
    for visit in visits(100, 0, seed=3):
        assert loaded.probability(visit.features) == model.probability(visit.features)
        loaded.learn(visit.features, visit.buys)
        model.learn(visit.features, visit.buys)
    assert loaded.state() == model.state()


@settings(max_examples=30)
@given(version=st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()))
def test_no_version_leads_out_of_the_folder(tmp_path_factory: pytest.TempPathFactory, version: str) -> None:
    folder = tmp_path_factory.mktemp("store") / "models"
    store = ModelStore(folder)
    store.save(version, trained(5))
    assert store.load(version).state() == trained(5).state()
    assert [path.parent for path in folder.parent.rglob("*.json")] == [folder]


def test_a_version_that_is_missing_broken_or_of_another_format_is_an_error(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "newer.json").write_bytes(orjson.dumps(trained(5).state() | {"format": 2}))
    for version in ("missing", "broken", "newer"):
        with pytest.raises(ModelError):
            store.load(version)


def test_features_of_every_kind_become_numbers() -> None:
    found = numbers({"a": 1.5, "b": True, "c": None, "d": "red"})
    assert found == {"a": 1.5, "b": 1.0, "d=red": 1.0}


@pytest.mark.parametrize(("label", "expected"), [(1.0, True), (True, True), ("1", True), (0.0, False), ("no", False)])
def test_a_label_is_positive_however_it_is_written(label: float | str | bool, expected: bool) -> None:
    assert is_positive(label) is expected


def test_the_stream_is_the_same_each_time_and_changes_where_it_should() -> None:
    assert visits(300, 150) == visits(300, 150)
    # Drift changes nothing before it.
    assert visits(300, 150)[:150] == visits(300, 300)[:150]
    model = trained(2_000)
    before, after = visits(2_000, 2_000, seed=5), visits(2_000, 0, seed=5)
    right = [
        sum((model.probability(v.features) >= 0.5) == v.buys for v in part) / len(part) for part in (before, after)
    ]
    assert right[0] > 0.9
    assert right[1] < 0.7
