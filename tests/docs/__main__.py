"""Write anew what is made from the code: `python -m tests.docs`."""

import asyncio

import orjson

from tests.docs import regions, scenario
from tests.docs.pages import name_of


def main() -> None:
    """Run the service for the examples, then fill in the pages."""
    kept = regions.as_golden(asyncio.run(scenario.run()))
    regions.GOLDEN.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2) + b"\n")
    for page, text in regions.stale_pages().items():
        page.write_text(text)
        print(name_of(page))  # noqa: T201


if __name__ == "__main__":
    main()
