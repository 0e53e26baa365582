"""Records the state of a published program, and what this program says behind it.

    python -m tests.upgrade record COMMIT version-N
    python -m tests.upgrade expect
    python -m tests.upgrade shapes version-N

`record` is to be done once for each published version, at its release, before the version of any kind of entry rises
again: it writes states/version-N.xz and expected/version-N.txt. The commit's sources are laid out in a directory of
their own and run there, on the stream of this checkout. `expect` writes expected/ anew, where this program says
something else on purpose. `shapes` takes down what each kind of entry holds now (states/version-N.json), at
the same release.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.upgrade import shapes
from tests.upgrade.reading import EXPECTED, PUBLISHED, STATES, go_on, in_words, read, restored

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def record(commit: str, target: Path) -> None:
    """Run the program of a commit over the stream. Raises CalledProcessError."""
    whole = subprocess.run(
        ["git", "rev-parse", commit], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as directory:
        laid_out = Path(directory)
        archive = subprocess.run(
            ["git", "archive", commit, "service", "schemas", "detectors"], cwd=ROOT, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", directory], input=archive, check=True)
        package = laid_out / "tests" / "upgrade"
        package.mkdir(parents=True)
        for name in ("__init__.py", "stream.py", "recorder.py"):
            shutil.copy(HERE / name, package / name)
        (package.parent / "__init__.py").touch()
        command = [sys.executable, "-m", "tests.upgrade.recorder", whole, str(target.resolve())]
        subprocess.run(command, cwd=directory, check=True)


def expect(name: str, said: list[bytes]) -> None:
    """Write down what is said behind a state."""
    EXPECTED.mkdir(exist_ok=True)
    (EXPECTED / f"{name}.txt").write_text("".join(in_words(output) + "\n" for output in said))


def main(command: str, *arguments: str) -> None:
    """Do what the command line says."""
    if command == "record":
        commit, name = arguments
        record(commit, STATES / f"{name}.xz")
        expect(name, read(name).said)
    elif command == "expect":
        for name in PUBLISHED:
            recorded = read(name)
            expect(name, go_on(restored(recorded), recorded))
    elif command == "shapes":
        shapes.keep(arguments[0])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["help"]))
