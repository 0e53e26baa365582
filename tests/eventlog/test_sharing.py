"""How tasks are shared out."""

from types import SimpleNamespace

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from service.eventlog.kafka.assignor import CoPartitionedStickyAssignor, decode
from service.eventlog.sharing import NO_CLAIM, Claim, share_out

MEMBERS = st.text("abcdef", min_size=1, max_size=3)
CLAIMS = st.builds(Claim, st.integers(0, 3), st.frozensets(st.integers(-2, 20), max_size=20))
GROUPS = st.dictionaries(MEMBERS, CLAIMS, min_size=1, max_size=8)


@given(GROUPS, st.integers(0, 20))
def test_every_task_goes_to_exactly_one_member(claims, task_count):
    shares = share_out(claims, task_count)
    assert sorted(task for tasks in shares.values() for task in tasks) == list(range(task_count))
    assert shares.keys() == claims.keys()


@given(GROUPS, st.integers(0, 20))
def test_shares_differ_by_one_at_most(claims, task_count):
    sizes = [len(tasks) for tasks in share_out(claims, task_count).values()]
    assert max(sizes) - min(sizes) <= 1


@given(GROUPS, st.integers(0, 20))
def test_a_share_that_is_claimed_again_does_not_move(claims, task_count):
    shares = share_out(claims, task_count)
    assert share_out({member: Claim(9, tasks) for member, tasks in shares.items()}, task_count) == shares


@given(st.sets(MEMBERS, min_size=1, max_size=8), MEMBERS, st.integers(0, 20))
def test_only_what_evenness_demands_moves_when_a_member_comes_or_goes(names, newcomer, task_count):
    names = names - {newcomer} or {newcomer + "x"}
    before = share_out(dict.fromkeys(names, NO_CLAIM), task_count)
    claims = {member: Claim(1, tasks) for member, tasks in before.items()}
    after = share_out({**claims, newcomer: NO_CLAIM}, task_count)
    moved = sum(len(before[member] - after[member]) for member in names)
    # The newcomer's share must come from somewhere, and nothing else may move.
    assert moved == len(after[newcomer])
    left = share_out({member: Claim(2, after[member]) for member in names}, task_count)
    assert all(after[member] <= left[member] for member in names)


@given(st.integers(1, 20))
def test_of_two_claims_on_a_task_the_later_holds(task_count):
    everything = frozenset(range(task_count))
    shares = share_out({"a zombie": Claim(3, everything), "owner": Claim(4, everything)}, task_count)
    kept = (task_count + 1) // 2
    assert shares["owner"] == frozenset(range(kept))


def cluster_of(counts):
    return SimpleNamespace(partitions_for_topic=lambda topic: set(range(counts[topic])) if topic in counts else None)


def joined(assignors, topics):
    """What the broker hands to the leader: each member's metadata after a trip over the wire."""
    wire = {name: assignor.metadata(topics).encode() for name, assignor in assignors.items()}
    return {name: ConsumerProtocolMemberMetadata.decode(data) for name, data in wire.items()}


def shared_by(assignors, cluster, topics):
    answers = next(iter(assignors.values())).assign(cluster, joined(assignors, topics))
    for name, assignor in assignors.items():
        assignor.on_assignment(ConsumerProtocolMemberAssignment.decode(answers[name].encode()))
    return answers


@given(st.integers(1, 6), st.integers(1, 12))
def test_the_same_partition_number_of_every_topic_goes_to_the_same_member(member_count, partitions):
    assignors = {f"m{n}": CoPartitionedStickyAssignor() for n in range(member_count)}
    answers = shared_by(assignors, cluster_of({"p": partitions, "l": partitions}), ["p", "l"])
    for name, answer in answers.items():
        shares = dict(answer.assignment)
        assert shares["p"] == shares["l"] == sorted(assignors[name].claim.tasks)


@given(st.integers(1, 12), st.integers(1, 5))
def test_members_who_join_one_after_the_other_take_only_what_evenness_demands(partitions, member_count):
    cluster = cluster_of({"p": partitions})
    assignors = {}
    for n in range(member_count):
        before = {name: assignor.claim.tasks for name, assignor in assignors.items()}
        assignors[f"m{n}"] = CoPartitionedStickyAssignor()
        shared_by(assignors, cluster, ["p"])
        moved = sum(len(tasks - assignors[name].claim.tasks) for name, tasks in before.items())
        assert moved <= len(assignors[f"m{n}"].claim.tasks) if n else moved == 0
        assert len({assignor.claim.round for assignor in assignors.values()}) == 1


def test_a_topic_with_fewer_partitions_is_read_where_it_has_them():
    assignors = {"a": CoPartitionedStickyAssignor()}
    answer = shared_by(assignors, cluster_of({"p": 3, "l": 1}), ["p", "l"])["a"]
    assert dict(answer.assignment) == {"p": [0, 1, 2], "l": [0]}


def test_a_member_that_reads_other_topics_than_most_gets_nothing_and_learns_why():
    cluster = cluster_of({"p": 2, "other": 2})
    right, also, wrong = (CoPartitionedStickyAssignor() for _ in range(3))
    members = {
        **joined({"right": right, "also": also}, ["p"]),
        **joined({"wrong": wrong}, ["other"]),
    }
    answers = right.assign(cluster, members)
    assert sorted([*answers["right"].partitions(), *answers["also"].partitions()]) == [("p", 0), ("p", 1)]
    assert answers["wrong"].assignment == []
    wrong.on_assignment(ConsumerProtocolMemberAssignment.decode(answers["wrong"].encode()))
    assert wrong.expected_topics == ("p",)
    right.on_assignment(ConsumerProtocolMemberAssignment.decode(answers["right"].encode()))
    assert right.expected_topics is None


@given(st.binary(max_size=40))
def test_user_data_of_strangers_claims_nothing_and_breaks_nothing(data):
    state = decode(data)
    assert isinstance(state.round, int)
    assert all(isinstance(task, int) for task in state.tasks)
