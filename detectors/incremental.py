"""What all detectors that follow a rule have in common: the protocol around the rule's arithmetic."""

from typing import Any, ClassVar, Protocol

import msgspec

from detectors.columns import SHORT, advance, column, few, number
from detectors.protocol import Domain, Level, Progress, State, Values, Verdict
from detectors.sealing import opened_body, opened_parameters, sealed


class Rule(Protocol):
    """How a detector judges: its arithmetic, its state as a typed body, and nothing else."""

    body: Any
    """A msgspec.Struct that can be made without arguments, which is the state of a new detector."""

    def scan(self, values: list[float]) -> Progress:
        """Take values one after the other in plain Python, up to the first that drifts."""
        ...

    def block(self, values: Values) -> Progress:
        """Do the same with columns, bit for bit: faster from some fifty values on."""
        ...

    def verdict(self) -> Verdict:
        """Say level, statistic and threshold."""
        ...


class Incremental:
    """A detector that follows a rule. `_rule_for` makes a rule of the detector's parameters, in its initial state."""

    name: ClassVar[str]
    domain: ClassVar[Domain]

    def _begin(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._rule = self._rule_for(parameters)

    def _rule_for(self, parameters: dict[str, Any]) -> Rule:
        raise NotImplementedError

    def update(self, value: float) -> Level:
        """Take one value and say the level after it."""
        return self._rule.scan([number(value, self.domain)]).level

    def update_many(self, values: Values | list[float]) -> Progress:
        """Take values (shape (n,)) in order, stopping behind the first that drifts."""
        if not len(values):
            return Progress(0, self._rule.verdict().level)
        if isinstance(values, list) and len(values) < SHORT:
            return self._rule.scan(few(values, self.domain))
        values = column(values, self.domain)
        return advance(values, self._rule.scan, self._rule.block)

    def verdict(self) -> Verdict:
        """Say level, statistic and threshold without changing anything."""
        return self._rule.verdict()

    def reset(self) -> None:
        """Become as new."""
        self._begin(self._parameters)

    def rebase(self) -> None:
        """Forget everything: the stream after the drift is the new reference."""
        self.reset()

    def snapshot(self) -> State:
        """Give everything that is needed to go on elsewhere, parameters included."""
        body: msgspec.Struct = self._rule.body
        return sealed(self.name, self._parameters, body)

    def restore(self, state: State) -> None:
        """Take over a snapshot. Raises StateError when it is another detector's, a newer version's, or damaged."""
        parameters = opened_parameters(state, type(self), self.name)
        rule = self._rule_for(parameters)
        rule.body = opened_body(state, self.name, type(rule.body))
        self._parameters, self._rule = parameters, rule
