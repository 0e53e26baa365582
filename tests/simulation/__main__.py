"""`python -m tests.simulation --seeds 5000`, or `--seed N` to repeat one."""

import argparse
import logging
import sys
import time

import structlog

from tests.simulation.run import judge


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed alone, and show what the service logs")
    parser.add_argument("--seeds", type=int, default=500, help="run so many")
    parser.add_argument("--first", type=int, default=0, help="begin with this seed")
    options = parser.parse_args()
    if options.seed is not None:
        verdict = judge(options.seed)
        print(verdict)
        return verdict.violation is not None
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return _many(range(options.first, options.first + options.seeds))


def _many(seeds: range) -> int:
    began = time.monotonic()
    lives = records = outputs = failed = 0
    faults: dict[str, int] = {}
    for done, seed in enumerate(seeds, 1):
        verdict = judge(seed)
        lives, records, outputs = lives + verdict.lives, records + verdict.records, outputs + verdict.outputs
        faults = {kind: faults.get(kind, 0) + count for kind, count in verdict.faults.items()}
        if verdict.violation is not None:
            failed += 1
            print(f"{verdict}\n  repeat: python -m tests.simulation --seed {seed}")
        if sys.stderr.isatty() or done == len(seeds):
            print(
                f"\r{done} of {len(seeds)} seeds in {time.monotonic() - began:.1f} s: {failed} violations, {lives} worker "
                f"lives, {faults}, {records} records, {outputs} outputs compared",
                end="\n" if done == len(seeds) else "",
                file=sys.stderr,
            )
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
