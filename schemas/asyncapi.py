"""The AsyncAPI 3.0 document: which topics there are, what lies in them and which way it flows.

Operations are told from the service's view, as the specification asks: it receives events and sends outputs.
3.0 is the lowest version that has all that is used here, so that older tools read it too.
"""

from typing import Any, Final, get_args

from schemas.catalog import DEFAULT_TOPICS, EVENTS, OUTPUTS, VERSION, event_type, schema_id
from schemas.cloudevents import BINARY_CONTENT_TYPE, SEVERITY_NUMBERS, STRUCTURED_CONTENT_TYPE
from schemas.events import Control
from schemas.jsonschema import component_schemas

Document = dict[str, Any]

_DESCRIPTION: Final = (
    "Tidegauge watches deployed machine-learning models. It receives predictions, labels and what training pipelines "
    "and people say, and sends alerts, fine-tune triggers, metric snapshots and dead letters. Topic names are the "
    "defaults; each can be configured. Predictions and labels have equally many partitions and the same key. What it "
    "sends is a CloudEvent 1.0, written in transactions: read with isolation.level=read_committed. In structured mode "
    f"the value is the whole CloudEvent and content-type is {STRUCTURED_CONTENT_TYPE}."
)
_HEADERS: Final[dict[str, tuple[str, bool]]] = {
    "ce_specversion": ("version of CloudEvents, 1.0", True),
    "ce_id": ("of this event; unique within its source, the same in a replay", True),
    "ce_source": ("the service that sent it, tidegauge/<service name> by default", True),
    "ce_type": ("what it is, as io.tidegauge.alert.v1", True),
    "ce_time": ("event time, RFC 3339 in UTC with milliseconds", False),
    "ce_subject": ("the model, or the place of a dead letter's record: topic/partition/offset", False),
    "ce_dataschema": ("$id of the JSON Schema of the value", True),
    "ce_partitionkey": ("the key of the record", False),
    "ce_correlationid": ("the incident to which it belongs", False),
    "ce_causationid": ("what led to it: the incident of a trigger, the record of a dead letter", False),
    "ce_severitytext": ("warning or critical", False),
    "ce_severitynumber": (
        f"OpenTelemetry's number: {', '.join(f'{name} {number}' for name, number in SEVERITY_NUMBERS.items())}",
        False,
    ),
    "content-type": (f"{BINARY_CONTENT_TYPE} in binary mode", True),
}


def document() -> Document:
    """Build the document. Plain data, in the order in which a person reads it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidegauge",
            "version": f"{VERSION}.0.0",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": BINARY_CONTENT_TYPE,
        "servers": {"kafka": _server()},
        "channels": {name: _channel(name) for name in DEFAULT_TOPICS},
        "operations": {**_operations("receive", list(EVENTS)), **_operations("send", list(OUTPUTS))},
        "components": {
            "messages": _messages(),
            "messageTraits": {"cloud_event": _cloud_event_trait()},
            "schemas": component_schemas(_structs(), "#/components/schemas/{name}"),
        },
    }


def _server() -> Document:
    return {
        "host": "{bootstrap}",
        "protocol": "kafka",
        "description": "any broker of the cluster",
        "variables": {"bootstrap": {"default": "localhost:9092", "description": "host:port of a broker"}},
    }


def _structs() -> list[Any]:
    return [struct for payload in [*EVENTS.values(), *OUTPUTS.values()] for struct in _members(payload)]


def _members(payload: Any) -> tuple[Any, ...]:
    return get_args(Control) if payload is Control else (payload,)


def _channel(name: str) -> Document:
    payload = {**EVENTS, **OUTPUTS}[name]
    messages = [struct.__name__ for struct in _members(payload)]
    return {
        "address": DEFAULT_TOPICS[name],
        "messages": {message: {"$ref": f"#/components/messages/{message}"} for message in messages},
        "bindings": {"kafka": {"topicConfiguration": {"cleanup.policy": ["delete"]}}},
    }


def _operations(action: str, names: list[str]) -> Document:
    return {f"{action}_{name}": {"action": action, "channel": {"$ref": f"#/channels/{name}"}} for name in names}


def _messages() -> Document:
    incoming = [struct for payload in EVENTS.values() for struct in _members(payload)]
    return {
        **{struct.__name__: _message(struct) for struct in incoming},
        **{struct.__name__: _message(struct) | _cloud_event_parts(name) for name, struct in OUTPUTS.items()},
    }


def _message(struct: Any) -> Document:
    return {
        "name": struct.__name__,
        "title": struct.__name__,
        "summary": (struct.__doc__ or "").partition("\n")[0],
        "contentType": BINARY_CONTENT_TYPE,
        "payload": {"$ref": f"#/components/schemas/{struct.__name__}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": "model_id"}}},
    }


def _cloud_event_parts(name: str) -> Document:
    constants = {"ce_type": {"const": event_type(name)}, "ce_dataschema": {"const": schema_id(name)}}
    return {
        "headers": {"type": "object", "properties": constants},
        "traits": [{"$ref": "#/components/messageTraits/cloud_event"}],
    }


def _cloud_event_trait() -> Document:
    return {
        "summary": "Attributes of a CloudEvent 1.0 in Kafka's binary mode: headers with UTF-8 values.",
        "headers": {
            "type": "object",
            "required": [name for name, (_, required) in _HEADERS.items() if required],
            "properties": {name: {"type": "string", "description": text} for name, (text, _) in _HEADERS.items()},
        },
    }
