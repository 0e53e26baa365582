"""`tidegauge config` and `tidegauge schema`: the documentation is made from the settings, and stays true."""

import json
from pathlib import Path

import pytest

from detectors import registry
from schemas.catalog import PAYLOADS
from service.cli.config_docs import example, reference
from service.config import Config, load_config
from tests.cli.conftest import Cli

ROOT = Path(__file__).parent.parent.parent


def test_the_example_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(example())
    assert load_config(file, {}) == Config()


def test_words_that_older_yaml_takes_for_booleans_are_names(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("core: {models: {no: {fine_tune: {on: [performance], enabled: false}}, y: {}}}")
    models = load_config(file, {}).core.models
    assert list(models) == ["no", "y"]
    assert (models["no"].fine_tune.on, models["no"].fine_tune.enabled) == (("performance",), False)


def test_every_field_of_the_example_stands_under_a_comment() -> None:
    lines = [line.strip() for line in example().splitlines()]
    fields = [place for place, line in enumerate(lines) if line and not line.startswith("#")]
    assert len(fields) > 100
    assert all(lines[place - 1].startswith("# ") for place in fields)


def test_the_reference_in_docs_is_up_to_date() -> None:
    stale = "docs/configuration.md is stale: tidegauge config reference > docs/configuration.md"
    assert (ROOT / "docs" / "configuration.md").read_text() == reference(), stale


def test_check_says_that_a_good_file_is_fine(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text("log: {carrier: kafka}\ncore: {models: {m: {problem: binary}}}\n")
    result = cli("config", "check", file)
    assert (result.exit_code, "carrier kafka, 1 models" in result.stdout) == (0, True)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("log: {carier: kafka}", "carier"),
        ("core: {tick_ms: 0}", "$.core.tick_ms"),
        ("core: [", "bad.yaml"),
        ("core: {default: {concept_drift: {detectors: [{name: nosuch}]}}}", "detectors[0]"),
        ("runtime: {group: '${NO_SUCH_VARIABLE_HERE}'}", "NO_SUCH_VARIABLE_HERE"),
    ],
)
def test_check_names_the_path_of_what_is_wrong(cli: Cli, tmp_path: Path, text: str, where: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    result = cli("config", "check", file)
    assert result.exit_code == 2
    assert where in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_printed_example_and_reference_are_those_of_the_library(cli: Cli) -> None:
    assert cli("config", "example").stdout == example()
    assert cli("config", "reference").stdout == reference()


def test_schema_prints_each_payload_and_the_list_of_names(cli: Cli) -> None:
    names = cli("schema").stdout.split()
    assert names == [*PAYLOADS, "asyncapi", "detectors"]
    for name in PAYLOADS:
        assert json.loads(cli("schema", name).stdout)["$id"].endswith(f"{name}:v1")
    assert json.loads(cli("schema", "asyncapi").stdout)["asyncapi"].startswith("3.")


def test_schema_detectors_lists_every_detector_with_its_parameters(cli: Cli) -> None:
    found = json.loads(cli("schema", "detectors").stdout)
    assert list(found) == registry.names()
    assert all(set(found[name]) == set(registry.parameters(name)) for name in found)


def test_an_unknown_schema_is_refused_with_the_names(cli: Cli) -> None:
    result = cli("schema", "nosuch")
    assert result.exit_code == 2
    assert "there are prediction, label, control" in result.stderr
