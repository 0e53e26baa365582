"""Measures, each figure beside what it is held against: `python -m benchmarks [--only NAME] [--json] [--scale S]`.

Ratios are what counts: both sides of each are measured in the same run on the same machine, in alternating rounds.
"""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping
from typing import Final

from benchmarks import detectors, join, monitor, overhead, replay, service
from service.app import configure_logging
from service.config import LoggingSettings

Result = list[dict[str, object]]
PROGRAMS: Final[Mapping[str, Callable[[float], Result]]] = {
    "monitor": monitor.run,
    "join": lambda scale: [join.measure(max(int(10_000_000 * scale), 10_000))],
    "service": service.run,
    "overhead": overhead.run,
    "replay": replay.run,
    "detectors": detectors.run,
}
GOALS: Final = {
    "monitor": "ratio: at most 10 at first, 4 to come",
    "join": "joins_per_s at least 500,000; bytes_per_entry at most 130; restore_s at most 15 at 10 M entries",
    "service": "share_of_bare_loop: at least 0.30 at first, 0.60 to come",
    "overhead": "commits_cost_ratio + snapshot_cost_ratio at most 0.10; recover_after_kill_s at most 15",
    "replay": "sweep of 50 configurations: ratio at most 10",
    "detectors": "no goal: the costs in docs/detectors.md",
}


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(PROGRAMS), help="one program; may be repeated")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full sizes, as 0.01 for a quick look")
    parser.add_argument("--profile", action="store_true", help="monitor: print where the time goes, to standard error")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> dict[str, Result]:
    """Run what was asked for, telling a person how far it is."""
    results: dict[str, Result] = {}
    for name in options.only or PROGRAMS:
        print(f"{name} ({GOALS[name]})", file=sys.stderr, flush=True)
        if name == "monitor" and options.profile:
            results[name] = monitor.run(options.scale, profile=True)
        else:
            results[name] = PROGRAMS[name](options.scale)
        if not options.json:
            show(results[name])
    return results


def show(result: Result) -> None:
    """Print for people."""
    for row in result:
        for name, value in row.items():
            print(f"  {name}: {value:,}" if isinstance(value, float | int) else f"  {name}: {value}")
        print()


def main(arguments: list[str]) -> None:
    """Measure and print."""
    options = parse(arguments)
    configure_logging(LoggingSettings(level="warning"))  # to standard error: the other one is for the figures
    results = measure(options)
    if options.json:
        machine = {"python": platform.python_version(), "machine": platform.machine(), "scale": options.scale}
        print(json.dumps({"environment": machine, "goals": GOALS, "results": results}))


if __name__ == "__main__":
    main(sys.argv[1:])
