"""What happened in the demo, in order, told as it happens; and whether the loop has closed."""

from dataclasses import dataclass, field
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from schemas.events import FineTuneStatus
from schemas.outputs import Alert, FineTuneTrigger, Output
from service.cli.demo.chart import WITH, WITHOUT, chart
from service.cli.demo.setting import DRIFT_AT, START_MS, STEP_MS
from service.cli.render import Block, heading, render, show

PROGRESS_EVERY = 500
SETTLED = 1_000
"""Answers at the end over which the recovered accuracy is told."""

Mark = Literal["D", "A", "T", "N", "R"]


@dataclass
class Story:
    """Collects and tells. Without a console it only collects."""

    first_version: str
    console: Console | None
    with_loop: list[bool] = field(default_factory=list)
    """Of each answer, whether it was right."""
    without: list[bool] = field(default_factory=list)
    """The same for the first version, had it gone on."""
    events: list[dict[str, Any]] = field(default_factory=list)
    marks: dict[Mark, int] = field(default_factory=dict)
    version: str = ""
    _firing: dict[str, str] = field(default_factory=dict)
    """incident_id to alertname."""
    _verified: bool = False
    _resolved: bool = False

    @property
    def closed(self) -> bool:
        """Whether drift was alerted and answered by a better version, and all incidents of the old one are over."""
        return {"A", "T", "N", "R"} <= self.marks.keys() and self._verified and not self._firing

    def answered(self, *, version: str, correct: bool, alone_correct: bool) -> None:
        """Take in one answer of the model."""
        if version != self.version:
            if self.version:
                self._mark("N")
                self._say("SERVING", f"version {version} answers from now on")
                self._keep("serving", version=version)
            self.version = version
        self.with_loop.append(correct)
        self.without.append(alone_correct)
        count = len(self.with_loop)
        if count == DRIFT_AT:
            self._mark("D")
            self._say("WORLD", "a campaign begins: the discount decides, the price does not; discounts are larger")
        if count % PROGRESS_EVERY == 0:
            share = sum(self.with_loop[-PROGRESS_EVERY:]) / PROGRESS_EVERY
            style = "green" if share >= 0.85 else "red"
            self._say("ACCURACY", f"{share:.3f} over the last {PROGRESS_EVERY} answers, version {version}", style)

    def published(self, output: Output) -> None:
        """Take in what the monitor says."""
        if isinstance(output, Alert):
            self._alert(output)
        elif isinstance(output, FineTuneTrigger):
            if output.state == "requested":
                self._mark("T")
            self._verified |= output.state == "completed" and output.verified_better is True
            self._keep("trigger", state=output.state, mode=output.mode, trigger_id=output.trigger_id)
        if isinstance(output, Alert | FineTuneTrigger) and self.console is not None:
            block = render(output, _when((output.event_time_ms - START_MS) // STEP_MS))
            show(self.console, Block(block.head, block.details[:1]))

    def reported(self, status: FineTuneStatus) -> None:
        """Take in what the training pipeline says."""
        text = f"training {status.status}"
        text += f", new version {status.model_version}" if status.model_version else ""
        self._say("PIPELINE", text + (f": {status.reason}" if status.reason else ""), "cyan")
        self._keep("pipeline", status=status.status, model_version=status.model_version, reason=status.reason)

    def finish(self, seconds: float) -> dict[str, Any]:
        """Draw the chart and tell the end; give a summary for programs."""
        accuracy = self._accuracies()
        if self.console is not None:
            self._draw(self.console, accuracy, seconds)
        return {
            "closed": self.closed,
            "accuracy": accuracy,
            "seconds": round(seconds, 1),
            "answers": len(self.with_loop),
            "events": self.events,
        }

    def _alert(self, alert: Alert) -> None:
        if alert.state == "firing":
            self._firing[alert.incident_id] = alert.alertname
            if alert.kind == "concept_drift":
                self._mark("A")
        elif alert.state == "resolved":
            self._firing.pop(alert.incident_id, None)
            if alert.kind == "concept_drift":
                self._mark("R")
        self._keep("alert", state=alert.state, alertname=alert.alertname, severity=alert.severity)

    def _accuracies(self) -> dict[str, float | None]:
        drifted = self.marks.get("D", len(self.with_loop))
        answered = self.marks.get("N", len(self.with_loop))
        return {
            "before_drift": _share(self.with_loop[:drifted]),
            "drifted": _share(self.with_loop[drifted:answered]),
            "end_with_loop": _share(self.with_loop[-SETTLED:]),
            "end_without_loop": _share(self.without[-SETTLED:]),
        }

    def _draw(self, console: Console, accuracy: dict[str, float | None], seconds: float) -> None:
        console.print()
        console.print(
            Text("accuracy  ")
            .append(WITH, "bold green")
            .append(" with the loop  ")
            .append(WITHOUT, "red")
            .append(f" without (version {self.first_version} goes on)")
        )
        for line in chart(self.with_loop, self.without, {str(mark): at for mark, at in self.marks.items()}):
            console.print(line, soft_wrap=True)
        console.print(Text("      D drift  A alert  T trigger  N new version  R resolved", "dim"))
        told = ", ".join(
            f"{name.replace('_', ' ')} {share:.3f}" for name, share in accuracy.items() if share is not None
        )
        console.print()
        verdict = (
            Text("The loop closed: ", "bold green") if self.closed else Text("The loop did not close: ", "bold red")
        )
        console.print(verdict + Text(f"accuracy {told}; {seconds:.0f} s."), soft_wrap=True)
        if not self.closed:
            console.print(Text(f"Missing: {self._missing()}", "red"), soft_wrap=True)

    def _missing(self) -> str:
        names: dict[Mark, str] = {"A": "an alert", "T": "a trigger", "N": "a new version", "R": "its resolution"}
        missing = [name for mark, name in names.items() if mark not in self.marks]
        missing += [] if self._verified else ["a version verified to be better"]
        return ", ".join(missing + [f"the end of {name}" for name in self._firing.values()])

    def _mark(self, mark: Mark) -> None:
        self.marks.setdefault(mark, len(self.with_loop))

    def _keep(self, what: str, **facts: Any) -> None:
        self.events.append({"answers": len(self.with_loop), "what": what, **facts})

    def _say(self, what: str, text: str, style: str = "") -> None:
        if self.console is not None:
            self.console.print(heading(_when(len(self.with_loop)), what).append(text, style), soft_wrap=True)


def _when(answers: int) -> str:
    return f"{answers:>7,} answers"


def _share(correct: list[bool]) -> float | None:
    return round(sum(correct) / len(correct), 4) if correct else None
