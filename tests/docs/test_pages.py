"""What the pages say is so: examples decode, configurations parse, commands and options exist, links lead somewhere."""

import re
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
import pytest
import typer.main
import yaml

from schemas.codec import decode_controls, decode_labels, decode_predictions
from schemas.rejection import Rejection
from service.cli.commands import app
from service.config import parse_config
from tests.docs.pages import PAGES, ROOT, Block, anchors, blocks, commands, links, name_of, words_of
from tests.docs.regions import _OUTPUTS, stale_pages

INPUT_PAGES = ("README.md", "docs/connect.md")
OUTPUT_PAGES = ("docs/events.md",)
# Typer carries a copy of click with it, whose errors are not those of a click that may be installed beside it.
USAGE_ERROR: Final[type[Exception]] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
REGENERATE = "`python -m tests.docs` writes it anew"


def test_what_is_made_from_the_code_is_what_the_code_says() -> None:
    assert [name_of(page) for page in stale_pages()] == [], REGENERATE


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_an_example_in_json_is_an_event(block: Block) -> None:
    event = orjson.loads(block.text)
    if block.page in INPUT_PAGES:
        assert rejections_of(block.text.encode()) == []
    elif block.page in OUTPUT_PAGES:
        assert any(fits(struct, event) for struct in _OUTPUTS.values())


def rejections_of(value: bytes) -> list[Rejection]:
    """Decode an event as the input that its fields say."""
    event = orjson.loads(value)
    decode = decode_controls if "type" in event else decode_labels if "label" in event else decode_predictions
    return decode([value], 1_000_000).rejections


def fits(struct: type[msgspec.Struct], event: dict[str, object]) -> bool:
    try:
        found = msgspec.convert(event, struct)
    except msgspec.ValidationError:
        return False
    return set(event) <= set(msgspec.structs.asdict(found))


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_an_example_in_yaml_is_a_configuration(block: Block) -> None:
    if re.match(r"(#.*\n)*(log|topics|runtime|core|http|logging):", block.text):
        parse_config(yaml.safe_load(block.text), {})
    else:  # pages of other files: what is to be replayed, or searched
        assert block.page not in (*INPUT_PAGES, *OUTPUT_PAGES, "docs/operations.md")
        assert isinstance(yaml.safe_load(block.text), dict | list)


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_an_example_in_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize(("block", "words"), commands(), ids=str)
def test_a_command_line_is_one_that_the_program_takes(block: Block, words: list[str]) -> None:
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(), f"{block}: no target {words[1]}"
        return
    assert complaint(words[1:]) is None, f"{block}: {' '.join(words)}"


def complaint(words: list[str]) -> str | None:
    """Parse a command line without carrying it out; give what the program would say against it."""
    command: Any = typer.main.get_command(app)
    try:
        context = command.make_context("tidegauge", list(words))
        while hasattr(command, "resolve_command"):
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            context = command.make_context(name, rest, parent=context)
    except USAGE_ERROR as error:
        return str(error)
    except typer.Exit:  # --help
        return None
    return None


def test_a_command_line_that_the_program_does_not_take_is_found() -> None:
    assert complaint(words_of("tidegauge run --config tidegauge.yaml > log")[1:]) is None
    for line in ("tidegauge fly", "tidegauge run --fast", "tidegauge produce history.csv", "tidegauge watch --model"):
        assert complaint(words_of(line)[1:]) is not None, line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{name_of(page)}: {link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_is_about_the_project_alone(page: Path) -> None:
    found = re.findall(r"(?<![\w/.-])/(?:work|tmp|root|home)/\S+", page.read_text())
    assert found == []


def test_the_variables_for_secrets_are_those_that_the_service_reads() -> None:
    named = set(re.findall(r"`(TIDEGAUGE_[A-Z_]+)`", (ROOT / "docs" / "connect.md").read_text()))
    source = (ROOT / "service" / "app.py").read_text()
    read = set(re.findall(r'"(TIDEGAUGE_[A-Z_]+)"', source)) - {"TIDEGAUGE_OAUTH_TOKEN_FILE"}
    assert named == read | {f"{name}_FILE" for name in read} | {"TIDEGAUGE_OAUTH_TOKEN_FILE"}
