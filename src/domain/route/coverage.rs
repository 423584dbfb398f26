//! What conditions say about each other, for the check of the configuration: can a condition hold at
//! all, and does one follow from another?
//!
//! A yes is certain; a no may mean that it could not be seen.

use super::condition::{ComparedValue, Condition, Number, Operator};

/// Whether no value at all meets the condition.
pub(super) fn never_holds(condition: &Condition) -> bool {
    let operators = &condition.operators;
    let is_absent = operators.contains(&Operator::Exists(false));
    if is_absent {
        return !condition.accepts(None);
    }
    match listed(operators) {
        Some(values) => values.iter().all(|value| is_excluded(value, operators)),
        None => {
            let least = operators.iter().filter_map(least).reduce(greater);
            let most = operators.iter().filter_map(most).reduce(smaller);
            least.zip(most).is_some_and(|(least, most)| least > most)
        }
    }
}

/// Whether every value that meets the condition meets this demand, too.
pub(super) fn implies(condition: &Condition, demand: &Operator) -> bool {
    let operators = &condition.operators;
    if operators.contains(demand) {
        return true;
    }
    if operators.contains(&Operator::Exists(false)) {
        return demand.accepts(None);
    }
    if let Some(values) = listed(operators) {
        let mut possible = values.iter().filter(|value| !is_excluded(value, operators));
        return possible.all(|value| is_met(value, demand));
    }
    match demand {
        Operator::OneOf(_) | Operator::Exists(false) => false,
        Operator::Exists(true) => operators.iter().any(|operator| !operator.accepts(None)),
        Operator::Min(least_allowed) => {
            operators.iter().filter_map(least).any(|least| least >= *least_allowed)
        }
        Operator::Max(most_allowed) => {
            operators.iter().filter_map(most).any(|most| most <= *most_allowed)
        }
        Operator::Prefix(allowed) => operators.iter().any(|operator| match operator {
            Operator::Prefix(texts) => texts
                .iter()
                .all(|text| allowed.iter().any(|start| text.starts_with(start.as_str()))),
            _ => false,
        }),
        Operator::Not(values) => values.iter().all(|value| is_excluded(value, operators)),
    }
}

/// The values of the first list: nothing else meets the condition.
pub(super) fn listed(operators: &[Operator]) -> Option<&[ComparedValue]> {
    operators.iter().find_map(|operator| match operator {
        Operator::OneOf(values) => Some(values.as_slice()),
        _ => None,
    })
}

fn least(operator: &Operator) -> Option<Number> {
    match operator {
        Operator::Min(number) => Some(*number),
        _ => None,
    }
}

fn most(operator: &Operator) -> Option<Number> {
    match operator {
        Operator::Max(number) => Some(*number),
        _ => None,
    }
}

fn greater(one: Number, other: Number) -> Number {
    if one > other { one } else { other }
}

fn smaller(one: Number, other: Number) -> Number {
    if one < other { one } else { other }
}

/// Whether whatever equals this value meets the demand.
fn is_met(value: &ComparedValue, demand: &Operator) -> bool {
    match (value, demand) {
        (ComparedValue::Text(text), demand) => demand.accepts(Some(text)),
        (ComparedValue::Number(_), Operator::OneOf(values)) => values.contains(value),
        (ComparedValue::Number(number), Operator::Not(values)) => {
            values.iter().all(|other| match other {
                ComparedValue::Number(other) => number != other,
                ComparedValue::Text(text) => Number::read(text) != Some(*number),
            })
        }
        (ComparedValue::Number(number), Operator::Min(least)) => number >= least,
        (ComparedValue::Number(number), Operator::Max(most)) => number <= most,
        // `5` equals "05", too: how it begins is not known.
        (ComparedValue::Number(_), Operator::Prefix(_)) => false,
        (ComparedValue::Number(_), Operator::Exists(wanted)) => *wanted,
    }
}

/// Whether nothing that equals this value meets all these demands.
fn is_excluded(value: &ComparedValue, operators: &[Operator]) -> bool {
    operators.iter().any(|operator| match (value, operator) {
        (ComparedValue::Text(text), operator) => !operator.accepts(Some(text)),
        (ComparedValue::Number(number), Operator::OneOf(values)) => {
            !values.iter().any(|other| match other {
                ComparedValue::Number(other) => number == other,
                ComparedValue::Text(text) => Number::read(text) == Some(*number),
            })
        }
        (ComparedValue::Number(_), Operator::Not(values)) => values.contains(value),
        (ComparedValue::Number(number), Operator::Min(least)) => number < least,
        (ComparedValue::Number(number), Operator::Max(most)) => number > most,
        (ComparedValue::Number(_), Operator::Prefix(texts)) => {
            // A number begins with a minus or a digit.
            let may_begin = |text: &String| {
                text.is_empty() || text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
            };
            !texts.iter().any(may_begin)
        }
        (ComparedValue::Number(_), Operator::Exists(wanted)) => !wanted,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::route::Subject;

    fn number() -> impl Strategy<Value = Number> {
        prop_oneof![
            (-2i128..4).prop_map(Number::Whole),
            (-2i32..4).prop_map(|halves| Number::Decimal(f64::from(halves) / 2.0)),
        ]
    }

    /// Texts that differ in all ways that matter to an operator.
    const TEXTS: [&str; 16] = [
        "", "a", "ab", "b", "0", "1", "1.0", "01", "1x", "0.5", "-1", "2", "3", "true", "-0.5", "7",
    ];

    fn text() -> impl Strategy<Value = String> {
        prop::sample::select(TEXTS.to_vec()).prop_map(str::to_owned)
    }

    fn value() -> impl Strategy<Value = ComparedValue> {
        prop_oneof![text().prop_map(ComparedValue::Text), number().prop_map(ComparedValue::Number)]
    }

    fn operator() -> impl Strategy<Value = Operator> {
        let values = || prop::collection::vec(value(), 1..4);
        prop_oneof![
            values().prop_map(Operator::OneOf),
            values().prop_map(Operator::Not),
            number().prop_map(Operator::Min),
            number().prop_map(Operator::Max),
            prop::collection::vec(text(), 1..3).prop_map(Operator::Prefix),
            any::<bool>().prop_map(Operator::Exists),
        ]
    }

    fn condition() -> impl Strategy<Value = Condition> {
        prop::collection::vec(operator(), 1..4)
            .prop_map(|operators| Condition { subject: Subject::Reason, operators })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn what_is_implied_holds_and_what_never_holds_does_not(
            condition in condition(),
            demand in operator(),
        ) {
            let values = || TEXTS.iter().map(|text| Some(*text)).chain([None]);
            if implies(&condition, &demand) {
                for value in values().filter(|value| condition.accepts(*value)) {
                    prop_assert!(demand.accepts(value), "{value:?}");
                }
            }
            if never_holds(&condition) {
                for value in values() {
                    prop_assert!(!condition.accepts(value), "{value:?}");
                }
            }
        }
    }

    /// Checks that a yes is given where it should be: the property above would hold without any.
    #[test]
    fn plain_cases_are_seen() {
        let whole = |n| Number::Whole(n);
        let of = |operators: &[Operator]| Condition {
            subject: Subject::Reason,
            operators: operators.to_vec(),
        };
        let one = |text: &str| ComparedValue::Text(text.into());
        let range = of(&[Operator::Min(whole(3)), Operator::Max(whole(5))]);
        assert!(
            implies(&range, &Operator::Min(whole(3))) && implies(&range, &Operator::Max(whole(6)))
        );
        assert!(!implies(&range, &Operator::Min(whole(4))));
        assert!(implies(&range, &Operator::Exists(true)));
        assert!(implies(&range, &Operator::Not(vec![one("x"), ComparedValue::Number(whole(6))])));
        let listed = of(&[Operator::OneOf(vec![one("refund_a"), one("refund_b")])]);
        assert!(implies(&listed, &Operator::Prefix(vec!["refund_".into()])));
        assert!(implies(&listed, &Operator::Not(vec![one("x")])));
        let prefix = of(&[Operator::Prefix(vec!["refund_".into()])]);
        assert!(implies(&prefix, &Operator::Prefix(vec!["re".into()])));
        assert!(implies(&of(&[Operator::Exists(false)]), &Operator::Not(vec![one("x")])));
        for never in [
            of(&[Operator::Min(whole(5)), Operator::Max(whole(3))]),
            of(&[Operator::Exists(false), Operator::Prefix(vec!["x".into()])]),
            of(&[Operator::OneOf(vec![one("a")]), Operator::Not(vec![one("a")])]),
            of(&[Operator::OneOf(vec![one("a")]), Operator::Min(whole(0))]),
        ] {
            assert!(never_holds(&never), "{never:?}");
        }
        assert!(!never_holds(&range) && !never_holds(&listed) && !never_holds(&prefix));
    }
}
