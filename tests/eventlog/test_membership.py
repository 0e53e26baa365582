"""Members of one group share its tasks completely and disjointly."""

from contextlib import AsyncExitStack

import pytest

from service.eventlog.errors import TopicError
from tests.eventlog.conftest import Carrier
from tests.eventlog.workers import settled, worker


async def test_a_member_alone_gets_every_task(carrier: Carrier):
    topics = [await carrier.topic(6), await carrier.topic(6)]
    async with worker(carrier, carrier.name("group"), topics) as only:
        await settled([only], 6, evenly=True)


async def test_two_members_share_completely_and_disjointly_and_little_moves(carrier: Carrier):
    topics = [await carrier.topic(6), await carrier.topic(6)]
    group = carrier.name("group")
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(worker(carrier, group, topics))
        await settled([first], 6, evenly=True)
        async with worker(carrier, group, topics) as second:
            # One worker of the embedded log owns everything: the other waits.
            shares = carrier.kind != "sqlite"
            await settled([first, second], 6, evenly=shares)
            kept = first.tasks
            assert len(kept) == (3 if shares else 6)
        await settled([first], 6, evenly=True)


async def test_when_a_member_leaves_the_others_keep_what_they_have(carrier: Carrier):
    if carrier.kind == "sqlite":
        return  # one worker owns everything: `test_the_next_worker_takes_over` is its law
    topic = await carrier.topic(6)
    group = carrier.name("group")
    async with AsyncExitStack() as stack:
        stayers = [await stack.enter_async_context(worker(carrier, group, [topic])) for _ in range(2)]
        async with worker(carrier, group, [topic]) as leaver:
            await settled([*stayers, leaver], 6, evenly=True)
            before = [w.tasks for w in stayers]
        await settled(stayers, 6, evenly=True)
        assert all(had <= has.tasks for had, has in zip(before, stayers, strict=True))


async def test_the_next_worker_takes_over_when_the_first_leaves(carrier: Carrier):
    topic = await carrier.topic(4)
    group = carrier.name("group")
    async with AsyncExitStack() as stack:
        async with worker(carrier, group, [topic]) as first:
            await settled([first], 4, evenly=True)
            heir = await stack.enter_async_context(worker(carrier, group, [topic]))
            await settled([first, heir], 4, evenly=False)
        await settled([heir], 4, evenly=True)


async def test_groups_do_not_disturb_each_other(carrier: Carrier):
    topic = await carrier.topic(2)
    async with (
        worker(carrier, carrier.name("group"), [topic]) as one,
        worker(carrier, carrier.name("group"), [topic]) as other,
    ):
        await settled([one], 2, evenly=True)
        await settled([other], 2, evenly=True)


async def test_a_group_on_topics_that_are_missing_says_which(carrier: Carrier):
    topic = await carrier.topic()
    with pytest.raises(TopicError, match="nothing-of-that-name"):
        async with carrier.log.membership(carrier.name("group"), [topic, "nothing-of-that-name"]):
            pass
