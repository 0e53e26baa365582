"""The replay's figures are of what they say."""

from pathlib import Path

import pytest

from benchmarks import gallery, replay
from tests.test_tidy import ROOT

DATA = ROOT.parent / "shared" / "data"


def test_fifty_configurations_are_fifty_different_ones() -> None:
    for cores in (replay.on_outcomes(), replay.on_features()):
        assert len({repr(core) for core in cores}) == len(cores) == 50


@pytest.mark.slow
def test_every_case_is_measured_over_all_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "ROUNDS", 1)
    results = replay.run(0.02, kinds=["sqlite"])
    assert [result["records"] for result in results] == [3000, 3000, 4000, 3000, 3000, 3000]
    assert all(float(str(result["ratio"])) > 0 for result in results)


@pytest.mark.data
@pytest.mark.parametrize("stream", gallery.STREAMS, ids=lambda stream: stream.name)
def test_the_gallery_reads_every_row_of_a_stream(stream: gallery.Stream) -> None:
    if not DATA.exists():
        pytest.skip(f"{DATA.name} is not beside the project")
    rows = list(gallery.rows_of(stream, DATA))
    assert len(rows) == {"elec2": 45_312, "sea": 50_000, "sine1": 100_000, "circles": 100_000}[stream.name]
    assert {row["class"] for row in rows} in ({"0", "1"}, {"0.0", "1.0"})


@pytest.mark.slow
@pytest.mark.data
def test_sine1_s_drifts_are_found_and_its_report_is_written(tmp_path: Path) -> None:
    if not DATA.exists():
        pytest.skip(f"{DATA.name} is not beside the project")
    (stream,) = [stream for stream in gallery.STREAMS if stream.name == "sine1"]
    gallery.write_predictions(stream, DATA, tmp_path / "sine1.csv")
    import asyncio

    found = asyncio.run(gallery.score(stream, tmp_path / "sine1.csv", tmp_path / "sine1.html"))
    own = found.scores[0].tallies[0]
    assert own.detected == 4
    assert own.mean_delay_events is not None
    assert own.mean_delay_events < 250
    assert own.false_alarms is not None
    assert own.false_alarms <= 3
    assert (tmp_path / "sine1.html").stat().st_size > 50_000
