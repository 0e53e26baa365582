"""The command line, run in this process on an embedded log of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli.commands import app

Cli = Callable[..., Result]


@pytest.fixture
def cli() -> Cli:
    """Run `tidegauge` with some words."""

    def run(*words: str | Path) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    return run


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"
