"""Outputs on their way to their topics: encoded at once, so that what waits is bytes that can be counted."""

from collections.abc import Iterable

from schemas.cloudevents import Message, to_message
from schemas.outputs import Alert, DeadLetter, FineTuneTrigger, MetricSnapshot, Output
from service.core.failures import ModelError, Phase
from service.eventlog.protocol import NewRecord
from service.runtime.settings import RuntimeSettings, TopicSettings


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
        self.size_bytes = 0
        self.urgent = False
        """Whether an alert or a trigger waits."""

    def add(self, outputs: Iterable[Output]) -> None:
        """Encode outputs in order. Raises ModelError where one of a model cannot be written."""
        for output in outputs:
            message = self._message(output)
            topic = self._topics[type(output)]
            self._records.append(NewRecord(topic, self._partition, message.key, message.value, message.headers))
            self.size_bytes += len(message.value)
            self.urgent = self.urgent or isinstance(output, Alert | FineTuneTrigger)

    def _message(self, output: Output) -> Message:
        try:
            return to_message(output, source=self._source, mode=self._mode)
        except Exception as error:
            if isinstance(output, DeadLetter):
                raise
            phase: Phase = "tell" if isinstance(output, MetricSnapshot) else "encode"
            raise ModelError(output.model_id, phase, error) from error

    def peek(self) -> list[NewRecord]:
        """Give what waits, in order."""
        return list(self._records)

    def clear(self) -> None:
        """Forget what a commit has taken."""
        self._records.clear()
        self.size_bytes = 0
        self.urgent = False
