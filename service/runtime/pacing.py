"""When to stop waiting for an input, and how much to take at a time. Both change no output, only when it comes."""

from service.core.intake import Role
from service.runtime.settings import RuntimeSettings


class IdleWatch:
    """Says which inputs are not waited for.

    An input that has nothing while another has records is given `idle_grace_ms` to deliver, for its records may be on
    their way: two topics are never read at the same instant. Then it counts as idle until it delivers, or until
    nothing is left anywhere, so that a steady stream waits once and not at each step.
    """

    def __init__(self, settings: RuntimeSettings, now: float) -> None:
        self._grace_s = settings.idle_grace_ms / 1000
        self._max_idle_s = settings.max_idle_ms / 1000
        self._heard_at = dict.fromkeys(Role, now)
        self._waited_since: dict[Role, float] = {}

    def heard(self, roles: set[Role], now: float) -> None:
        """Note which inputs delivered."""
        self._heard_at.update(dict.fromkeys(roles, now))

    def idle(self, buffered: dict[Role, int], at_end: dict[Role, bool], now: float) -> frozenset[Role]:
        """Say which inputs are idle. `buffered`: records in hand of each; `at_end`: nothing more is known of."""
        if not any(buffered.values()):
            self._waited_since.clear()
            return frozenset(Role)
        for role in Role:
            silent = now - self._heard_at[role] >= self._max_idle_s
            if buffered[role] or not (at_end[role] or silent):
                self._waited_since.pop(role, None)
            else:
                self._waited_since.setdefault(role, now)
        return frozenset(role for role, since in self._waited_since.items() if now - since >= self._grace_s)


class StepSize:
    """Keeps steps short enough that heartbeats, other tasks and the HTTP endpoint get their turn."""

    TOO_LONG_S = 1.0
    """A step is synchronous, and group members have ten seconds to answer. Much shorter steps cost throughput where
    a thousand models share a task, for each model that a step touches costs some 100 us, however few its records."""
    SHORT_S = 0.3
    LEAST = 64

    def __init__(self, most: int) -> None:
        self._most = most
        self.records = min(most, 1000)

    def took(self, seconds: float) -> None:
        """Learn from the last step."""
        if seconds > self.TOO_LONG_S:
            self.records = max(self.records // 2, min(self.LEAST, self._most))
        elif seconds < self.SHORT_S:
            self.records = min(self.records * 2, self._most)
