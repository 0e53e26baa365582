"""What brokers before Kafka 3 need beside them: ZooKeeper, from their own artifacts. Standard library only."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

TICK_MS = 500
"""Sessions end after at least two ticks: a broker that was killed may come back after so long, and not before."""
SESSION_MS = 1_500

KRAFT_ALONE = ("process.roles", "node.id", "controller.listener.names", "controller.quorum.voters")


def in_zookeeper_terms(properties: Mapping[str, str], port: int) -> dict[str, str]:
    """Turn a KRaft node's settings into those of a broker whose cluster lives in ZooKeeper on this port."""
    kept = {name: value for name, value in properties.items() if name not in KRAFT_ALONE}
    for name in ("listeners", "listener.security.protocol.map"):
        kept[name] = ",".join(part for part in kept[name].split(",") if not part.startswith("CONTROLLER:"))
    return {
        **kept,
        "broker.id": "1",
        "zookeeper.connect": f"127.0.0.1:{port}",
        "zookeeper.session.timeout.ms": str(SESSION_MS),
    }


def supply_zookeeper(directory: Path, jars: Path, port: int, pid: int) -> "subprocess.Popen[bytes] | None":
    """Start ZooKeeper on a port of 127.0.0.1, unless the process `pid` is that of this directory; its data stay."""
    settings = directory / "zookeeper.properties"
    if pid and is_zookeeper(settings, pid):
        return None
    lines = {
        "dataDir": directory / "zookeeper",
        "clientPort": port,
        "clientPortAddress": "127.0.0.1",
        "tickTime": TICK_MS,
        "maxClientCnxns": 0,
        "admin.enableServer": "false",
    }
    settings.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    flags = ["-Xmx128m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    with (directory / "zookeeper.log").open("ab") as sink:
        return subprocess.Popen(
            ["java", *flags, "-cp", f"{jars}/*", main, str(settings)],
            stdout=sink,
            stderr=sink,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def is_zookeeper(settings: Path, pid: int) -> bool:
    """Say whether a process is the ZooKeeper of these settings."""
    try:
        return str(settings).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def stop_zookeeper(directory: Path, pid: int) -> None:
    """Stop it; its broker is gone already."""
    if pid and is_zookeeper(directory / "zookeeper.properties", pid):
        os.kill(pid, signal.SIGTERM)
