"""Broken records through codec and task: `python -m tests.fuzz --records 10000000`."""

# ruff: noqa: T201  # a program that talks to people

import argparse

from tests.fuzz.campaign import Campaign


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(Campaign(options.seed, options.records).run(options.records))


if __name__ == "__main__":
    main()
