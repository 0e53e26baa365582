"""How the service under kill -9 is set: it commits and snapshots often, so that a kill is never far from either."""

import dataclasses
from pathlib import Path

import msgspec
import yaml

from service.config import Config, LoggingSettings, LogSettings, SqliteSettings
from service.http.settings import HttpSettings
from service.runtime.settings import RuntimeSettings, TopicSettings
from tests.simulation.scenario import draw

PARTITIONS = 2


@dataclasses.dataclass(frozen=True)
class Workplace:
    """Where a run keeps its files."""

    path: Path

    @property
    def log(self) -> Path:
        return self.path / "log.sqlite"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def said(self) -> Path:
        """What the processes wrote to standard error."""
        return self.path / "stderr.jsonl"


def configuration(place: Workplace, seed: int) -> Config:
    """Give the configuration; the core's is one of the simulator's."""
    return Config(
        log=LogSettings(sqlite=SqliteSettings(path=str(place.log))),
        # The inputs bear made-up times, and everything must still be there when it is judged: 100 years.
        topics=TopicSettings(partitions=PARTITIONS, retention_ms=3_155_760_000_000),
        runtime=RuntimeSettings(
            commit_interval_ms=30,
            urgent_commit_interval_ms=10,
            snapshot_interval_ms=200,
            max_idle_ms=200,
            poll_ms=20,
            restart_backoff_ms=20,
        ),
        core=draw(seed).config.core,
        http=HttpSettings(enabled=False),
        logging=LoggingSettings(level="warning", format="json"),
    )


def write_configuration(place: Workplace, config: Config) -> None:
    """Write it as the YAML that the command line reads."""
    place.config.write_text(yaml.safe_dump(msgspec.to_builtins(config)))
