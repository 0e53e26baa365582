"""A reference training pipeline: follows fine-tune triggers, trains, and reports.

For each trigger it acknowledges, reads the training window (offset ranges of the prediction and label topics) from the
log, joins it by prediction_id, continues the training of the current version (mode `stateful`) or begins anew
(`stateless`), stores the new version, and reports it. It may be stopped anywhere: a version's name follows from its
trigger, and what was reported stands in the control topic, so a restart does what is left and nothing twice.

Run it beside `tidegauge run`:  python -m examples.fine_tuner --log var/tidegauge.sqlite --store var/models
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from examples.online_model import ModelError, ModelStore, OnlineModel, is_positive
from examples.topics import newest_event_time_ms, read_range, read_whole_topic
from schemas.cloudevents import MessageError, from_message
from schemas.codec import decode_controls, decode_labels, decode_predictions, encode_event
from schemas.events import FineTuneStatus, Label, Prediction, TrainingStatus
from schemas.outputs import FineTuneTrigger
from service.cli.options import Bootstrap, ConfigFile, LogFile, configured
from service.eventlog.errors import LogError
from service.eventlog.partitioner import partition_for
from service.eventlog.protocol import Appender, Log, NewRecord, TopicPartition
from service.runtime.settings import TopicSettings

EPOCHS = 5
"""How often the window is learnt: it is short, and a model that has settled needs pushing."""

MAX_ROWS = 100_000
"""Rows of a window that are trained on. Of a longer one the newest are taken, for they show the new concept."""

MAX_RECORD_BYTES = 1_048_576
MAX_REMEMBERED = 10_000
"""Finished triggers that are remembered. An older one has long timed out, which its last transition says."""

ENDED = frozenset({"verifying", "completed", "failed", "timed_out", "cancelled"})


class TrainingError(ValueError):
    """A trigger cannot be served; the reason goes into the report."""


class Row(NamedTuple):
    """One labelled prediction."""

    features: Mapping[str, float | str | bool | None]
    positive: bool


class FineTuner:
    """Serves the triggers of all models in a log."""

    def __init__(self, log: Log, topics: TopicSettings, store: ModelStore) -> None:
        self._log = log
        self._topics = topics
        self._store = store
        self._appender: Appender | None = None
        self._finished: dict[str, None] = {}
        """trigger_ids, oldest first."""

    async def follow(self) -> None:
        """Serve triggers until cancelled. Raises LogError."""
        await self._remember_reports()
        count = (await self._log.partitions([self._topics.triggers]))[self._topics.triggers]
        partitions = [TopicPartition(self._topics.triggers, number) for number in range(count)]
        reader = await self._log.reader(dict.fromkeys(partitions, 0))
        reader.seek(await reader.begin_offsets())
        waiting: dict[str, FineTuneTrigger] = {}
        try:
            while True:
                for chunk in await reader.fetch(max_records=1000, wait_ms=200):
                    for headers, value in zip(chunk.headers, chunk.values, strict=True):
                        _note(waiting, headers, value)
                # Only at the end is it known what became of an old trigger.
                if all(reader.at_end(where) for where in partitions):
                    for trigger in waiting.values():
                        await self.serve(trigger)
                    waiting.clear()
        finally:
            await reader.close()
            await self.close()

    async def close(self) -> None:
        """Let go of the log's writer."""
        if self._appender is not None:
            await self._appender.close()
            self._appender = None

    async def serve(self, trigger: FineTuneTrigger) -> FineTuneStatus | None:
        """Serve one trigger; give the last report, or None where it was served before. Raises LogError."""
        if trigger.trigger_id in self._finished:
            return None
        await self._report(trigger, "acknowledged")
        version = version_for(trigger)
        try:
            rows = await self.training_rows(trigger)
            model = OnlineModel() if trigger.mode == "stateless" else self._store.load(trigger.model_version)
            await self._report(trigger, "running")
            # In a thread: training must not stop the heartbeats of whatever else runs in this process.
            await asyncio.to_thread(train, model, rows)
            self._store.save(version, model)
        except (TrainingError, ModelError, LogError) as error:
            report = await self._report(trigger, "failed", reason=str(error))
        else:
            report = await self._report(trigger, "completed", model_version=version)
        self._remember(trigger.trigger_id)
        return report

    async def training_rows(self, trigger: FineTuneTrigger) -> list[Row]:
        """Read and join a trigger's window. Raises TrainingError, or LogError where retention has deleted it."""
        predictions: list[Prediction] = []
        labels: list[Label] = []
        for part in trigger.window:
            values = await read_range(self._log, part)
            if part.topic == self._topics.predictions:
                predictions += decode_predictions(values, MAX_RECORD_BYTES).events
            elif part.topic == self._topics.labels:
                labels += decode_labels(values, MAX_RECORD_BYTES).events
        rows = join(trigger.model_id, predictions, labels)
        if not rows:
            raise TrainingError(f"no labelled rows in the window of trigger {trigger.trigger_id}")
        return rows[-MAX_ROWS:]

    async def _report(
        self,
        trigger: FineTuneTrigger,
        status: TrainingStatus,
        *,
        model_version: str | None = None,
        reason: str | None = None,
    ) -> FineTuneStatus:
        # The stream's own time, not the wall clock's: on a topic that is filled from a file, now would lie in the
        # future of all its events, and time would jump.
        newest_ms = await newest_event_time_ms(self._log, self._topics.predictions, trigger.model_id)
        report = FineTuneStatus(
            trigger_id=trigger.trigger_id,
            model_id=trigger.model_id,
            event_time_ms=max(trigger.event_time_ms, newest_ms),
            status=status,
            model_version=model_version,
            reason=reason,
        )
        count = (await self._log.partitions([self._topics.control]))[self._topics.control]
        key = trigger.model_id.encode()
        if self._appender is None:
            self._appender = await self._log.appender()
        await self._appender.append(
            [NewRecord(self._topics.control, partition_for(key, count), key, encode_event(report))]
        )
        return report

    async def _remember_reports(self) -> None:
        """Learn from the control topic what was finished before this process began."""
        values = await read_whole_topic(self._log, self._topics.control)
        for event in decode_controls(values, MAX_RECORD_BYTES).events:
            if isinstance(event, FineTuneStatus) and event.status in ("completed", "failed"):
                self._remember(event.trigger_id)

    def _remember(self, trigger_id: str) -> None:
        self._finished[trigger_id] = None
        if len(self._finished) > MAX_REMEMBERED:
            del self._finished[next(iter(self._finished))]


def version_for(trigger: FineTuneTrigger) -> str:
    """Name the version that a trigger makes: always the same one, so that training twice makes one version."""
    return f"{trigger.model_version.partition('+')[0]}+{trigger.trigger_id[:8]}"


def join(model_id: str, predictions: Sequence[Prediction], labels: Sequence[Label]) -> list[Row]:
    """Join one model's predictions and labels, in the order of the predictions. The highest revision counts."""
    truth: dict[tuple[str, str | None, str | None], Label] = {}
    for label in labels:
        key = (label.prediction_id, label.row_id, label.target)
        if label.model_id == model_id and (key not in truth or label.revision > truth[key].revision):
            truth[key] = label
    rows = []
    for prediction in predictions:
        if prediction.model_id != model_id or prediction.features is None:
            continue
        # Taken out, so that a prediction that was delivered twice is learnt once.
        known = truth.pop((prediction.prediction_id, prediction.row_id, prediction.target), None)
        if known is not None:
            rows.append(Row(prediction.features, is_positive(known.label)))
    return rows


def train(model: OnlineModel, rows: Sequence[Row]) -> None:
    """Go on training a model, in place."""
    for _ in range(EPOCHS):
        for row in rows:
            model.learn(row.features, row.positive)


def _note(waiting: dict[str, FineTuneTrigger], headers: Sequence[tuple[str, bytes]], value: bytes | None) -> None:
    """Keep the newest transition of each open trigger."""
    try:
        trigger = from_message(headers, value)
    except MessageError as error:
        typer.echo(f"a record of the trigger topic is passed over: {error}", err=True)
        return
    if isinstance(trigger, FineTuneTrigger):
        waiting.pop(trigger.trigger_id, None)
        if trigger.state not in ENDED:
            waiting[trigger.trigger_id] = trigger


def main(
    store: Annotated[Path, typer.Option(help="Folder of model versions.")] = Path("var/models"),
    config: ConfigFile = None,
    bootstrap: Bootstrap = None,
    log: LogFile = None,
) -> None:
    """Serve fine-tune triggers until Ctrl-C."""
    from service.app import open_log  # noqa: PLC0415  (opens the log that the options name)

    settings = configured(config, bootstrap, log)

    async def work() -> None:
        async with open_log(settings.log) as carrier:
            await FineTuner(carrier, settings.topics, ModelStore(store)).follow()

    asyncio.run(work())


if __name__ == "__main__":
    typer.run(main)
