//! The conditions of a route, and how the values of an escalation are compared.
//!
//! The values of an escalation are texts: a number or a boolean counts as it is written in JSON, so
//! that `5` and `"5"` are the same, and an absent one as `None`. A text of the configuration is
//! compared exactly. A number of the configuration is compared as a number: `5` equals `5`, `"5"`,
//! `5.0` and `"05"`, but not `"5 EUR"`.

use std::cmp::Ordering;
use std::fmt;

use crate::domain::event::TransferRequest;

/// What one value of an escalation must be like; all operators must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Which value.
    pub subject: Subject,
    /// At least one.
    pub operators: Vec<Operator>,
}

/// A value of an escalation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The attribute of this name.
    Attribute(String),
    /// The escalation's `reason`.
    Reason,
}

/// A demand on one value.
#[derive(Debug, Clone, PartialEq)]
pub enum Operator {
    /// It equals one of these. An absent value does not.
    OneOf(Vec<ComparedValue>),
    /// It equals none of these. An absent value does: it is none of them.
    Not(Vec<ComparedValue>),
    /// It is a number, this one or greater. An absent value is no number.
    Min(Number),
    /// It is a number, this one or less. An absent value is no number.
    Max(Number),
    /// It begins with one of these texts. An absent value does not.
    Prefix(Vec<String>),
    /// Whether it is there at all. An empty text is; `null` is not.
    Exists(bool),
}

impl Operator {
    /// Whether a value meets the demand.
    pub fn accepts(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(Number::read);
        match self {
            Self::OneOf(values) => value.is_some_and(|value| is_one_of(values, value)),
            Self::Not(values) => !value.is_some_and(|value| is_one_of(values, value)),
            Self::Min(least) => number().is_some_and(|number| number >= *least),
            Self::Max(most) => number().is_some_and(|number| number <= *most),
            Self::Prefix(texts) => {
                value.is_some_and(|value| texts.iter().any(|text| value.starts_with(text.as_str())))
            }
            Self::Exists(wanted) => value.is_some() == *wanted,
        }
    }
}

fn is_one_of(values: &[ComparedValue], value: &str) -> bool {
    values.iter().any(|compared| compared.equals(value))
}

impl Condition {
    /// Whether a value meets all demands.
    pub fn accepts(&self, value: Option<&str>) -> bool {
        self.operators.iter().all(|operator| operator.accepts(value))
    }
}

/// A value of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum ComparedValue {
    /// Compared exactly; a boolean is the text `true` or `false`.
    Text(String),
    /// Compared as a number.
    Number(Number),
}

impl ComparedValue {
    /// Whether the value of an escalation equals this.
    pub fn equals(&self, value: &str) -> bool {
        match self {
            Self::Text(text) => text == value,
            Self::Number(number) => Number::read(value) == Some(*number),
        }
    }
}

/// A number, whole ones exactly: some are ids.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// Of at most 38 digits.
    Whole(i128),
    /// With decimals, or larger; finite.
    Decimal(f64),
}

impl Number {
    /// Reads digits, perhaps with a minus, decimals and an exponent, as JSON writes numbers; leading
    /// zeros are allowed.
    pub fn read(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        if !unsigned.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        if let Ok(whole) = text.parse() {
            return Some(Self::Whole(whole));
        }
        // Beginning with a digit, the text is neither "inf" nor "nan".
        text.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::Decimal)
    }

    fn as_f64(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Decimal(number) => number,
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => Some(one.cmp(other)),
            _ => self.as_f64().partial_cmp(&other.as_f64()),
        }
    }
}

impl Subject {
    /// The value in a request; `None`: it is absent.
    pub fn of<'r>(&self, request: &'r TransferRequest) -> Option<&'r str> {
        match self {
            Self::Attribute(name) => request.attributes.get(name).map(String::as_str),
            Self::Reason => request.reason.as_deref(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(name) => f.write_str(name),
            Self::Reason => f.write_str("reason"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::read(text).unwrap()
    }

    fn values(words: &str) -> Vec<ComparedValue> {
        let value = |word: &str| match word.strip_prefix('#') {
            Some(digits) => ComparedValue::Number(number(digits)),
            None => ComparedValue::Text(word.to_owned()),
        };
        words.split_whitespace().map(value).collect()
    }

    /// Checks which of these values an operator accepts; `-` is an absent one.
    #[track_caller]
    fn check(operator: &Operator, accepted: &str, refused: &str) {
        for (words, expected) in [(accepted, true), (refused, false)] {
            for word in words.split_whitespace() {
                let value = Some(word).filter(|word| *word != "-");
                assert_eq!(operator.accepts(value), expected, "{operator:?} {word}");
            }
        }
    }

    #[test]
    fn texts_are_compared_exactly_and_numbers_as_numbers() {
        check(&Operator::OneOf(values("vip 5 true")), "vip 5 true", "Vip vi vip1 5.0 05 True - 6");
        check(
            &Operator::OneOf(values("#5 #-2.5")),
            "5 5.0 05 5e0 0.5e1 -2.5 -2.50",
            "6 5x +5 - inf",
        );
        check(&Operator::Not(values("vip #5")), "- Vip 6 5x", "vip 5 5.0");
        let long = Operator::OneOf(values("#9007199254740993"));
        check(&long, "9007199254740993", "9007199254740992");
    }

    #[test]
    fn a_range_includes_its_ends_and_holds_for_numbers_only() {
        check(
            &Operator::Min(number("3")),
            "3 3.0 4 99999999999999999999999999999999999999999",
            "2.9 -3 x - 3x NaN inf",
        );
        check(&Operator::Max(number("0.5")), "0.5 0 -7 -0", "0.51 1 x - -inf -x");
    }

    #[test]
    fn a_prefix_needs_a_value_and_exists_asks_for_one() {
        check(&Operator::Prefix(vec!["re".into(), "x".into()]), "refund re x", "Re - ere");
        assert!(Operator::Prefix(vec!["r".into()]).accepts(Some("refund")));
        check(&Operator::Exists(true), "x 0 false", "-");
        check(&Operator::Exists(false), "-", "x");
        assert!(Operator::Exists(true).accepts(Some("")), "an empty text is there");
    }
}
