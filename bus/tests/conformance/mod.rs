//! What every backend must do, as scenarios over a [`Lab`]. Nothing here knows a backend: to run it on one more, write
//! its lab and invoke `suite!`.

pub(crate) mod abandoned;
pub(crate) mod blocked;
pub(crate) mod bookmark;
pub(crate) mod consumer;
pub(crate) mod dead_letter;
pub(crate) mod dedupe;
pub(crate) mod delete;
pub(crate) mod delivered;
pub(crate) mod history;
pub(crate) mod lead;
pub(crate) mod lease;
pub(crate) mod mode;
pub(crate) mod model;
pub(crate) mod overflow;
pub(crate) mod presence;
pub(crate) mod producer;
pub(crate) mod publish;
pub(crate) mod queue;
pub(crate) mod receipt;
pub(crate) mod reopen;
pub(crate) mod retention;
pub(crate) mod retry;
pub(crate) mod schedule;
pub(crate) mod seek;
pub(crate) mod several;
pub(crate) mod standing;
pub(crate) mod sys;
pub(crate) mod tail;
pub(crate) mod version;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Bus, Claim, Claimed, Clock, Group, GroupStatus, LeaseLost, Leased, Mode, Recorded, Settlement, Token, Verb};
use events::{Envelope, Name};

/// A backend of one's own, fresh and empty, and its surroundings.
#[async_trait]
pub(crate) trait Lab: Send + Sync {
    fn bus(&self) -> Bus;
    /// The backend's.
    fn clock(&self) -> Arc<dyn Clock>;
    /// Moves its clock, which it will notice by itself.
    fn let_pass(&self, by: Duration);
    /// Moves its clock back.
    fn step_back(&self, by: Duration);
    /// Moves the backend's clock, and has it notice.
    async fn advance(&self, by: Duration);
    /// Kills the backend where it stands and opens what is left.
    async fn kill_and_reopen(&mut self);
}

/// Runs every scenario on labs that `$open` makes.
macro_rules! suite {
    ($open:path) => { $crate::conformance::suite! { @ $open;
        publish: positions_are_dense_and_in_the_order_of_publishing, the_head_is_where_it_is_wherever_one_reads,
            events_of_one_key_share_a_partition,
            what_breaks_a_rule_is_refused_by_name, a_refused_event_takes_its_batch_along,
            fsynced_is_confirmed, events_are_counted_by_queue_level_and_result, what_nobody_replicates_is_not_confirmed_as_if_it_were, partitions_are_fixed_once_there_are_events, every_group_gets_every_event;
        delivered: a_consumer_may_be_faster_than_the_waiter, a_wait_ends_at_its_time,
            with_nobody_there_it_waits_for_somebody, a_dead_letter_ends_the_wait, a_named_group_is_waited_for_alone,
            a_handler_can_not_wait_for_its_own_group, a_step_of_a_handler_is_recorded_once;
        queue: a_queue_that_is_published_to_has_the_defaults, settings_are_kept, settings_out_of_range_are_refused;
        receipt: a_receipt_for_a_webhook_names_it, a_receipt_says_that_every_group_has_acknowledged, a_receipt_says_that_a_group_has_given_up,
            a_receipt_says_that_its_time_was_over, what_a_group_passed_over_in_time_is_expired_in_its_receipt,
            what_nobody_takes_is_held_until_somebody_comes,
            what_nobody_ever_takes_expires_with_its_queue, each_event_has_one_receipt_whoever_gives_it,
            what_gives_receipts_is_waited_for_by_nobody, where_no_receipt_can_go_is_refused;
        version: a_stale_version_is_refused, of_racing_writers_one_wins, events_of_a_batch_see_those_before_them,
            versions_need_a_queue_that_knows_them, each_keys_last_event_is_known, every_partition_has_its_view,
            trimmed_events_leave_the_view, a_view_of_events_that_were_there_is_built;
        schedule: it_is_recorded_at_its_time, the_order_is_that_of_time_then_of_arrival, a_time_that_is_over_is_now,
            what_waits_survives_a_kill, a_cancelled_event_is_never_recorded, what_waits_is_listed_in_its_order,
            times_that_make_no_sense_are_refused, a_relays_events_wait_too, what_is_due_counts_for_its_keys_version,
            many_that_are_due_at_once_do_not_starve_the_others;
        dedupe: a_window_is_as_long_as_its_queue_says, a_queue_may_have_no_window, a_repeated_id_answers_the_original_position, racing_publishers_record_an_id_once,
            the_window_ends_after_two_hours, the_window_survives_a_kill,
            the_window_begins_anew_with_what_is_recorded_again, an_event_is_found_by_its_id_within_the_window;
        producer: a_repeated_number_is_harmless, a_gap_in_the_numbers_is_refused, any_first_number_is_taken,
            numbers_survive_a_kill, an_unexpected_lineage_is_refused, numbers_belong_to_one_partition,
            a_number_that_can_not_be_counted_on_from_is_refused;
        lead: a_lease_has_one_holder_until_it_ends, who_had_the_lease_before_is_not_heard, a_publish_shuts_out_by_itself,
            a_lease_without_a_name_or_time_is_refused;
        lease: an_expired_lease_comes_again_and_its_token_is_stale, an_extended_lease_outlives_its_first_end,
            a_settled_delivery_can_not_be_settled_again, what_was_leased_to_a_caller_who_went_comes_again_uncharged, released_events_come_again_uncharged,
            a_member_that_dies_with_several_charges_none,
            a_member_that_dies_with_one_of_each_partition_charges_none, suspects_are_leased_alone,
            three_expiries_alone_are_a_crash_loop, a_claim_keeps_to_its_limits, at_most_a_thousand_are_in_flight,
            a_group_may_have_fewer_in_flight;
        delete: a_deleted_group_holds_nothing_and_is_waited_for_by_nobody, a_deleted_group_may_begin_anew,
            a_group_that_is_not_there_is_deleted_already;
        retry: the_schedule_is_kept_with_jitter, a_patient_group_goes_on_for_three_days, a_handler_may_choose_the_delay_up_to_a_day,
            a_due_retry_wakes_the_group, what_waits_may_come_at_once, a_deferred_event_comes_again_uncharged, a_deferred_event_keeps_its_key_s_turn,
            a_deferred_event_holds_an_exclusive_group;
        mode: a_key_has_one_unsettled_delivery, a_key_keeps_its_order_across_retries,
            other_keys_go_on_while_one_waits, a_dead_letter_frees_its_key, parallel_takes_all_at_once,
            exclusive_is_one_member_in_order, exclusive_keeps_its_order_between_members_of_one_name, a_filter_passes_over_the_others, a_condition_is_judged_before_the_claim, an_expired_event_is_not_delivered,
            a_stuck_key_blocks_the_group_at_ten_thousand;
        dead_letter: a_non_retryable_failure_is_dead_at_once, the_ninth_failure_exhausts,
            redrive_reaches_the_failing_group_only, a_redriven_letter_that_fails_again_is_dead_again,
            redrive_is_paced, letters_are_reached_however_many_lie_before_them, discarded_letters_are_gone, a_redriven_letter_that_expires_is_over;
        blocked: a_key_waits_for_its_dead_letter_also_after_a_restart,
            a_redriven_letter_comes_before_those_that_wait_for_it, a_discarded_letter_frees_its_key,
            an_exclusive_group_stops_at_its_dead_letter, a_letter_that_blocks_is_kept_however_old,
            a_group_that_no_longer_blocks_goes_on;
        seek: a_group_declared_later_starts_from_earliest, latest_gets_what_comes_after, a_time_and_a_position, what_a_group_declared_is_told,
            an_earlier_declaration_changes_nothing, a_moved_group_works_as_it_was_declared,
            seeking_back_brings_events_again_and_drops_leases, a_dry_run_changes_nothing;
        several: queues_that_come_into_being_are_joined, a_group_keeps_its_queue_whatever_comes_first;
        standing: an_event_stands_with_each_group_of_its_queue, a_standing_says_how_often_until_when_and_behind_what,
            an_event_that_expired_is_not_told_as_acknowledged,
            what_a_group_never_had_is_not_applicable,
            nobody_knows_of_what_was_trimmed, a_settlement_wakes_whoever_waits;
        tail: it_replays_then_follows, a_cursor_goes_on_where_it_was, a_filter_is_kept_and_the_cursor_moves, a_condition_is_kept,
            trimmed_events_are_told_as_a_gap, several_partitions_are_all_followed, no_more_is_read_ahead_than_may_be, latest_begins_now;
        retention: old_events_are_trimmed, what_a_group_needs_is_kept, a_trimmed_letter_can_be_redriven;
        overflow: a_full_queue_refuses_and_takes_again, what_no_group_needs_makes_room,
            the_oldest_make_room_and_are_lost, a_batch_larger_than_its_queue_is_kept_until_the_next,
            publishes_at_once_find_the_room_there_is,
            a_queue_keeps_no_more_bytes_than_it_may, a_lowered_limit_is_reached_by_trimming,
            readers_are_told_what_was_dropped, a_refused_number_is_next_still;
        abandoned: a_group_that_nobody_claims_for_loses_its_hold, an_absence_is_told_once_whatever_the_partitions,
            a_group_that_claims_keeps_its_hold,
            time_in_which_nobody_kept_the_bus_is_nobodys_fault;
        bookmark: a_place_is_kept_for_who_comes_again, only_who_opened_it_last_moves_it, one_that_is_removed_is_gone, who_holds_one_is_told,
            one_that_nobody_uses_is_forgotten_after_a_week, a_user_keeps_so_many_and_no_more;
        sys: dead_letters_are_told_every_ten_minutes, a_full_queue_is_told,
            a_group_is_told_of_once_whatever_its_partitions, who_subscribes_and_who_stops_is_told_where_it_is_asked_for;
        presence: the_first_device_is_online_and_the_last_one_offline, a_connection_that_is_cut_counts_for_its_grace,
            one_that_was_lost_counts_though_another_one_left, what_is_told_again_changes_nothing,
            a_node_that_falls_silent_takes_its_own_along, time_in_which_nobody_tells_counts_for_nobody,
            who_is_present_is_known_after_a_restart, a_room_tells_who_comes_and_goes, a_full_room_is_listed_page_by_page,
            a_user_has_so_many_connections, a_process_tells_who_is_connected_to_it,
            several_come_into_a_room_by_one_connection, a_room_is_left_with_the_last_one_that_is_in_it,
            two_devices_at_two_nodes_are_one_user, who_always_comes_back_in_time_was_never_away,
            a_clock_that_steps_back_ends_and_prolongs_nothing, the_grace_of_a_silent_node_begins_with_its_last_word,
            a_node_that_slept_is_unknown_though_not_all_of_it_was_found, who_is_there_may_lie_in_several_partitions;
        reopen: what_was_confirmed_is_kept, a_lineage_begins_with_its_parent, groups_go_on_where_they_were,
            leases_end_and_come_again;
        consumer: it_handles_and_acks, a_failing_handler_is_retried, a_panic_is_a_failure,
            drain_releases_what_is_not_started, drain_waits_for_what_is_started, drop_ends_what_still_runs,
            a_handler_that_takes_too_long_is_cancelled, a_lost_lease_cancels_the_handler,
            a_handler_outlives_its_first_lease, a_member_is_on_the_roster_while_it_runs, contradicting_settings_are_refused;
        history: keyed_order_holds_under_random_members_and_failures;
        model: random_claims_and_settlements_match_the_model;
    } };
    (@ $open:path; $($module:ident: $($scenario:ident),+;)+) => { $(mod $module { $(
        #[tokio::test]
        async fn $scenario() {
            $crate::conformance::$module::$scenario($open().await).await;
        }
    )+ })+ };
}
pub(crate) use suite;

pub(crate) const QUEUE: &str = "DB";

pub(crate) fn queue() -> Name {
    Name::new(QUEUE).unwrap()
}

/// An event of the queue DB.
pub(crate) fn event(id: &str, key: &str) -> Envelope {
    Envelope::new("/services/product", queue(), Name::new("CREATE").unwrap()).id(id).subject(key)
}

/// Publishes events one after another, by id and key.
pub(crate) async fn publish(bus: &Bus, events: &[(&str, &str)]) -> Vec<Recorded> {
    let events = events.iter().map(|(id, key)| event(id, key)).collect();
    bus.publish(events).await.unwrap().into_iter().map(Result::unwrap).collect()
}

/// Publishes so many events, `0`, `1`, …, each with its own key.
pub(crate) async fn publish_many(bus: &Bus, ids: std::ops::Range<usize>) {
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    for chunk in ids.chunks(250) {
        let events = chunk.iter().map(|id| event(id, id)).collect();
        bus.publish(events).await.unwrap().into_iter().for_each(|outcome| assert!(outcome.is_ok()));
    }
}

/// Declares a group on DB/* with a lease of 30 s.
pub(crate) async fn declare(bus: &Bus, name: &str, mode: Mode) -> Group {
    let group = Group::new(name, "DB/*".parse().unwrap(), mode);
    bus.declare_group(group.clone()).await.unwrap();
    group
}

pub(crate) async fn claim_all(bus: &Bus, group: &str, member: &str, max: usize) -> Claimed {
    let claim = Claim { group: group.to_owned(), member: member.to_owned(), max, bytes: 1 << 20 };
    bus.claim(claim).await.unwrap()
}

pub(crate) async fn claim(bus: &Bus, group: &str, max: usize) -> Vec<Leased> {
    claim_all(bus, group, "member", max).await.leased
}

/// Claims the one event there must be.
pub(crate) async fn claim_one(bus: &Bus, group: &str) -> Leased {
    let mut leased = claim(bus, group, 1).await;
    assert_eq!(leased.len(), 1, "one event can be claimed");
    leased.remove(0)
}

pub(crate) fn ids(leased: &[Leased]) -> Vec<&str> {
    leased.iter().map(|leased| leased.envelope.id.as_str()).collect()
}

pub(crate) async fn settle(bus: &Bus, group: &str, token: Token, verb: Verb) -> Result<(), LeaseLost> {
    bus.settle(group, vec![Settlement { token, verb }]).await.unwrap().remove(0)
}

pub(crate) async fn ack(bus: &Bus, group: &str, leased: &[Leased]) {
    for leased in leased {
        settle(bus, group, leased.token, Verb::Ack).await.unwrap();
    }
}

pub(crate) fn nack() -> Verb {
    Verb::Nack { delay: None, reason: "no".into(), retryable: true }
}

pub(crate) fn nack_after(delay: Duration) -> Verb {
    Verb::Nack { delay: Some(delay), reason: "later".into(), retryable: true }
}

pub(crate) fn refuse() -> Verb {
    Verb::Nack { delay: None, reason: "never".into(), retryable: false }
}

pub(crate) async fn status(bus: &Bus, group: &str) -> GroupStatus {
    bus.groups().await.unwrap().into_iter().find(|status| status.name == group).unwrap()
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Waits until something holds; at most ten seconds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let give_up = tokio::time::Instant::now() + seconds(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < give_up, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
