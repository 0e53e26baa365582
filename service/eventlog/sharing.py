"""How tasks are shared out among the members of a group: completely, disjointly, evenly, moving little.

The idea of KIP-54 (sticky assignment), reduced to what co-partitioned inputs need: what is shared out are partition
*numbers*, so partition 3 of every input goes to the same member.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Claim(NamedTuple):
    """What a member held last. `round` counts the sharings of its group: the later of two claims holds."""

    round: int
    tasks: frozenset[int]


NO_CLAIM = Claim(0, frozenset())


def share_out(claims: Mapping[str, Claim], task_count: int) -> dict[str, frozenset[int]]:
    """Give each member its tasks out of `range(task_count)`.

    Every task goes to exactly one member, shares differ by one at most, and the number of tasks that leave a member
    who claims them is the least that evenness allows: the larger quotas go to those who hold most.
    """
    if not claims:
        return {}
    held = settle(claims, task_count)
    floor, larger = divmod(task_count, len(claims))
    by_holding = sorted(claims, key=lambda member: (-len(held[member]), member))
    quotas = {member: floor + (place < larger) for place, member in enumerate(by_holding)}
    kept = {member: sorted(held[member])[: quotas[member]] for member in claims}
    free = unheld(kept, task_count)
    # The quotas sum up to `task_count`, so the free tasks are exactly as many as the room that is left.
    return {
        member: frozenset([*kept[member], *(next(free) for _ in range(quotas[member] - len(kept[member])))])
        for member in sorted(claims)
    }


def settle(claims: Mapping[str, Claim], task_count: int) -> dict[str, set[int]]:
    """Give each claimed task to one claimant: the one of the latest round, of several the first by name."""
    owner: dict[int, str] = {}
    for member in sorted(claims, key=lambda name: (-claims[name].round, name)):
        for task in claims[member].tasks:
            if 0 <= task < task_count:
                owner.setdefault(task, member)
    held: dict[str, set[int]] = {member: set() for member in claims}
    for task, member in owner.items():
        held[member].add(task)
    return held


def unheld(kept: Mapping[str, list[int]], task_count: int) -> Iterator[int]:
    """Give the tasks that nobody keeps, in ascending order."""
    taken = {task for tasks in kept.values() for task in tasks}
    return (task for task in range(task_count) if task not in taken)
