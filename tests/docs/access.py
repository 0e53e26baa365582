"""What the service must be allowed on Kafka. One list: the page shows it, and a test on a real broker proves it."""

from typing import Literal, NamedTuple

from service.runtime.settings import RuntimeSettings, TopicSettings

Resource = Literal["topic", "group", "transactional-id"]
Operation = Literal["Read", "Write"]


class Rule(NamedTuple):
    """A right of the service."""

    resource: Resource
    name: str
    operation: Operation
    why: str
    prefixed: bool = False


def rules(topics: TopicSettings, runtime: RuntimeSettings) -> list[Rule]:
    """List the rights that a service needs where all topics exist."""
    inputs = [Rule("topic", name, "Read", "input") for name in topics.inputs]
    internal = [
        Rule("topic", name, operation, "internal state")
        for name in (topics.changelog, topics.steps)
        for operation in ("Read", "Write")
    ]
    written = [
        Rule("topic", name, "Write", "output")
        for name in (topics.alerts, topics.triggers, topics.metrics, topics.dead_letters)
    ]
    return [
        *inputs,
        *written,
        *internal,
        Rule("group", runtime.group, "Read", "takes part in the group; publishes positions for lag dashboards"),
        Rule(
            "transactional-id",
            f"{runtime.name}.{runtime.group}.",
            "Write",
            "one transactional writer for each task, which is its lock",
            prefixed=True,
        ),
    ]


def table() -> str:
    """Write the list as a table, one line for each resource."""
    lines = ["| resource | name | operations | for |", "| --- | --- | --- | --- |"]
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for rule in rules(TopicSettings(), RuntimeSettings()):
        name = f"`{rule.name}`" + (" (prefix)" if rule.prefixed else "")
        grouped.setdefault((rule.resource, name, rule.why), []).append(rule.operation)
    lines += [f"| {kind} | {name} | {', '.join(ops)} | {why} |" for (kind, name, why), ops in grouped.items()]
    return "\n".join(lines) + "\n"
