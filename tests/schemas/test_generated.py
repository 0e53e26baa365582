"""Laws of the published schemas: they are fresh, complete, and agree with what the codec does."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from schemas import generate
from schemas.catalog import DEFAULT_TOPICS, EVENTS, OUTPUTS, PAYLOADS, event_type
from schemas.cloudevents import default_source, to_message
from schemas.codec import decode_controls, decode_labels, decode_predictions, encode, encode_event
from schemas.jsonschema import schema
from tests.schemas.records import LIMIT, changed
from tests.strategies import alerts, controls, dead_letters, labels, outputs, predictions, snapshots, triggers

LAW = settings(deadline=None, max_examples=40)
VALIDATORS = {name: Draft202012Validator(schema(name)) for name in PAYLOADS}
ASYNCAPI = json.loads(generate.rendered()["asyncapi.json"])
OF_OUTPUTS = {
    "alert": alerts(),
    "fine_tune_trigger": triggers(),
    "metric_snapshot": snapshots(),
    "dead_letter": dead_letters(),
}
OF_EVENTS = {
    "prediction": (predictions(), decode_predictions),
    "label": (labels(), decode_labels),
    "control": (controls(), decode_controls),
}


def test_the_generated_files_are_fresh():
    assert generate.stale(generate.FOLDER) == [], "run python -m schemas.generate"


def test_the_check_names_each_file_that_is_stale_and_writing_mends_it(tmp_path, capsys):
    folder = tmp_path / "generated"
    assert generate.main([], folder) == 0
    assert generate.main(["--check"], folder) == 0
    (folder / "alert.schema.json").write_text("{}")
    (folder / "label.schema.json").unlink()
    (folder / "orphan.json").write_text("{}")
    assert generate.main(["--check"], folder) == 1
    assert "stale: alert.schema.json, label.schema.json, orphan.json" in capsys.readouterr().err
    assert generate.main([], folder) == 0
    assert generate.stale(folder) == []
    assert generate.main(["--chekc"], folder) == 2


def test_another_interpreter_generates_the_same_bytes():
    code = "import sys; from schemas.generate import rendered; sys.stdout.buffer.write(b''.join(rendered().values()))"
    command = [sys.executable, "-c", code]
    root = generate.FOLDER.parent.parent
    for seed in ("1", "2"):
        run = subprocess.run(command, cwd=root, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True)
        assert run.stdout == b"".join(generate.rendered().values())


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_schema_is_valid_and_says_what_it_is(name):
    content = schema(name)
    Draft202012Validator.check_schema(content)
    assert content["$id"] == f"urn:tidegauge:schema:{name}:v1"
    assert content["title"]
    assert content["description"]


@pytest.mark.parametrize("name", PAYLOADS)
def test_every_field_says_what_it_is_and_what_is_counted_in_time_or_bytes_has_a_unit(name):
    content = schema(name)
    structs = [content, *content.get("$defs", {}).values()]
    fields = [(field, rule) for struct in structs for field, rule in struct.get("properties", {}).items()]
    assert len(fields) > 5
    for field, rule in fields:
        assert rule.get("description") or field == "type", field
        assert not re.search("_(ms|bytes)$", field) or rule["x-unit"] in ("ms", "By"), field


@pytest.mark.parametrize("name", OUTPUTS)
@LAW
@given(data=st.data())
def test_what_is_sent_is_valid(name, data):
    VALIDATORS[name].validate(json.loads(encode(data.draw(OF_OUTPUTS[name]))))


@pytest.mark.parametrize("name", EVENTS)
@LAW
@given(data=st.data())
def test_what_a_producer_encodes_is_valid(name, data):
    VALIDATORS[name].validate(json.loads(encode_event(data.draw(OF_EVENTS[name][0]))))


@pytest.mark.parametrize("name", EVENTS)
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_the_schema_accepts_exactly_what_the_decoder_accepts(name, data):
    events, decode = OF_EVENTS[name]
    fields = data.draw(changed(events))
    decoded = decode([json.dumps(fields).encode()], LIMIT)
    assert VALIDATORS[name].is_valid(fields) == (len(decoded.events) == 1), decoded.rejections


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_without_its_required_fields_is_invalid(name):
    assert not VALIDATORS[name].is_valid({})


def refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for item in node.values() for ref in refs(item)]
    return [ref for item in node for ref in refs(item)] if isinstance(node, list) else []


def resolve(ref: str) -> Any:
    node = ASYNCAPI
    for step in ref.removeprefix("#/").split("/"):
        node = node[step]
    return node


def test_every_reference_of_the_asyncapi_document_leads_somewhere():
    found = refs(ASYNCAPI)
    assert len(found) > 20
    for ref in found:
        assert ref.startswith("#/")
        assert isinstance(resolve(ref), dict)


def test_every_default_topic_is_a_channel_that_flows_one_way():
    addresses = {name: channel["address"] for name, channel in ASYNCAPI["channels"].items()}
    assert addresses == DEFAULT_TOPICS
    flows = {operation["channel"]["$ref"]: operation["action"] for operation in ASYNCAPI["operations"].values()}
    assert flows == {f"#/channels/{name}": "receive" if name in EVENTS else "send" for name in PAYLOADS}


@LAW
@given(output=outputs())
def test_a_message_has_the_headers_that_the_document_promises(output):
    message = to_message(output, source=default_source("demo"))
    headers = {name: text.decode() for name, text in message.headers}
    described = resolve("#/components/messageTraits/cloud_event")["headers"]
    assert headers.keys() <= described["properties"].keys()
    assert set(described["required"]) <= headers.keys()
    own = ASYNCAPI["components"]["messages"][type(output).__name__]["headers"]
    Draft202012Validator(own).validate(headers)


@LAW
@given(output=outputs())
def test_a_message_has_the_payload_that_the_document_promises(output):
    resource = Resource.from_contents({"$schema": "https://json-schema.org/draft/2020-12/schema", **ASYNCAPI})
    registry = Registry().with_resource("urn:asyncapi", resource)
    ref = ASYNCAPI["components"]["messages"][type(output).__name__]["payload"]["$ref"]
    Draft202012Validator({"$ref": f"urn:asyncapi{ref}"}, registry=registry).validate(json.loads(encode(output)))


def test_the_document_tells_the_type_of_each_cloud_event():
    messages = ASYNCAPI["components"]["messages"]
    told = {messages[struct.__name__]["headers"]["properties"]["ce_type"]["const"] for struct in OUTPUTS.values()}
    assert told == {event_type(name) for name in OUTPUTS}
