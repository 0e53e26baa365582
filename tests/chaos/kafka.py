"""Chaos on a real Kafka broker: `python -m tests.chaos.kafka --faults 100 --seed 1`.

The seed chooses what is done to whom, the inputs and the settings; the moments are the machine's own.
"""

# ruff: noqa: T201  # a program that talks to people

import argparse
import asyncio
import logging
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.kafka_nodes import UnexpectedError
from tests.chaos.kafka_run import Recovery, Report, live_through
from tests.simulation.verifier import ViolationError

TOLD = (
    "assigned", "task_begun", "task_restored", "task_fenced", "task_failed",
    "OutcomeUnknownError", "UnavailableError", "stopped",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.kafka", description=__doc__)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", help="break the service on purpose, one of tests/chaos/kafka_mutants.py")
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that a broker is dead is no news here
    # And where one of our own producers dies of it, a callback of aiokafka 0.14 fails each time (Sender._fail_all).
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    directory = Path(tempfile.mkdtemp(prefix="tidegauge-chaos-"))
    try:
        report = asyncio.run(live_through(options.seed, options.faults, directory, mutant=options.mutant))
    except (ViolationError, UnexpectedError) as error:
        print(f"seed {options.seed}: VIOLATED: {error}\n  logs: {directory}")
        print(f"  again: python -m tests.chaos.kafka --seed {options.seed} --faults {options.faults}")
        return 1
    shutil.rmtree(directory)
    print("\n".join(lines(report)))
    return 0


def lines(report: Report) -> Iterator[str]:
    """Write a report for people."""
    yield (
        f"seed {report.seed}: holds. {sum(report.faults.values())} faults in {report.seconds:.0f} s: {report.faults}; "
        f"{report.lives} worker lives, {report.partitions} tasks"
    )
    yield (
        f"  {report.records} input records accounted for once by {report.cuts} cuts; "
        f"{report.outputs} outputs equal byte for byte"
    )
    yield f"  workers said: {', '.join(f'{what} {report.log.get(what, 0)}' for what in TOLD)}"
    yield from (f"  ended by itself: {words}" for words in report.own_ends)
    yield "  seconds from a fault to commits of later records by all tasks (n, least, median, 90 %, most):"
    for kind in sorted({recovery.kind for recovery in report.recoveries}):
        yield from distribution(kind, [recovery for recovery in report.recoveries if recovery.kind == kind])


def distribution(kind: str, recoveries: list[Recovery]) -> Iterator[str]:
    """Write how long one kind of fault took, alone and among others."""
    for alone, name in ((True, kind), (False, f"{kind}, among others")):
        found = sorted(recovery.seconds for recovery in recoveries if recovery.alone == alone)
        if found:
            tenth = found[min(int(0.9 * len(found)), len(found) - 1)]
            yield (
                f"    {name:28} {len(found):4} {found[0]:6.1f} {statistics.median(found):6.1f} "
                f"{tenth:6.1f} {found[-1]:6.1f}"
            )


if __name__ == "__main__":
    sys.exit(main())
