"""Reference windows that a configuration names: read when it is loaded, or refused by name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.config import ConfigError, load_config, parse_config
from tests.cli.conftest import Cli


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A window of model m, of 200 rows."""
    from typer.testing import CliRunner

    from service.cli.commands import app

    folder = tmp_path_factory.mktemp("profile")
    rows = ["x,said,truth", *(f"{n / 7},{'ab'[n % 2]},{'ab'[n % 3 % 2]}" for n in range(200))]
    (folder / "train.csv").write_text("\n".join(rows))
    words = ["profile", "build", str(folder / "train.csv"), "--model-id", "m", "--prediction", "said"]
    result = CliRunner().invoke(app, [*words, "--label", "truth", "--out", str(folder / "m.json")])
    assert result.exit_code == 0, result.output
    return folder / "m.json"


def configure(folder: Path, reference: dict[str, Any], model_id: str = "m", **profile: Any) -> Path:
    file = folder / "tidegauge.yaml"
    file.write_text(yaml.safe_dump({"core": {"models": {model_id: {"reference": reference, **profile}}}}))
    return file


def test_a_window_is_read_from_beside_the_configuration(
    tmp_path: Path, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "profiles").mkdir()
    shutil.copy(stored, tmp_path / "profiles" / "m.json")
    monkeypatch.chdir(tmp_path / "profiles")
    config = load_config(configure(tmp_path, {"path": "profiles/m.json"}), {})
    assert config.core.models["m"].reference.data == json.loads(stored.read_bytes())


def test_a_window_may_stand_in_the_configuration_itself(tmp_path: Path, stored: Path) -> None:
    data = json.loads(stored.read_bytes())
    assert load_config(configure(tmp_path, {"data": data}), {}).core.models["m"].reference.data == data
    data["features"]["table"]["names"] = []
    with pytest.raises(ConfigError, match=r"\$\.core\.models\.m\.reference\.data: \$\.features\.table\.categories"):
        load_config(configure(tmp_path, {"data": data}), {})


def test_a_window_that_cannot_be_used_is_refused_with_its_place(tmp_path: Path, stored: Path) -> None:
    good = json.loads(stored.read_bytes())
    for name, text, told in (
        ("missing.json", None, "No such file"),
        ("text.json", "hello", "not JSON"),
        ("newer.json", json.dumps(good | {"version": 2}), "$.version: 2 was written by a newer program"),
        ("other.json", json.dumps(good | {"model_id": "n"}), "it is of model 'n', not of 'm'"),
        ("damaged.json", json.dumps(good | {"loss": {"count": 3}}), "$.loss"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError) as refused:
            load_config(configure(tmp_path, {"path": name}), {})
        where = f"$.core.models.m.reference.path: {tmp_path / name}"
        assert where in str(refused.value)
        assert told in str(refused.value)


def test_a_window_of_classes_is_not_one_of_a_regression(tmp_path: Path, stored: Path) -> None:
    file = configure(tmp_path, {"path": str(stored)}, problem="regression")
    with pytest.raises(ConfigError, match="its window has classes, but the model's problem is regression"):
        load_config(file, {})
    assert load_config(configure(tmp_path, {"path": str(stored)}, problem="binary"), {}).core.models["m"].reference.data


def test_a_window_has_one_source_and_one_model(tmp_path: Path, stored: Path) -> None:
    with pytest.raises(ConfigError, match="expected path or data, got both"):
        load_config(configure(tmp_path, {"path": str(stored), "data": {}}), {})
    with pytest.raises(ConfigError, match=r"\$\.core\.default\.reference: a reference window is one model's"):
        parse_config({"core": {"default": {"reference": {"path": "m.json"}}}}, {})


def test_check_says_which_windows_there_are(cli: Cli, tmp_path: Path, stored: Path) -> None:
    result = cli("config", "check", configure(tmp_path, {"path": str(stored)}))
    assert result.exit_code == 0
    last = result.stdout.splitlines()[-1]
    assert last.startswith(f"reference window of m: {stored}: 1 features of 200 events, 200 predictions, 200 labels")
    assert cli("config", "check", configure(tmp_path, {"path": "nosuch.json"})).exit_code == 2


def test_a_configuration_may_name_the_window_that_is_to_be_built(cli: Cli, tmp_path: Path, stored: Path) -> None:
    file = configure(tmp_path, {"path": "new.json"}, feature_drift={"bins": 4, "exclude": ["y"]})
    words = ("--model-id", "m", "--prediction", "said", "--label", "truth", "--config", file)
    assert cli("profile", "build", stored.parent / "train.csv", *words, "--out", tmp_path / "new.json").exit_code == 0
    features = load_config(file, {}).core.models["m"].reference.data["features"]
    assert features["drift"]["histogram"]["features"][0]["bins"] == 4
