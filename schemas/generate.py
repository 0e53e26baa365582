"""Writes `schemas/generated`: `python -m schemas.generate`, or `--check` to see whether it is stale.

A tool for developers, and the one place in this room that touches files; `rendered` itself is pure.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from schemas import asyncapi, jsonschema
from schemas.catalog import PAYLOADS

FOLDER = Path(__file__).parent / "generated"


def rendered() -> dict[str, bytes]:
    """Give every generated file by its name. The same types give the same bytes."""
    documents = {f"{name}.schema.json": jsonschema.schema(name) for name in PAYLOADS}
    documents["asyncapi.json"] = asyncapi.document()
    return {
        name: orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        for name, content in documents.items()
    }


def stale(folder: Path) -> list[str]:
    """Name the files in the folder that are missing, differ from the types or belong to none."""
    wanted = rendered()
    found = {path.name: path.read_bytes() for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def write(folder: Path) -> None:
    """Make the folder hold what `rendered` gives and no other JSON."""
    folder.mkdir(exist_ok=True)
    for name in stale(folder):
        (folder / name).unlink(missing_ok=True)
    for name, content in rendered().items():
        (folder / name).write_bytes(content)


def main(arguments: Sequence[str], folder: Path = FOLDER) -> int:
    """Write, or with `--check` only look. Gives the exit code: 1 where a check finds stale files, 2 on other words."""
    if list(arguments) not in ([], ["--check"]):
        sys.stderr.write("usage: python -m schemas.generate [--check]\n")
        return 2
    if not arguments:
        write(folder)
        return 0
    names = stale(folder)
    if names:
        sys.stderr.write(f"stale: {', '.join(names)}; run python -m schemas.generate\n")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
