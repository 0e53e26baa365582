"""Outputs as CloudEvents 1.0 on Kafka, in binary and in structured mode, and back.

Sources: CloudEvents 1.0.2 (`spec.md`), its Kafka protocol binding (`bindings/kafka-protocol-binding.md`), its JSON
format, and the extensions partitioning, correlation and severity. All attributes follow from the output alone, so a
replay writes the same bytes and a consumer may drop what it has seen by `(source, id)`.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

import msgspec
import orjson

from schemas.catalog import OUTPUTS, event_type, schema_id
from schemas.codec import encode
from schemas.identity import derive_id
from schemas.outputs import Alert, DeadLetter, FineTuneTrigger, MetricSnapshot, Output

Mode = Literal["binary", "structured"]
Attributes = dict[str, str | int]

BINARY_CONTENT_TYPE: Final = "application/json"
STRUCTURED_CONTENT_TYPE: Final = "application/cloudevents+json; charset=UTF-8"
SEVERITY_NUMBERS: Final = {"warning": 13, "critical": 18}
"""OpenTelemetry's log severities: WARN is 13; its table for syslog makes "critical" ERROR2, which is 18."""

# The String of CloudEvents' type system allows no control characters, surrogates or noncharacters.
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAMES = {struct: name for name, struct in OUTPUTS.items()}
_DECODERS: Final[dict[str, msgspec.json.Decoder[Output]]] = {
    event_type(name): msgspec.json.Decoder(struct) for name, struct in OUTPUTS.items()
}


class Message(NamedTuple):
    """What a record holds beside its place: UTF-8 key, value and headers."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class MessageError(ValueError):
    """A record is not a CloudEvent of ours. Says what is missing or wrong."""


class _Envelope(msgspec.Struct, frozen=True):
    specversion: str
    type: str
    data: msgspec.Raw


def default_source(service_name: str) -> str:
    """Give the `source` of a service: a relative URI reference, in which anything but URI characters is escaped."""
    return f"tidegauge/{quote(service_name, safe='')}"


def to_message(output: Output, *, source: str, mode: Mode = "binary") -> Message:
    """Write an output as a CloudEvent. Raises EncodeError where `encode` does."""
    value = encode(output)
    attributes = _attributes(output, source, value)
    key = partition_key(output).encode()
    if mode == "structured":
        # The data is embedded as it was encoded: both modes carry the same bytes.
        whole = orjson.dumps({**attributes, "data": orjson.Fragment(value)}, option=orjson.OPT_SORT_KEYS)
        return Message(key, whole, (("content-type", STRUCTURED_CONTENT_TYPE.encode()),))
    headers = [(f"ce_{name}", str(text).encode()) for name, text in attributes.items() if name != "datacontenttype"]
    return Message(key, value, (*headers, ("content-type", BINARY_CONTENT_TYPE.encode())))


def from_message(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> Output:
    """Read an output from a record of either mode. Raises MessageError where it is none of ours."""
    if value is None:
        raise MessageError("$: expected a CloudEvent, got a record without value")
    texts = {name.lower(): text for name, text in headers}
    content_type = texts.get("content-type", b"").strip().lower()
    try:
        if content_type.startswith(b"application/cloudevents+json"):
            envelope = msgspec.json.decode(value, type=_Envelope)
            return _decode_data(envelope.specversion, envelope.type, envelope.data)
        specversion, kind = (texts[name].decode() for name in ("ce_specversion", "ce_type"))
        return _decode_data(specversion, kind, value)
    except KeyError as missing:
        raise MessageError(f"header {missing}: required, but missing") from missing
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"not a CloudEvent of Tidegauge: {error}") from error


def partition_key(output: Output) -> str:
    """Give the record's key: the model, so that what concerns one model stays in order.

    A dead letter that tells no model goes by where it came from.
    """
    if isinstance(output, DeadLetter) and not output.model_id:
        return f"{output.topic}-{output.partition}"
    return output.model_id or ""


def rfc3339(epoch_ms: int) -> str | None:
    """Write UTC milliseconds as RFC 3339, `2025-01-31T09:30:00.125Z`; None where it cannot (year 1 to 9999)."""
    try:
        moment = _EPOCH + timedelta(milliseconds=epoch_ms)
    except OverflowError:
        return None
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _decode_data(specversion: str, kind: str, data: bytes | msgspec.Raw) -> Output:
    if specversion != "1.0":
        raise MessageError(f"specversion: expected 1.0, got {specversion[:80]!r}")
    if kind not in _DECODERS:
        raise MessageError(f"type: expected one of {', '.join(_DECODERS)}, got {kind[:80]!r}")
    return _DECODERS[kind].decode(data)


def _attributes(output: Output, source: str, value: bytes) -> Attributes:
    name = _NAMES[type(output)]
    attributes: dict[str, str | int | None] = {
        "specversion": "1.0",
        "id": _event_id(output, value),
        "source": source,
        "type": event_type(name),
        "subject": _subject(output),
        "time": rfc3339(output.event_time_ms),
        "dataschema": schema_id(name),
        "datacontenttype": BINARY_CONTENT_TYPE,
        "partitionkey": partition_key(output),
        **_extensions(output),
    }
    # An attribute without a value is left out; an empty one is not allowed.
    return {key: _clean(text) if isinstance(text, str) else text for key, text in attributes.items() if text}


def _extensions(output: Output) -> dict[str, str | int | None]:
    """Say what belongs together (correlation), what led to what (causation) and how bad it is (severity)."""
    if isinstance(output, (Alert, FineTuneTrigger)):
        severity: dict[str, str | int | None] = {
            "severitytext": output.severity,
            "severitynumber": SEVERITY_NUMBERS[output.severity],
        }
        if isinstance(output, Alert):
            return {"correlationid": output.incident_id, **severity}
        # A trigger that a person asked for belongs to no incident; its own transitions still belong together.
        return {
            "correlationid": output.incident_id or output.trigger_id,
            "causationid": output.incident_id,
            **severity,
        }
    if isinstance(output, DeadLetter):
        return {"causationid": _subject(output)}
    return {}


def _event_id(output: Output, value: bytes) -> str:
    if isinstance(output, Alert):
        return output.alert_id
    if isinstance(output, MetricSnapshot):
        return output.snapshot_id
    if isinstance(output, DeadLetter):
        return output.dead_letter_id
    # All transitions of a trigger share trigger_id, but each is an event of its own: its content tells it apart.
    return derive_id("fine_tune_trigger", output.trigger_id, value.decode())


def _subject(output: Output) -> str:
    if isinstance(output, DeadLetter):
        return f"{output.topic}/{output.partition}/{output.offset}"
    return output.model_id


def _clean(text: str) -> str:
    """Put U+FFFD for what an attribute must not hold. The payload keeps the text as it is."""
    return _FORBIDDEN.sub("\ufffd", text)
