"""Kill -9 of real service processes on the embedded log: `make chaos`."""

# ruff: noqa: T201  # a program that talks to people

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import run
from tests.simulation.verifier import ViolationError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1_500.0, help="stop killing after so long")
    parser.add_argument("--seed", type=int, default=1, help="of the inputs, the settings and the moments")
    parser.add_argument("--rate", type=float, default=150.0, help="records a second")
    parser.add_argument("--dir", type=Path, help="keep the log and what the processes said here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidegauge-chaos-") as temporary:
        path = options.dir or Path(temporary)
        path.mkdir(parents=True, exist_ok=True)
        try:
            done = run(path, kills=options.kills, seed=options.seed, seconds=options.seconds, per_second=options.rate)
        except ViolationError as violation:
            print(f"VIOLATED: {violation}")
            print(f"  repeat (the moments differ): python -m tests.chaos --seed {options.seed} --kills {options.kills}")
            return 1
    print(done)
    if done.kills < options.kills:
        print(f"  {options.kills} were asked for, and the time was up: --seconds gives more")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
