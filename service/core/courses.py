"""Several versions of one model on their way through a stretch, each on whole columns, and in order where they meet.

Versions share nothing but the model's policies (incidents, fine-tuning). So each goes by itself up to the next record
at which it has something to tell those, and the one whose record comes first goes on.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from service.core.findings import Finding
from service.core.loss_feed import NEVER, LossFeed

Course = Iterator[Callable[[], int]]
"""One version on its way. It stops before everything that the policies are told, and gives what says, when asked, at
which record that will be: what another version does meanwhile may bring it forward."""


def finish(course: Course) -> None:
    """Let a version go all the way."""
    for _ in course:
        pass


def in_order(courses: Sequence[Course], shared: Callable[[], object]) -> None:
    """Let versions go all the way, in the order of the records at which they stop.

    `shared` gives what a stop of one version may change for the others.
    """
    started = [(stop, course) for course in courses if (stop := next(course, None)) is not None]
    stops, going = [stop for stop, _ in started], [course for _, course in started]
    at = [stop() for stop in stops]
    while going:
        place, before = at.index(min(at)), shared()
        stop = next(going[place], None)
        if stop is None:
            del stops[place], going[place], at[place]
        else:
            stops[place], at[place] = stop, stop()
        if shared() != before:
            at = [stop() for stop in stops]


def next_stop(feed: LossFeed, waiting: deque[Finding], total: int, target: int) -> int:
    """Say at which record a version stops: for what its outcomes tell, a finding that waits, or a number of outcomes.

    `total`: outcomes that it has had. `target`: how many of them are waited for; where it has had as many already, by
    what another version did, that is told at the next outcome.
    """
    stop = min(feed.next_stop(), max(target, min(total + 1, feed.end)))
    return min(feed.sequence_of(stop), waiting[0].sequence if waiting else NEVER)
