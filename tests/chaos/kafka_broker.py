"""The broker of a chaos run, and what is done to it."""

import asyncio
import os
import random
import signal
from pathlib import Path

from tests.broker import kafka_broker, session_pid
from tests.chaos.kafka_setting import BROKER_PROPERTIES

PORTS = range(20_000, 30_000)
"""Below the ports that Linux gives to outgoing connections (32768 and up): while the broker is dead, a client that
tries again and again would sooner or later be given its port as its own, connect to itself, and keep the broker out."""

END_LIMIT_S = 30.0
"""For the kernel to take apart a process that was killed. It was some milliseconds."""


class ChaosBroker:
    """One broker with data of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = random.choice([port for port in random.sample(PORTS, 50) if not kafka_broker.answers(port)])

    async def start(self) -> str:
        """Start it, or start it again over the same data; give its address."""
        broker = await asyncio.to_thread(
            kafka_broker.start,
            self._directory,
            port=self._port,
            properties=BROKER_PROPERTIES,
            owner_pid=session_pid(),
        )
        return str(broker.bootstrap)

    def signal(self, number: signal.Signals) -> None:
        """Kill, freeze or thaw it."""
        broker = kafka_broker.running(self._directory.resolve())
        if broker is not None:
            os.kill(broker.pid, number)

    async def kill(self) -> None:
        """End it between two instructions, and wait until its port is free."""
        self.signal(signal.SIGKILL)
        async with asyncio.timeout(END_LIMIT_S):
            while await asyncio.to_thread(kafka_broker.answers, self._port):  # noqa: ASYNC110  # a port tells nobody
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Stop it, in whatever state it is. Its data stay."""
        self.signal(signal.SIGCONT)
        await asyncio.to_thread(kafka_broker.stop, self._directory)
