"""The two commands on a machine with nothing but Python and make, the lock files, and the images."""

import importlib.util
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parent.parent
LOCKS: Final = ("requirements.txt", "requirements-dev.txt", "requirements-build.txt")


def script(name: str) -> ModuleType:
    """Import a program, which lies in no package because it must run before there is an environment."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environment: Any = script("environment")
pin_images: Any = script("pin_images")


def locked(name: str) -> dict[str, tuple[Requirement, list[str]]]:
    """The packages of a lock file with their hashes."""
    joined = (ROOT / name).read_text().replace("\\\n", " ")
    found = {}
    for line in joined.splitlines():
        words = line.split(" --hash=sha256:")
        requirement = Requirement(words[0].strip())
        found[requirement.name] = (requirement, [word.strip() for word in words[1:]])
    return found


# Lock files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_to_one_version_and_its_hashes(name: str) -> None:
    for requirement, hashes in locked(name).values():
        assert re.fullmatch(r"==[^,]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [Requirement(text) for text in project["project"]["dependencies"]]
    wanted_for_development = [Requirement(text) for text in project["project"]["optional-dependencies"]["dev"]]
    runtime, development, build = (locked(name) for name in LOCKS)
    for requirements, lock in ((wanted, runtime), (wanted + wanted_for_development, development)):
        for requirement in requirements:
            [version] = [part.version for part in lock[requirement.name.lower()][0].specifier]
            assert requirement.specifier.contains(version), f"{requirement}: run `make lock`"
    assert {name: str(pin[0]) for name, pin in runtime.items()}.items() <= {
        name: str(pin[0]) for name, pin in development.items()
    }.items()
    for requirement in map(Requirement, project["build-system"]["requires"]):
        [version] = [part.version for part in build[requirement.name][0].specifier]
        assert requirement.specifier.contains(version)


def test_wheels_of_other_platforms_are_locked_too() -> None:
    # numpy has wheels for Linux (two processors and two libraries), macOS and Windows, and for each Python.
    assert len(locked("requirements.txt")["numpy"][1]) > 20


def test_whatever_installs_demands_the_hashes_and_builds_nothing_from_elsewhere() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    program = (ROOT / "scripts" / "environment.py").read_text()
    assert "--require-hashes -r requirements-build.txt -r requirements.txt" in dockerfile
    assert "--no-deps --no-build-isolation ." in dockerfile
    assert program.count('"--require-hashes"') == 2
    assert '"--no-deps", "--no-build-isolation"' in program
    assert not re.search(r"(pip|uv) install|ensurepip", (ROOT / "Makefile").read_text())


@pytest.mark.parametrize("name", [*LOCKS, "requirements-build.in", "Dockerfile", "Makefile", "pyproject.toml"])
def test_no_file_names_the_host_of_a_registry(name: str) -> None:
    assert not re.search(r"https?://|index-url|trusted-host", (ROOT / name).read_text())


# The environment ------------------------------------------------------------------------------------------------------


class Machine:
    """What a machine does with the commands that it is given; `cures`: the package after which ensurepip is there."""

    def __init__(self, cures: str | None = None) -> None:
        self.cures = cures
        self.has_it = False
        self.done: list[str] = []

    def do(self, command: Sequence[str]) -> int:
        self.done.append(" ".join(command))
        if self.cures is not None and command[-1] == self.cures:
            self.has_it = True
        return 0 if command[1] == "update" or self.has_it else 100

    def supply(self, *, is_root: bool, has_apt: bool) -> None:
        environment.supply_ensurepip(self.do, has_it=lambda: self.has_it, is_root=is_root, has_apt=has_apt)


OWN: Final = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"


def test_root_installs_what_the_distribution_parts_from_python() -> None:
    machine = Machine(cures=OWN)
    machine.supply(is_root=True, has_apt=True)
    assert [line.split()[1] for line in machine.done] == ["update", "install"]
    other = Machine(cures="python3-venv")
    other.supply(is_root=True, has_apt=True)
    assert other.done[-1].endswith(" python3-venv")


def test_nothing_is_installed_where_nothing_is_missing() -> None:
    machine = Machine()
    machine.has_it = True
    machine.supply(is_root=True, has_apt=True)
    assert machine.done == []


@pytest.mark.parametrize(
    ("is_root", "has_apt", "told"),
    [
        (False, True, f"Run: sudo apt-get install -y {OWN}  "),
        (False, False, "make setup PY=/path/to/python3"),
        (True, True, f"apt-get could install neither {OWN} nor python3-venv"),
    ],
)
def test_elsewhere_the_one_command_is_told(is_root: bool, has_apt: bool, told: str) -> None:
    with pytest.raises(environment.SetupError, match=re.escape(told)):
        Machine().supply(is_root=is_root, has_apt=has_apt)


def test_a_package_that_cannot_be_fetched_may_be_tried_again(capfd: pytest.CaptureFixture[str]) -> None:
    lock = ROOT / "requirements-build.txt"
    command = [sys.executable, "-m", "pip", "install", "--index-url", "http://127.0.0.1:1/", "--retries", "0"]
    options = ["--no-deps", "--dry-run", "--ignore-installed", "--require-hashes", "-r", str(lock)]
    with pytest.raises(environment.SetupError, match=r"requirements-build\.txt could not be fetched .* command again"):
        environment.fetch([*command, *options], lock.name, do=lambda words: environment.run([*words, "--isolated"]))
    assert "No matching distribution found for setuptools" in capfd.readouterr().err


# Images ---------------------------------------------------------------------------------------------------------------


def test_every_image_can_be_pinned_and_pinned_anew() -> None:
    for name in pin_images.FILES:
        text = (ROOT / name).read_text()
        named = list(pin_images.images(text))
        assert len(named) == len(re.findall(r"^\s*(?:FROM|image:) ", text, re.MULTILINE))
        once = pin_images.pinned(text, lambda image: "sha256:" + "a" * 64)
        assert [line for line in once.splitlines() if "@sha256:" in line] == [
            line + "@sha256:" + "a" * 64
            for line in re.sub("@sha256:[0-9a-f]{64}", "", text).splitlines()
            if re.match(r"\s*(FROM|image:) ", line)
        ]
        twice = pin_images.pinned(once, lambda image: "sha256:" + "b" * 64)
        assert "a" * 64 not in twice
        assert list(pin_images.images(twice)) == named


def test_where_the_registry_cannot_be_asked_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [(ROOT / name).read_text() for name in pin_images.FILES]
    monkeypatch.setenv("PATH", "")
    assert pin_images.main() == 1
    assert "pin_images: docker is not here" in capsys.readouterr().err
    assert [(ROOT / name).read_text() for name in pin_images.FILES] == before
