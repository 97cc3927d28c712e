"""The tests of `tests/api` and `tests/coordination` on a segment on a server: the same functions, keys that are URLs.

What differs is named by its row of the table "Same, and different" in docs/remote.md, test by test.
"""

import fnmatch
import importlib.util
import os
import sys
from pathlib import Path

import pytest

ALL = "SHMVAR_REMOTE_ALL" in os.environ
TESTS = Path(__file__).parents[1]
FOLDERS = ["api", "coordination"]

# Rows of the table "Same, and different".
DESTROY = "`destroy()`"
TRUST = "`trust=None`"
CLASS = "class, `key`"
ONE_INSTANT = "`get_many`, `put_many`, `clear`"
INFO = "`info()`"
ITERATION = "iteration"
PERM = "`perm`"
PICKLE = "calls of the command line that are not public"
SIZE = "`size`"
VERSIONS = "versions"
IN_PLACE = "`array`, `buffer`"
CHANGES = "`changes`"
CHECK = "`check`"
KILLED = "lock of a killed process"
STOPPED = "lock of a stopped process"
TASKS = "`async with lock`"

DIFFERENT = {
    "add": {
        "test_a_number_in_any_pickle_protocol_is_added_to": PICKLE,
        "test_a_value_of_a_subclass_is_added_to_as_a_number_or_refused_whole": TRUST,
    },
    "atomic_ops": {"test_modify_of_a_missing_index_is_a_key_error_or_takes_the_default": TRUST},
    "batches": {
        "test_a_small_batch_that_does_not_fit_changes_nothing": SIZE,
        "test_each_variable_of_a_small_batch_has_a_version_of_its_own": VERSIONS,
        "test_f36_a_batch_that_does_not_fit_changes_nothing": SIZE,
        "test_get_many_of_a_value_that_does_not_load_names_it": TRUST,
    },
    "changes": {
        "test_clear_batches_touch_and_every_kind_of_change": IN_PLACE,
        "test_destroying_the_segment_ends_it_when_all_was_told": DESTROY,
    },
    "changes_tasks": {
        "test_the_loop_goes_on_while_a_large_segment_was_cleared_or_all_is_told*True*": CHANGES,
    },
    "dict_manners": {
        "test_a_variable_that_was_listed_and_is_gone_is_left_out": TRUST,
        "test_copy_copy_is_another_handle_on_the_same_segment": CLASS,
        "test_ior_is_put_many_and_the_segment_stays_itself": CLASS,
        "test_keys_with_a_prefix_are_a_view_as_keys_are": CLASS,
    },
    "expire": {
        "test_a_variable_of_any_kind_gets_a_time_gets_another_and_loses_it*in place*": IN_PLACE,
        "test_a_waiter_goes_by_the_new_time*in place*": IN_PLACE,
        "test_readers_never_miss_it_nor_see_it_torn_while_its_time_changes*in place*": IN_PLACE,
        "test_then_it_is_gone_when_the_time_is_up_and_not_before*in place*": IN_PLACE,
        "test_what_follows_finds_the_time_that_expire_gave*in place*": IN_PLACE,
        "test_what_has_none_and_does_not_fit_with_one_is_an_error_and_stays_as_it_is": SIZE,
        "test_who_holds_an_array_in_place_goes_on_and_who_opens_it_gets_the_same": IN_PLACE,
    },
    "locks": {
        "test_a_dropped_handle_lets_go_unless_a_lock_keeps_it": CLASS,
        "test_a_lock_that_is_taken_again_takes_no_other_slot": CHECK,
        "test_destroying_leaves_the_locks_of_those_still_attached": DESTROY,
        "test_slots_that_locks_left_are_taken_by_others_and_by_the_same_lock_again": CHECK,
    },
    "locks_async": {
        "test_f5_a_timeout_holds_while_a_stopped_process_holds_the_segment_up": STOPPED,
    },
    "locks_async_many": {
        "test_the_next_one_is_told_of_a_release_and_is_the_only_one": TASKS,
        "test_the_tries_of_many_tasks_are_in_proportion_to_their_number": TASKS,
    },
    "locks_processes": {
        "test_f5_timeouts_hold_while_a_stopped_process_holds_the_segment_up": STOPPED,
        "test_the_lock_of_a_killed_process_is_handed_on": KILLED,
    },
    "mapping": {"test_items_and_values_pass_over_what_vanishes_meanwhile": ITERATION},
    "memoize": {},
    "queues": {
        "test_a_value_that_cannot_be_rebuilt_is_an_error_and_no_obstacle": TRUST,
        "test_an_error_about_a_value_speaks_of_an_item_of_the_queue_and_of_no_index": TRUST,
        "test_an_item_that_is_entered_again_while_it_is_entered_keeps_what_it_took_first": TRUST,
        "test_an_item_that_cannot_be_rebuilt_is_gone_after_a_get_and_counted_by_take": TRUST,
    },
    "queues_async": {
        "test_a_block_that_is_closed_while_a_writer_is_stopped_asks_for_no_thread": CLASS,
        "test_a_put_that_waits_for_room_pickles_its_value_once_and_as_it_was": TRUST,
        "test_a_task_that_is_interrupted_after_the_taking_gives_back_only_what_it_took": CLASS,
        "test_a_task_whose_block_ends_while_a_writer_is_stopped_lets_others_run": CLASS,
        "test_a_wait_whose_end_fails_after_the_item_was_taken_keeps_no_item*Stop]": CLASS,
    },
    "segment": {
        "test_a_handle_may_be_a_value_of_its_own_segment": TRUST,
        "test_a_handle_that_is_dropped_detaches_silently": INFO,
        "test_attached_counts_living_processes": INFO,
        "test_f13_detach_twice_and_after_destroy_is_nothing": DESTROY,
        "test_f14_every_call_of_a_detached_handle_is_a_detached_error": CLASS,
        "test_f15_after_destroy_those_attached_keep_the_old_and_a_new_attach_gets_an_empty_one": DESTROY,
        "test_f16_an_old_handle_never_destroys_the_new_segment": DESTROY,
        "test_f57_a_pickled_handle_attaches_to_that_very_segment": CLASS,
        "test_handles_of_one_process_are_independent": INFO,
        "test_resize_changes_the_limit_and_never_below_what_is_used": SIZE,
        "test_shm_attach_has_phps_defaults": PERM,
        "test_the_php_functions_work_on_the_same_segments": PERM,
        "test_trim_gives_memory_back_and_loses_nothing": INFO,
        "test_used_is_the_sum_of_what_stat_says_each_is_charged": SIZE,
    },
    "ttl": {},
    "waiting": {
        "test_destroying_the_segment_ends_a_wait_with_not_found": DESTROY,
        "test_waiters_that_are_killed_leave_nothing_behind": INFO,
    },
    "waiting_any": {
        "test_killed_waiters_leave_nothing_behind": INFO,
    },
    "versions": {
        "test_a_reader_beside_a_batch_that_nobody_finishes_is_told_so": ONE_INSTANT,
    },
}
"""By module, and by test or pattern: the row. These tests must fail here; where one passes, its line goes."""

SOMETIMES = {
    "test_a_removal_that_was_heard_of_and_made_again_among_lost_ones_does_not_come_early": CHANGES,
    "test_a_task_that_is_thrown_away_unfinished_lets_go": TASKS,
    "test_cancelling_at_every_place_of_the_queue_leaves_it_sound": TASKS,
    "test_f17_a_coroutine_that_nobody_awaits_only_warns": TASKS,
    "test_tasks_that_are_cancelled_leave_the_others_waiting": TASKS,
}
"""By test: the row. Not run: these fail or pass as messages come, and as threads come to run."""

TOO_LONG = {
    "test_a_thousand_tasks_that_wait_for_another_process_cost_little",
    "test_exclusion_holds_while_holders_are_killed_all_the_time",
    "test_thousands_of_locks_are_held_at_once",
    "test_totals_are_exact_with_8_processes_of_4_threads",
    "test_8_processes_add_and_one_of_them_makes_it_and_nothing_is_lost",
    "test_8_processes_count_what_expires_again_and_again_and_each_window_is_exact",
    "test_8_processes_setdefault_and_one_value_and_its_time_win",
    "test_8_processes_expire_and_change_and_no_change_is_lost",
    "test_f53_the_total_is_exact_with_8_processes_of_4_threads",
    "test_readers_never_miss_it_nor_see_it_torn_while_its_time_changes",
    "test_a_variable_of_any_kind_gets_a_time_gets_another_and_loses_it",
    "test_a_version_survives_the_growth_of_the_table",
    "test_50_threads_that_wait_for_a_hundred_variables_do_not_poll",
    "test_f61_100_waiters_do_not_poll",
    "test_hundreds_of_tasks_on_one_handle_all_wake_and_one_thread_serves_them",
    "test_waiters_are_not_woken_by_a_storm_on_other_indexes",
    "test_an_error_about_an_item_names_the_queue",
    "test_an_error_of_the_function_for_a_full_segment_is_its_own",
    "test_where_no_lock_is_left_a_result_is_computed_all_the_same",
    "test_another_process_changes_the_segment_while_the_function_runs",
    "test_floats_and_ints_beyond_64_bits_are_added_exactly_by_many_processes",
    "test_small_batches_are_as_updates_of_a_dict",
    "test_ten_thousand_indexes_of_both_kinds_agree_with_a_dict",
}
"""Not run unless SHMVAR_REMOTE_ALL is set: so many calls take seconds in memory and minutes through a server."""

INSIDE = {
    "test_a_signal_handler_that_raises_leaves_nobody_in_the_queue_and_nothing_held",
    "test_an_item_that_was_put_and_taken_before_the_watcher_looked_comes_when_its_taker_dies",
}
"""Not run: these hold up or interrupt a part of the other implementation, and wait for what only that one does then."""


def load(name):
    found = next(path for folder in FOLDERS if (path := TESTS / folder / f"{name}.py").exists())
    spec = importlib.util.spec_from_file_location(f"contract_{name}", found)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for what is pickled by its name
    spec.loader.exec_module(module)
    return module


def is_fixture(value):
    return hasattr(value, "_pytestfixturefunction") or type(value).__name__ == "FixtureFunctionDefinition"


def suite(module):
    """A class with the test functions of a module; its fixtures become this module's."""
    members = {}
    for found, value in vars(load(f"test_{module}")).items():
        if found in SOMETIMES:
            continue
        if found.startswith("test_") and found not in INSIDE and (found not in TOO_LONG or ALL):
            members[found] = staticmethod(value)
        elif is_fixture(value):
            assert found not in globals(), f"two fixtures {found}"
            globals()[found] = value
    return type(f"Test_{module}", (), members)


SAME = {"handles_as_objects", "locks_bound", "own_errors", "ttl_of_changes", "waiting_async", "wrong_arguments"}
"""Modules of which everything is the same."""
SUITES = sorted({*DIFFERENT, *SAME})
for module in SUITES:
    globals()[f"Test_{module}"] = suite(module)


def row_of(item):
    """The row that a collected test is in, or None."""
    rows = DIFFERENT.get(item.cls.__name__.removeprefix("Test_"), {}) if item.cls else {}
    return next(
        (row for test, row in rows.items() if fnmatch.fnmatchcase(item.name, test) or item.originalname == test), None
    )


PAGE = Path(__file__).parents[2] / "docs" / "remote.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the page is not beside the tests")
def test_each_difference_is_a_row_of_the_page():
    text = PAGE.read_text()
    rows = {row for tests in (*DIFFERENT.values(), SOMETIMES) for row in tests.values()}
    assert [row for row in sorted(rows) if f"| {row} |" not in text] == []


def test_each_difference_names_tests_that_are_there():
    for module, tests in DIFFERENT.items():
        names = vars(globals()[f"Test_{module}"])
        assert [test for test in tests if test.partition("*")[0] not in {*names, *TOO_LONG}] == []
