"""A rolling upgrade on one Kafka broker: workers of a published program are replaced one by one under a live stream.

    python -m tests.upgrade.rolling [--from COMMIT] [--events N]

What was published, as an independent client reads it (read committed), must be, byte for byte and task by task, what
the old program's core says of the records up to the handover, and what this program's core says of those behind it
when it has restored what the old one left: so nothing is lost, doubled or changed.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.broker import kafka_broker, session_pid
from tests.upgrade.stream import SETTINGS, records

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PUBLISHED: Final = "2415095"
"""The last published program."""
PARTITIONS: Final = 4
INPUTS: Final = ("tidegauge.control", "tidegauge.predictions", "tidegauge.labels")
OUTPUTS: Final = ("tidegauge.alerts", "tidegauge.triggers", "tidegauge.metrics", "tidegauge.dead-letters")
RATE: Final = 120
"""Predictions a second."""
PATIENCE_S: Final = 90.0


class Program(NamedTuple):
    """Sources, and an interpreter with what they need."""

    name: str
    sources: Path
    python: str

    def run(self, *words: str | Path) -> None:
        """Run a module of it to its end. Raises CalledProcessError."""
        subprocess.run([self.python, "-m", *words], cwd=self.sources, env=plain_environment(), check=True)


def plain_environment() -> dict[str, str]:
    """Give the environment without what would mix two programs' modules."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def install(commit: str) -> Program:
    """Lay out a commit's sources, with the packages of its own lock file in an environment of its own; once."""
    git = ["git", "rev-parse", "--verify", f"{commit}^{{commit}}"]
    whole = subprocess.run(git, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    home = ROOT / ".cache" / "upgrade" / whole[:12]
    python = home / "venv" / "bin" / "python"
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        (home / "sources").mkdir(parents=True)
        archive = subprocess.run(["git", "archive", whole], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", str(home / "sources")], input=archive, check=True)
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(home / "venv")], check=True)
        fetch = [uv, "pip", "install", "--quiet", "--python", str(python)]
        subprocess.run([*fetch, "-r", str(home / "sources" / "requirements.txt")], check=True)
        # The old sources get what this test runs beside them, and nothing else.
        package = home / "sources" / "tests" / "upgrade"
        package.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "tests" / "upgrade" / "cores.py", package / "cores.py")
        (package / "__init__.py").touch()
        (home / "complete").touch()
    shutil.copy(ROOT / "tests" / "upgrade" / "cores.py", home / "sources" / "tests" / "upgrade" / "cores.py")
    return Program(whole[:12], home / "sources", str(python))


class Worker:
    """One worker process and its log."""

    def __init__(self, program: Program, config: Path, number: int) -> None:
        self.name = f"{number} of {program.name}"
        self.path = config.with_name(f"worker-{number}.log")
        with self.path.open("wb") as sink:
            self._process = subprocess.Popen(
                [program.python, "-m", "service", "run", "--config", str(config)],
                cwd=program.sources,
                env=plain_environment(),
                stderr=sink,
                stdout=sink,
            )

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Give what it said of one kind of event."""
        found = [line for line in self.path.read_bytes().splitlines() if f'"{event}"'.encode() in line]
        return [line for line in map(json.loads, found) if line["event"] == event]

    def wait_for_tasks(self) -> None:
        """Wait until it works on something."""
        wait_until(lambda: any(line["tasks"] for line in self.lines("assigned")), f"worker {self.name} to get tasks")

    def stop(self) -> None:
        """Ask it to end, as an upgrade does, and see that it ends well."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(timeout=PATIENCE_S)
        assert code == 0, f"worker {self.name} ended with {code}: {self.path.read_text()[-600:]}"

    def kill(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self._process.wait()


def wait_until(done: Any, what: str) -> None:
    """Look again and again; raise AssertionError where it takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.1)


def write_config(directory: Path, bootstrap: str) -> Path:
    """Write the configuration that both programs read."""
    core = {name: value for name, value in SETTINGS.items() if name != "max_unpredicted_models"}
    kafka = {"bootstrap_servers": [bootstrap], "heartbeat_interval_ms": 300, "session_timeout_ms": 6_000}
    config = directory / "config.json"
    config.write_text(
        json.dumps(
            {
                "log": {"carrier": "kafka", "kafka": kafka},
                "topics": {"partitions": PARTITIONS},
                "runtime": {"snapshot_interval_ms": 2_000, "max_idle_ms": 500, "poll_ms": 20},
                "http": {"enabled": False},
                "logging": {"format": "json"},
                "core": core,
            }
        )
    )
    return config


class Stream(threading.Thread):
    """Publishes predictions and labels at an even pace, as another program would."""

    def __init__(self, bootstrap: str, events: int) -> None:
        super().__init__(daemon=True)
        self._producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
        self._events = events
        self.sent = 0
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            for first in range(0, self._events, RATE // 4):
                made = records(first, min(RATE // 4, self._events - first), seed=first)
                for topic, values in zip(INPUTS, made, strict=True):
                    for value in values:
                        self._producer.produce(topic, value, key=json.loads(value)["model_id"])
                self._producer.flush()
                self.sent = first
                time.sleep(0.25)
            self.sent = self._events
        except BaseException as error:
            self.failed = error
            raise

    def wait_for(self, count: int) -> None:
        """Wait until so many predictions were sent."""
        deadline = time.monotonic() + PATIENCE_S + self._events / RATE * 3
        while self.sent < count:
            assert self.failed is None, self.failed
            assert time.monotonic() < deadline, f"the stream stands at {self.sent}"
            time.sleep(0.05)


def published(bootstrap: str, topics: Sequence[str]) -> dict[tuple[str, int], list[tuple[bytes | None, bytes]]]:
    """Read all committed records, by another client library than the service's: key and value."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    places = [TopicPartition(topic, number, 0) for topic in topics for number in range(PARTITIONS)]
    consumer.assign(places)
    found: dict[tuple[str, int], list[tuple[bytes | None, bytes]]] = {
        (place.topic, place.partition): [] for place in places
    }
    ended: set[tuple[str, int]] = set()
    while len(ended) < len(places):
        message = consumer.poll(10.0)
        assert message is not None, "the broker gives no more"
        where = (message.topic(), message.partition())
        if message.error():
            ended.add(where)
        else:
            found[where].append((message.key(), message.value()))
    consumer.close()
    return found


def likeness(new: list[tuple[str, str]], old: list[tuple[str, str]]) -> tuple[int, Counter[str]]:
    """Count outputs that both programs say of the same thing at the same time, and in which shared fields they differ.

    Of each output that differs, the first such field counts; so the counts add up to the outputs that differ.
    """
    known = {_subject(topic, json.loads(value)): json.loads(value) for topic, value in old}
    pairs = [
        (json.loads(value), known[_subject(topic, json.loads(value))])
        for topic, value in new
        if _subject(topic, json.loads(value)) in known
    ]
    return len(pairs), Counter(where for mine, theirs in pairs if (where := _difference(mine, theirs)) is not None)


def _subject(topic: str, output: dict[str, Any]) -> tuple[Any, ...]:
    names = ("model_id", "model_version", "segment", "event_time_ms", "kind", "state", "reason", "topic", "offset")
    return (topic, *(output.get(name) for name in names))


def _difference(mine: Any, theirs: Any, path: str = "") -> str | None:
    """Name the first field that both have and that is not the same."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        names = sorted(mine.keys() & theirs.keys())
        inner = (_difference(mine[name], theirs[name], f"{path}.{name}".lstrip(".")) for name in names)
        return next((found for found in inner if found is not None), None)
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        inner = (_difference(a, b, f"{path}[]") for a, b in zip(mine, theirs, strict=True))
        return next((found for found in inner if found is not None), None)
    return None if mine == theirs else path


class Outcome(NamedTuple):
    """What a run showed."""

    by_old: int
    by_new: int
    both: int
    """Outputs behind the handover of which the old program would have said something of the same thing and time."""
    changed: Counter[str]
    """Of those of them that differ in a field that both have: the first such field."""
    moved: int
    """Tasks that the new program took over from the old one's state."""
    differences: list[str]


def upgrade(old: Program, new: Program, directory: Path, events: int) -> Outcome:
    """Play one upgrade and compare. Raises AssertionError where a worker does not do its part."""
    broker = kafka_broker.start(directory / "broker", owner_pid=session_pid())
    try:
        config = write_config(directory, broker.bootstrap)
        with fleet() as workers:
            handovers = _roll(old, new, config, workers, Stream(broker.bootstrap, events), events)
        limits = json.dumps(handovers)
        for program, mode in ((old, "begin"), (new, "restore")):
            program.run("tests.upgrade.cores", config, str(PARTITIONS), mode, limits, directory / f"{mode}.json")
        never = json.dumps(dict.fromkeys(range(PARTITIONS), [1 << 40] * 3))
        old.run("tests.upgrade.cores", config, str(PARTITIONS), "begin", never, directory / "alone.json")
        return compare(directory, published(broker.bootstrap, OUTPUTS))
    finally:
        kafka_broker.stop(directory / "broker")


@contextlib.contextmanager
def fleet() -> Iterator[list[Worker]]:
    """Give a list for the workers that are started; none outlives it."""
    workers: list[Worker] = []
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()


def _roll(
    old: Program, new: Program, config: Path, workers: list[Worker], stream: Stream, events: int
) -> dict[int, list[int]]:
    """Replace the workers one by one under the stream; give where each task was handed over."""

    def start(program: Program) -> Worker:
        workers.append(Worker(program, config, len(workers)))
        return workers[-1]

    first = start(old)
    first.wait_for_tasks()
    second = start(old)
    stream.start()
    second.wait_for_tasks()
    stream.wait_for(events * 3 // 10)
    first.stop()
    third = start(new)
    third.wait_for_tasks()
    stream.wait_for(events * 6 // 10)
    second.stop()
    fourth = start(new)
    fourth.wait_for_tasks()
    stream.wait_for(events)
    wait_until(lambda: _all_taken(new, config), "all records to be taken")
    third.stop()
    fourth.stop()
    restored = sorted(
        (line for worker in (third, fourth) for line in worker.lines("task_restored")),
        key=lambda line: str(line["timestamp"]),
        reverse=True,
    )
    handovers = {line["partition"]: [line["control"], line["predictions"], line["labels"]] for line in restored}
    assert sorted(handovers) == list(range(PARTITIONS)), f"restored by the new program: {sorted(handovers)}"
    return handovers


def _all_taken(program: Program, config: Path) -> bool:
    """Say whether the tasks have committed all that the inputs hold: as `state inspect` and the topics say."""
    words = [program.python, "-m", "tests.upgrade.behind", str(config), str(PARTITIONS)]
    done = subprocess.run(
        words, cwd=program.sources, env=plain_environment(), check=True, capture_output=True, text=True
    )
    return done.stdout.strip() == "0"


def compare(directory: Path, found: dict[tuple[str, int], list[tuple[bytes | None, bytes]]]) -> Outcome:
    """Hold what was published against what the two cores say."""
    said = {mode: json.loads((directory / f"{mode}.json").read_bytes()) for mode in ("begin", "restore", "alone")}
    differences: list[str] = []
    for (topic, partition), records_found in found.items():
        expected = [
            value for mode in ("begin", "restore") for where, value in said[mode][str(partition)] if where == topic
        ]
        got = [value.decode() for _, value in records_found]
        if got != expected:
            place = next((n for n, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), None)
            at = min(len(got), len(expected)) if place is None else place
            differences.append(
                f"{topic}[{partition}]: {len(got)} published, {len(expected)} expected; the first other one is {at}: "
                f"{got[at : at + 1]} and not {expected[at : at + 1]}"
            )
    counts = [sum(len(outputs) for outputs in said[mode].values()) for mode in ("begin", "restore")]
    shared = [likeness(said["restore"][task], said["alone"][task]) for task in said["restore"]]
    changed = sum((fields for _, fields in shared), Counter())
    return Outcome(counts[0], counts[1], sum(both for both, _ in shared), changed, PARTITIONS, differences)


def main() -> int:
    """Read the command line, play it, and say what came out."""
    parser = argparse.ArgumentParser(description="a rolling upgrade on one broker")
    parser.add_argument("--from", dest="commit", default=PUBLISHED, help=f"the old program (default {PUBLISHED})")
    parser.add_argument("--events", type=int, default=6_000, help="predictions of the stream (default 6,000)")
    asked = parser.parse_args()
    old = install(asked.commit)
    new = Program("this program", ROOT, sys.executable)
    with tempfile.TemporaryDirectory(prefix="tidegauge-upgrade-") as made:
        outcome = upgrade(old, new, Path(made), asked.events)
    for difference in outcome.differences:
        sys.stdout.write(f"CHANGED: {difference}\n")
    sys.stdout.write(
        f"{outcome.moved} tasks moved from {old.name} to this program under {asked.events:,} predictions: "
        f"{outcome.by_old:,} outputs of the old and {outcome.by_new:,} of the new, "
        f"{len(outcome.differences)} partitions differ from what the two cores say\n"
        f"had the old program gone on, it would have spoken of {outcome.both:,} of the latter too; in the fields that "
        f"both have, {outcome.both - outcome.changed.total():,} are the same, and the others differ first in "
        f"{', '.join(f'{name} ({count})' for name, count in outcome.changed.most_common()) or 'none'}\n"
    )
    return int(bool(outcome.differences))


if __name__ == "__main__":
    raise SystemExit(main())
