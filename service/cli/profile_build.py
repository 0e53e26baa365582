"""What the command `profile build` does."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson
import typer

from service.cli.errors import UsageError
from service.cli.profile_command import OF_FILES
from service.cli.profile_summary import counts_of, words_of
from service.cli.replay_options import Given
from service.cli.replay_progress import Meter, replay_progress
from service.cli.replay_sources import Opened, opened
from service.config import Config
from service.core.reference import Reference, StoredReferenceError, encode_reference
from service.replay.plan import TaskPlan
from service.replay.reference import LearningError, Learnt, Wanted, learn_reference
from service.replay.session import Settings


class BuildRequest(NamedTuple):
    """What is asked of `profile build`."""

    given: Given
    out: Path
    limit: int


class BuildSummary(NamedTuple):
    """What came of it."""

    out: Path
    size: int
    learnt: Learnt
    reference: Reference
    bad_rows: int
    limit: int
    elapsed_s: float

    def as_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "file": str(self.out),
            "bytes": self.size,
            "model_id": self.learnt.key.model_id,
            "learnt_from_version": self.learnt.key.model_version,
            "for_version": self.reference.model_version,
            **counts_of(self.reference),
            "left_out": self.learnt.too_few,
            "records": self.learnt.records,
            "bad_rows": self.bad_rows,
            "dead_letters": self.learnt.dead_letters,
            "join": self.learnt.counts,
            "elapsed_s": round(self.elapsed_s, 3),
        }


async def build_profile(config: Config, request: BuildRequest) -> BuildSummary:
    """Learn and write. Raises the errors that people can mend."""
    given, meter = request.given, Meter()
    wanted = Wanted() if given["file"] is not None else Wanted(given["model_id"], given["model_version"])
    settings = Settings(config.core, config.runtime, config.topics)
    async with opened(config, _source_options(given, request.limit)) as source:
        with replay_progress(meter) as report:
            try:
                plans = [_without_commands(plan) for plan in source.plan.tasks]
                learnt = await learn_reference(settings, source.origin, plans, wanted, request.limit, report)
            except LearningError as error:
                raise UsageError(_blame(str(error), source)) from error
    data = _as_asked(learnt, given)
    try:
        encoded = encode_reference(data)
    except StoredReferenceError as error:
        raise UsageError(f"{request.out}: {error}; lower max_features or max_categories") from error
    draft = request.out.with_name(f"{request.out.name}.draft")
    draft.write_bytes(encoded)
    draft.replace(request.out)
    reference = msgspec.convert(data, Reference)
    return BuildSummary(
        request.out, len(encoded), learnt, reference, source.bad_rows.count, request.limit, meter.elapsed_s
    )


def _source_options(given: Given, limit: int) -> Given:
    """Give the options of the source as `replay` has them."""
    options = {name: given[name] for name in (*OF_FILES, "file", "from_", "to", "model_id")}
    # Times do not matter to a window, only the order of rows. A millisecond a row keeps the file's, at any length.
    options |= {"time": None, "time_unit": None, "time_zone": None, "start": None, "step_ms": 1}
    options |= {"order": "event-time", "warm_up": False}
    options |= {"label_delay_events": 0, "label_delay_ms": None, "limit": limit}
    options["model_version"] = given["model_version"] or "1"
    options["prediction"] = given["prediction"] or given["label"]
    if given["time"] is not None:
        options["exclude"] = ",".join(filter(None, (given["exclude"], given["time"])))
    return options


def _without_commands(plan: TaskPlan) -> TaskPlan:
    """Leave out the control topic: a reset in the middle would cut the window short."""
    return msgspec.structs.replace(plan, end=plan.end._replace(control=plan.start.control))


def _blame(message: str, source: Opened) -> str:
    bad = source.bad_rows.count
    return f"{message} ({bad:,} rows of the file could not be used)" if bad else message


def _as_asked(learnt: Learnt, given: Given) -> dict[str, Any]:
    data = dict(learnt.data)
    if given["model_version"] is not None and not given["any_version"]:
        data["model_version"] = learnt.key.model_version
    if given["file"] is not None and given["prediction"] is None:
        # Labels stood in for the predictions, which the file has not.
        data |= {"predictions": None, "loss": None}
    return data


def tell(summary: BuildSummary, *, as_json: bool) -> None:
    """Say what was built: on standard output in JSON, or in words."""
    if as_json:
        typer.echo(orjson.dumps(summary.as_json(), option=orjson.OPT_INDENT_2))
        return
    learnt = summary.learnt
    typer.echo(f"{summary.out}: {learnt.key.model_id}: {words_of(summary.reference)}; {summary.size:,} bytes")
    for part, count in learnt.too_few.items():
        sys.stderr.write(f"the window of the {part} is left out: {count:,} are too few\n")
    if summary.bad_rows:
        sys.stderr.write(f"{summary.bad_rows:,} rows of the file could not be used\n")
    for reason, count in learnt.dead_letters.items():
        sys.stderr.write(f"{count:,} records could not be used: {reason}\n")
    if learnt.counts.get("duplicates"):
        sys.stderr.write(f"{learnt.counts['duplicates']:,} predictions had an id that came before, and are left out\n")
    if counts_of(summary.reference)["events"] == summary.limit:
        sys.stderr.write(f"the window is full: what came behind the first {summary.limit:,} is not in it\n")
