"""Makes the virtual environment, on a machine with nothing but Python: `python3 scripts/environment.py venv .venv`.

Standard library only. Debian and Ubuntu part `ensurepip` from Python, without which no environment gets pip: where it
is missing it is installed from the distribution's packages if this runs as root, else the one command is printed. What
is fetched must match the hashes of the lock files; a package that cannot be fetched is named, and may be tried again.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

OLDEST = (3, 11)
BUILD_LOCK = "requirements-build.txt"

Run = Callable[[Sequence[str]], int]


class SetupError(Exception):
    """The environment cannot be made; the message says what to do."""


def run(command: Sequence[str]) -> int:
    """Run a command; give its exit status."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, check=False, env=environment, stdout=sys.stderr).returncode


def say(message: str) -> None:
    """Tell people."""
    print(message, file=sys.stderr, flush=True)


def venv_packages() -> list[str]:
    """Name the distribution's packages that bring ensurepip to this Python, the one of its very version first."""
    return [f"python{sys.version_info.major}.{sys.version_info.minor}-venv", "python3-venv"]


def supply_ensurepip(do: Run, *, has_it: Callable[[], bool], is_root: bool, has_apt: bool) -> None:
    """Install ensurepip where it is missing. Raises SetupError with the one command where that cannot be done."""
    if has_it():
        return
    packages = venv_packages()
    command = f"apt-get install -y {packages[0]}"
    if not has_apt:
        raise SetupError(
            f"{sys.executable} has no ensurepip, which `python -m venv` needs: install it as your system does, or name "
            "another Python: make setup PY=/path/to/python3"
        )
    if not is_root:
        raise SetupError(f"{sys.executable} has no ensurepip. Run: sudo {command}  (then the same command again)")
    say(f"installing {packages[0]} from the distribution's packages")
    do(["apt-get", "update", "-qq"])
    for package in packages:
        if do(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]) == 0 and has_it():
            return
    raise SetupError(f"apt-get could install neither {' nor '.join(packages)} (it says above why)")


def ensurepip_works() -> bool:
    """Ask a new process, for the module may have come since this one started."""
    if find_spec("ensurepip") is None:
        return (
            subprocess.run([sys.executable, "-c", "import ensurepip"], check=False, capture_output=True).returncode == 0
        )
    # Debian leaves a stub that only says that it is none.
    return (
        subprocess.run([sys.executable, "-m", "ensurepip", "--version"], check=False, capture_output=True).returncode
        == 0
    )


def make(directory: Path) -> None:
    """Make the environment, and put the tools in it that fetch the rest."""
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(f"Python 3.11 or later is needed, this is {found}: make setup PY=python3.11")
    supply_ensurepip(
        run, has_it=ensurepip_works, is_root=os.geteuid() == 0, has_apt=shutil.which("apt-get") is not None
    )
    if run([sys.executable, "-m", "venv", "--clear", str(directory)]):
        shutil.rmtree(directory, ignore_errors=True)  # half an environment would be taken for a whole one
        raise SetupError(f"{directory} could not be made (Python says above why)")
    install = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    fetch([*install, "--require-hashes", "-r", BUILD_LOCK], BUILD_LOCK)


def install(directory: Path, lock: str) -> None:
    """Fetch what a lock file names."""
    uv = [str(directory / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(directory / "bin" / "python")]
    fetch([*uv, "--require-hashes", "-r", lock], lock)


def install_this(directory: Path) -> None:
    """Install the project itself, which needs nothing that is not there."""
    uv = [str(directory / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(directory / "bin" / "python")]
    if run([*uv, "--no-deps", "--no-build-isolation", "--editable", "."]):
        raise SetupError("the project itself could not be installed (see above)")


def fetch(command: Sequence[str], lock: str, do: Run = run) -> None:
    """Run an installer. Raises SetupError that says what may be done where it fails."""
    if do(command):
        raise SetupError(
            f"a package of {lock} could not be fetched or did not match its hash; which one stands above. Where the "
            "network was at fault, run the same command again: what was fetched is kept"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, do it, and give the exit status."""
    parser = argparse.ArgumentParser(description="the virtual environment of this project")
    parser.add_argument("command", choices=["venv", "lock", "project"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("file", nargs="?", default="requirements.txt")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "venv":
            make(asked.directory)
        elif asked.command == "lock":
            install(asked.directory, asked.file)
        else:
            install_this(asked.directory)
    except SetupError as error:
        say(f"setup: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
