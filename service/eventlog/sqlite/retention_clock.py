"""The time by which the embedded log deletes: it does not follow a jump of the wall clock.

A machine whose clock is set a year ahead by mistake must not lose its log within seconds. So the time that retention
goes by is kept in the file, beside what the machine's own count of seconds since its start showed then, and moves on by
as much as that count did: across processes, and while none runs, for as long as the machine is not started anew. After
that nothing but the wall clock can say how long it was off.
"""

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TABLE = (
    "CREATE TABLE IF NOT EXISTS retention_clock"
    " (id INTEGER PRIMARY KEY CHECK (id = 1), boot TEXT NOT NULL, uptime_ms INTEGER NOT NULL, time_ms INTEGER NOT NULL)"
)


class Uptime(NamedTuple):
    """How long the machine runs, and since which start of it."""

    boot: str
    ms: int


def uptime() -> Uptime:
    """Ask the machine. Where it does not tell its starts apart, each process counts as a start of its own."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the first also counts while it sleeps
    return Uptime(_BOOT, time.clock_gettime_ns(clock) // 1_000_000)


def _boot() -> str:
    with contextlib.suppress(OSError):
        return BOOT_ID.read_text().strip()
    return f"process {time.time_ns()}"


_BOOT = _boot()


def retention_time_ms(db: sqlite3.Connection, now_ms: int, up: Uptime) -> int:
    """Give the time to go by, at most the wall clock's `now_ms`, and keep it. Inside a transaction."""
    db.execute(TABLE)
    row = db.execute("SELECT boot, uptime_ms, time_ms FROM retention_clock").fetchone()
    if row is not None and row[0] == up.boot:
        now_ms = min(now_ms, row[2] + max(up.ms - row[1], 0))
    db.execute("INSERT OR REPLACE INTO retention_clock VALUES (1, ?, ?, ?)", (up.boot, up.ms, now_ms))
    return now_ms
