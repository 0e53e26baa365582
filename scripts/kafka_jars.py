"""Supplies what a Kafka broker is made of: Java, Maven, and the jars from Maven Central. Standard library only."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

KAFKA_VERSION = "4.3.0"
OLDER_VERSIONS = ("3.9.1", "2.8.2")
"""Others that are tried: the last line before Kafka 4, and one from the time of ZooKeeper."""

PACKAGES = ("openjdk-17-jre-headless", "maven")
NEWER_PACKAGES = ("default-jre-headless", "maven")
"""Releases after Debian 12 and Ubuntu 24.04 have a newer Java and no longer this one."""

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>local</groupId><artifactId>broker</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{kafka}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
{more}</dependencies></project>
"""

LOG4J = """<dependency>
<groupId>ch.qos.reload4j</groupId><artifactId>reload4j</artifactId><version>1.2.25</version>
</dependency>
"""
"""Brokers before Kafka 4 name classes of log4j 1, which their own distribution brings and their artifacts do not."""


def chosen_version() -> str:
    """Which Kafka to run: $TIDEGAUGE_KAFKA_VERSION, or the newest."""
    return os.environ.get("TIDEGAUGE_KAFKA_VERSION") or KAFKA_VERSION


def major(version: str) -> int:
    """Give the first number of a version."""
    return int(version.partition(".")[0])


class BrokerError(Exception):
    """A broker cannot be supplied; the message says what to do."""


def cache_directory() -> Path:
    """Where downloads and the data of people's brokers live: $TIDEGAUGE_CACHE or ~/.cache/tidegauge."""
    named = os.environ.get("TIDEGAUGE_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "tidegauge"


def say(message: str) -> None:
    """Tell people what takes long; standard output is kept for answers."""
    print(message, file=sys.stderr, flush=True)


def java_is_new_enough() -> bool:
    """Kafka 4 brokers need Java 17 (KIP-1013)."""
    if not shutil.which("java"):
        return False
    answer = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    return found is not None and int(found[1]) >= 17


def missing_tools(jars_are_there: bool) -> list[str]:
    """Name what the Maven way lacks on this machine."""
    missing = [] if java_is_new_enough() else ["Java 17"]
    return missing if jars_are_there or shutil.which("mvn") else [*missing, "Maven"]


def install_packages() -> None:
    """Install Java and Maven from Debian's packages. Needs root."""
    say(f"installing {' and '.join(PACKAGES)} from the distribution's packages")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment, stdout=sys.stderr)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    for packages in (PACKAGES, NEWER_PACKAGES):
        if subprocess.run([*install, *packages], check=False, env=environment, stdout=sys.stderr).returncode == 0:
            return
    raise BrokerError(f"apt-get could install neither {' '.join(PACKAGES)} nor {' '.join(NEWER_PACKAGES)}")


def may_install() -> bool:
    """Say whether this is root on Debian or Ubuntu."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time in here; the kernel frees the lock when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def supply_jars(version: str) -> Path:
    """Give the directory that holds a broker's jars; fetch them once (46 jars, 44 MB, seen: 5 s)."""
    home = cache_directory() / f"kafka-{version}"
    jars = home / "libs"
    with locked(cache_directory() / "kafka.lock"):
        missing = missing_tools(jars.exists())
        if missing and may_install():
            install_packages()
        elif missing:
            raise BrokerError(
                f"{' and '.join(missing)} missing. Run: sudo apt-get install -y {' '.join(PACKAGES)}  "
                "(or name a broker in TIDEGAUGE_TEST_BOOTSTRAP, or start a Docker engine)"
            )
        if not jars.exists():
            fetch_jars(version, home, jars)
    return jars


def fetch_jars(version: str, home: Path, jars: Path) -> None:
    """Fetch into a directory beside, then rename: an interrupted download leaves nothing that looks whole."""
    say(f"fetching Apache Kafka {version} from Maven Central into {jars}")
    home.mkdir(parents=True, exist_ok=True)
    (home / "pom.xml").write_text(POM.format(kafka=version, more=LOG4J if major(version) < 4 else ""))
    partial = home / "libs.partial"
    shutil.rmtree(partial, ignore_errors=True)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    if subprocess.run(["mvn", "-q", "-B", *goal], cwd=home, check=False, stdout=sys.stderr).returncode:
        raise BrokerError(f"Maven could not fetch Kafka {version} (it says above what); it may be tried again")
    partial.rename(jars)
