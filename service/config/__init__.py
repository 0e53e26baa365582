"""One YAML file, validated, in which every field is documented with its unit and default.

`${NAME}` and `${NAME:-default}` in a string are replaced from the environment, so that secrets stay out of the file,
and out of whatever is written: see `shown`. Unknown fields and wrong types are errors that name their path and line.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from detectors import registry
from service.config.environment import MissingVariableError, Placeholder, Redaction, put_back, substitute, values_of
from service.config.explain import explain, is_choice, written
from service.core.metrics.catalogue import METRICS
from service.core.reference import (
    MAX_REFERENCE_BYTES,
    Reference,
    StoredReferenceError,
    check_reference,
    decode_reference,
)
from service.core.settings import CoreSettings, ModelProfile, Problem, ReferenceProfile, Settings
from service.document import DocumentError, line_of
from service.document import read_yaml as _read_document
from service.eventlog.kafka_settings import KafkaSettings
from service.http.settings import HttpSettings
from service.runtime.settings import RuntimeSettings, TopicSettings

MAX_CONFIG_BYTES = 10_000_000
"""A larger file is refused: it is not a configuration."""


class SqliteSettings(Settings, frozen=True):
    """The embedded log."""

    path: Annotated[str, Meta(description="file of the embedded log; it is created")] = "var/tidegauge.sqlite"


class LogSettings(Settings, frozen=True):
    """Where records come from and go to."""

    carrier: Annotated[Literal["sqlite", "kafka"], Meta(description="sqlite is embedded and needs no broker")] = (
        "sqlite"
    )
    sqlite: SqliteSettings = SqliteSettings()
    kafka: KafkaSettings = KafkaSettings()


class LoggingSettings(Settings, frozen=True):
    """What the service says of itself, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Annotated[
        Literal["auto", "console", "json"], Meta(description="auto: console on a terminal, else json")
    ] = "auto"


class Config(Settings, frozen=True):
    """The whole configuration. An empty file is a valid one."""

    log: LogSettings = LogSettings()
    topics: TopicSettings = TopicSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    core: CoreSettings = CoreSettings()
    http: HttpSettings = HttpSettings()
    logging: LoggingSettings = LoggingSettings()

    placeholders: tuple[Placeholder, ...] = ()
    """No setting: where the file took texts from the environment. A file cannot give it."""


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file, the path in it, and its line."""

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message if path is None else f"{path}: {message}")
        self.message = message
        self.path = path


def load_config(path: Path | None, environment: Mapping[str, str] = os.environ, *, references: bool = True) -> Config:
    """Read and check a configuration, and the reference windows that it names; None gives the defaults.

    `references`: false leaves the windows' files alone, for whoever is about to make one. Raises ConfigError.
    """
    if path is None:
        return Config()
    text = read_bounded(path)
    hidden = Redaction({})
    try:
        config = parse_config(read_yaml(text), environment)
        hidden = redaction(config, environment)
        return with_references(config, path.parent) if references else config
    except ConfigError as error:
        line = None if error.path is None else line_of(text, error.path)
        told = str(error) if line is None else f"{error.path} (line {line}): {error.message}"
        raise ConfigError(f"{path}: {hidden.text(told)}") from None  # the cause may show what the environment gave


def read_bounded(path: Path) -> bytes:
    """Read a file that a person wrote. Raises ConfigError where it is larger than such a file is, or not to be read."""
    try:
        with path.open("rb") as file:  # a size asked for beforehand would be that of another file, or of a device
            text = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES:,} bytes: this is no configuration")
    return text


def read_yaml(text: bytes) -> Any:
    """Read YAML as configurations are read: bounded, without duplicate keys. Raises ConfigError."""
    try:
        return _read_document(text)
    except DocumentError as error:
        raise ConfigError(str(error)) from error


def parse_config(data: Any, environment: Mapping[str, str] = os.environ) -> Config:
    """Check plain data and turn it into a configuration. Raises ConfigError that names the path.

    Files that it names are not read.
    """
    data = {} if data is None else data
    if isinstance(data, dict) and data.get("placeholders"):  # a configuration that was dumped has an empty one
        raise ConfigError("unknown field", "$.placeholders")
    try:
        replaced, placeholders = substitute(data, environment)
    except MissingVariableError as error:
        raise ConfigError(str(error), written(error.path)) from error
    hidden = Redaction(values_of(placeholders, environment))
    try:
        config = msgspec.convert(replaced, Config)
        _check_profiles(config)
    except msgspec.ValidationError as error:
        path, what = explain(error, replaced, Config)
        raise ConfigError(hidden.text(what), path) from None  # the cause would show what the environment gave
    except ConfigError as error:
        raise ConfigError(hidden.text(error.message), error.path) from None
    return msgspec.structs.replace(config, placeholders=placeholders)


def _check_profiles(config: Config) -> None:
    _check_profile(config.core.default, "$.core.default")
    if config.core.default.reference != ReferenceProfile():
        raise ConfigError("a reference window is one model's; put it under $.core.models", "$.core.default.reference")
    for name, profile in config.core.models.items():
        _check_profile(profile, f"$.core.models.{name}")


# What the environment gave --------------------------------------------------------------------------------------------


def shown(config: Config) -> dict[str, Any]:
    """Give a configuration as plain data that may be written down: with the texts `${NAME}`, not their values.

    `parse_config` makes the configuration of it again, where the environment is the same.
    """
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(config))  # lists, as a file holds them
    del plain["placeholders"]
    put_back(plain, config.placeholders)
    return plain


def with_log(config: Config, log: LogSettings) -> Config:
    """Put another log into a configuration: what its file took from the environment for this is forgotten."""
    kept = tuple(item for item in config.placeholders if item.path[:1] != ("log",))
    return msgspec.structs.replace(config, log=log, placeholders=kept)


def redaction(config: Config, environment: Mapping[str, str] = os.environ) -> Redaction:
    """Give what takes the environment's values out of lines that are written."""
    return Redaction(_secret_values(config.placeholders, environment))


def _secret_values(placeholders: tuple[Placeholder, ...], environment: Mapping[str, str]) -> dict[str, str]:
    # One of a few fixed words, such as the level of the log, is no secret, and stands in many lines.
    free = [item for item in placeholders if not is_choice(Config, item.path)]
    return values_of(free, environment)


# Reference windows ----------------------------------------------------------------------------------------------------


def with_references(config: Config, folder: Path) -> Config:
    """Read the reference windows that the models' profiles name, relative to a folder. Raises ConfigError."""
    models = {
        model_id: _with_reference(profile, f"$.core.models.{model_id}.reference", model_id, folder)
        for model_id, profile in config.core.models.items()
    }
    return msgspec.structs.replace(config, core=msgspec.structs.replace(config.core, models=models))


def _with_reference(profile: ModelProfile, where: str, model_id: str, folder: Path) -> ModelProfile:
    stored = profile.reference
    if stored.path is None:
        if stored.data is not None:
            check_stored(stored.data, profile.problem, f"{where}.data", model_id)
        return profile
    if stored.data is not None:
        raise ConfigError(f"{where}: expected path or data, got both")
    path = folder / stored.path
    where = f"{where}.path: {path}"
    try:
        if path.stat().st_size > MAX_REFERENCE_BYTES:
            raise ConfigError(f"{where}: larger than {MAX_REFERENCE_BYTES:,} bytes")
        data, _ = decode_reference(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror or error}") from error
    except StoredReferenceError as error:
        raise ConfigError(f"{where}: {error}") from error
    check_stored(data, profile.problem, where, model_id)
    return msgspec.structs.replace(profile, reference=ReferenceProfile(path=stored.path, data=data))


def check_stored(data: Any, problem: Problem, where: str, model_id: str) -> Reference:
    """Say whether a reference window is one that this model can be watched against. Raises ConfigError."""
    try:
        reference = check_reference(data)
    except StoredReferenceError as error:
        raise ConfigError(f"{where}: {error}") from error
    if reference.model_id != model_id:
        raise ConfigError(f"{where}: $.model_id: it is of model {reference.model_id!r}, not of {model_id!r}")
    for values in (reference.predictions, reference.labels):
        if values is not None and problem != "auto" and values.is_classes != (problem != "regression"):
            kind = "classes" if values.is_classes else "numbers"
            raise ConfigError(f"{where}: its window has {kind}, but the model's problem is {problem}")
    return reference


# Checks that the types cannot make ------------------------------------------------------------------------------------


def _check_profile(profile: ModelProfile, path: str) -> None:
    for index, detector in enumerate(profile.concept_drift.detectors):
        where = f"{path}.concept_drift.detectors[{index}]"
        try:
            registry.make(detector.name, **detector.params)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{detector.name}: {error}", where) from error
    windows = {window.name for window in profile.performance.windows}
    for index, rule in enumerate(profile.performance.rules):
        where = f"{path}.performance.rules[{index}]"
        if rule.metric not in METRICS:
            raise ConfigError(f"unknown metric {rule.metric!r}; known are {', '.join(METRICS)}", f"{where}.metric")
        if rule.window not in windows:
            raise ConfigError(f"no window {rule.window!r}; there are {', '.join(sorted(windows))}", f"{where}.window")
