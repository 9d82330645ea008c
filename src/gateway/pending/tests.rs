use super::*;

const TOPIC: &str = "gateway_id/gw1/properties/report/response";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Requests with these ids, which are their contexts too; each has two seconds.
fn requests(ids: &[&'static str], retries: u32) -> PendingRequests<&'static str> {
    let mut requests = PendingRequests::new(ms(2000));
    requests.set_retries(retries);
    for id in ids {
        requests.insert((*id).into(), Some(TOPIC.into()), *id);
    }
    requests
}

/// Sends all that may leave; gives it, each with its attempt.
fn send(requests: &mut PendingRequests<&'static str>, now: u64) -> Vec<(&'static str, u32)> {
    std::iter::from_fn(|| requests.next_to_send(ms(now)).map(|sent| (*sent.context, sent.attempt))).collect()
}

fn payload(id: &str, code: &str) -> Vec<u8> {
    format!(r#"{{"t":1,"request_id":"{id}","param":{{"cid":"m1","msg":"m","code":{code}}}}}"#).into_bytes()
}

/// Hears an answer; retries come after the shortest rest.
fn hear(requests: &mut PendingRequests<&'static str>, id: &str, code: &str, now: u64) -> Match<&'static str> {
    requests.handle_message(TOPIC, &payload(id, code), false, ms(now), || 0.0)
}

/// Who is overdue; retries come after the shortest rest.
fn overdue(requests: &mut PendingRequests<&'static str>, now: u64) -> Vec<(&'static str, u32)> {
    std::iter::from_fn(|| requests.handle_timeout(ms(now), || 0.0))
        .map(|overdue| (overdue.request.context, overdue.request.attempts))
        .collect()
}

#[test]
fn answers_find_their_requests_in_any_order_and_count_once() {
    let mut requests = requests(&["a", "b"], 0);
    assert_eq!(send(&mut requests, 1000), [("a", 1), ("b", 1)]);
    let found = hear(&mut requests, "b", "2003", 1300);
    let Match::Answered { request, answer, round_trip } = found else { panic!("{found:?}") };
    assert_eq!((request.context, answer.code), ("b", ResultCode::DEVICE_UNKNOWN));
    assert_eq!((request.attempts, round_trip), (1, Some(ms(300))));
    assert!(matches!(hear(&mut requests, "b", "0", 1300), Match::Unmatched(_)));
    assert!(matches!(hear(&mut requests, "a", "0", 1300), Match::Answered { .. }));
    assert!(requests.is_empty() && !requests.has_answers_to_come());
}

#[test]
fn what_does_not_count_leaves_the_request_open() {
    let mut requests = requests(&["a"], 0);
    let ignored = |heard| matches!(heard, Match::Ignored(_) | Match::Unmatched(_));
    let mut hear = |topic, payload: &[u8], retained| {
        ignored(requests.handle_message(topic, payload, retained, ms(1), || 0.0))
    };
    assert!(hear("gateway_id/gw1/devices/sync/response", &payload("a", "0"), false));
    assert!(hear(TOPIC, &payload("a", "0"), true));
    assert!(hear(TOPIC, &payload("x", "0"), false));
    assert!(hear(TOPIC, b"not json", false));
    assert_eq!(requests.len(), 1);
}

#[test]
fn another_shape_that_names_our_request_is_malformed() {
    let mut requests = requests(&["a", "b"], 9);
    let found = hear(&mut requests, "a", "\"0\"", 1);
    let Match::Malformed { request, error } = found else { panic!("{found:?}") };
    assert_eq!((request.context, error.field.as_str()), ("a", "param.code"));
    assert_eq!(requests.len(), 1);
}

/// The request "old" is never answered, so that entries of the other one's first attempt stay behind its own.
#[test]
fn a_retry_has_a_deadline_of_its_own() {
    let mut requests = requests(&["old", "tried"], 1);
    assert_eq!(send(&mut requests, 0), [("old", 1), ("tried", 1)]);
    assert!(matches!(hear(&mut requests, "tried", "500", 1200), Match::TriedAgain));
    assert_eq!(overdue(&mut requests, 1450), []);
    assert_eq!(send(&mut requests, 1450), [("tried", 2)]);
    // The first attempt of both is overdue now, and only "old" waits for its first one.
    assert_eq!(overdue(&mut requests, 2000), []);
    assert_eq!(requests.next_deadline(), Some(ms(3450)));
    let found = hear(&mut requests, "tried", "0", 3000);
    let Match::Answered { request, round_trip, .. } = found else { panic!("{found:?}") };
    assert_eq!((request.context, request.attempts, round_trip), ("tried", 2, Some(ms(1550))));
    assert_eq!(overdue(&mut requests, 2250), []);
    assert_eq!(send(&mut requests, 2250), [("old", 2)]);
    assert_eq!(overdue(&mut requests, 4250), [("old", 2)]);
    assert_eq!(requests.next_timeout(true), None);
}

#[test]
fn an_answer_counts_while_its_request_rests_or_is_queued_again() {
    let mut requests = requests(&["a", "b", "c"], 3);
    assert_eq!(send(&mut requests, 0).len(), 3);
    assert_eq!(overdue(&mut requests, 2000), []);
    assert!(!requests.has_written(), "all of them rest");
    // It rests.
    let found = hear(&mut requests, "a", "0", 2100);
    let Match::Answered { request, round_trip, .. } = found else { panic!("{found:?}") };
    assert_eq!((request.attempts, round_trip), (1, Some(ms(2100))));
    // A late system error changes nothing: it is tried again in any case.
    assert!(matches!(hear(&mut requests, "b", "500", 2100), Match::TriedAgain));
    // Its rest is over, and it waits for the connection.
    assert_eq!(overdue(&mut requests, 2250), []);
    assert!(matches!(hear(&mut requests, "c", "0", 2300), Match::Answered { .. }));
    assert_eq!(send(&mut requests, 2300), [("b", 2)]);
    assert_eq!((requests.len(), requests.next_timeout(true)), (1, Some(ms(4300))));
}

#[test]
fn retries_end_and_rest_longer_each_time() {
    let mut requests = requests(&["a"], 2);
    assert_eq!(send(&mut requests, 0), [("a", 1)]);
    assert_eq!(overdue(&mut requests, 2000), []);
    assert_eq!(requests.next_timeout(true), Some(ms(2250)));
    assert_eq!(overdue(&mut requests, 2250), []);
    assert_eq!(send(&mut requests, 2250), [("a", 2)]);
    assert!(matches!(hear(&mut requests, "a", "500", 2250), Match::TriedAgain));
    assert_eq!(requests.next_timeout(true), Some(ms(2750)));
    assert_eq!(overdue(&mut requests, 2750), []);
    assert_eq!(send(&mut requests, 2750), [("a", 3)]);
    let found = hear(&mut requests, "a", "500", 2800);
    assert!(matches!(found, Match::Answered { ref request, .. } if request.attempts == 3), "{found:?}");
}

#[test]
fn the_clock_of_an_attempt_starts_once() {
    let mut requests = requests(&["a", "b"], 0);
    assert_eq!(send(&mut requests, 0).len(), 2);
    assert_eq!(requests.handle_connected(|_| false), 2);
    let again = requests.next_to_send(ms(1500)).map(|sent| (*sent.context, sent.is_first));
    assert_eq!(again, Some(("a", false)));
    assert_eq!(requests.next_deadline(), Some(ms(2000)));
    assert_eq!(overdue(&mut requests, 1999), []);
    assert_eq!(overdue(&mut requests, 2000), [("a", 1), ("b", 1)]);
    assert_eq!(send(&mut requests, 2000), [], "what has ended is not sent again");
}

#[test]
fn a_kept_session_sends_again_by_itself_what_is_unacknowledged() {
    let mut requests = requests(&["a", "b", "c"], 0);
    assert_eq!(send(&mut requests, 0).len(), 3);
    let acknowledged = requests.handle_acknowledgement(1, ms(1)).unwrap();
    assert!(acknowledged.is_first && acknowledged.finished.is_none());
    // "b" was acknowledged, and has no answer.
    assert_eq!(requests.handle_connected(|_| true), 3);
    assert_eq!(send(&mut requests, 10), [("b", 1)]);
    assert!(!requests.handle_acknowledgement(1, ms(11)).unwrap().is_first);
    assert_eq!(requests.handle_connected(|_| false), 3);
    assert_eq!(send(&mut requests, 20), [("a", 1), ("b", 1), ("c", 1)]);
}

#[test]
fn what_costs_connection_after_connection_is_given_up_alone() {
    let mut requests = requests(&["small", "first", "second"], 0);
    assert_eq!(send(&mut requests, 0).len(), 3);
    for _ in 0..2 {
        assert!(requests.handle_disconnected(|id| *id != "small").is_none());
        assert_eq!(requests.handle_connected(|_| false), 3);
        assert_eq!(send(&mut requests, 1).len(), 3);
    }
    let given_up = requests.handle_disconnected(|id| *id != "small").map(|request| request.context);
    assert_eq!(given_up, Some("first"));
    assert_eq!(requests.handle_connected(|_| false), 2);
    assert_eq!(send(&mut requests, 2).len(), 2);
    // What the broker has taken has no part in a loss.
    assert!(requests.handle_acknowledgement(2, ms(3)).is_some());
    assert!(requests.handle_disconnected(|id| *id != "small").is_none());
}

#[test]
fn the_rate_holds_for_first_messages_retries_and_repetitions() {
    let mut requests = requests(&["a", "b", "c", "d"], 5);
    requests.set_rate("10/s".parse().unwrap());
    let mut sent = Vec::new();
    for now in 0..10_000 {
        overdue(&mut requests, now);
        for (id, _) in send(&mut requests, now) {
            sent.push(now);
            // One is never answered, one is cut off, and the others fail.
            match id {
                "a" => {}
                "b" => drop(requests.handle_connected(|_| false)),
                _ => assert!(!matches!(hear(&mut requests, id, "500", now), Match::Unmatched(_))),
            }
        }
    }
    assert!(sent.len() > 30, "{}", sent.len());
    for second in sent.windows(11) {
        assert!(second[10] - second[0] >= 970, "{second:?}");
    }
}

#[test]
fn a_queue_keeps_what_is_new_from_its_turn() {
    let mut requests = requests(&["a"], 0);
    requests.set_rate("10/s".parse().unwrap());
    assert!(!requests.has_turn(ms(0)));
    assert_eq!(requests.next_turn(), None);
    assert_eq!(requests.next_timeout(false), None);
    assert_eq!(requests.next_timeout(true), Some(ms(0)));
    assert_eq!(send(&mut requests, 0), [("a", 1)]);
    assert!(!requests.has_turn(ms(99)) && requests.has_turn(ms(100)));
    assert_eq!(requests.next_turn(), Some(ms(100)));
}

#[test]
fn requests_with_one_id_follow_each_other() {
    let mut requests = requests(&["same", "same", "other", "same"], 1);
    assert_eq!(send(&mut requests, 0), [("same", 1), ("other", 1)]);
    assert!(matches!(hear(&mut requests, "same", "500", 1), Match::TriedAgain));
    assert_eq!(send(&mut requests, 2), [], "the first one rests, and is still the one with this id");
    assert_eq!(overdue(&mut requests, 251), []);
    assert_eq!(send(&mut requests, 251), [("same", 2)]);
    assert!(matches!(hear(&mut requests, "same", "0", 252), Match::Answered { .. }));
    assert_eq!(send(&mut requests, 253), [("same", 1)]);
    assert!(matches!(hear(&mut requests, "same", "0", 254), Match::Answered { .. }));
    assert_eq!(send(&mut requests, 255), [("same", 1)]);
    assert_eq!(requests.drain().map(|ended| ended.context).collect::<Vec<_>>(), ["other", "same"]);
    assert!(requests.is_empty() && requests.next_timeout(true).is_none());
}

#[test]
fn what_nobody_answers_ends_with_its_acknowledgement() {
    let mut requests = PendingRequests::new(ms(2000));
    requests.set_retries(1);
    for context in ["a", "b", "c"] {
        requests.insert("id".into(), None, context);
    }
    assert_eq!(send(&mut requests, 0).len(), 3);
    let acknowledged = requests.handle_acknowledgement(0, ms(7)).unwrap();
    let (finished, round_trip) = acknowledged.finished.unwrap();
    assert_eq!((finished.context, round_trip), ("a", Some(ms(7))));
    assert!(requests.handle_acknowledgement(0, ms(8)).is_none());
    assert_eq!(overdue(&mut requests, 2000), []);
    // An acknowledgement counts while its message rests.
    assert!(requests.handle_acknowledgement(1, ms(2100)).unwrap().finished.is_some());
    assert_eq!(overdue(&mut requests, 2250), []);
    assert_eq!(send(&mut requests, 2250), [("c", 2)]);
    let late = requests.handle_timeout(ms(4250), || 0.0).unwrap();
    assert!(!late.is_answer_missing && !late.is_acknowledged);
}

#[test]
fn one_request_that_waits_makes_no_entries_of_others_stay() {
    let mut requests = requests(&["waits"], 0);
    send(&mut requests, 0);
    for n in 1..1000 {
        requests.insert(format!("r{n}").into(), Some(TOPIC.into()), "other");
        assert_eq!(send(&mut requests, 1).len(), 1);
        assert!(matches!(hear(&mut requests, &format!("r{n}"), "0", 1), Match::Answered { .. }));
    }
    assert!(requests.deadlines.len() < 100, "{}", requests.deadlines.len());
    assert!(requests.queue.is_empty() && requests.by_id.len() == 1);
    assert_eq!(overdue(&mut requests, 2000), [("waits", 1)]);
}

#[test]
fn a_warning_repeats_the_beginning_of_a_long_id_only() {
    let mut requests = requests(&["a"], 0);
    let Match::Unmatched(warning) = hear(&mut requests, &"é".repeat(500_000), "0", 0) else { panic!() };
    assert!(warning.len() < 400, "{}", warning.len());
    assert!(warning.contains("999800 bytes more"), "{warning}");
}

#[test]
fn a_request_without_a_deadline_waits_as_long_as_it_takes() {
    let mut requests = PendingRequests::new(ms(2000));
    requests.insert_with("a".into(), None, false, "a");
    assert_eq!(send(&mut requests, 0), [("a", 1)]);
    assert_eq!(requests.next_timeout(true), None);
    assert_eq!(overdue(&mut requests, 1_000_000), []);
    assert!(requests.handle_acknowledgement(0, ms(2_000_000)).unwrap().finished.is_some());
}

#[test]
fn withdrawn_requests_leave_and_have_no_outcome() {
    let mut requests = requests(&["a", "b", "c"], 0);
    requests.next_to_send(ms(0));
    requests.withdraw(|context| *context != "b");
    assert_eq!(send(&mut requests, 0), [("b", 1)]);
    assert!(matches!(hear(&mut requests, "a", "0", 1), Match::Unmatched(_)));
    assert_eq!(overdue(&mut requests, 3000), [("b", 1)]);
}
