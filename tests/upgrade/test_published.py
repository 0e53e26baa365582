"""State of every published version restores, and the task goes on.

What a task restored from a published program's state says to the records that came then is kept in
`expected/<version>.txt`, a line for each output. At first it is what that program said itself. Where a change of the
program changes it on purpose, `python -m tests.upgrade expect` writes it anew, and the difference is there to be read.
"""

import pytest

from tests.upgrade.reading import EXPECTED, PUBLISHED, go_on, in_words, read, restored, store


def test_every_published_version_is_kept() -> None:
    assert PUBLISHED, "tests/upgrade/states holds no state; see tests/upgrade/__main__.py"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_state_restores_and_the_task_goes_on(name: str) -> None:
    recorded = read(name)
    said = go_on(restored(recorded), recorded)
    expected = (EXPECTED / f"{name}.txt").read_text().splitlines()
    assert [in_words(output) for output in said] == expected, (
        "what is said behind an upgrade has changed; if that is meant: python -m tests.upgrade expect"
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_entries_of_the_old_program_and_of_this_one_restore_together(name: str) -> None:
    recorded = read(name)
    whole = go_on(restored(recorded), recorded)
    assert go_on(restored(recorded), recorded, batch=70, restarts=True) == whole


@pytest.mark.parametrize("name", PUBLISHED)
def test_old_state_that_is_stored_anew_at_once_is_the_same_state(name: str) -> None:
    recorded = read(name)
    whole = go_on(restored(recorded), recorded)
    task, entries = restored(recorded), dict(recorded.entries)
    task._changed.update(task.models)  # as if each had had a record
    store(task, entries)
    assert go_on(restored(recorded, entries), recorded) == whole
