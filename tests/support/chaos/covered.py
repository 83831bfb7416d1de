"""Scenarios, or parts of them, that other tests hold, for the table to name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Covered:
    """`tests` are pytest's node ids; `kafka`: they need an Apache Kafka, so the full run alone."""

    id: str
    what: str
    tests: tuple[str, ...]
    kafka: bool = False


_PARTITION: Final = "tests/streamer/pipeline/test_partition.py"
_RECOVERY: Final = "tests/streamer/pipeline/test_recovery.py"
_UPKEEP: Final = "tests/end_to_end/test_upkeep.py"
_KAFKA: Final = "tests/kafka/test_faults.py"

COVERED: Final = (
    Covered(
        "F2",
        "a failure, and a crash, at every single effect of a partition, one after another",
        (f"{_PARTITION}::test_a_failure_at_any_step_changes_nothing",),
    ),
    Covered(
        "F3",
        "a zombie's writes, after the owner has gone on and before",
        (
            f"{_PARTITION}::test_a_zombie_is_fenced_and_changes_nothing",
            f"{_PARTITION}::test_a_zombie_is_fenced_also_after_the_owner_went_on",
        ),
    ),
    Covered(
        "F6",
        "a broker restarted with its data, and one of three lost",
        (
            f"{_KAFKA}::test_a_broker_that_restarts_is_waited_for",
            f"{_KAFKA}::test_a_broker_that_stands_still_for_a_while_is_waited_for",
            f"{_KAFKA}::test_one_broker_of_three_may_be_lost",
        ),
        kafka=True,
    ),
    Covered(
        "F7",
        "errors of a real coordinator, through a proxy",
        (f"{_KAFKA}::test_no_error_of_the_coordinator_leaves_a_worker_idle",),
        kafka=True,
    ),
    Covered(
        "F9",
        "refused where the log has lost its beginning; a rollback while no worker runs",
        (
            f"{_RECOVERY}::test_a_lost_store_is_not_taken_for_a_new_installation",
            f"{_RECOVERY}::test_a_rollback_while_no_worker_runs_is_made_good_and_told",
        ),
    ),
    Covered(
        "F13",
        "a record fetched before a rebalance",
        (f"{_PARTITION}::test_records_that_leave_some_out_are_refused_once",),
    ),
    Covered(
        "F14",
        "orders deleted before they were applied; a topic recreated",
        (
            f"{_PARTITION}::test_orders_deleted_before_they_were_applied_are_not_passed_over",
            f"{_RECOVERY}::test_a_topic_made_anew_is_refused_also_when_it_has_grown_past_what_was_applied",
        ),
    ),
    Covered(
        "F14",
        "the same with a real log",
        (
            f"{_KAFKA}::test_orders_that_retention_took_before_they_were_applied_stop_the_worker",
            f"{_KAFKA}::test_a_topic_deleted_and_made_anew_stops_the_worker",
        ),
        kafka=True,
    ),
    Covered(
        "F15",
        "another number of partitions: refused, and moved",
        (
            "tests/streamer/store/test_store.py",
            "tests/streamer/admin/test_repartition.py",
            f"{_UPKEEP}::test_a_topic_that_grew_is_refused_until_customers_have_moved",
        ),
    ),
    Covered(
        "F19",
        "a model swapped whatever fails meanwhile; refused ones of every kind",
        (
            "tests/streamer/pipeline/test_swap.py",
            "tests/streamer/worker/test_reload.py",
            "tests/end_to_end/test_reload.py",
        ),
    ),
    Covered(
        "F20",
        "a customer who cannot be scored, however batches are cut and whatever fails",
        ("tests/model/judge/test_isolate.py", "tests/streamer/pipeline/test_not_scored.py"),
    ),
    Covered(
        "F26",
        "states of older versions read, of newer ones refused",
        ("tests/model/decide/test_codec.py",),
    ),
    Covered(
        "F27",
        "whoever is damaged, whenever",
        ("tests/streamer/pipeline/test_rebuild.py",),
    ),
    Covered(
        "F30",
        "erased customers, whatever crashes or goes back",
        (
            "tests/streamer/pipeline/test_erasures.py",
            f"{_UPKEEP}::test_who_is_forgotten_stays_forgotten_through_rollback_loss_and_repetition",
        ),
    ),
    Covered(
        "F33",
        "a damaged artifact promoted: the one before goes on (F19 does so under load)",
        ("tests/streamer/worker/test_reload.py",),
    ),
    Covered(
        "F1-F30",
        "Hypothesis walks a partition at random through crashes, lost answers and zombies",
        ("tests/streamer/pipeline/test_delivery_machine.py",),
    ),
)

NOT_COVERED: Final = {
    "F25": "a full disk, no file descriptors left, 256 MB of memory: not injected; a Redis that is"
    " full is F11",
}
