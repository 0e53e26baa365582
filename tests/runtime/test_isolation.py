"""No record and no model can stop a task: what fails again is found, kept away, told, and repeated by who follows."""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson
import pytest

from schemas import cloudevents
from schemas.codec import EncodeError, encode
from schemas.outputs import Alert, DeadLetter, MetricSnapshot, Output
from service.config import Config
from service.core.alerting import AlertPolicy
from service.core.failures import ModelError, Phase
from service.core.intake import Positions, Role
from service.core.model import ModelMonitor
from service.core.prepare import TaskTopics
from service.core.quarantine import MAX_HELD
from service.core.settings import AlertSettings, ConceptDriftSettings, CoreSettings, DetectorSettings, ModelProfile
from service.core.verdicts import Isolate, Quarantine
from service.eventlog.errors import UnavailableError
from service.eventlog.memory import MemoryLog
from service.runtime import outbox
from service.runtime.isolation import (
    CLEAN_RECORDS,
    MAX_UNNAMED_IN_A_ROW,
    Alone,
    Attempt,
    Failure,
    Isolation,
    IsolationError,
    describe,
)
from service.runtime.stats import TaskStats
from service.runtime.topics import prepare_topics
from tests.core.raising import quiet, raise_at_poison
from tests.core.stream import Driver, Source, drifting
from tests.core.test_quarantine import poisoned, with_reset
from tests.replay.live import contents, published, replayed
from tests.runtime.service import fast, outputs_of, publish, running
from tests.runtime.waiting import failure, until
from tests.simulation.loop import run_in_virtual_time

SOURCE = drifting(600, 300, models=3, before=0.05, after=0.95)
PROFILE = ModelProfile(
    snapshot_interval_ms=4000,
    concept_drift=ConceptDriftSettings(detectors=(DetectorSettings(name="page_hinkley"),), reference_outcomes=50),
    alerts=AlertSettings(pending_for_ms=0),
)
CONFIG = fast(Config(core=CoreSettings(default=PROFILE, tick_ms=2000)), max_step_records=500)
TOPICS = TaskTopics(*CONFIG.topics.inputs, partition=0)
OUTPUTS = (CONFIG.topics.alerts, CONFIG.topics.triggers, CONFIG.topics.metrics, CONFIG.topics.dead_letters)


@pytest.fixture(autouse=True)
def _without_log() -> Iterator[None]:
    with quiet():
        yield


class Lived(NamedTuple):
    """What came of a run."""

    outputs: list[Output]
    stats: TaskStats
    quarantined: int


def live(source: Source, directory: Path | None = None, lives: int = 1, config: Config = CONFIG) -> Lived:
    """Let a service read a source in virtual time; give what came out. `directory`: where it is replayed."""

    async def run() -> Lived:
        log = MemoryLog()
        await prepare_topics(log, config.topics, config.core)
        await publish(log, config, source)
        ends = Positions(*(len(source.of(role)) for role in Role))
        for _ in range(lives):
            async with running(log, config) as worker:
                await until(lambda now=worker: now.stats.get(0) and now.stats[0].positions == ends, 600)
                stats, quarantined = worker.stats[0], worker.stats[0].quarantined
        if directory is not None:
            await published(log, config, directory / "live", 1)
            await replayed(log, config, directory / "replay")
            assert contents(directory / "replay") == contents(directory / "live")
        return Lived([output for output, _ in await outputs_of(log, OUTPUTS)], stats, quarantined)

    return run_in_virtual_time(run())


def of_others(outputs: Iterable[Output], model: str) -> list[bytes]:
    return sorted(encode(output) for output in outputs if output.model_id != model)


def letters(outputs: Iterable[Output]) -> list[tuple[str, str, int]]:
    found = [(one.reason, one.topic, one.offset) for one in outputs if isinstance(one, DeadLetter)]
    return sorted(found, key=lambda letter: letter[2])


def healthy(source: Source = SOURCE) -> list[Output]:
    return Driver(source, CONFIG.core, topics=TOPICS).run()


def test_one_record_at_which_the_core_raises_is_a_dead_letter_and_all_else_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    raise_at_poison(monkeypatch)
    outputs, stats, _ = live(poisoned(SOURCE, 331), tmp_path)
    assert letters(outputs) == [("isolated", CONFIG.topics.predictions, 331)]
    assert of_others(outputs, "m1") == of_others(healthy(), "m1")
    assert stats.dead_letters_total["isolated"] >= 1  # it counts what was done again, too
    # Once, and again to see that it comes again, and then halves of at most 500 records.
    assert stats.restarts_total <= 2 + 9


def test_three_bad_records_of_a_model_in_a_row_put_it_in_quarantine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    raise_at_poison(monkeypatch)
    outputs, _, quarantined = live(poisoned(SOURCE, 331, 334, 337), tmp_path, lives=2)
    kept_away = [letter for letter in letters(outputs) if letter[1] == CONFIG.topics.predictions]
    assert kept_away[:3] == [(reason, CONFIG.topics.predictions, at) for reason, at in
                             (("isolated", 331), ("isolated", 334), ("quarantined", 337))]  # fmt: skip
    assert {reason for reason, _, _ in kept_away[3:]} == {"quarantined"}
    assert of_others(outputs, "m1") == of_others(healthy(), "m1")
    (alert,) = [one for one in outputs if isinstance(one, Alert) and one.alertname == "ModelQuarantined"]
    assert alert.model_id == "m1"
    assert quarantined == 1
    # With one between them that is taken in, they are but bad records.
    outputs, *_ = live(poisoned(SOURCE, 331, 334, 340))
    assert [reason for reason, _, _ in letters(outputs)] == ["isolated"] * 3


def test_a_model_whose_timer_raises_is_in_quarantine_until_it_is_reset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = of_others(healthy(), "m1")
    raise_at_poison(monkeypatch, ticks={"m1": 0})
    outputs, *_ = live(with_reset(SOURCE, "m1", 500), tmp_path)
    alerts = [one.state for one in outputs if isinstance(one, Alert) and one.alertname == "ModelQuarantined"]
    assert alerts == ["firing", "resolved", "firing"]  # for its timer raises again
    assert of_others(outputs, "m1") == expected
    assert {reason for reason, _, _ in letters(outputs)} == {"quarantined"}


@pytest.mark.parametrize("kind", [MetricSnapshot, Alert])
def test_an_output_that_cannot_be_written_costs_its_model(
    kind: type[Output], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write(output: Output, **options: str) -> cloudevents.Message:
        said = getattr(output, "alertname", "")
        if isinstance(output, kind) and output.model_id == "m1" and said != "ModelQuarantined":
            raise EncodeError("support: got Infinity")
        return cloudevents.to_message(output, **options)  # type: ignore[arg-type]

    expected = healthy()
    assert any(isinstance(output, kind) and output.model_id == "m1" for output in expected)
    monkeypatch.setattr(outbox, "to_message", write)
    outputs, _, quarantined = live(SOURCE, tmp_path)
    assert quarantined == 1
    assert of_others(outputs, "m1") == of_others(expected, "m1")
    # A metric snapshot is a timer's; an alert may come of the record, until the next two records bring it again.
    isolated = [one for one in outputs if isinstance(one, DeadLetter) and one.reason == "isolated"]
    assert len(isolated) == (0 if kind is MetricSnapshot else 2)


def test_incidents_that_cannot_be_closed_vanish_with_their_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = of_others(healthy(), "m1")
    original = AlertPolicy.withdraw

    def withdraw(self: AlertPolicy, version: str | None, reason: str, time_ms: int) -> object:
        if reason == "the model is in quarantine":
            raise OverflowError("cannot close")
        return original(self, version, reason, time_ms)

    monkeypatch.setattr(AlertPolicy, "withdraw", withdraw)
    raise_at_poison(monkeypatch, ticks={"m1": 0})
    outputs, _, quarantined = live(SOURCE, tmp_path)
    assert quarantined == 1
    assert of_others(outputs, "m1") == expected
    assert not [one for one in outputs if isinstance(one, DeadLetter) and one.reason == "isolated"]


def test_an_output_that_the_log_finds_too_large_costs_its_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write(output: Output, **options: str) -> cloudevents.Message:
        message = cloudevents.to_message(output, **options)  # type: ignore[arg-type]
        huge = isinstance(output, MetricSnapshot) and output.model_id == "m1"
        return message._replace(value=message.value + b" " * 2_000_000) if huge else message

    expected = healthy()
    monkeypatch.setattr(outbox, "to_message", write)
    outputs, stats, quarantined = live(SOURCE, tmp_path)
    assert quarantined == 1
    assert "RecordTooLargeError" in (stats.last_error or "")
    assert of_others(outputs, "m1") == of_others(expected, "m1")


@pytest.mark.parametrize("lives", [1, 2])
def test_a_model_whose_state_cannot_be_written_is_in_quarantine(lives: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ModelMonitor.snapshot

    def snapshot(self: ModelMonitor) -> object:
        if self._model.model_id == "m1":
            raise OverflowError("too large")
        return original(self)

    monkeypatch.setattr(ModelMonitor, "snapshot", snapshot)
    outputs, _, quarantined = live(SOURCE, lives=lives, config=fast(CONFIG, snapshot_interval_ms=0))
    assert quarantined == 1
    assert of_others(outputs, "m1") == of_others(healthy(), "m1")


def test_what_is_neither_a_record_nor_a_model_stays_failed_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("nobody's fault")

    monkeypatch.setattr("service.core.limits.TaskLimits.tick", fail)

    async def run() -> str:
        log = MemoryLog()
        await prepare_topics(log, CONFIG.topics, CONFIG.core)
        await publish(log, CONFIG, SOURCE)
        async with running(log, CONFIG) as worker:
            await until(lambda: 0 in worker.stats and "IsolationError" in (worker.stats[0].last_error or ""), 600)
            said = await failure(worker)
            await asyncio.sleep(100)
            assert worker.stats[0].last_error == said
            return said

    said = run_in_virtual_time(run())
    assert "nobody's fault" in said
    assert "start the process again" in said


# ---------------------------------------------------------------------------------------------- the decisions

START = Positions(0, 10, 10)


def failed(phase: Phase | None = "observe", model_id: str | None = "m", kind: str = "Burst") -> Failure:
    return Failure(kind, "service/core/x.py:1", model_id, phase, "why")


def attempt(records: int, *, held: int = 0, struck: int = 0) -> Attempt:
    alone = Alone(Role.PREDICTIONS, 10, Positions(0, 11, 10)) if records == 1 else None
    return Attempt(START, records, alone, {("m", int(Role.PREDICTIONS)): struck}, held)


def careful() -> Isolation:
    found = Isolation()
    for _ in range(2):
        found.failed(failed(), attempt(100))
    assert found.size == 50
    return found


def test_only_what_comes_again_makes_steps_small() -> None:
    found = Isolation()
    for now in (failed(), failed(kind="Other"), failed(), failed("tick"), failed(model_id="n")):
        found.failed(now, attempt(100))
        assert found.size is None
    found.failed(failed(model_id="n"), attempt(100)._replace(start=Positions(0, 0, 0)))
    assert found.size is None
    found.failed(failed(model_id="n"), attempt(100)._replace(start=Positions(0, 0, 0)))
    assert found.size == 50


def test_steps_are_halved_where_the_failure_must_be_and_grow_again_behind_it() -> None:
    found = careful()
    found.stepped(50)
    assert found.size == 25  # of the other fifty
    found.failed(failed(), attempt(25))
    assert found.size == 12
    found.failed(failed(), attempt(1))
    sentence = found.sentence_at(START)
    assert sentence is not None
    assert sentence.verdicts == (Isolate(1, 10, "m", "why"),)
    found.stepped(1)
    sizes = []
    while found.size is not None:
        sizes.append(found.size)
        found.stepped(found.size)
    assert sizes[:4] == [1, 2, 4, 8]
    assert sum(sizes) >= CLEAN_RECORDS


def test_a_failure_that_does_not_come_again_in_small_steps_was_of_the_moment() -> None:
    found = careful()
    for _ in range(100):
        if found.size is None:
            break
        found.stepped(found.size)
    assert found.size is None


def test_a_sentence_is_void_where_the_task_stands_elsewhere() -> None:
    found = careful()
    found.failed(failed(), attempt(1))
    assert found.sentence_at(Positions(0, 11, 10)) is None
    assert found.sentence_at(START) is None


def test_a_model_is_to_blame_for_its_timers_its_third_record_and_what_fails_without_the_record() -> None:
    for phase, struck in (("tick", 0), ("tell", 0), ("snapshot", 0), ("observe", 2)):
        found = careful()
        found.failed(failed(phase), attempt(1, struck=struck))  # type: ignore[arg-type]
        assert found.sentence_at(START).verdicts == (Quarantine("m", "why"),)  # type: ignore[union-attr]
    found = careful()
    found.failed(failed("encode"), attempt(1))
    found.failed(failed("encode"), attempt(1))
    assert found.sentence_at(START).verdicts == (Quarantine("m", "why"),)  # type: ignore[union-attr]
    # It fails once more, in closing its incidents: then without a word. And then nothing helps.
    found.failed(failed("encode"), attempt(1))
    assert found.sentence_at(START).verdicts == (Quarantine("m", "why", silent=True),)  # type: ignore[union-attr]
    with pytest.raises(IsolationError, match="though its monitors were dropped"):
        found.failed(failed("encode"), attempt(1))


def test_several_models_may_fail_at_one_record() -> None:
    found = careful()
    found.failed(failed("observe"), attempt(1))
    found.failed(failed("tick", "n"), attempt(1))
    assert found.sentence_at(START).verdicts == (Isolate(1, 10, "m", "why"), Quarantine("n", "why"))  # type: ignore[union-attr]


def test_there_is_an_end_to_what_is_left_out() -> None:
    found = careful()
    with pytest.raises(IsolationError, match=f"{MAX_HELD} models are in quarantine"):
        found.failed(failed("tick"), attempt(1, held=MAX_HELD))
    found = careful()
    for _ in range(MAX_UNNAMED_IN_A_ROW):
        found.failed(failed(None, None), attempt(1))
        found.stepped(1)
    with pytest.raises(IsolationError, match="each alone"):
        found.failed(failed(None, None), attempt(1))
    found = careful()
    found.failed(failed(None, None), attempt(1))
    with pytest.raises(IsolationError, match="or without it"):
        found.failed(failed(None, None), attempt(1))


def test_errors_of_the_surroundings_are_no_ones_fault() -> None:
    assert describe(UnavailableError("no broker")) is None
    assert describe(MemoryError()) is None
    named = ModelError("m", "tick", MemoryError())
    named.__cause__ = MemoryError()
    assert describe(named) is None
    try:
        raise_somewhere()
    except ModelError as error:
        found = describe(error)
    assert found is not None
    assert found[0] == "ValueError"
    assert found[1].startswith("tests/runtime/test_isolation.py:")
    assert found[2:] == ("m", "tick", "ValueError: two lines")


def raise_somewhere() -> None:
    try:
        raise ValueError("two\nlines")  # noqa: TRY301
    except ValueError as error:
        raise ModelError("m", "tick", error) from error


def test_the_log_holds_a_verdict_as_plain_data() -> None:
    verdicts = (Isolate(1, 10, None, "why"), Quarantine("m", "why", silent=True))
    plain = msgspec.to_builtins(verdicts)
    assert orjson.loads(orjson.dumps(plain)) == [["isolate", 1, 10, None, "why"], ["quarantine", "m", "why", True]]


def test_a_program_that_fails_at_steps_which_another_took_stays_failed_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = fast(CONFIG, snapshot_interval_ms=10**9, max_repeat_ms=10**9)

    async def run() -> str:
        log = MemoryLog()
        await prepare_topics(log, config.topics, config.core)
        await publish(log, config, poisoned(SOURCE, 331))
        kept = log.__class__.commit
        async with running(log, config) as worker:
            await until(lambda: worker.stats.get(0) and worker.stats[0].positions == Positions(0, 600, 600), 600)
            # It ends without a last commit, and so without a snapshot.
            monkeypatch.setattr(log.__class__, "commit", refuse)
        monkeypatch.setattr(log.__class__, "commit", kept)
        raise_at_poison(monkeypatch)
        async with running(log, config) as worker:
            return await failure(worker)

    said = run_in_virtual_time(run())
    assert "at which this program fails" in said
    assert "gracefully" in said


def refuse(*_: object) -> None:
    raise UnavailableError("gone")
