"""The transactional writer of one id, and the plain appender.

Aiokafka speaks version 0 of the transaction protocol: no fencing by group generation (KIP-447), no recovery of the
epoch (KIP-360). What is left, and is enough: one `transactional.id` for each task, whose latest opener fences all
earlier ones; and a producer that is thrown away after anything that is not a plain success.
"""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from service.eventlog.errors import FencedError, LogError, OutcomeUnknownError, UnavailableError
from service.eventlog.kafka.client import bounded
from service.eventlog.kafka.producing import discard, new_producer, plan, send, start
from service.eventlog.kafka.topics import Topics
from service.eventlog.kafka_settings import KafkaSecrets, KafkaSettings
from service.eventlog.protocol import NewRecord

ABORT_LIMIT_MS = 3_000
"""An abort only spares readers the wait for the transaction's time-out, so it is not waited for long."""


class KafkaWriter:
    """A producer that holds the lock of its id until another one is opened."""

    def __init__(self, producer: AIOKafkaProducer, topics: Topics, settings: KafkaSettings, writer_id: str) -> None:
        self._producer = producer
        self._topics = topics
        self._settings = settings
        self._writer_id = writer_id
        self._ended: LogError | None = None
        self.closed = False

    async def commit(self, records: Sequence[NewRecord]) -> None:
        """Append all records in one transaction, or none."""
        if self._ended is not None:
            raise self._ended
        # Nothing is sent yet: whatever is wrong with the records themselves, the writer may go on.
        batches = await plan(self._producer, self._topics, records, self._settings.batch_bytes)
        if not batches:
            return
        # Held against this writer until the commit is confirmed: a caller who is cancelled here never knows.
        self._ended = OutcomeUnknownError(f"{self._writer_id}: an earlier commit was interrupted")
        confirmed = False
        try:
            async with bounded(self._settings.commit_timeout_ms, f"committing as {self._writer_id}"):
                await self._producer.begin_transaction()
                await send(self._producer, batches)
                await self._producer.commit_transaction()
            confirmed = True
        except FencedError as error:
            self._ended = error
            raise
        except LogError as error:
            self._ended = OutcomeUnknownError(str(error))
            raise self._ended from error
        finally:
            if not confirmed:
                await self._throw_away()
        self._ended = None

    async def _throw_away(self) -> None:
        """Abort where the commit was not asked for yet, then drop the producer.

        Once it was asked for nobody may say abort, and aiokafka's state machine refuses it. A fenced producer's abort
        is refused by the broker, which has aborted already.
        """
        if self.closed:
            return
        self.closed = True
        if not isinstance(self._ended, FencedError):
            try:
                async with bounded(ABORT_LIMIT_MS, "aborting"):
                    await self._producer.abort_transaction()
            except LogError:
                # The broker aborts by itself after transaction_timeout_ms.
                pass
        await discard(self._producer, self._settings.request_timeout_ms)

    async def close(self) -> None:
        """Let go of connections. Commits are over when this is called, or were cancelled and have been cleaned up."""
        self._ended = self._ended or FencedError(f"the writer of {self._writer_id} is closed")
        if not self.closed:
            self.closed = True
            await discard(self._producer, self._settings.request_timeout_ms)


async def open_writer(settings: KafkaSettings, secrets: KafkaSecrets, topics: Topics, writer_id: str) -> KafkaWriter:
    """Fence all earlier writers of this id and wait until their transaction is resolved (InitProducerId does both)."""
    producer = new_producer(
        settings, secrets, transactional_id=writer_id, transaction_timeout_ms=settings.transaction_timeout_ms
    )
    await start(producer, settings.acquire_timeout_ms, f"opening writer {writer_id}")
    return KafkaWriter(producer, topics, settings, writer_id)


class KafkaAppender:
    """An idempotent producer without transactions. After a failure it is replaced: its sequence numbers may not fit."""

    def __init__(self, settings: KafkaSettings, secrets: KafkaSecrets, topics: Topics) -> None:
        self._settings = settings
        self._secrets = secrets
        self._topics = topics
        self._producer: AIOKafkaProducer | None = None
        self._one_at_a_time = asyncio.Lock()
        self.closed = False

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Append in order for each partition; return when the broker has them.

        After UnavailableError some of the records may be in the log, or come into it yet.
        """
        async with self._one_at_a_time:
            if self.closed:
                raise UnavailableError("the appender is closed")
            producer = await self.open()
            batches = await plan(producer, self._topics, records, self._settings.batch_bytes)
            sent = False
            try:
                async with bounded(self._settings.commit_timeout_ms, "appending"):
                    await send(producer, batches)
                sent = True
            finally:
                if not sent:
                    await self._drop_producer()

    async def open(self) -> AIOKafkaProducer:
        """Give the producer, a new one where there is none."""
        if self._producer is None:
            producer = new_producer(self._settings, self._secrets)
            await start(producer, self._settings.request_timeout_ms, "opening an appender")
            self._producer = producer
        return self._producer

    async def close(self) -> None:
        """Let go of connections; what was appended is with the broker already."""
        self.closed = True
        await self._drop_producer()

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await discard(producer, self._settings.request_timeout_ms)
