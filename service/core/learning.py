"""Reference windows that are ended by hand: a stored one has a length of its own."""

from detectors.protocol import State
from service.core.loss_feed import NEVER
from service.core.model import ModelMonitor
from service.core.reference import REFERENCE_VERSION
from service.core.roster import Model
from service.core.units import model_of
from service.core.version import VersionMonitor


def learn_all(model: Model, monitor: ModelMonitor) -> None:
    """Take what was set aside of a model; one that is undecided by now has classes."""
    if model.is_undecided:
        model.settle(-1, regression=False)
    monitor.release_held(NEVER, [])


def close_windows(version: VersionMonitor) -> None:
    """End every reference window with what came so far, however short."""
    version.features.close_reference()
    version.embeddings.close_reference()
    version.predictions.close_reference(version.classes)
    version.labels.close_reference(version.classes)
    version.loss.close_reference(version.window.total)
    version.estimate.close_reference()


def learnt(version: VersionMonitor) -> State:
    """Give what was learnt as the reference window, as a stored profile holds it; null where it is not whole."""
    return {
        "version": REFERENCE_VERSION,
        "model_id": model_of(version.model_id),
        "model_version": None,
        "classes": version.classes or [],
        "features": version.features.reference(),
        "embeddings": version.embeddings.reference(),
        "predictions": version.predictions.reference(),
        "labels": version.labels.reference(),
        "loss": version.loss.reference(),
        "confidence": version.estimate.reference(),
    }
