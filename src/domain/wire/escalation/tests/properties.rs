//! Properties: any bytes decode quickly and without a panic, and every refusal says why.

use std::time::Instant;

use proptest::prelude::*;

use super::mutations::mutated;
use super::*;

/// Field names of every level of the contract.
const NAMES: &str = "type id session_id requested_at expires_at reason target agents group strict \
                     priority attributes lang context options send_tip_if_no_agent_online \
                     disable_queuing allow_assign_busy_member queue_timeout own";

const TEXTS: &str = "escalation|s-1|a@x| |7|99999999999999999999999|2026-11-23T10:00:00Z|\
                     9999-12-30T22:00:00Z|-009999-01-02T02:00:00Z";

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(NAMES.split(' ').collect::<Vec<_>>()).prop_map(String::from)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-2i64..12).prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[a-zä]{120,260}".prop_map(Value::from),
        prop::sample::select(TEXTS.split('|').collect::<Vec<_>>()).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let list = prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from);
        let object = prop::collection::btree_map(name(), inner, 0..6)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()));
        prop_oneof![list, object]
    })
}

/// An object with fields of the contract, in two of three cases with a session.
fn any_escalation() -> impl Strategy<Value = String> {
    let fields = prop::collection::btree_map(name(), any_json(), 0..8);
    (fields, prop::sample::select(vec![true, true, false])).prop_map(|(mut fields, is_good)| {
        if is_good {
            fields.remove("type");
            fields.entry("session_id".to_owned()).or_insert_with(|| "s".into());
        }
        Value::Object(fields.into_iter().collect()).to_string()
    })
}

/// Checks that an event can be named in an outcome and that every refusal says why.
fn check_any(value: &[u8]) -> Result<(), TestCaseError> {
    match read(&record(Some(value))) {
        Decoded::NotForUs(skip) => prop_assert_ne!(skip.why, ""),
        Decoded::Malformed(malformed) => prop_assert_ne!(malformed.error, ""),
        Decoded::Event(event) => {
            for id in [&event.id, &event.session_id] {
                prop_assert!((1..=256).contains(&id.len()), "{} bytes", id.len());
                prop_assert!(!id.trim().is_empty());
            }
            prop_assert!(!event.session_id.chars().any(char::is_control));
            prop_assert!(event.requested_at <= at(0));
            prop_assert!(event.notes.iter().all(|note| note.contains(" ignored: ")));
            match event.request {
                Ok(request) => {
                    prop_assert!(request.priority.is_none_or(|priority| priority <= 9));
                    prop_assert!(request.requested_target.group.is_none_or(|group| group >= 1));
                    prop_assert!(
                        request
                            .requested_target
                            .agents
                            .iter()
                            .all(|agent| !agent.trim().is_empty())
                    );
                }
                Err(reason) => prop_assert!(reason.contains("; allowed is "), "{}", reason),
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(value in prop::collection::vec(any::<u8>(), 0..300)) {
        check_any(&value)?;
    }

    #[test]
    fn any_values_of_the_fields_decode_soundly(value in any_escalation()) {
        check_any(value.as_bytes())?;
    }

    #[test]
    fn no_changed_bytes_make_the_decoder_panic(
        value in any_escalation(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        kept in any::<prop::sample::Index>(),
    ) {
        let mut value = value.into_bytes();
        for (index, byte) in changes {
            let index = index.index(value.len());
            value[index] = byte;
        }
        check_any(&value)?;
        check_any(&value[..kept.index(value.len())])?;
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it measures what decoding costs")]
fn a_hundred_thousand_mutated_records_are_each_decoded_within_10_ms() {
    let originals: [&[u8]; 4] = [
        br#"{"session_id":"s"}"#,
        br#"{"type":"escalation","id":"e","session_id":"s","requested_at":"2026-11-23T10:00:00Z","expires_at":1795802400,"reason":"asked","target":{"agents":["a@x"],"group":7},"priority":3,"attributes":{"lang":"de","n":1},"context":{"summary":"..."},"options":{"queue_timeout":60}}"#,
        br#"{"schema":{},"payload":"{\"session_id\":\"s\"}"}"#,
        b"\0\0\0\0\x07{\"session_id\":\"s\"}",
    ];
    let limit = Duration::from_millis(10);
    let mut rng = fastrand::Rng::with_seed(14);
    let mut events = 0;
    for number in 0..100_000 {
        let value = mutated(originals[number % originals.len()], &mut rng);
        let record = record(Some(&value));
        let took = || {
            let begun = Instant::now();
            let decoded = read(&record);
            (begun.elapsed(), matches!(decoded, Decoded::Event(_)))
        };
        let (mut elapsed, is_event) = took();
        events += usize::from(is_event);
        // The machine may be busy: the fastest of a few counts.
        for _ in 0..20 {
            if elapsed > limit {
                elapsed = elapsed.min(took().0);
            }
        }
        assert!(elapsed <= limit, "{elapsed:?}: {}", String::from_utf8_lossy(&value));
    }
    assert!(events > 3_000, "{events} events");
}
