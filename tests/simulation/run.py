"""One seed, judged."""

import hashlib
from typing import NamedTuple

from schemas.outputs import Output
from service.core.failures import ModelError
from service.core.intake import Positions, Role
from service.core.placement import Placement
from service.core.prepare import TaskTopics
from service.core.task import Task
from service.core.verdicts import Verdict
from tests.simulation.loop import EveryoneWaitsError, run_in_virtual_time
from tests.simulation.scenario import Scenario, draw
from tests.simulation.sickness import compare_others, raising
from tests.simulation.verifier import Evidence, ViolationError, as_messages, offer, read_cut, replay, verify
from tests.simulation.world import World


class Judgement(NamedTuple):
    """What a run showed."""

    seed: int
    violation: str | None
    lives: int
    """Worker processes that were started."""
    faults: dict[str, int]
    records: int
    outputs: int
    """Outputs that were compared byte for byte."""
    digest: str
    """Of everything that was found in the log: the same seed gives the same."""

    def __str__(self) -> str:
        did = f"{self.lives} lives, {self.faults}, {self.records} records, {self.outputs} outputs"
        if self.violation is None:
            return f"seed {self.seed}: holds ({did})"
        repeat = f"python -m tests.simulation --seed {self.seed}"
        return f"seed {self.seed}: VIOLATED: {self.violation} ({did})\n  repeat: {repeat}"


def judge(seed: int) -> Judgement:
    """Run a seed and check its laws."""
    scenario = draw(seed)
    lived: list[World] = []

    async def live() -> list[Evidence]:
        lived.append(World(scenario))
        return await lived[0].run()

    outputs = records = 0
    verdicts: list[Verdict] = []
    violation = None
    digest = hashlib.sha256()
    try:
        with raising(scenario.sickness):
            found = run_in_virtual_time(live())
        for evidence in found:
            digest.update(repr(evidence).encode())
            records += sum(map(len, evidence.inputs.values()))
            outputs += check(scenario, evidence)
            verdicts += [verdict for value in evidence.cuts for verdict in read_cut(value).verdicts]
    except ViolationError as error:
        violation = str(error)
    except EveryoneWaitsError:
        violation = "everyone waits for something that will not come"
    faults = lived[0].faults | {"verdict": len(verdicts)}
    return Judgement(seed, violation, lived[0].lives, faults, records, outputs, digest.hexdigest())


def check(scenario: Scenario, evidence: Evidence) -> int:
    """Check the laws of one task; give the number of outputs that were compared."""
    config = scenario.config
    source = f"tidegauge/{config.runtime.name}"
    with raising(scenario.sickness):
        try:
            compared = verify(evidence, config.core, config.topics.inputs, source)
        except ModelError as error:
            raise ViolationError(f"a recorded step raises, and no verdict is recorded with it: {error}") from error
    if scenario.sickness:
        compare_others(as_messages(sound(scenario, evidence), source), evidence)
    if not scenario.growing:
        # Nothing arrived late, so no moment decided anything: what comes out is known without the recorded steps.
        compare_others(as_messages(undisturbed(scenario, evidence), source), evidence)
    return compared


def sound(scenario: Scenario, evidence: Evidence) -> list[Output]:
    """Give what a core that never raises says in the recorded steps, about whom nothing is decided."""
    config = scenario.config
    task = Task(config.core, TaskTopics(*config.topics.inputs, evidence.partition), Positions(0, 0, 0))
    cuts = [read_cut(value)._replace(verdicts=()) for value in evidence.cuts]
    return replay(task, cuts, evidence.inputs, Placement(evidence.partition, evidence.partitions))


def undisturbed(scenario: Scenario, evidence: Evidence) -> list[Output]:
    """Give what the core says of all inputs at once."""
    config = scenario.config
    task = Task(config.core, TaskTopics(*config.topics.inputs, evidence.partition), Positions(0, 0, 0))
    for role in Role:
        offer(task, role, evidence.inputs[role], 0, 1 << 62, Placement(evidence.partition, evidence.partitions))
    outputs: list[Output] = []
    while (result := task.step(frozenset(Role), 1 << 30)) is not None:
        outputs += result.outputs
    return outputs
