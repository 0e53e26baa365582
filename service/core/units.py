"""Units: what is watched as a model of its own. A model with several outputs (targets) is one unit for each of them.

Inside the core a unit goes by one name, made of the model's and the target's, so that nothing of one output is ever
counted with another's. What leaves the core names both apart.
"""

from typing import Any, Final, TypeVar

import msgspec

from schemas.outputs import DeadLetter, Output

Told = TypeVar("Told", bound=Output)

SEPARATOR: Final = "\x1f"
"""ASCII's unit separator, which stands in no sensible name."""


def unit_of(model_id: str, target: str) -> str:
    """Name the unit of one output of a model."""
    return f"{model_id}{SEPARATOR}{target}"


def split(unit: str) -> tuple[str, str | None]:
    """Give a unit's model and target; no target for a model with one output.

    >>> split("churn"), split(unit_of("churn", "price"))
    (('churn', None), ('churn', 'price'))
    """
    model_id, found, target = unit.partition(SEPARATOR)
    return model_id, target if found else None


def model_of(unit: str) -> str:
    """Give a unit's model."""
    return unit.partition(SEPARATOR)[0]


def shown(unit: str) -> str:
    """Write a unit for people.

    >>> shown("churn"), shown(unit_of("churn", "price"))
    ('churn', 'churn, target price')
    """
    return unit.replace(SEPARATOR, ", target ")


def by_unit(events: list[Any]) -> list[Any]:
    """Put predictions or labels under their units; those without a target stay as they are."""
    if all(getattr(event, "target", None) is None for event in events):
        return events
    return [_under_unit(event) for event in events]


def _under_unit(event: Any) -> Any:
    target = getattr(event, "target", None)
    return event if target is None else msgspec.structs.replace(event, model_id=unit_of(event.model_id, target))


def as_told(output: Told) -> Told:
    """Name model and target apart, as others see them."""
    unit = output.model_id
    if unit is None or SEPARATOR not in unit:
        return output
    model_id, target = split(unit)
    if isinstance(output, DeadLetter):
        return msgspec.structs.replace(output, model_id=model_id)
    changes = {
        name: text.replace(unit, f"{model_id}, target {target}")
        for name in ("summary", "reason", "resolution", "advice")
        if isinstance(text := getattr(output, name, None), str) and unit in text
    }
    return msgspec.structs.replace(output, model_id=model_id, target=target, **changes)
