"""One YAML file, validated, in which every field is documented with its unit and default.

`${NAME}` and `${NAME:-default}` in a string are replaced from the environment, so that secrets stay out of the file.
Unknown fields and wrong types are errors that name their path.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from detectors import registry
from service.core.metrics.catalogue import METRICS
from service.core.reference import (
    MAX_REFERENCE_BYTES,
    Reference,
    StoredReferenceError,
    check_reference,
    decode_reference,
)
from service.core.settings import CoreSettings, ModelProfile, Problem, ReferenceProfile, Settings
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


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file and the path in it."""


class _Yaml12Loader(yaml.SafeLoader):
    """YAML 1.2's booleans: true and false alone. In YAML 1.1 `on`, which is a setting, and the country `NO` are too."""


_Yaml12Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml12Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.IGNORECASE), "tTfF")

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def load_config(path: Path | None, environment: Mapping[str, str] = os.environ, *, references: bool = True) -> Config:
    """Read and check a configuration, and the reference windows that it names; None gives the defaults.

    `references`: false leaves the windows' files alone, for whoever is about to make one. Raises ConfigError.
    """
    if path is None:
        return Config()
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes")
    try:
        config = parse_config(read_yaml(text), environment)
        return with_references(config, path.parent) if references else config
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_yaml(text: bytes) -> Any:
    """Read YAML as configurations are read. Raises ConfigError."""
    try:
        return yaml.load(text, Loader=_Yaml12Loader)  # noqa: S506  (a safe loader)
    except yaml.YAMLError as error:
        raise ConfigError(str(error)) from error


def parse_config(data: Any, environment: Mapping[str, str] = os.environ) -> Config:
    """Check plain data and turn it into a configuration. Raises ConfigError that names the path.

    Files that it names are not read.
    """
    try:
        config = msgspec.convert({} if data is None else _substitute(data, "$", environment), Config)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from error
    _check_profile(config.core.default, "$.core.default")
    if config.core.default.reference != ReferenceProfile():
        raise ConfigError("$.core.default.reference: a reference window is one model's; put it under $.core.models")
    for name, profile in config.core.models.items():
        _check_profile(profile, f"$.core.models.{name}")
    return config


def _substitute(data: Any, path: str, environment: Mapping[str, str]) -> Any:
    if isinstance(data, dict):
        return {key: _substitute(value, f"{path}.{key}", environment) for key, value in data.items()}
    if isinstance(data, list):
        return [_substitute(value, f"{path}[{index}]", environment) for index, value in enumerate(data)]
    if not isinstance(data, str):
        return data

    def value_of(match: re.Match[str]) -> str:
        value = environment.get(match[1], match[2])
        if value is None:
            raise ConfigError(f"{path}: the environment variable {match[1]} is not set")
        return value

    return _VARIABLE.sub(value_of, data)


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
            raise ConfigError(f"{where}: {detector.name}: {error}") from error
    windows = {window.name for window in profile.performance.windows}
    for index, rule in enumerate(profile.performance.rules):
        where = f"{path}.performance.rules[{index}]"
        if rule.metric not in METRICS:
            raise ConfigError(f"{where}.metric: unknown metric {rule.metric!r}; known are {', '.join(METRICS)}")
        if rule.window not in windows:
            raise ConfigError(f"{where}.window: no window {rule.window!r}; there are {', '.join(sorted(windows))}")
