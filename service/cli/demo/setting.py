"""What the demo plays: how long the stream is, when it drifts, and how the monitor is set for it."""

from pathlib import Path
from secrets import token_hex
from typing import Final

import msgspec

from service.config import Config, LogSettings, SqliteSettings
from service.core.settings import AlertSettings, CoreSettings, FineTuneSettings, ModelProfile
from service.eventlog.kafka_settings import KafkaSettings
from service.http.settings import HttpSettings
from service.runtime.settings import TOPIC_FIELDS, RuntimeSettings, TopicSettings

EVENTS: Final = 8_000
DRIFT_AT: Final = 4_000
"""After the references are learnt (1,000 predictions, 500 outcomes), and long enough to show quiet."""

HISTORY: Final = 2_000
"""Visits on which the first version was trained."""

LABEL_DELAY: Final = 150
STEP_MS: Final = 1_000
START_MS: Final = 1_735_689_600_000
"""2025-01-01T00:00:00Z. Fixed, so that the data are the same each time; in the past, as event times must be."""

_MINUTE_MS: Final = 60_000


def demo_config(kafka: str | None, folder: Path) -> Config:
    """Give the monitor's configuration: the defaults, but with patience that fits a stream of 2.5 hours."""
    profile = ModelProfile(
        alerts=AlertSettings(keep_firing_for_ms=_MINUTE_MS),
        fine_tune=FineTuneSettings(min_labels=300, verify_outcomes=300, cooldown_ms=_MINUTE_MS),
        snapshot_interval_ms=5 * _MINUTE_MS,
    )
    return Config(
        log=_log(kafka, folder),
        topics=TopicSettings() if kafka is None else _topics_of_its_own(),
        core=CoreSettings(default=profile),
        http=HttpSettings(enabled=False),
        runtime=RuntimeSettings(
            name="tidegauge-demo",
            group=f"tidegauge-demo-{token_hex(4)}",
            commit_interval_ms=200,
            urgent_commit_interval_ms=50,
            poll_ms=50,
        ),
    )


def _log(kafka: str | None, folder: Path) -> LogSettings:
    if kafka is None:
        return LogSettings(carrier="sqlite", sqlite=SqliteSettings(path=str(folder / "demo.sqlite")))
    return LogSettings(carrier="kafka", kafka=KafkaSettings(bootstrap_servers=tuple(kafka.split(","))))


def _topics_of_its_own() -> TopicSettings:
    """Name topics that nobody has, so that a demo leaves other data alone."""
    prefix = f"tidegauge-demo-{token_hex(4)}"
    names = {
        name: f"{prefix}.{default.removeprefix('tidegauge.')}" if name in TOPIC_FIELDS else default
        for name, default in msgspec.to_builtins(TopicSettings()).items()
    }
    return msgspec.convert(names, TopicSettings)
