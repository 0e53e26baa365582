"""Which partition a key belongs to: the rules of Kafka's own clients, for everything that writes here."""

from service.core.partitioning import RULES, murmur2, partition_for

__all__ = ["RULES", "murmur2", "partition_for"]
