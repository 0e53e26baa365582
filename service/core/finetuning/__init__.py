"""Fine-tune triggers: when a model is to be trained on, and how that is followed to its end."""

from service.core.finetuning.causes import MAX_CAUSES
from service.core.finetuning.lifecycle import (
    MAX_ENDED,
    TRANSITIONS,
    Decision,
    Effect,
    LabelTarget,
    Moment,
    Phase,
    Refusal,
    Signal,
    TrainingWindow,
    VerificationTarget,
)
from service.core.finetuning.policy import FineTunePolicy
from service.core.finetuning.verdict import LossSample, Verdict, judge, sample_of

__all__ = [
    "MAX_CAUSES",
    "MAX_ENDED",
    "TRANSITIONS",
    "Decision",
    "Effect",
    "FineTunePolicy",
    "LabelTarget",
    "LossSample",
    "Moment",
    "Phase",
    "Refusal",
    "Signal",
    "TrainingWindow",
    "Verdict",
    "VerificationTarget",
    "judge",
    "sample_of",
]
