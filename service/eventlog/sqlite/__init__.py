"""The embedded log: topics, partitions and transactions in one SQLite file. The default for a first run."""

from service.eventlog.sqlite.log import SqliteLog

__all__ = ["SqliteLog"]
