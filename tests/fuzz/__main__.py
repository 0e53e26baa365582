"""Broken records through codec and task, `--records 10000000`; or whole ones with extreme numbers, `--extremes`."""

# ruff: noqa: T201  # a program that talks to people

import argparse
import sys
import warnings

from tests.fuzz.campaign import Campaign
from tests.fuzz.extremes import cases, judge


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--extremes", action="store_true", help="each numeric field at its extremes, with its label")
    options = parser.parse_args()
    if options.extremes:
        return extremes()
    print(Campaign(options.seed, options.records).run(options.records))
    return 0


def extremes() -> int:
    """Try all cases; a warning of numpy counts as a failure."""
    warnings.simplefilter("error")
    wrong = 0
    for number, case in enumerate(cases(), 1):
        for said in judge(case):
            wrong += 1
            print(said, flush=True)
        if number % 500 == 0:
            print(f"{number} of {len(cases())} cases, {wrong} violations", file=sys.stderr)
    print(f"{len(cases())} cases: {wrong} violations")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
