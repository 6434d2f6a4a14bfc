//! Values: slices of JSON, and what an expression puts together of them.

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use crate::json::{self, JsonText};

/// A value. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// A checked value of the body, or a literal of the expression.
    Json(JsonText<'a>),
    /// A number of things.
    Count(usize),
    /// JsonText that stands nowhere in the body as a value: a name.
    Text(Cow<'a, str>),
    /// An array that was put together.
    Array(Rc<Vec<Value<'a>>>),
    /// An object that was put together; no name comes twice.
    Object(Rc<Vec<Member<'a>>>),
}

/// A member of an object.
pub type Member<'a> = (Cow<'a, str>, Value<'a>);

/// What kind of value it is, in the order in which jq sorts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueKind {
    Null,
    False,
    True,
    Number,
    String,
    Array,
    Object,
}

impl ValueKind {
    /// As `type` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::False | Self::True => "boolean",
            Self::Number => "number",
            Self::String => "string",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

impl<'a> Value<'a> {
    pub const NULL: Self = Self::scalar(b"null");

    /// A number, a string or a word, as JSON.
    pub const fn scalar(json: &'a [u8]) -> Self {
        Self::Json(JsonText::scalar(json))
    }

    pub fn bool(bool: bool) -> Self {
        Self::scalar(if bool { b"true" } else { b"false" })
    }

    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Json(text) => match text.bytes[0] {
                b'n' => ValueKind::Null,
                b'f' => ValueKind::False,
                b't' => ValueKind::True,
                b'"' => ValueKind::String,
                b'[' => ValueKind::Array,
                b'{' => ValueKind::Object,
                _ => ValueKind::Number,
            },
            Self::Count(_) => ValueKind::Number,
            Self::Text(_) => ValueKind::String,
            Self::Array(_) => ValueKind::Array,
            Self::Object(_) => ValueKind::Object,
        }
    }

    /// Neither null nor false.
    pub fn is_true(&self) -> bool {
        !matches!(self.kind(), ValueKind::Null | ValueKind::False)
    }

    /// What looking at all of it costs.
    pub fn size(&self) -> usize {
        match self {
            Self::Json(text) => text.bytes.len(),
            Self::Count(_) => 1,
            Self::Text(text) => text.len(),
            Self::Array(values) => values.len(),
            Self::Object(members) => members.len(),
        }
    }

    /// The text of a string.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(text) if text.bytes[0] == b'"' => Some(json::decoded(text.bytes)),
            Self::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn elements(&self) -> Option<Box<dyn Iterator<Item = Value<'a>> + 'a>> {
        match self {
            Self::Json(text) if text.bytes[0] == b'[' => Some(Box::new(json::elements(*text).map(Value::Json))),
            Self::Array(values) => {
                let values = values.clone();
                Some(Box::new((0..values.len()).map(move |at| values[at].clone())))
            }
            _ => None,
        }
    }

    /// The members of an object. Of those with one name the last counts, in the place of the first.
    pub fn members(&self) -> Option<Vec<Member<'a>>> {
        match self {
            Self::Json(text) if text.bytes[0] == b'{' => {
                let all = json::members(*text).map(|(name, value)| (json::decoded(name), Value::Json(value)));
                Some(without_doubles(all))
            }
            Self::Object(members) => Some(members.to_vec()),
            _ => None,
        }
    }

    /// A member of an object, `None` when it has none of that name.
    pub fn member(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Self::Json(text) if text.bytes[0] == b'{' => {
                // A name without escapes stands there as it is, and has no quote or backslash in it.
                let is_it = |quoted: &[u8]| match memchr::memchr(b'\\', quoted) {
                    None => &quoted[1..quoted.len() - 1] == name.as_bytes(),
                    Some(_) => json::decoded(quoted) == name,
                };
                let last = json::members(*text).filter(|(quoted, _)| is_it(quoted)).last();
                last.map(|(_, value)| Value::Json(value))
            }
            Self::Object(members) => members.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone()),
            _ => None,
        }
    }

    /// Appends it as JSON; `pay` is asked before so many bytes are.
    pub fn push<E>(&self, into: &mut Vec<u8>, pay: &impl Fn(usize) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Json(text) => {
                pay(text.bytes.len())?;
                json::push_compact(text.bytes, into);
            }
            Self::Count(count) => {
                pay(LONGEST_COUNT)?;
                into.extend_from_slice(count.to_string().as_bytes());
            }
            Self::Text(text) => push_text(text, into, pay)?,
            Self::Array(values) => {
                pay(values.len() + 2)?;
                into.push(b'[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        into.push(b',');
                    }
                    value.push(into, pay)?;
                }
                into.push(b']');
            }
            Self::Object(members) => {
                pay(2 * members.len() + 2)?;
                into.push(b'{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        into.push(b',');
                    }
                    push_text(name, into, pay)?;
                    into.push(b':');
                    value.push(into, pay)?;
                }
                into.push(b'}');
            }
        }
        Ok(())
    }
}

fn push_text<E>(text: &str, into: &mut Vec<u8>, pay: &impl Fn(usize) -> Result<(), E>) -> Result<(), E> {
    // A control character takes six bytes.
    pay(text.len() * 6 + 2)?;
    json::push_text(text, into);
    Ok(())
}

/// The digits of the largest number of things.
const LONGEST_COUNT: usize = 20;

/// Each name once, in the place of its first and with the value of its last.
pub fn without_doubles<'a>(all: impl Iterator<Item = Member<'a>>) -> Vec<Member<'a>> {
    let mut members: Vec<Member<'a>> = Vec::new();
    let mut places: HashMap<Cow<'a, str>, usize> = HashMap::new();
    for (name, value) in all {
        // Few members are found faster by looking at them.
        let place = match members.len() {
            0..FEW => members.iter().position(|(given, _)| *given == name),
            FEW if places.is_empty() => {
                places = members.iter().enumerate().map(|(at, (given, _))| (given.clone(), at)).collect();
                places.get(&name).copied()
            }
            _ => places.get(&name).copied(),
        };
        match place {
            Some(place) => members[place].1 = value,
            None => {
                if !places.is_empty() {
                    places.insert(name.clone(), members.len());
                }
                members.push((name, value));
            }
        }
    }
    members
}

const FEW: usize = 8;
