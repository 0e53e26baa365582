"""The Kafka carrier. Nothing outside this package imports aiokafka."""

from service.eventlog.kafka.log import KafkaLog

__all__ = ["KafkaLog"]
