"""Records and models at which the core raises are kept away, and nobody else notices."""

import msgspec
import orjson
import pytest

from schemas.codec import encode
from schemas.outputs import Alert, DeadLetter, Output
from service.core import decode
from service.core.decode import Rejected
from service.core.failures import ModelError
from service.core.intake import Positions, Role
from service.core.join import JoinBuffer
from service.core.model import ModelMonitor
from service.core.quarantine import MAX_STRUCK, QuarantineBook
from service.core.settings import CoreSettings, JoinSettings, ModelProfile
from service.core.task import Task
from service.core.units import unit_of
from service.core.verdicts import Isolate, Quarantine, Verdict
from tests.core.raising import POISON, observed, raise_at_poison
from tests.core.stream import ALL_IDLE, START_MS, TOPICS, Driver, Source, drifting, label, prediction

SOURCE = drifting(300, 150, models=3)
SETTINGS = CoreSettings(default=ModelProfile(snapshot_interval_ms=4000), tick_ms=2000)


def poisoned(source: Source, *offsets: int) -> Source:
    predictions = list(source.predictions)
    for offset in offsets:
        predictions[offset] = orjson.dumps(orjson.loads(predictions[offset]) | {"latency_ms": POISON})
    return source._replace(predictions=predictions)


def with_reset(source: Source, model: str, number: int) -> Source:
    said = {"type": "reset_monitor", "model_id": model, "event_time_ms": START_MS + number * 100}
    return source._replace(control=[*source.control, orjson.dumps(said)])


class Judge:
    """Takes a source record by record in merged order, and applies verdicts before the records they belong to."""

    def __init__(self, source: Source, verdicts: dict[int, list[Verdict]], *, step: int = 50) -> None:
        self.driver = Driver(source, SETTINGS)
        self.outputs: list[Output] = []
        for role in Role:
            self.driver.offer(role, 10_000)
        self._verdicts = verdicts
        self._step = step

    @property
    def task(self) -> Task:
        return self.driver.task

    def run(self) -> list[Output]:
        while True:
            at = self.task.intake.taken.predictions
            verdicts = self._verdicts.pop(at, [])
            until = min((offset - at for offset in self._verdicts if offset > at), default=self._step)
            end = self.task.intake.end_of(ALL_IDLE, 1 if verdicts or until < 2 else min(until // 2, self._step))
            if end is None:
                return self.outputs
            self.task.judge(verdicts)
            self.outputs += self.task.step_to(end).outputs


def of_others(outputs: list[Output], model: str) -> list[bytes]:
    return [encode(output) for output in outputs if output.model_id != model]


def letters(outputs: list[Output], reason: str) -> list[DeadLetter]:
    return [output for output in outputs if isinstance(output, DeadLetter) and output.reason == reason]


def test_an_error_of_the_core_names_the_model_and_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    raise_at_poison(monkeypatch, ticks={"m2": 0})
    with pytest.raises(ModelError, match="model m1, observe: Burst: poisoned") as caught:
        Driver(poisoned(SOURCE, 31), SETTINGS).run()
    assert (caught.value.model_id, caught.value.phase) == ("m1", "observe")
    with pytest.raises(ModelError, match="model m2, tick: Burst: out of time"):
        Driver(SOURCE, SETTINGS).run()


def test_an_isolated_record_is_a_dead_letter_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = Driver(SOURCE, SETTINGS).run()
    raise_at_poison(monkeypatch)
    # The prediction of the model m1 with the number 31.
    judge = Judge(poisoned(SOURCE, 31), {31: [Isolate(Role.PREDICTIONS, 31, "m1", "Burst: poisoned")]})
    outputs = judge.run()
    (letter,) = letters(outputs, "isolated")
    assert (letter.topic, letter.offset, letter.model_id) == (TOPICS.predictions, 31, "m1")
    assert "Burst: poisoned" in letter.message
    assert observed(judge.task, "m1") == 99
    assert of_others(outputs, "m1") == of_others(healthy, "m1")


def test_a_model_in_quarantine_is_dead_letters_and_an_alert_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = Driver(SOURCE, SETTINGS).run()
    raise_at_poison(monkeypatch, ticks={"m1": 0})
    judge = Judge(SOURCE, {0: [Quarantine("m1", "Burst: out of time")]})
    outputs = judge.run()
    assert of_others(outputs, "m1") == of_others(healthy, "m1")
    assert "m1" not in judge.task.models
    assert len(letters(outputs, "quarantined")) == 200  # its predictions and their labels
    (alert,) = [output for output in outputs if isinstance(output, Alert) and output.model_id == "m1"]
    assert (alert.alertname, alert.severity, alert.state) == ("ModelQuarantined", "critical", "firing")
    assert "Burst: out of time" in alert.summary
    assert f"{TOPICS.predictions}[0]@0" in alert.summary
    assert "reset_monitor" in alert.advice
    assert judge.task.quarantine.held["m1"].records == 200


def test_what_waits_of_a_model_in_quarantine_and_expires_does_not_bring_its_monitors_back() -> None:
    core = msgspec.structs.replace(SETTINGS, join=JoinSettings(label_horizon_ms=3000))
    driver = Driver(SOURCE._replace(labels=[]), core)
    driver.offer(Role.PREDICTIONS, 300)
    driver.task.step_to(Positions(0, 150, 0))
    driver.task.judge([Quarantine("m1", "why")])
    driver.task.step_to(Positions(0, 300, 0))
    expired = {
        model_id: version.counts.values["expired"]
        for model_id, model in driver.task.models.items()
        for version in model.versions.values()
    }
    assert expired.keys() == {"m0", "m2"}
    assert all(expired.values())


def test_a_reset_lets_a_model_out_with_fresh_monitors_from_that_record_on(monkeypatch: pytest.MonkeyPatch) -> None:
    source = with_reset(SOURCE, "m1", 200)
    judge = Judge(source, {100: [Quarantine("m1", "why")]}, step=1000)
    outputs = judge.run()
    assert not judge.task.quarantine.held
    assert observed(judge.task, "m1") == 33  # those from number 202 on
    states = [
        output.state for output in outputs if isinstance(output, Alert) and output.alertname == "ModelQuarantined"
    ]
    assert states == ["firing", "resolved"]
    # Of one version alone it does not.
    said = orjson.loads(source.control[0]) | {"model_version": "1"}
    judge = Judge(source._replace(control=[orjson.dumps(said)]), {100: [Quarantine("m1", "why")]})
    assert len([letter for letter in letters(judge.run(), "quarantined") if letter.topic == TOPICS.control]) == 1
    assert "m1" in judge.task.quarantine.held


@pytest.mark.parametrize("labels", [SOURCE.labels, []])
def test_where_steps_are_cut_changes_nothing_of_a_quarantine(labels: list[bytes]) -> None:
    # Without labels predictions of the model expire between the records of a step, before it is let out and after.
    core = msgspec.structs.replace(SETTINGS, join=JoinSettings(label_horizon_ms=8000))
    source = with_reset(SOURCE, "m1", 200)._replace(labels=labels)
    found = []
    for step in (1, 7, 1000):
        judge = Judge(source, {100: [Quarantine("m1", "why")]}, step=step)
        judge.driver.task.join = JoinBuffer(core.join)
        found.append([encode(output) for output in judge.run()])
    assert found[0] == found[1] == found[2]


def test_a_target_of_a_model_is_in_quarantine_alone_and_commands_reach_the_others() -> None:
    price = Source(
        [orjson.dumps({"type": "fine_tune", "model_id": "m", "event_time_ms": START_MS + 25_000})],
        [prediction(number, 1.5, target=("price", "size")[number % 2]) for number in range(300)],
        [],
    )
    judge = Judge(price, {100: [Quarantine(unit_of("m", "price"), "why")]})
    outputs = judge.run()
    assert list(judge.task.models) == [unit_of("m", "size")]
    kept_away = letters(outputs, "quarantined")
    assert len(kept_away) == 100
    assert {letter.model_id for letter in kept_away} == {"m"}
    (alert,) = [output for output in outputs if isinstance(output, Alert) and output.alertname == "ModelQuarantined"]
    assert (alert.model_id, alert.target) == ("m", "price")
    judge = Judge(price, {100: [Quarantine(unit_of("m", target), "why") for target in ("price", "size")]})
    (command,) = [letter for letter in letters(judge.run(), "quarantined") if letter.topic == TOPICS.control]
    assert command.model_id == "m"
    assert not judge.task.models


def test_a_restored_task_keeps_its_quarantine_and_removes_what_it_stored_of_the_model() -> None:
    task = Judge(SOURCE, {}).task
    task.step_to(Positions(0, 200, 100))
    stored = dict(task.changed_state())
    assert "model/m1" in stored
    task.judge([Quarantine("m1", "why")])
    task.step_to(Positions(0, 300, 300))
    changed = task.changed_state()
    assert changed["model/m1"] is None
    gone = {name for name, entry in changed.items() if entry is None and not name.startswith("join/")}
    assert gone == {name for name in stored if name == "model/m1" or name.startswith("version/1")}
    kept = {name: entry for name, entry in (stored | changed).items() if entry is not None}
    restored = Task.restore(task.settings, TOPICS, task.intake.taken, kept)
    assert restored.quarantine.held == task.quarantine.held
    assert sorted(restored.models) == ["m0", "m2"]


def test_records_isolated_in_a_row_are_counted_until_the_model_takes_one_in() -> None:
    book = QuarantineBook()
    verdict = Isolate(Role.PREDICTIONS, 1, "m", "why")
    book.strike(verdict, 10)
    book.strike(verdict, 10)
    assert (book.in_a_row("m", Role.PREDICTIONS, 10), book.in_a_row("m", Role.PREDICTIONS, 11)) == (2, 0)
    assert book.in_a_row("m", Role.LABELS, 10) == 0
    book.strike(verdict, 11)
    assert book.in_a_row("m", Role.PREDICTIONS, 11) == 1
    again = QuarantineBook()
    again.restore(book.snapshot())
    assert again.snapshot() == book.snapshot()
    for number in range(MAX_STRUCK + 5):
        book.strike(Isolate(Role.LABELS, 1, f"m{number}", "why"), 0)
    assert len(book.strikes) == MAX_STRUCK


def test_a_decoder_that_raises_costs_the_record_at_which_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    original = decode._DECODERS[Role.LABELS]

    def raising(values: list[bytes], limit: int) -> object:
        if any(value is not None and b'"p7"' in value for value in values):
            raise ZeroDivisionError("p7")
        return original(values, limit)

    monkeypatch.setitem(decode._DECODERS, Role.LABELS, raising)
    source = Source([], [], [label(number, 1) if number % 5 else b"{" for number in range(20)])
    driver = Driver(source)
    driver.offer(Role.LABELS, 20)
    _, keys, _ = driver.task.intake._queues[Role.LABELS].blocks[0]
    assert len(keys) == 20
    outputs = driver.drain()
    assert [(one.reason, one.offset) for one in outputs if isinstance(one, DeadLetter)] == [
        ("invalid_json", 0),
        ("invalid_json", 5),
        ("isolated", 7),
        ("invalid_json", 10),
        ("invalid_json", 15),
    ]
    assert "ZeroDivisionError: p7" in outputs[2].message  # type: ignore[union-attr]


def test_any_prefix_of_the_merged_order_can_be_taken_alone() -> None:
    whole = Driver(SOURCE, SETTINGS).run()
    for count in (1, 3, 64):
        judge = Judge(SOURCE, {}, step=count)
        taken = 0
        while (end := judge.task.intake.end_of(ALL_IDLE, count)) is not None:
            result = judge.task.step_to(end)
            assert result.records == min(count, 600 - taken)
            taken += result.records
            judge.outputs += result.outputs
        assert [encode(output) for output in judge.outputs] == [encode(output) for output in whole]


def test_rejected_is_what_a_screened_record_becomes() -> None:
    task = Task(CoreSettings(), TOPICS, Positions(0, 0, 0))
    driver = Driver(SOURCE, task=task)
    for role in Role:
        driver.offer(role, 5)
    merged = task.intake.take_to(Positions(0, 3, 0))
    screened = task.quarantine.screened(merged, [Isolate(Role.PREDICTIONS, 1, None, "why")])
    lane = screened.lanes[Role.PREDICTIONS]
    assert isinstance(lane.events[1], Rejected)
    assert lane.times_ms.tolist()[1] == -1
    with pytest.raises(ValueError, match="not in the step"):
        task.quarantine.screened(merged, [Isolate(Role.PREDICTIONS, 9, None, "why")])


@pytest.mark.parametrize("method", ["note_unmatched", "count_duplicate_labels", "next_deadline_ms"])
def test_whatever_of_a_model_raises_names_it(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ModelMonitor, *_: object) -> None:
        if self._model.model_id == "m1":
            raise ZeroDivisionError(method)

    source = SOURCE._replace(labels=[*SOURCE.labels, *SOURCE.labels, label(999, True, model="m1")])
    original = getattr(ModelMonitor, method)
    monkeypatch.setattr(ModelMonitor, method, lambda self, *given: fail(self) or original(self, *given))
    with pytest.raises(ModelError, match=f"model m1, .*{method}"):
        Driver(source, SETTINGS).run()
