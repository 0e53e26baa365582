"""Groups in memory: shares are hints that all members get at once, and a simulator may dictate them."""

from collections.abc import AsyncIterator, Iterable, Mapping

from service.eventlog.errors import UnavailableError
from service.eventlog.mailbox import AssignmentMailbox
from service.eventlog.protocol import Assignment, TopicPartition
from service.eventlog.sharing import Claim, share_out


class MemoryGroup:
    """The members of one group and what they hold."""

    def __init__(self, task_count: int) -> None:
        self.task_count = task_count
        self.positions: dict[TopicPartition, int] = {}
        self.members: dict[str, MemoryMembership] = {}
        """By name: member-1 is the first that ever joined."""
        self._joined = 0
        self._round = 0

    def join(self, member: "MemoryMembership") -> None:
        """Name a new member and share out anew."""
        self._joined += 1
        member.name = f"member-{self._joined}"
        self.members[member.name] = member
        self._share_out()

    def leave(self, name: str) -> None:
        """Forget a member, if it is known, and share out anew."""
        if self.members.pop(name, None) is not None:
            self._share_out()

    def evict(self, name: str) -> None:
        """Do what a session timeout does: the others get its tasks while it still believes that it holds them."""
        self.leave(name)

    def dictate(self, shares: Mapping[str, frozenset[int]]) -> None:
        """Hand out shares as the caller likes, overlapping or not, until the next join, leave or eviction."""
        for name, tasks in shares.items():
            self.members[name].give(tasks)

    def revoke(self, names: Iterable[str]) -> None:
        """Take everything back from some members, as Kafka does before it shares out anew: dictate shares next."""
        for name in names:
            self.members[name].revoke()

    def _share_out(self) -> None:
        self._round += 1
        claims = {name: Claim(self._round, member.tasks) for name, member in self.members.items()}
        for name, tasks in share_out(claims, self.task_count).items():
            self.members[name].give(tasks)


class MemoryMembership:
    """One member. It learns its share through its mailbox."""

    def __init__(self, group: MemoryGroup) -> None:
        self.name = ""
        self.tasks: frozenset[int] = frozenset()
        """What it was given last."""
        self.released_generation = 0
        """The newest generation for which the worker said that it had let go."""
        self._group = group
        self._mailbox = AssignmentMailbox()

    def give(self, tasks: frozenset[int]) -> None:
        """Leave a share for the worker."""
        self.tasks = tasks
        self._mailbox.put(tasks)

    def revoke(self) -> None:
        """Let the worker know that its tasks are taken back; whose they are will be said."""
        self._mailbox.revoke()

    def disturb(self, reason: str) -> None:
        """Let the worker's next look at its assignments fail, as a broker's refusal would."""
        self._mailbox.fail(UnavailableError(reason))

    def assignments(self) -> AsyncIterator[Assignment]:
        """Give the newest assignment whenever there is one."""
        return self._mailbox.assignments()

    async def released(self, generation: int) -> None:
        """Take note; nobody waits for it here."""
        self.released_generation = max(self.released_generation, generation)

    async def publish_positions(self, positions: Mapping[TopicPartition, int]) -> None:
        """Keep the positions for those who ask the group."""
        self._group.positions.update(positions)

    async def close(self) -> None:
        """Leave the group at once."""
        self._mailbox.close()
        self._group.leave(self.name)
