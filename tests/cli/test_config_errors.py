"""A configuration that cannot be used: one line with its path and what is allowed, and exit code 2, within a moment."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.app import needed_secrets
from service.config import ConfigError, parse_config
from service.document import MAX_DEPTH, DocumentError, line_of, read_yaml
from service.eventlog.kafka_settings import KafkaSettings
from service.runtime.settings import TOPIC_FIELDS
from tests.cli.conftest import Cli

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

BROKEN = {
    "a key twice": ("log:\n  carrier: kafka\n  carrier: sqlite\n", "$.log.carrier (line 3): stands twice", "line 2"),
    "a group twice": ("core: {}\nlog: {}\ncore: {}\n", "$.core (line 3): stands twice", "line 1"),
    "a choice": ("log: {carrier: rabbit}", "$.log.carrier (line 1)", "expected one of kafka, sqlite"),
    "a choice of a model": (
        "core:\n  models:\n    good: {problem: binary}\n    churn.v2:\n      problem: clasification\n",
        "$.core.models.churn.v2.problem (line 5)",
        "expected one of auto, binary, multiclass, regression",
    ),
    "a misspelled field": ("log: {carier: kafka}", "$.log.carier (line 1): unknown field", "did you mean carrier?"),
    "an unknown field": ("http: {qqqq: 1}", "$.http.qqqq", "there are enabled"),
    "a wrong type": ("core:\n  tick_ms: soon\n", "$.core.tick_ms (line 2): Expected `int`, got `str`", ""),
    "a list for a group": ("- log\n- core\n", "$ (line 1): Expected `object`, got `array`", ""),
    "a number for a name": ("core: {models: {7: {}}}", "the name 7 is no text: put it in quotes", "$.core.models"),
    "two settings at odds": (
        "log:\n  kafka:\n    acquire_timeout_ms: 5\n",
        "$.log.kafka.acquire_timeout_ms (line 3): must be longer than",
        "",
    ),
    "no user": ("log: {kafka: {security_protocol: SASL_SSL}}", "$.log.kafka.sasl_username", "SASL_SSL with SCRAM"),
    "a bomb": (BOMB, "more than 500,000 values, with every alias written out", "line 6"),
    "an alias within itself": ("core: &a {models: *a}", "*a stands within &a, which would hold itself", ""),
    "depth": ("core: " + "[" * 100_000, f"more than {MAX_DEPTH} groups within each other", ""),
    "a tag": ("core: !!python/object/apply:os.system [ls]", "could not determine a constructor", "line 1"),
    "no YAML": ("core: [", "line 2, column 1: while parsing a flow node", ""),
    "no text": ("core: \x00", "bad.yaml", ""),
    "a date": ("core: 2026-13-45", "month must be in 1..12", ""),
    "a variable": ("\nruntime: {group: '${NOT_SET_ANYWHERE}'}", "$.runtime.group (line 2): the environment", ""),
    "a topic's name": ("topics: {labels: 'a b'}", "$.topics.labels", ""),
    "not a setting": ("placeholders: [{path: [log], text: x}]", "$.placeholders", "unknown field"),
}


@pytest.mark.parametrize(("text", "path", "also"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_one_line_with_path_and_remedy(
    cli: Cli, tmp_path: Path, text: str, path: str, also: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    result = cli("config", "check", file)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert str(file) in result.stderr
    assert path in result.stderr
    assert also in result.stderr


@pytest.mark.parametrize("field", TOPIC_FIELDS)
@pytest.mark.parametrize("other", TOPIC_FIELDS)
def test_no_two_topics_are_one(field: str, other: str) -> None:
    topics = {other: "mine.is_one", field: "mine.is_one"}
    if field == other:
        parse_config({"topics": topics}, {})
        return
    for name in ("mine.is_one", "mine_is.one"):
        with pytest.raises(ConfigError, match=r"^\$\.topics\.\w+: .*every topic needs a name of its own"):
            parse_config({"topics": topics | {field: name}}, {})


def test_a_huge_file_is_refused_before_it_is_understood(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "huge.yaml"
    with file.open("wb") as out:
        out.truncate(20 << 30)  # sparse: it takes no disk
    result = cli("config", "check", file)
    assert (result.exit_code, "larger than 10,000,000 bytes" in result.stderr) == (2, True)
    values = tmp_path / "values.yaml"
    values.write_text("core: [" + "1," * 4_900_000 + "1]")
    began = time.process_time()
    result = cli("config", "check", values)
    assert (result.exit_code, "more than 500,000 values" in result.stderr) == (2, True)
    assert time.process_time() - began < 30


def test_sasl_without_a_password_is_one_line_for_every_command(tmp_path: Path) -> None:
    file = tmp_path / "sasl.yaml"
    file.write_text("log: {carrier: kafka, kafka: {security_protocol: SASL_SSL, sasl_username: me}}")
    for words in (["run"], ["watch", "--no-follow"]):
        done = subprocess.run(
            [sys.executable, "-m", "service", *words, "--config", file], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["tidegauge"]
        assert "needs a password: put it in TIDEGAUGE_SASL_PASSWORD" in done.stderr


def test_a_token_is_needed_where_tokens_authenticate() -> None:
    settings = KafkaSettings(security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER")
    with pytest.raises(ConfigError, match="TIDEGAUGE_OAUTH_TOKEN_FILE"):
        needed_secrets(settings, {})
    assert needed_secrets(KafkaSettings(), {}).sasl_password is None


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab:-#é&*! '\"", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner),
    max_leaves=12,
)


@given(data=PLAIN)
def test_whatever_yaml_writes_is_read_as_it_was(data: object) -> None:
    import yaml

    assert read_yaml(yaml.safe_dump(data).encode()) == data


@given(text=st.text("ab:-#&*![]{},?|>\n '\"%@", max_size=60) | st.binary(max_size=40))
def test_no_text_escapes_as_anything_but_a_document_error(text: str | bytes) -> None:
    told = ""
    try:
        read_yaml(text.encode() if isinstance(text, str) else text)
    except DocumentError as error:
        told = str(error)
    assert len(told.splitlines()) <= 1


def test_aliases_that_stay_small_are_welcome_and_lines_are_found() -> None:
    text = b"core:\n  models:\n    a: &a\n      problem: binary\n    b: *a\n    c:\n      <<: *a\n"
    models = read_yaml(text)["core"]["models"]
    assert models["a"] == models["b"] == models["c"] == {"problem": "binary"}
    assert [line_of(text, path) for path in ("$.core.models.a.problem", "$.core.models.b.problem", "$.x")] == [4, 5, 1]
