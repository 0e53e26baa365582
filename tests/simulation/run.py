"""One seed, judged."""

import hashlib
from typing import NamedTuple

from schemas.outputs import Output
from service.core.intake import Positions, Role
from service.core.prepare import TaskTopics
from service.core.task import Task
from tests.simulation.loop import EveryoneWaitsError, run_in_virtual_time
from tests.simulation.scenario import Scenario, draw
from tests.simulation.verifier import Evidence, ViolationError, compare, offer, verify
from tests.simulation.world import World


class Verdict(NamedTuple):
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


def judge(seed: int) -> Verdict:
    """Run a seed and check its laws."""
    scenario = draw(seed)
    lived: list[World] = []

    async def live() -> list[Evidence]:
        lived.append(World(scenario))
        return await lived[0].run()

    outputs = records = 0
    violation = None
    digest = hashlib.sha256()
    try:
        for evidence in run_in_virtual_time(live()):
            digest.update(repr(evidence).encode())
            records += sum(map(len, evidence.inputs.values()))
            outputs += check(scenario, evidence)
    except ViolationError as error:
        violation = str(error)
    except EveryoneWaitsError:
        violation = "everyone waits for something that will not come"
    return Verdict(seed, violation, lived[0].lives, lived[0].faults, records, outputs, digest.hexdigest())


def check(scenario: Scenario, evidence: Evidence) -> int:
    """Check the laws of one task; give the number of outputs that were compared."""
    config = scenario.config
    source = f"tidegauge/{config.runtime.name}"
    compared = verify(evidence, config.core, config.topics.inputs, source)
    if not scenario.growing:
        # Nothing arrived late, so no moment decided anything: what comes out is known without the recorded steps.
        compare(undisturbed(scenario, evidence), evidence, source)
    return compared


def undisturbed(scenario: Scenario, evidence: Evidence) -> list[Output]:
    """Give what the core says of all inputs at once."""
    config = scenario.config
    task = Task(config.core, TaskTopics(*config.topics.inputs, evidence.partition), Positions(0, 0, 0))
    for role in Role:
        offer(task, role, evidence.inputs[role], 0, 1 << 62)
    outputs: list[Output] = []
    while (result := task.step(frozenset(Role), 1 << 30)) is not None:
        outputs += result.outputs
    return outputs
