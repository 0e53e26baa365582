"""Start, stop and ask after one real Kafka broker on this machine: `python3 scripts/kafka_broker.py start`.

Standard library only, so that it runs before any environment exists. Tried in this order:

1. the broker that TIDEGAUGE_TEST_BOOTSTRAP names (it is used as it is, and never stopped);
2. Apache Kafka from its own artifacts on Maven Central, under Java 17 or newer: the newest, or the version that
   TIDEGAUGE_KAFKA_VERSION or --kafka names (before 3.0 with ZooKeeper beside it);
3. Docker, where an engine answers.

Where Java or Maven is missing they are installed from Debian's packages if this runs as root on Debian or Ubuntu;
otherwise the one command that supplies them is printed and the exit status is 1. Nothing is skipped in silence.
"""

import argparse
import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kafka_jars import BrokerError, cache_directory, chosen_version, locked, major, say, supply_jars
from kafka_zookeeper import SESSION_MS, in_zookeeper_terms, stop_zookeeper, supply_zookeeper

DEFAULT_PORT = 9092
START_TIMEOUT_S = 60.0  # seen: 2.3 s on two idle cores; CI machines that share theirs have been 10 times slower
STOP_TIMEOUT_S = 15.0
HEAP = "512m"  # seen: 325 MB resident

# One node needs one replica of everything. The short clean-up interval lets a test see an abandoned transaction end.
PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "BROKER",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "auto.create.topics.enable": "false",
}

# Kept, because a Popen object that is collected while its process runs warns about it.
STARTED: "list[subprocess.Popen[bytes]]" = []


class Listener(NamedTuple):
    """One more door of the broker, beside the plain one: `SECURE`, port, `SASL_SSL`."""

    name: str
    port: int
    protocol: str


class Broker(NamedTuple):
    """A broker that runs. `pid` is 0 where it is not ours to stop; `container` names a Docker container."""

    bootstrap: str
    port: int
    controller_port: int
    pid: int
    container: str = ""
    zookeeper_pid: int = 0
    """Where the broker is older than Kafka 3: the process that holds its cluster's state, on the controller's port."""


def free_port() -> int:
    """Give a port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Say whether somebody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


# The state of one broker, in its directory ----------------------------------------------------------------------------


def read_state(directory: Path) -> Broker | None:
    """Give what `start` wrote down, whether or not it still runs."""
    state = directory / "broker.json"
    return Broker(**json.loads(state.read_text())) if state.exists() else None


def write_state(directory: Path, broker: Broker) -> None:
    """Write the state file in one step, so that a reader never sees half of it."""
    partial = directory / "broker.json.partial"
    partial.write_text(json.dumps(broker._asdict()))
    partial.rename(directory / "broker.json")


def is_ours(directory: Path, pid: int) -> bool:
    """Say whether this process is the broker of this directory, and not a stranger who got its number later."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        dead = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False
    return str(directory / "server.properties").encode() in command and not dead


def running(directory: Path) -> Broker | None:
    """Give the broker of this directory if it runs."""
    broker = read_state(directory)
    if broker is None:
        return None
    alive = is_ours(directory, broker.pid) if broker.pid else bool(broker.container) and answers(broker.port)
    return broker if alive else None


# Starting and stopping ------------------------------------------------------------------------------------------------


def start(
    directory: Path,
    *,
    port: int | None = None,
    listeners: Sequence[Listener] = (),
    properties: Mapping[str, str] | None = None,
    format_arguments: Sequence[str] = (),
    owner_pid: int | None = None,
) -> Broker:
    """Start a broker whose data live in `directory`, or give the one that runs there.

    A directory that was used before keeps its data and ports. `listeners`, `properties` and `format_arguments` (of the
    storage tool, such as --add-scram) add doors, settings and users. With `owner_pid`, the broker stops when that
    process is gone.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / "start.lock"):
        broker = running(directory)
        if broker is None:
            broker = start_java(directory, port, listeners, properties or {}, format_arguments)
            if owner_pid is not None:
                watch_owner(directory, owner_pid)
    return broker


def start_java(
    directory: Path,
    port: int | None,
    listeners: Sequence[Listener],
    properties: Mapping[str, str],
    format_arguments: Sequence[str],
) -> Broker:
    """Format the storage where it is new, start the Java process, wait until its port answers."""
    version = chosen_version()
    jars = supply_jars(version)
    old = major(version) < 3
    before = read_state(directory)
    port = port or (before.port if before else free_port())
    controller_port = before.controller_port if before else free_port()
    if answers(port):
        raise BrokerError(f"port {port} of 127.0.0.1 is taken by another program")
    settings = directory / "server.properties"
    lines = server_properties(directory, port, controller_port, listeners, properties)
    if old:
        lines = in_zookeeper_terms(lines, controller_port)
    settings.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    log = directory / "broker.log"
    if not old and not (directory / "data" / "meta.properties").exists():
        format_storage(jars, settings, log, format_arguments)
    keeper = _keeper(directory, jars, controller_port, before) if old else 0
    with log.open("ab") as sink:
        flags = [f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        command = ["java", *flags, "-cp", f"{jars}/*", "kafka.Kafka", str(settings)]
        process = subprocess.Popen(command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, start_new_session=True)
    STARTED.append(process)
    broker = Broker(f"127.0.0.1:{port}", port, controller_port, process.pid, "", keeper)
    write_state(directory, broker)
    wait_until_it_answers(process, [port, *(listener.port for listener in listeners)], log)
    return broker


def _keeper(directory: Path, jars: Path, port: int, before: Broker | None) -> int:
    """Give the number of the ZooKeeper process, which is started, or runs since before."""
    known = before.zookeeper_pid if before else 0
    process = supply_zookeeper(directory, jars, port, known)
    if process is None:
        # A broker that was killed is still registered until its session ends.
        time.sleep(2 * SESSION_MS / 1000)
        return known
    STARTED.append(process)
    wait_until_it_answers(process, [port], directory / "zookeeper.log")
    return process.pid


def server_properties(
    directory: Path, port: int, controller_port: int, listeners: Sequence[Listener], properties: Mapping[str, str]
) -> dict[str, str]:
    """Put a node's settings together; the caller's own come last and win."""
    doors = [Listener("BROKER", port, "PLAINTEXT"), *listeners]
    addresses = [f"{door.name}://127.0.0.1:{door.port}" for door in doors]
    protocols = [f"{door.name}:{door.protocol}" for door in doors]
    return {
        **PROPERTIES,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": ",".join([*addresses, f"CONTROLLER://127.0.0.1:{controller_port}"]),
        "advertised.listeners": ",".join(addresses),
        "listener.security.protocol.map": ",".join([*protocols, "CONTROLLER:PLAINTEXT"]),
        "log.dirs": str(directory / "data"),
        **properties,
    }


def format_storage(jars: Path, settings: Path, log: Path, arguments: Sequence[str]) -> None:
    """Write the cluster's identity into an empty data directory, as KRaft demands."""
    cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()
    tool = ["java", "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format"]
    # A cluster id may begin with a dash, which the tool would read as an option: hence one word, not two.
    command = [*tool, f"--cluster-id={cluster}", f"--config={settings}", *arguments]
    with log.open("ab") as sink:
        if subprocess.run(command, stdout=sink, stderr=sink, check=False).returncode:
            raise BrokerError(f"the storage could not be formatted; see {log}")


def wait_until_it_answers(process: "subprocess.Popen[bytes]", ports: Sequence[int], log: Path) -> None:
    """Wait for every door, or say where the log is."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not all(answers(port) for port in ports):
        if process.poll() is not None:
            raise BrokerError(f"the broker ended with status {process.returncode}; see {log}")
        if time.monotonic() > deadline:
            process.kill()
            raise BrokerError(f"the broker did not answer within {START_TIMEOUT_S:.0f} s; see {log}")
        time.sleep(0.05)


def stop(directory: Path) -> bool:
    """Stop the broker of this directory; its data stay. Says whether one ran."""
    directory = directory.resolve()
    broker = running(directory)
    if broker is None:
        left = read_state(directory)  # where the broker was killed, what stood beside it still does
        stop_zookeeper(directory, left.zookeeper_pid if left else 0)
        return False
    if broker.container:
        subprocess.run(["docker", "rm", "-f", broker.container], check=True, stdout=subprocess.DEVNULL)
        return True
    os.kill(broker.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while is_ours(directory, broker.pid):
        if time.monotonic() > deadline:
            os.kill(broker.pid, signal.SIGKILL)
        # Where the broker is a child of this process, nobody else reaps it.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(broker.pid, os.WNOHANG)
        time.sleep(0.05)
    stop_zookeeper(directory, broker.zookeeper_pid)
    return True


def watch_owner(directory: Path, owner_pid: int) -> None:
    """Leave a small process behind that stops the broker when its owner is gone, killed or not."""
    command = [
        sys.executable,
        str(Path(__file__).resolve()),
        "watch",
        "--dir",
        str(directory),
        "--owner",
        str(owner_pid),
    ]
    silent = subprocess.DEVNULL
    STARTED.append(subprocess.Popen(command, stdout=silent, stderr=silent, stdin=silent, start_new_session=True))


def watch(directory: Path, owner_pid: int) -> None:
    """Wait for the owner's end, or the broker's, whichever comes first."""
    while running(directory) is not None:
        try:
            os.kill(owner_pid, 0)
        except ProcessLookupError:
            stop(directory)
        time.sleep(1.0)


# Docker ---------------------------------------------------------------------------------------------------------------


def docker_answers() -> bool:
    """Say whether a Docker engine (not only its client) is here."""
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def start_docker(directory: Path, port: int | None) -> Broker:
    """Run the project's own image, `apache/kafka`, whose settings are environment variables."""
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    settings = {
        **{name: value for name, value in PROPERTIES.items() if not name.startswith("inter.")},
        "inter.broker.listener.name": "BROKER",
        "controller.quorum.voters": "1@127.0.0.1:9093",
        "listeners": f"BROKER://0.0.0.0:{port},CONTROLLER://127.0.0.1:9093",
        "advertised.listeners": f"BROKER://127.0.0.1:{port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    name = f"tidegauge-kafka-{port}"
    variables = [f"-eKAFKA_{key.upper().replace('.', '_')}={value}" for key, value in settings.items()]
    run = ["docker", "run", "-d", "--rm", "--name", name, "-p", f"127.0.0.1:{port}:{port}", *variables]
    subprocess.run([*run, f"apache/kafka:{chosen_version()}"], check=True, stdout=subprocess.DEVNULL)
    broker = Broker(f"127.0.0.1:{port}", port, 0, 0, name)
    write_state(directory, broker)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers(port):
        if time.monotonic() > deadline:
            raise BrokerError(
                f"container {name} did not answer within {START_TIMEOUT_S:.0f} s; see `docker logs {name}`"
            )
        time.sleep(0.1)
    return broker


# What people and tests call -------------------------------------------------------------------------------------------


def named_broker() -> Broker | None:
    """Give the broker that the environment names, if it names one."""
    bootstrap = os.environ.get("TIDEGAUGE_TEST_BOOTSTRAP")
    return Broker(bootstrap, 0, 0, 0) if bootstrap else None


def supply(directory: Path, *, port: int | None = None, owner_pid: int | None = None) -> Broker:
    """Give a broker by the first way that works: the one that is named, Java, Docker."""
    if named := named_broker():
        return named
    try:
        return start(directory, port=port, owner_pid=owner_pid)
    except (BrokerError, subprocess.CalledProcessError, OSError) as reason:
        if not docker_answers():
            raise
        say(f"{reason}; trying Docker")
        return start_docker(directory, port)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, do it, and give the exit status."""
    parser = argparse.ArgumentParser(description="one Kafka broker on this machine")
    parser.add_argument("command", choices=["start", "stop", "status", "watch"])
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help=f"port on 127.0.0.1 (default {DEFAULT_PORT}; 0: any)"
    )
    parser.add_argument("--dir", type=Path, default=None, help="data, settings and log (default: in the cache)")
    parser.add_argument("--kafka", default=None, help="version, such as 3.9.1 or 2.8.2 (default: the newest)")
    parser.add_argument("--owner", type=int, default=None, help="stop the broker when this process is gone")
    asked = parser.parse_args(arguments)
    if asked.kafka:
        os.environ["TIDEGAUGE_KAFKA_VERSION"] = asked.kafka
    directory = asked.dir or cache_directory() / f"broker-{asked.port}"
    try:
        return act(asked.command, directory.resolve(), asked.port, asked.owner)
    except (BrokerError, subprocess.CalledProcessError) as error:
        say(f"kafka_broker: {error}")
        return 1


def act(command: str, directory: Path, port: int, owner_pid: int | None) -> int:
    """Do one command."""
    if command == "watch":
        watch(directory, owner_pid or os.getppid())
        return 0
    if command == "stop":
        print("stopped" if stop(directory) else "no broker runs here")
        return 0
    if command == "start":
        broker: Broker | None = supply(directory, port=port, owner_pid=owner_pid)
    else:
        broker = named_broker() or running(directory)
    print(broker.bootstrap if broker else "no broker runs here")
    return 0 if broker else 1


if __name__ == "__main__":
    raise SystemExit(main())
