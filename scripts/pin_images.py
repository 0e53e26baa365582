"""Writes the digest of each container image behind its tag: `python3 scripts/pin_images.py`. Standard library only.

A tag may be moved to another image, a digest may not. Digests are asked of the registry through Docker, and an image
that was pinned before is asked for anew by its tag.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

FILES = ("Dockerfile", "docker-compose.yml", "deploy/compose.monitoring.yml")
IMAGE = re.compile(
    r"^(?P<before>\s*(?:FROM|image:)\s+)(?P<image>[\w./-]+:[\w.-]+)(?:@sha256:[0-9a-f]{64})?", re.MULTILINE
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class PinError(Exception):
    """A digest cannot be known; the message says of which image, and why."""


def ask_registry(image: str) -> str:
    """Ask for the digest of an image of all platforms."""
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise PinError("docker is not here, and nothing else can ask the registry") from error
    found = answer.stdout.strip()
    if answer.returncode or not DIGEST.fullmatch(found):
        raise PinError(f"{image}: {answer.stderr.strip() or 'no digest'}")
    return found


def pinned(text: str, digest_of: Callable[[str], str]) -> str:
    """Give a file's text with the digest behind each image's tag."""
    return IMAGE.sub(lambda found: f"{found['before']}{found['image']}@{digest_of(found['image'])}", text)


def images(text: str) -> Iterator[str]:
    """Give the images that a file names."""
    return (found["image"] for found in IMAGE.finditer(text))


def main() -> int:
    """Pin all files, or none: nothing is written before every digest is known."""
    root = Path(__file__).resolve().parent.parent
    texts = {root / name: (root / name).read_text() for name in FILES}
    try:
        digests = {image: ask_registry(image) for text in texts.values() for image in images(text)}
    except PinError as error:
        print(f"pin_images: {error}", file=sys.stderr)
        return 1
    for path, text in texts.items():
        path.write_text(pinned(text, digests.__getitem__))
    for image, digest in digests.items():
        print(f"{image}@{digest}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
