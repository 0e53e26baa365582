"""What a configuration takes from the environment is used, and never written down."""

import json
import logging
import warnings
from pathlib import Path

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from service.app import configure_logging
from service.cli.options import configured
from service.cli.warned import say_warnings_in_one_line
from service.config import Config, ConfigError, parse_config, redaction, shown
from service.config.environment import Redaction, substitute
from tests.cli.conftest import Cli

SECRET = "s3cret-and-long"  # noqa: S105

FREE_TEXTS = st.sampled_from(
    [
        ("log", "sqlite", "path"),
        ("log", "kafka", "tls_ca_file"),
        ("log", "kafka", "sasl_username"),
        ("log", "kafka", "client_id"),
        ("runtime", "name"),
        ("runtime", "group"),
        ("topics", "labels"),
        ("core", "models", "m", "feature_drift", "exclude", 0),
    ]
)


def nested(path: tuple[str | int, ...], text: str) -> object:
    if not path:
        return text
    inner = nested(path[1:], text)
    return [inner] if isinstance(path[0], int) else {path[0]: inner}


@given(path=FREE_TEXTS, before=st.text("ab", max_size=3), after=st.text("ab", max_size=3))
def test_what_is_shown_holds_the_text_of_the_file_and_not_the_value(
    path: tuple[str | int, ...], before: str, after: str
) -> None:
    text = f"{before}${{HIDDEN}}{after}"
    config = parse_config(nested(path, text), {"HIDDEN": SECRET})
    found = msgspec.to_builtins(config)
    for part in path:
        found = found[part]
    assert found == f"{before}{SECRET}{after}"
    told = json.dumps(shown(config))
    assert SECRET not in told
    assert text in told
    assert parse_config(shown(config), {"HIDDEN": SECRET}) == config
    assert SECRET not in redaction(config, {"HIDDEN": SECRET}).text(f"connecting to {SECRET}: no")


def test_the_error_of_a_value_from_the_environment_does_not_show_it() -> None:
    for data in ({"log": {"kafka": {"bootstrap_servers": ["${H}"]}}}, {"core": {"default": {"problem": "${H}"}}}):
        with pytest.raises(ConfigError) as refused:
            parse_config(data, {"H": SECRET})
        assert SECRET not in str(refused.value)
    rules = [{"metric": "${H}", "window": "last_1000", "below": 0.5}]
    with pytest.raises(ConfigError) as refused:
        parse_config({"core": {"default": {"performance": {"rules": rules}}}}, {"H": SECRET})
    assert SECRET not in str(refused.value)


def test_an_option_replaces_the_log_and_what_was_hidden_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDDEN", "broker:9092")
    file = tmp_path / "c.yaml"
    file.write_text(
        "log: {carrier: kafka, kafka: {bootstrap_servers: ['${HIDDEN}']}}\ntopics: {labels: '${NOT_SET_HERE:-x}'}"
    )
    assert shown(configured(file, None, None))["log"]["kafka"]["bootstrap_servers"] == ["${HIDDEN}"]
    plain = shown(configured(file, "other:1", None))
    assert plain["log"]["kafka"]["bootstrap_servers"] == ["other:1"]
    assert plain["topics"]["labels"] == "${NOT_SET_HERE:-x}"


def test_a_replay_and_its_report_hold_no_value_of_the_environment(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIDDEN", SECRET)
    file, rows = tmp_path / "c.yaml", tmp_path / "rows.csv"
    file.write_text("runtime: {name: 'svc-${HIDDEN}'}\nlog: {kafka: {sasl_username: '${HIDDEN}'}}\n")
    rows.write_text("x,said,truth\n" + "".join(f"{n},{'ab'[n % 2]},{'ab'[n % 3 % 2]}\n" for n in range(300)))
    words = (rows, "--config", file, "--model-id", "m", "--prediction", "said", "--label", "truth")
    first = cli("replay", *words, "--out", tmp_path / "run")
    assert first.exit_code == 0, first.output
    report = cli("backtest", *words, "--report", tmp_path / "report.html")
    assert report.exit_code == 0, report.output
    texts = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.suffix == ".json"]
    texts.append((tmp_path / "report.html").read_bytes())
    assert all(SECRET.encode() not in text for text in texts)
    assert all(b"${HIDDEN}" in text for text in texts)


def test_lines_of_the_log_hold_no_value_of_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.root.handlers[:]
    configure_logging(Config().logging, Redaction({SECRET: "${HIDDEN}", "ab": "${SHORT}"}))
    try:
        structlog.get_logger("x").error("failed", where=[f"at {SECRET}"], name="ab", fine="abc", port=9)
        try:
            int(SECRET)
        except ValueError:
            logging.getLogger("library").exception("connecting to %s", SECRET)
    finally:
        structlog.reset_defaults()
        logging.root.handlers[:] = before
    told = capsys.readouterr().err
    assert SECRET not in told
    assert told.count("${HIDDEN}") >= 3
    assert '"name": "${SHORT}"' in told
    assert '"fine": "abc"' in told


def test_words_of_a_choice_are_no_secrets() -> None:
    config = parse_config({"logging": {"level": "${LEVEL}"}, "runtime": {"name": "${N}"}}, {"LEVEL": "info", "N": "me"})
    assert redaction(config, {"LEVEL": "info", "N": "me"}).plain({"level": "info", "name": "me"}) == {
        "level": "info",
        "name": "${N}",
    }


def test_texts_of_a_stored_window_are_no_texts_of_the_file() -> None:
    data, found = substitute({"reference": {"data": {"names": ["${X}"]}, "path": "${P}"}}, {"P": "p"})
    assert data == {"reference": {"data": {"names": ["${X}"]}, "path": "p"}}
    assert [item.path for item in found] == [("reference", "path")]


def test_a_configuration_that_was_dumped_can_be_read_again() -> None:
    config = parse_config({"runtime": {"name": "mine"}}, {})
    assert parse_config(msgspec.json.decode(msgspec.json.encode(config)), {}) == config


def test_no_line_of_error_holds_a_value_of_the_environment(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIDDEN", SECRET)
    file = tmp_path / "c.yaml"
    texts = {
        "log: {carrier: kafka, kafka: {bootstrap_servers: ['${HIDDEN}.invalid:9092'], request_timeout_ms: 2000}}": 2,
        "log: {sqlite: {path: '/dev/null/${HIDDEN}/x.sqlite'}}": 2,
        "core: {models: {m: {reference: {path: '${HIDDEN}.json'}}}}": 2,
    }
    for text, code in texts.items():
        file.write_text(text)
        for words in (("watch", "--no-follow", "--config", file), ("config", "check", file, "--connect")):
            result = cli(*words)
            assert result.exit_code in (1, code), result.output
            assert SECRET not in result.output + result.stderr
            assert "${HIDDEN}" in result.output + result.stderr


def test_warnings_of_libraries_are_one_line_and_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    logging.captureWarnings(capture=False)
    before, shown_before = logging.root.handlers[:], warnings.showwarning
    try:
        say_warnings_in_one_line()
        warnings.showwarning("overflow\nencountered", RuntimeWarning, "core.py", 3)
        assert capsys.readouterr().err == "tidegauge: warning: RuntimeWarning: overflow encountered\n"
        configure_logging(Config().logging)
        warnings.showwarning("overflow", RuntimeWarning, "core.py", 3)
        assert json.loads(capsys.readouterr().err)["logger"] == "py.warnings"
    finally:
        logging.captureWarnings(capture=False)
        warnings.showwarning = shown_before
        structlog.reset_defaults()
        logging.root.handlers[:] = before
