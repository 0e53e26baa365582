"""What can go wrong between the service and a log.

LogError
 |- FencedError            another writer owns this id now
 |- OutcomeUnknownError    a commit was neither confirmed nor refused
 |- RecordTooLargeError    the carrier refuses a record of this size
 |- OffsetOutOfRangeError  the position is not in the log (any more, or yet)
 |- UnreadableRecordError  the bytes at a position are no record
 |- UnknownCodecError      the batch at a position is compressed by a codec that this install cannot read
 |- TopicError             a topic is missing, cannot be created, or has the wrong shape
 |- AccessDeniedError      the carrier knows us and says no
 |- LogLostError           the log itself is gone or damaged; nothing of it can go on
 |- UnavailableError       the carrier does not answer
"""


class LogError(Exception):
    """Anything that a log carrier reports. `retriable`: the same call may succeed later."""

    retriable = False


class FencedError(LogError):
    """Another writer of the same id was opened; this one must stop."""


class OutcomeUnknownError(LogError):
    """Nobody knows whether the transaction was committed. Drop the writer and acquire again."""

    retriable = True


class RecordTooLargeError(LogError):
    """A record is larger than the carrier takes. Nothing of its transaction was written."""

    def __init__(self, message: str, record: object = None) -> None:
        super().__init__(message)
        self.record = record
        """The record, the very object that was to be written."""


class OffsetOutOfRangeError(LogError):
    """A position lies before the first record that is kept, or behind the end."""

    def __init__(self, topic: str, partition: int, position: int, begin: int, end: int) -> None:
        super().__init__(f"{topic}[{partition}]: position {position} is not in the log, which holds [{begin}, {end})")
        self.topic, self.partition, self.position, self.begin, self.end = topic, partition, position, begin, end


class UnreadableRecordError(LogError):
    """The bytes at a position cannot be read as a record. To go on, seek to the position plus one."""

    def __init__(self, topic: str, partition: int, position: int, reason: str) -> None:
        super().__init__(f"{topic}[{partition}]: the record at position {position} cannot be read: {reason}")
        self.topic, self.partition, self.position, self.reason = topic, partition, position, reason


class UnknownCodecError(LogError):
    """A batch is compressed by a codec that this install cannot read. The records are good: it is never passed over."""

    def __init__(self, topic: str, partition: int, position: int, reason: str) -> None:
        super().__init__(
            f"{topic}[{partition}]: this install cannot decompress the batch at position {position}: {reason}. Install "
            "the package cramjam, which a complete install has, or a newer program, and start again: nothing is lost"
        )
        self.topic, self.partition, self.position, self.reason = topic, partition, position, reason


class TopicError(LogError):
    """A topic is missing and may not be created, or its partitions do not fit."""


class AccessDeniedError(LogError):
    """Credentials are refused, or they do not allow what was asked."""


class LogLostError(LogError):
    """The log as a whole is gone, or damaged: whoever works on it must end, and a person must decide."""


class UnavailableError(LogError):
    """The carrier does not answer."""

    retriable = True
