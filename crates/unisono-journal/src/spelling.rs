//! A line that another program has written again: the same members, in another order or with white space between them.
//!
//! Lines of ours are scanned by their prefix ([`crate::scan`]). What does not have that is read as JSON, and what
//! decides about its row is written as we write it; all other members are passed on as they stand. It takes a JSON
//! parser and memory, so it is asked only where the scan has failed.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use unisono_core::{Effect, OutcomeKind};

use crate::{
    Json,
    line::{ANY_PAGE, Mark, hexadecimal, push_begun_to, push_key},
    members::Members,
};

/// The line as we would have written it; `None` when it is no outcome, or says twice what decides about its row.
///
/// ```
/// let line =
///     r#"{ "outcome": "ok", "row": 3, "id": "a", "fp": "00000000000000ff", "effect": "done", "repeatable": true }"#;
/// let line = unisono_journal::respelled(line).unwrap();
/// assert!(line.starts_with(br#"{"row":3,"id":"a","fp":"00000000000000ff","outcome":"ok","#));
/// assert_eq!(unisono_journal::respelled("{}"), None);
/// ```
pub fn respelled(text: &str) -> Option<Vec<u8>> {
    let mut given: Given<'_> = serde_json::from_str(text).ok()?;
    let mark = given.mark()?;
    let mut line = mark.map_or_else(|| b"{".to_vec(), Mark::beginning);
    let mut into = Members::new(&mut line);
    into.number("row", given.take::<u64>("row")??);
    into.text("id", &given.take::<String>("id")??);
    into.hexadecimal("fp", hexadecimal(given.take::<String>("fp")??.as_bytes())?);
    into.text("outcome", given.take::<String>("outcome")??.parse::<OutcomeKind>().ok()?.as_str());
    into.text("effect", given.take::<String>("effect")??.parse::<Effect>().ok()?.as_str());
    into.flag("repeatable", given.take::<bool>("repeatable")??);
    let (key, hash) = (given.take::<String>("idempotency_key")?, given.take::<u32>("key_hash")?);
    push_key(key.as_deref(), hash, &mut into);
    if let Some(page) = given.take::<u32>("page")? {
        into.number("page", page);
        match given.take::<Option<String>>("next")? {
            None => {}
            Some(None) => into.null("next"),
            Some(Some(next)) => into.text("next", &next),
        }
    }
    if let Some(page) = given.take::<Option<u32>>("begun_to")? {
        push_begun_to(page.unwrap_or(ANY_PAGE), &mut into);
    }
    // What decides is looked for at the beginning of the rest.
    if let Some(mut error) = given.take::<Given<'_>>("error")? {
        let kind = error.take::<String>("kind")?;
        into.object("error", |members| {
            kind.iter().for_each(|kind| members.text("kind", kind));
            error.pass_on(members);
        });
    }
    given.pass_on(&mut into);
    line.push(b'}');
    Some(line)
}

/// The members of an object, as they stand.
struct Given<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Given<'a> {
    /// Takes out a member. `None` when it is there and is no such value, or is there twice.
    fn take<T: Deserialize<'a>>(&mut self, name: &str) -> Option<Option<T>> {
        let Some(at) = self.0.iter().position(|(other, _)| other == name) else { return Some(None) };
        let (_, value) = self.0.remove(at);
        if self.0.iter().any(|(other, _)| other == name) {
            return None;
        }
        serde_json::from_str(value.get()).ok().map(Some)
    }

    /// What it says about the file.
    fn mark(&mut self) -> Option<Option<Mark>> {
        let (run, open) = (self.take::<String>("run")?, self.take::<u8>("open")?);
        let version = self.take::<u8>("identity")?.unwrap_or(1);
        let (Some(run), Some(open)) = (run, open) else { return Some(None) };
        let is_known = open <= 1 && (1..=9).contains(&version);
        is_known.then_some(Some(Mark { run: hexadecimal(run.as_bytes())?, is_open: open == 1, version }))
    }

    fn pass_on(self, into: &mut Members<'_>) {
        for (name, value) in self.0 {
            match Json::check(value.get().as_bytes()) {
                Ok(value) => into.json(&name, value),
                // Grammatical, and not for every reader.
                Err(_) => into.text(&name, value.get()),
            }
        }
    }
}

impl<'de> Deserialize<'de> for Given<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl<'de> Visitor<'de> for Visit {
            type Value = Given<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Given(members))
            }
        }

        deserializer.deserialize_map(Visit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::{Fields, Next, Record, RowKey, scan};

    proptest! {
        #[test]
        fn members_in_any_order_and_spacing_are_the_line_that_they_were(
            row in 0u64..1 << 53, page in 0u32..3, id in any::<String>(), key in any::<Option<String>>(), next in any::<String>(),
            kind in 0usize..6, effect in 0usize..3, repeatable: bool, marked: bool, shuffle in any::<u64>(), pretty: bool,
        ) {
            let mut fields = Fields::default();
            fields.members().object("error", |error| {
                error.text("kind", "connect");
                error.text("message", &id);
            });
            fields.members().number("n", 1);
            let record = Record {
                key: RowKey { row, page }, id: &id, fingerprint: row * 3, outcome: OutcomeKind::ALL[kind],
                effect: Effect::ALL[effect], repeatable, idempotency_key: key.as_deref(), next: Next::Page(&next),
                begun_to: 0,
                fields: &fields, body: &Fields::default(),
            };
            let mut whole = Vec::new();
            Mark::push_marked(marked.then_some(Mark { run: 7, is_open: false, version: 2 }), &record.line(), &mut whole);
            whole.pop();
            let value: Value = serde_json::from_slice(&whole).unwrap();
            let mut members: Vec<_> = value.as_object().unwrap().clone().into_iter().collect();
            members.sort_by_key(|(name, _)| xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), shuffle));
            let value = Value::Object(members.into_iter().collect());
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let line = respelled(&text).unwrap();
            prop_assert_eq!(scan(&line), scan(&whole));
            prop_assert_eq!(Mark::of(&line), Mark::of(&whole));
            prop_assert_eq!(serde_json::from_slice::<Value>(&line).unwrap(), value);
            prop_assert!(!line.contains(&b'\n'));
        }

        #[test]
        fn a_line_that_says_twice_what_decides_is_none(twice in 0usize..6) {
            let members = [r#""row": 1"#, r#""id": "a""#, r#""fp": "00000000000000ff""#, r#""outcome": "ok""#, r#""effect": "done""#, r#""repeatable": true"#];
            let once = members.join(", ");
            let line = |more: &str| respelled(&format!("{{{once}{more}}}"));
            prop_assert!(line("").is_some());
            let more = format!(", {}", members[twice]);
            prop_assert!(line(&more).is_none());
        }

        #[test]
        fn any_text_is_a_line_or_not(text in any::<String>(), row in "[-0-9.e]{1,5}") {
            let _ = respelled(&text);
            let line = respelled(&format!(r#"{{"id": "a", "row": {row}, "fp": "00000000000000ff", "outcome": "ok"}}"#));
            prop_assert!(line.is_none(), "it does not say its effect");
        }
    }
}
