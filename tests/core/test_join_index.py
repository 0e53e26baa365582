"""The key table is a dict for whole batches."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.join.index import KeyTable

# Three buckets, the last one among them, and few tags: chains run over the end of the table and back to its beginning.
LAST = (1 << 64) - 1
KEYS = st.tuples(st.sampled_from([0, 1 << 63, LAST, LAST - 1, LAST - 2]), st.sampled_from([0, 1, 2, 3, 1 << 33, LAST]))


def halves(keys: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    columns = np.array(keys, np.uint64).reshape(-1, 2)
    return columns[:, 0].copy(), columns[:, 1].copy()


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(KEYS, unique=True)), max_size=12))
def test_a_key_is_among_the_candidates_exactly_while_it_is_in_the_table(
    steps: list[tuple[bool, list[tuple[int, int]]]],
) -> None:
    table, known, next_reference = KeyTable(), dict[tuple[int, int], int](), 1
    empty = table._flat.copy()
    for adds, chosen in steps:
        keys = [key for key in chosen if (key in known) != adds]
        if adds:
            for key in keys:
                known[key] = next_reference
                next_reference += 1
        references = np.array([known[key] for key in keys], np.int64)
        (table.insert if adds else table.delete)(*halves(keys), references)
        if not adds:
            for key in keys:
                del known[key]
        assert table.count == len(known)
        for key, reference in known.items():
            assert reference in [found for _, found in table.candidates(*key)]
    if known:
        keys, references = list(known), np.array(list(known.values()))
        slots = table.locate(*halves(keys), references)
        assert (table._flat[slots] & np.uint64(0xFFFFFFFF)).tolist() == references.tolist()
        table.delete(*halves(keys), references)
    assert (table._flat == empty).all(), "a table whose entries are all removed is as new"


def test_random_keys_are_found_and_others_are_not_at_full_load() -> None:
    rng = np.random.default_rng(0)
    table = KeyTable(300_000)
    keys = rng.integers(0, 1 << 64, (table.limit + 5_000, 2), dtype=np.uint64)
    hi, lo = keys[:, 0].copy(), keys[:, 1].copy()
    count = table.limit
    for start in range(0, count, 4000):
        stop = min(start + 4000, count)
        table.insert(hi[start:stop], lo[start:stop], np.arange(start, stop) + 1)
    assert (table.lookup(hi[:count], lo[:count]).reference == np.arange(count) + 1).all()
    missing = table.lookup(hi[count:], lo[count:])
    assert (missing.reference == 0).all()
    assert (missing.slot == -1).all()
