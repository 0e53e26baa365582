"""What is wrong inside a snapshot is refused for good, by its path; or it is harmless, and the task goes on.

The bytes' checksum is right here: such state comes from a program that had a fault, and not from a disk.
"""

import random
import re

import pytest

from service.core.state import CorruptStateError, decode_entry
from service.core.task_state import VERSIONS
from tests.upgrade.damage import GONE, Damage, Path, damaged, damages, leaves, told_as
from tests.upgrade.reading import go_on, read, restored

RECORDED = read("version-1")
KINDS = {name: name.partition("/")[0] for name in RECORDED.entries if re.fullmatch(r"task|(model|version)/[^/]+", name)}


def payload(entry: str) -> object:
    kind = KINDS[entry]
    return decode_entry(RECORDED.entries[entry], kind, VERSIONS[kind], entry)[1]


def refusal(entry: str, path: Path, damage: Damage) -> str | None:
    """Restore with one leaf damaged; give why that is refused. None: it is not, and the task goes on."""
    kind = KINDS[entry]
    entries = RECORDED.entries | {entry: damaged(RECORDED.entries[entry], kind, path, damage)}
    try:
        task = restored(RECORDED, entries)
    except CorruptStateError as error:
        return str(error)
    go_on(task, RECORDED, batch=10_000)
    return None


@pytest.mark.parametrize(
    ("path", "damage", "said"),
    [
        (("loss", "bases"), Damage("text", "oops"), r"^version/0: \$\.loss\.bases: expected `array`, got `str`$"),
        (("loss", "reference_count"), GONE, r"^version/0: \$\.loss: object missing required field `reference_count`$"),
        (("features", "offsets"), GONE, r"^version/0: \$\.features: object missing required field `offsets`$"),
        (("features", "pending", "rows"), Damage("shorter", b"123"), r"^version/0: \$\.features\.pending\.rows: "),
    ],
)
def test_what_does_not_fit_is_named(path: Path, damage: Damage, said: str) -> None:
    assert re.search(said, refusal("version/0", path, damage) or "")


def check(entry: str, count: int) -> None:
    """Damage so many leaves, one at a time, each kind of place as likely as any other."""
    rng = random.Random(entry)
    found: dict[tuple[str, str], list[tuple[Path, Damage]]] = {}
    for path, leaf in leaves(payload(entry)):
        for damage in damages(leaf) if path else ():
            found.setdefault((told_as(path), damage.name), []).append((path, damage))
    for key in rng.sample(sorted(found), min(count, len(found))):
        path, damage = rng.choice(found[key])
        why = refusal(entry, path, damage)
        # A field that is missing at the top is named, but its path is that of the whole.
        assert why is None or f"$.{path[0]}" in why or f"field `{path[0]}`" in why, (
            f"{damage.name} at {told_as(path)}: {why}"
        )


@pytest.mark.parametrize("entry", ["task", "model/churn", "version/2", "version/3", "version/4"])
def test_some_damaged_leaves_are_refused_by_path_or_harmless(entry: str) -> None:
    check(entry, 8)


@pytest.mark.slow
@pytest.mark.parametrize("entry", sorted(KINDS))
def test_many_damaged_leaves_are_refused_by_path_or_harmless(entry: str) -> None:
    check(entry, 80)
