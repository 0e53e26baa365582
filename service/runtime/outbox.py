"""Outputs on their way to their topics: encoded at once, so that what waits is bytes that can be counted."""

from collections.abc import Iterable

from schemas.cloudevents import Message, to_message
from schemas.outputs import Alert, DeadLetter, FineTuneTrigger, MetricSnapshot, Output
from service.core.failures import ModelError, Phase
from service.core.units import unit_of
from service.eventlog.errors import RecordTooLargeError
from service.eventlog.protocol import NewRecord
from service.runtime.settings import RuntimeSettings, TopicSettings


def _blamed(output: Output, error: Exception) -> Exception:
    if isinstance(output, DeadLetter):  # the record's that it is about, and no model's
        return error
    phase: Phase = "tell" if isinstance(output, MetricSnapshot) else "encode"
    unit = output.model_id if output.target is None else unit_of(output.model_id, output.target)
    blamed = ModelError(unit, phase, error)
    blamed.__cause__ = error
    return blamed


class Outbox:
    """Encoded outputs that wait for the next commit."""

    def __init__(self, topics: TopicSettings, settings: RuntimeSettings, partition: int) -> None:
        self._partition = partition
        self._source = f"tidegauge/{settings.name}"
        self._mode = settings.cloudevents_mode
        self._topics: dict[type[Output], str] = {
            Alert: topics.alerts,
            FineTuneTrigger: topics.triggers,
            MetricSnapshot: topics.metrics,
            DeadLetter: topics.dead_letters,
        }
        self._records: list[NewRecord] = []
        self._sources: list[Output] = []
        """What each record tells, to know whom to blame for it."""
        self.size_bytes = 0
        self.urgent = False
        """Whether an alert or a trigger waits."""

    def add(self, outputs: Iterable[Output]) -> None:
        """Encode outputs in order. Raises ModelError where one of a model cannot be written."""
        for output in outputs:
            message = self._message(output)
            topic = self._topics[type(output)]
            self._records.append(NewRecord(topic, self._partition, message.key, message.value, message.headers))
            self._sources.append(output)
            self.size_bytes += len(message.value)
            self.urgent = self.urgent or isinstance(output, Alert | FineTuneTrigger)

    def _message(self, output: Output) -> Message:
        try:
            return to_message(output, source=self._source, mode=self._mode)
        except Exception as error:
            raise _blamed(output, error) from error

    def blamed(self, error: RecordTooLargeError) -> Exception | None:
        """Say of an output that the log takes no record of its size whose it is; None where it is none of these."""
        for record, output in zip(self._records, self._sources, strict=True):
            if record is error.record:
                return _blamed(output, error)
        return None

    def peek(self) -> list[NewRecord]:
        """Give what waits, in order."""
        return list(self._records)

    def clear(self) -> None:
        """Forget what a commit has taken."""
        self._records.clear()
        self._sources.clear()
        self.size_bytes = 0
        self.urgent = False
