//! The order of values: null, false, true, numbers, strings, arrays, objects.
//!
//! Whole numbers are compared by their digits, however many; others as doubles, as jaq does. Objects are compared by
//! their sorted names, and then by their values in that order.

use std::{borrow::Cow, cmp::Ordering};

use crate::{
    Error,
    budget::Budget,
    value::{Member, Value, ValueKind},
};

/// Compares two values.
pub fn compare<'a>(left: &Value<'a>, right: &Value<'a>, budget: &Budget) -> Result<Ordering, Error> {
    let kind = left.kind();
    let by_kind = kind.cmp(&right.kind());
    if by_kind != Ordering::Equal {
        return Ok(by_kind);
    }
    match kind {
        ValueKind::Null | ValueKind::False | ValueKind::True => Ok(Ordering::Equal),
        ValueKind::Number => {
            budget.spend(left.size() + right.size())?;
            Ok(compare_numbers(&number(left), &number(right)))
        }
        ValueKind::String => {
            budget.spend(left.size() + right.size())?;
            Ok(left.text().cmp(&right.text()))
        }
        ValueKind::Array => compare_arrays(left, right, budget),
        ValueKind::Object => compare_objects(left, right, budget),
    }
}

fn compare_arrays<'a>(left: &Value<'a>, right: &Value<'a>, budget: &Budget) -> Result<Ordering, Error> {
    budget.spend(left.size() + right.size())?;
    let (Some(mut left), Some(mut right)) = (left.elements(), right.elements()) else { return Ok(Ordering::Equal) };
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ok(Ordering::Equal),
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(left), Some(right)) => compare(&left, &right, budget)?,
        };
        if order != Ordering::Equal {
            return Ok(order);
        }
    }
}

fn compare_objects<'a>(left: &Value<'a>, right: &Value<'a>, budget: &Budget) -> Result<Ordering, Error> {
    budget.spend(sorting(left.size()) + sorting(right.size()))?;
    let (left, right) = (sorted(left), sorted(right));
    let names = left.iter().map(|(name, _)| name).cmp(right.iter().map(|(name, _)| name));
    if names != Ordering::Equal {
        return Ok(names);
    }
    for ((_, left), (_, right)) in left.iter().zip(&right) {
        let order = compare(left, right, budget)?;
        if order != Ordering::Equal {
            return Ok(order);
        }
    }
    Ok(Ordering::Equal)
}

/// What sorting the names in so many bytes costs at most.
pub fn sorting(size: usize) -> usize {
    size.saturating_mul(4)
}

fn sorted<'a>(object: &Value<'a>) -> Vec<Member<'a>> {
    let mut members = object.members().unwrap_or_default();
    members.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    members
}

/// A number's text.
fn number<'a>(value: &Value<'a>) -> Cow<'a, str> {
    match value {
        Value::Json(text) => Cow::Borrowed(crate::json::utf8(text.bytes)),
        Value::Count(count) => Cow::Owned(count.to_string()),
        _ => Cow::Borrowed("0"),
    }
}

fn compare_numbers(left: &str, right: &str) -> Ordering {
    let is_whole = |text: &str| !text.contains(['.', 'e', 'E']);
    if is_whole(left) && is_whole(right) {
        return compare_whole(left, right);
    }
    // Zeros are equal whatever their signs, and no number of JSON is not a number.
    double(left).partial_cmp(&double(right)).unwrap_or(Ordering::Equal)
}

fn double(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

fn compare_whole(left: &str, right: &str) -> Ordering {
    let (left, right) = (whole(left), whole(right));
    let by_size =
        |(_, left): (bool, &str), (_, right): (bool, &str)| left.len().cmp(&right.len()).then_with(|| left.cmp(right));
    match (left.0, right.0) {
        (false, false) => by_size(left, right),
        (true, true) => by_size(right, left),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    }
}

/// Whether it is below zero, and its digits without a sign.
fn whole(text: &str) -> (bool, &str) {
    let digits = text.trim_start_matches('-');
    (text.len() > digits.len() && digits != "0", digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_compared_by_all_of_their_digits() {
        let sorted = [
            "-100000000000000000000001",
            "-100000000000000000000000",
            "-1",
            "0",
            "7",
            "70",
            "100000000000000000000001",
        ];
        for (left, one) in sorted.iter().enumerate() {
            for (right, other) in sorted.iter().enumerate() {
                assert_eq!(compare_numbers(one, other), left.cmp(&right), "{one} {other}");
            }
        }
        for (one, other) in [("1", "1.0"), ("1e2", "100"), ("-0", "0"), ("0.0", "-0")] {
            assert_eq!(compare_numbers(one, other), Ordering::Equal, "{one} {other}");
        }
    }
}
