"""Each mistake is told with its cause, and everything else is joined."""

import re
from collections import Counter

import pytest

from service.core.partitioning import crc32_partition, partition_for
from tests.abuse.producers import CODECS, INTEGER, MIXED
from tests.abuse.run import Seen
from tests.abuse.written import COUNT, PARTITIONS

pytestmark = pytest.mark.kafka


def test_nothing_stops_a_task(seen: Seen) -> None:
    assert seen.restarts == 0


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_read(seen: Seen, codec: str) -> None:
    assert (seen.predictions[f"codec-{codec}"], seen.outcomes[f"codec-{codec}"]) == (COUNT, COUNT)
    assert seen.alerts(f"codec-{codec}") == seen.letters(f"codec-{codec}") == []


def test_labels_by_another_partitioner_are_told_with_the_setting_that_mends_it(seen: Seen) -> None:
    (alert,) = [alert for alert in seen.alerts(MIXED) if alert.alertname == "ModelRecordsMisplaced"]
    lies, belongs = (rule(MIXED.encode(), PARTITIONS) for rule in (crc32_partition, partition_for))
    assert (alert.state, alert.severity) == ("firing", "critical")
    assert (
        f"its labels lie in partition {lies} of {PARTITIONS}, as CRC32 does, the default of librdkafka" in alert.summary
    )
    assert f"murmur2 of the key says {belongs}" in alert.summary
    assert "partitioner=murmur2_random" in alert.advice
    assert (seen.predictions[MIXED], seen.outcomes[MIXED]) == (COUNT, 0)


def test_times_in_another_unit_are_refused_with_the_likely_one(seen: Seen) -> None:
    letters = seen.letters("units")
    told = Counter((letter.reason, re.findall(r"looks like (\w+)", letter.message)[0]) for letter in letters)
    assert told == {
        ("out_of_range", "seconds"): 2,
        ("wrong_type", "seconds"): 2,
        ("out_of_range", "microseconds"): 2,
        ("out_of_range", "nanoseconds"): 2,
    }
    assert {letter.prediction_id for letter in letters} == {"p100", "p101", "p102", "p103"}
    assert (seen.predictions["units"], seen.outcomes["units"]) == (COUNT, COUNT)


def test_times_of_iso_8601_are_read_and_one_without_a_zone_is_refused(seen: Seen) -> None:
    assert (seen.predictions["iso"], seen.outcomes["iso"]) == (COUNT, COUNT)
    (letter,) = seen.letters("iso")
    assert (letter.reason, letter.path, letter.prediction_id) == ("wrong_type", "$.event_time_ms", "p7")
    assert "expected a time with its zone" in letter.message


def test_integers_are_identifiers_and_meet_their_texts(seen: Seen) -> None:
    model = str(INTEGER)
    assert (seen.predictions[model], seen.outcomes[model]) == (COUNT, COUNT)
    assert seen.letters(model) == []


def test_extreme_numbers_are_used_or_refused_and_stop_nothing(seen: Seen) -> None:
    refused = [letter for letter in seen.letters("extremes") if letter.topic.endswith("predictions")]
    assert {(letter.path, letter.reason) for letter in refused} == {("$.sampling_rate", "out_of_range")}
    assert len(refused) == 3
    assert seen.outcomes["extremes"] == seen.predictions["extremes"] >= COUNT + 10


def test_headers_of_any_kind_do_no_harm(seen: Seen) -> None:
    assert (seen.predictions["headers"], seen.outcomes["headers"]) == (COUNT, COUNT)


def test_records_under_another_key_are_told_and_used(seen: Seen) -> None:
    told = seen.alerts("by-customer")
    assert {alert.evidence[0].subject for alert in told} == {"other_key_of_predictions", "other_key_of_labels"}
    assert all("are keyed by 'customer " in alert.summary for alert in told)
    assert (seen.predictions["by-customer"], seen.outcomes["by-customer"]) == (COUNT, COUNT)


def test_records_without_a_key_are_told_and_used(seen: Seen) -> None:
    told = seen.alerts("keyless")
    assert {alert.evidence[0].subject for alert in told} == {"no_key_of_predictions"}
    assert "have no key" in told[0].summary
    assert seen.predictions["keyless"] == COUNT


def test_tombstones_and_what_is_no_json_are_dead_letters(seen: Seen) -> None:
    assert (seen.predictions["tombs"], seen.outcomes["tombs"]) == (COUNT, COUNT)
    assert Counter(letter.reason for letter in seen.letters(None)) == {"no_value": 1, "invalid_json": 1}
