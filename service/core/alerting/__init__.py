"""Incidents and the alerts that tell of them."""

from service.core.alerting.incidents import TRANSITIONS, Effect, IncidentState, Signal, Transition, published
from service.core.alerting.policy import MAX_MUTES, AlertPolicy

__all__ = [
    "MAX_MUTES",
    "TRANSITIONS",
    "AlertPolicy",
    "Effect",
    "IncidentState",
    "Signal",
    "Transition",
    "published",
]
