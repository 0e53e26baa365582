"""The commands and their options. What they do is imported when they run: `tidegauge --help` must answer at once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.backtest import backtest
from service.cli.demo_command import demo
from service.cli.diff import diff
from service.cli.errors import UsageError, hide, plain_errors
from service.cli.log_command import log_app
from service.cli.options import Bootstrap, ConfigFile, Json, LogFile, configured
from service.cli.produce_command import produce
from service.cli.profile_command import profile_app
from service.cli.replay import replay, replay_task
from service.cli.signals import run_until_sigterm
from service.cli.state_command import state_app
from service.cli.sweep import sweep, sweep_part

if TYPE_CHECKING:
    from service.config import Config

app = typer.Typer(
    help="Watches machine-learning models in production through their event streams: joins predictions with late "
    "labels, detects drift, alerts, and triggers fine-tuning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    # Plain help: rich's takes three times as long to import as all the rest.
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"tidegauge {version('tidegauge')}")
        raise typer.Exit


@app.callback()
def program(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""


config_app = typer.Typer(
    help="Write, check and explain the configuration.", no_args_is_help=True, rich_markup_mode=None
)


def run(
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    log: LogFile = None,
    http_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the HTTP endpoint, whatever the file says.")
    ] = None,
    workers: Annotated[
        int,
        typer.Option(help="Processes that share the tasks (Kafka only); the HTTP ports rise by one from the first's."),
    ] = 1,
) -> None:
    """Run the monitor until SIGTERM or Ctrl-C."""
    with plain_errors():
        from service.cli.running import RunOptions, run_workers  # noqa: PLC0415

        run_workers(configured(config, bootstrap, log), RunOptions(config, bootstrap, log, http_port), workers)


def watch(
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    log: LogFile = None,
    alerts: Annotated[bool, typer.Option("--alerts", help="Show alerts.")] = False,
    triggers: Annotated[bool, typer.Option("--triggers", help="Show fine-tune triggers.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="Show metric snapshots.")] = False,
    dead_letters: Annotated[bool, typer.Option("--dead-letters", help="Show records that could not be used.")] = False,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Begin with the oldest that is kept; --no-follow always does.")
    ] = False,
    follow: Annotated[bool, typer.Option(help="Wait for more, until Ctrl-C.")] = True,
    model: Annotated[str | None, typer.Option(metavar="ID", help="Only this model.")] = None,
    as_json: Json = False,
) -> None:
    """Show alerts, triggers and metrics as they come.

    All three, or those that you name.
    """
    chosen = {"alerts": alerts, "triggers": triggers, "metrics": metrics, "dead_letters": dead_letters}
    kinds = tuple(kind for kind, wanted in chosen.items() if wanted) or ("alerts", "triggers", "metrics")
    with plain_errors():
        from rich.console import Console  # noqa: PLC0415

        from service.app import open_log  # noqa: PLC0415
        from service.cli.watch import WatchRequest, watch_log  # noqa: PLC0415

        settings = configured(config, bootstrap, log)
        if settings.log.carrier == "sqlite" and not Path(settings.log.sqlite.path).exists():
            raise UsageError(f"{settings.log.sqlite.path}: no such log; `tidegauge run` or `produce` makes one")
        request = WatchRequest(
            kinds=kinds,
            from_beginning=from_beginning or not follow,
            follow=follow,
            as_json=as_json,
            model_id=model,
        )

        async def work() -> None:
            async with open_log(settings.log) as carrier:
                await watch_log(request, carrier, settings.topics, Console(highlight=False))

        run_until_sigterm(work())


def schema(
    name: Annotated[str | None, typer.Argument(help="A payload, asyncapi, or detectors; none: list the names.")] = None,
) -> None:
    """Print schemas and the list of detectors.

    The JSON Schema of an event, the AsyncAPI document, or the detectors and their parameters.
    """
    with plain_errors():
        import orjson  # noqa: PLC0415

        from service.cli.schema import document, names  # noqa: PLC0415

        if name is None:
            typer.echo("\n".join(names()))
        else:
            typer.echo(orjson.dumps(document(name), option=orjson.OPT_INDENT_2))


@config_app.command("check")
def config_check(
    file: Annotated[Path, typer.Argument(help="The YAML file.")],
    connect: Annotated[
        bool, typer.Option("--connect", help="Also try the log: brokers, topics, codecs, rights, clock.")
    ] = False,
) -> None:
    """Say whether a configuration can be used, and if not, where it is wrong.

    With --connect each thing that was tried is one line, ok or what to mend; the exit code is 1 where one is not ok.
    Nothing is created, written or fenced.
    """
    with plain_errors():
        from service.cli.profile_summary import reference_lines  # noqa: PLC0415
        from service.config import load_config, redaction  # noqa: PLC0415

        settings = load_config(file)
        hidden = redaction(settings)
        hide(hidden.text)
        models = len(settings.core.models)
        typer.echo(f"{file}: fine; carrier {settings.log.carrier}, {models} models with a profile of their own")
        for line in reference_lines(settings):
            typer.echo(hidden.text(line))
        if connect and not _show_connection(settings):
            raise typer.Exit(1)


def _show_connection(settings: "Config") -> bool:
    """Print what was tried; say whether all of it is well."""
    import asyncio  # noqa: PLC0415
    import os  # noqa: PLC0415

    from service.cli.connect_check import check_connection  # noqa: PLC0415
    from service.config import redaction  # noqa: PLC0415

    hidden = redaction(settings)

    async def show() -> bool:
        well = True
        async for finding in check_connection(settings, os.environ):
            typer.echo(hidden.text(f"{'ok' if finding.good else 'MEND':4} {finding.what}: {finding.told}"))
            well = well and finding.good
        return well

    return asyncio.run(show())


@config_app.command("example")
def config_example() -> None:
    """Print a configuration with every field at its default, explained."""
    with plain_errors():
        from service.cli.config_docs import example  # noqa: PLC0415

        typer.echo(example(), nl=False)


@config_app.command("reference")
def config_reference() -> None:
    """Print the reference of the configuration as Markdown (docs/configuration.md)."""
    with plain_errors():
        from service.cli.config_docs import reference  # noqa: PLC0415

        typer.echo(reference(), nl=False)


# In the order in which they are listed: first what people try, then what they come to need.
for command in (demo, run, produce, watch, replay, backtest, sweep, diff, schema):
    app.command()(command)
app.command("sweep-part", hidden=True)(sweep_part)
app.command("replay-task", hidden=True)(replay_task)
app.add_typer(config_app, name="config")
app.add_typer(profile_app, name="profile")
app.add_typer(state_app, name="state")
app.add_typer(log_app, name="log")
