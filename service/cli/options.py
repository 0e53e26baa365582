"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import UsageError, hide

if TYPE_CHECKING:
    from service.config import Config

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="YAML configuration; `tidegauge config example` prints one."),
]
Bootstrap = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT,...", help="Use the Kafka cluster of these brokers, whatever the file says."),
]
LogFile = Annotated[
    Path | None,
    typer.Option("--log", metavar="FILE.sqlite", help="Use the embedded log in this file, whatever the file says."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def configured(config: Path | None, bootstrap: str | None, log: Path | None, *, references: bool = True) -> "Config":
    """Read the configuration and put the options in it; see `load_config`. Raises ConfigError or UsageError."""
    import msgspec  # noqa: PLC0415

    from service.config import SqliteSettings, load_config, redaction, with_log  # noqa: PLC0415
    from service.eventlog.kafka_settings import KafkaSettings  # noqa: PLC0415

    if bootstrap is not None and log is not None:
        raise UsageError("--bootstrap and --log exclude each other: there is one log")
    settings = load_config(config, references=references)
    hide(redaction(settings).text)
    if bootstrap is not None:
        changed = {**msgspec.to_builtins(settings.log.kafka), "bootstrap_servers": bootstrap.split(",")}
        try:
            kafka = msgspec.convert(changed, KafkaSettings)
        except msgspec.ValidationError as error:
            raise UsageError(
                f"--bootstrap {bootstrap}: expected host:port, several with commas between: {error}"
            ) from error
        return with_log(settings, msgspec.structs.replace(settings.log, carrier="kafka", kafka=kafka))
    if log is not None:
        sqlite = SqliteSettings(path=str(log))
        return with_log(settings, msgspec.structs.replace(settings.log, carrier="sqlite", sqlite=sqlite))
    return settings
