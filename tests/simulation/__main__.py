"""Runs the simulator: `--seeds 5000` for many, `--seed N` to repeat one, `--mutants` to see that it finds bugs."""

# ruff: noqa: T201  # a program that talks to people

import argparse
import logging
import sys
import time

import structlog

from tests.simulation.mutants import MUTANTS, first_to_catch
from tests.simulation.run import Judgement, judge


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed alone, and show what the service logs")
    parser.add_argument("--seeds", type=int, default=500, help="run so many")
    parser.add_argument("--first", type=int, default=0, help="begin with this seed")
    parser.add_argument("--mutants", action="store_true", help="break the service on purpose, and try --seeds on each")
    options = parser.parse_args()
    if options.seed is not None:
        verdict = judge(options.seed)
        print(verdict)
        return verdict.violation is not None
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    seeds = range(options.first, options.first + options.seeds)
    return _mutants(seeds) if options.mutants else _many(seeds)


def _many(seeds: range) -> int:
    began = time.monotonic()
    verdicts: list[Judgement] = []
    for seed in seeds:
        verdicts.append(judge(seed))
        if verdicts[-1].violation is not None:
            print(verdicts[-1], flush=True)
        if sys.stderr.isatty():
            print(f"\r{len(verdicts)} of {len(seeds)} seeds", end="", file=sys.stderr)
    failed = sum(verdict.violation is not None for verdict in verdicts)
    faults = {kind: sum(verdict.faults[kind] for verdict in verdicts) for kind in verdicts[0].faults}
    lives, records, outputs = (
        sum(getattr(verdict, what) for verdict in verdicts) for what in ("lives", "records", "outputs")
    )
    print(
        f"{len(verdicts)} seeds in {time.monotonic() - began:.1f} s: {failed} violations; {lives} worker lives, "
        f"{faults}, {records} records, {outputs} outputs compared"
    )
    return failed > 0


def _mutants(seeds: range) -> int:
    missed = 0
    for name in MUTANTS:
        verdict = first_to_catch(name, seeds)
        missed += verdict is None
        found = "NOT CAUGHT" if verdict is None else f"seed {verdict.seed}: {verdict.violation}"
        print(f"{name}: {found[:200]}", flush=True)
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
