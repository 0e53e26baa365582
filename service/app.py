"""The composition root: reads the clock, opens the log, wires the rooms together."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog

from service.config import Config, ConfigError, LoggingSettings, LogSettings
from service.config.environment import Redaction
from service.eventlog.errors import TopicError
from service.eventlog.kafka_settings import KafkaSecrets, KafkaSettings
from service.eventlog.protocol import Log
from service.log_lines import SparingStream
from service.runtime.context import TaskContext
from service.runtime.settings import TaskId
from service.runtime.spill import spill_of
from service.runtime.stats import TaskStats
from service.runtime.topics import prepare_topics
from service.runtime.worker import Worker

T = TypeVar("T")

log = structlog.get_logger(__name__)


def read_secrets(environment: Mapping[str, str]) -> KafkaSecrets:
    """Take secrets from the environment, or from files that it names.

    TIDEGAUGE_SASL_PASSWORD and TIDEGAUGE_TLS_KEY_PASSWORD, or the same with _FILE behind them and a path as value;
    for OAUTHBEARER TIDEGAUGE_OAUTH_TOKEN_FILE, which is read anew at each connect.

    Raises ConfigError that names the variable, never its value.
    """
    token_file = environment.get("TIDEGAUGE_OAUTH_TOKEN_FILE")

    async def token() -> str:
        return await asyncio.to_thread(_read_secret, "TIDEGAUGE_OAUTH_TOKEN_FILE", token_file or "")

    return KafkaSecrets(
        sasl_password=_secret("TIDEGAUGE_SASL_PASSWORD", environment),
        tls_key_password=_secret("TIDEGAUGE_TLS_KEY_PASSWORD", environment),
        token=token if token_file else None,
    )


def needed_secrets(settings: KafkaSettings, environment: Mapping[str, str]) -> KafkaSecrets:
    """Take the secrets that these settings cannot do without. Raises ConfigError that says what is missing."""
    secrets = read_secrets(environment)
    if not settings.security_protocol.startswith("SASL"):
        return secrets
    how = f"{settings.security_protocol} with {settings.sasl_mechanism}"
    where = "$.log.kafka.sasl_mechanism"
    if settings.sasl_mechanism == "OAUTHBEARER":
        if secrets.token is None:
            raise ConfigError(f"{how} needs a token: name its file in TIDEGAUGE_OAUTH_TOKEN_FILE", where)
    elif not secrets.sasl_password:
        told = "TIDEGAUGE_SASL_PASSWORD in the environment, or the path of its file in TIDEGAUGE_SASL_PASSWORD_FILE"
        raise ConfigError(f"{how} needs a password: put it in {told}", where)
    return secrets


def _secret(name: str, environment: Mapping[str, str]) -> str | None:
    path = environment.get(f"{name}_FILE")
    return environment.get(name) if path is None else _read_secret(f"{name}_FILE", path)


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigError(f"{variable}: {path}: {error.strerror or error}") from error


@contextlib.asynccontextmanager
async def open_log(settings: LogSettings) -> AsyncIterator[Log]:
    """Open the configured carrier, and close it."""
    carrier: Log
    # Imported here: the command line must answer at once, and a first run needs no Kafka client.
    if settings.carrier == "kafka":
        from service.eventlog.kafka import KafkaLog  # noqa: PLC0415

        carrier = KafkaLog(settings.kafka, needed_secrets(settings.kafka, os.environ))
    else:
        from service.eventlog.sqlite import SqliteLog  # noqa: PLC0415

        path = Path(settings.sqlite.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        carrier = SqliteLog(path)
    try:
        yield carrier
    finally:
        await carrier.close()


async def run_service(config: Config, stopping: asyncio.Event, carrier: Log | None = None) -> None:
    """Run one worker until `stopping` is set. `carrier`: an open log to use instead of the configured one.

    Raises LogError where the log cannot be used; not where it was asked to stop while it tried.
    """
    async with contextlib.AsyncExitStack() as stack:
        if carrier is None:
            carrier = await stack.enter_async_context(open_log(config.log))
        await unless_set(stopping, tell_limits(config.log))
        partitions = await unless_set(stopping, prepare_topics(carrier, config.topics, config.core))
        if partitions is None:
            log.info("stopped", name=config.runtime.name)
            return
        worker = make_worker(config, carrier, partitions)
        if config.http.enabled:
            from service.http.server import serve  # noqa: PLC0415  (aiohttp is a third of a start without it)

            await stack.enter_async_context(serve(config.http, worker))
        log.info("started", name=config.runtime.name, carrier=config.log.carrier, partitions=partitions)
        await worker.run(stopping)
        log.info("stopped", name=config.runtime.name)


async def tell_limits(settings: LogSettings) -> None:
    """Say in the log what the carrier cannot do that a newer one can."""
    if settings.carrier != "kafka":
        return
    from service.eventlog.kafka.probe import broker_limits  # noqa: PLC0415

    for told in await broker_limits(settings.kafka):
        log.warning("broker_limit", told=told)


async def unless_set(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Do work to its end, or give it up and give None when `stopping` is set first."""
    task, asked = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() and not stopping.is_set() else None
    finally:
        for job in (task, asked):
            job.cancel()
        await asyncio.gather(task, asked, return_exceptions=True)


def make_worker(config: Config, carrier: Log, partitions: int) -> Worker:
    """Wire a worker to a log."""
    spill = spill_of(config.core.join, Path(config.runtime.spill_directory))

    def context(partition: int, stats: TaskStats) -> TaskContext:
        if partition >= partitions:
            raise TopicError(
                f"the inputs got more partitions than the {partitions} that they had at the start: keys have moved "
                "between them. Stop the service and read what it says of its state when it starts again"
            )
        task_id = TaskId(config.runtime.name, config.runtime.group, partition)
        return TaskContext(task_id, carrier, config.topics, config.core, config.runtime, partitions, stats, spill)

    return Worker(carrier, config.topics, config.runtime, context)


async def run_until_signal(config: Config) -> None:
    """Run one worker until SIGTERM or SIGINT asks for a graceful end."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await run_service(config, stopping)


def configure_logging(settings: LoggingSettings, hidden: Redaction | None = None) -> None:
    """Send structured log lines to standard error. `hidden`: takes out what the environment gave."""
    as_console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    renderer: structlog.types.Processor = (
        # Plain tracebacks: the pretty ones show local variables, and with them secrets.
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if as_console
        else structlog.processors.JSONRenderer()
    )
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if hidden is not None:  # after the exceptions have become text
        shared.append(lambda _, __, event: hidden.plain(event))
    # Libraries speak through the standard library's logging: the same form, only what is a warning at least,
    # and that only so often.
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = SparingStream(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
