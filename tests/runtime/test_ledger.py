"""When a snapshot is due."""

import msgspec
import pytest

from service.core.effects import StepResult
from service.core.intake import Positions
from service.runtime.ledger import Ledger
from service.runtime.outbox import Outbox
from service.runtime.settings import RuntimeSettings, TopicSettings

SETTINGS = msgspec.structs.replace(RuntimeSettings(), snapshot_interval_ms=30_000, max_repeat_ms=4_000)


def step(number: int) -> StepResult:
    return StepResult([], Positions(0, number, 0), False, 1)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(SETTINGS, Outbox(TopicSettings(), SETTINGS, 0), Positions(0, 0, 0), 0, now=100.0)


def test_a_snapshot_is_due_when_the_last_one_is_old(ledger: Ledger) -> None:
    ledger.record(step(1), took_s=0.001)
    assert not ledger.snapshot_due(129.9)
    assert ledger.snapshot_due(130.0)


def test_a_snapshot_is_due_sooner_when_a_restart_would_repeat_much_work(ledger: Ledger) -> None:
    now = 100.0
    for number in range(1, 5):  # a task that has to work all the time
        assert not ledger.snapshot_due(now)
        ledger.record(step(number), took_s=1.0)
        ledger.committed(ledger.cut(0), now := now + 1.0, snapshot=False)
    assert ledger.snapshot_due(now)


def test_work_that_a_snapshot_covers_is_not_counted_again(ledger: Ledger) -> None:
    ledger.record(step(1), took_s=5.0)
    ledger.committed(ledger.cut(0), 105.0, snapshot=True)
    ledger.record(step(2), took_s=3.9)
    assert not ledger.snapshot_due(109.0)
    ledger.record(step(3), took_s=0.1)
    assert ledger.snapshot_due(109.1)
