//! Runs an expression.
//!
//! A part is given a value and hands each of its outputs to what comes after it, so nothing is collected that is not
//! asked for. Every step is paid for from one budget, by what it looks at or makes, before it does so.

use std::{borrow::Cow, cmp::Ordering, convert::Infallible, rc::Rc};

use crate::{
    Error, Outputs,
    budget::Budget,
    compare::{compare, sorting},
    json::{CheckedJson, JsonText},
    parse::{Comparison, Node, Step},
    value::{Member, Value, ValueKind, without_doubles},
};

/// All outputs for a checked body.
pub fn run(root: &Node, body: &CheckedJson<'_>, work: usize) -> Result<Outputs, Error> {
    let budget = Budget::new(work);
    let mut outputs = Outputs::default();
    eval(root, &Value::Json(body.value()), &budget, &mut |value| {
        budget.spend(1)?;
        outputs.push(|text| write(&value, text, &budget))
    })?;
    Ok(outputs)
}

type Out<'o, 'v> = &'o mut dyn FnMut(Value<'v>) -> Result<(), Error>;

fn eval<'v>(node: &'v Node, input: &Value<'v>, budget: &Budget, out: Out<'_, 'v>) -> Result<(), Error> {
    budget.spend(0)?;
    match node {
        Node::Identity => out(input.clone()),
        Node::Literal(json) => out(Value::scalar(json)),
        Node::Path(base, steps) => match **base {
            Node::Identity => walk(input.clone(), steps, budget, out),
            ref base => eval(base, input, budget, &mut |value| walk(value, steps, budget, out)),
        },
        Node::Pipe(left, right) => eval(left, input, budget, &mut |value| eval(right, &value, budget, out)),
        Node::Comma(left, right) => {
            eval(left, input, budget, out)?;
            eval(right, input, budget, out)
        }
        Node::Alternative(left, right) => {
            let mut found = false;
            eval(left, input, budget, &mut |value| {
                if !value.is_true() {
                    return Ok(());
                }
                found = true;
                out(value)
            })?;
            if found { Ok(()) } else { eval(right, input, budget, out) }
        }
        Node::And(left, right) => logic(left, right, false, input, budget, out),
        Node::Or(left, right) => logic(left, right, true, input, budget, out),
        Node::Compare(comparison, left, right) => eval(left, input, budget, &mut |left| {
            eval(right, input, budget, &mut |right| {
                out(Value::bool(holds(*comparison, compare(&left, &right, budget)?)))
            })
        }),
        Node::Array(None) => out(Value::Array(Rc::default())),
        Node::Array(Some(inner)) => {
            let mut values = Vec::new();
            collect(inner, input, budget, &mut values)?;
            out(Value::Array(Rc::new(values)))
        }
        Node::Map(inner) => {
            let mut values = Vec::new();
            each(input, budget, &mut |value| collect(inner, &value, budget, &mut values))?;
            out(Value::Array(Rc::new(values)))
        }
        Node::Object(members) => object(members, &mut Vec::new(), input, budget, out),
        Node::Select(condition) => eval(condition, input, budget, &mut |holds| match holds.is_true() {
            true => out(input.clone()),
            false => Ok(()),
        }),
        Node::Not => out(Value::bool(!input.is_true())),
        Node::Type => out(Value::Text(Cow::Borrowed(input.kind().name()))),
        Node::Empty => Ok(()),
        Node::Length => out(length(input, budget)?),
        Node::Keys => out(keys(input, budget)?),
    }
}

fn collect<'v>(node: &'v Node, input: &Value<'v>, budget: &Budget, into: &mut Vec<Value<'v>>) -> Result<(), Error> {
    eval(node, input, budget, &mut |value| {
        into.push(value);
        // What it takes in memory, so that steps bound that as well.
        budget.spend(size_of::<Value<'_>>())
    })
}

fn walk<'v>(value: Value<'v>, steps: &[(Step, bool)], budget: &Budget, out: Out<'_, 'v>) -> Result<(), Error> {
    let Some(((step, is_optional), rest)) = steps.split_first() else { return out(value) };
    if !can(step, value.kind()) {
        return if *is_optional { Ok(()) } else { Err(cannot(step, &value)) };
    }
    match step {
        Step::All => each(&value, budget, &mut |value| walk(value, rest, budget, out)),
        Step::Name(name) => {
            budget.spend(value.size())?;
            walk(value.member(name).unwrap_or(Value::NULL), rest, budget, out)
        }
        Step::Index(at) => {
            budget.spend(value.size())?;
            walk(index(&value, *at), rest, budget, out)
        }
        Step::Slice(from, to) => walk(slice(&value, *from, *to, budget)?, rest, budget, out),
    }
}

fn can(step: &Step, kind: ValueKind) -> bool {
    match step {
        Step::All => matches!(kind, ValueKind::Array | ValueKind::Object),
        Step::Name(_) => matches!(kind, ValueKind::Null | ValueKind::Object),
        Step::Index(_) => matches!(kind, ValueKind::Null | ValueKind::Array | ValueKind::Object),
        Step::Slice(..) => matches!(kind, ValueKind::String | ValueKind::Array),
    }
}

fn cannot(step: &Step, value: &Value<'_>) -> Error {
    let what = shown(value);
    Error::value(match step {
        Step::All => format!("cannot iterate over {what}"),
        Step::Name(name) => format!("cannot look for \"{}\" in {what}", name.escape_debug()),
        Step::Index(at) => format!("cannot look for element {at} in {what}"),
        Step::Slice(..) => format!("cannot take a slice of {what}"),
    })
}

/// A value in a message: its kind and how it begins.
fn shown(value: &Value<'_>) -> String {
    let kind = value.kind();
    if matches!(kind, ValueKind::Null | ValueKind::False | ValueKind::True | ValueKind::Array | ValueKind::Object) {
        return match kind {
            ValueKind::Null => "null".to_owned(),
            ValueKind::Array => "an array".to_owned(),
            ValueKind::Object => "an object".to_owned(),
            other => format!("{}", other == ValueKind::True),
        };
    }
    let mut json = Vec::new();
    let Ok(()) = value.push(&mut json, &|_| Ok::<(), Infallible>(()));
    let text = String::from_utf8_lossy(&json);
    let short: String = text.chars().take(LONGEST_SHOWN).collect();
    let dots = if short.len() < text.len() { "..." } else { "" };
    format!("a {} ({short}{dots})", kind.name())
}

/// Each element of an array, each value of an object.
fn each<'v>(value: &Value<'v>, budget: &Budget, out: Out<'_, 'v>) -> Result<(), Error> {
    if let Some(members) = paid_members(value, budget)? {
        return members.into_iter().try_for_each(|(_, value)| out(value));
    }
    budget.spend(value.size())?;
    match value.elements() {
        Some(mut elements) => elements.try_for_each(out),
        None => Err(cannot(&Step::All, value)),
    }
}

fn paid_members<'v>(value: &Value<'v>, budget: &Budget) -> Result<Option<Vec<Member<'v>>>, Error> {
    if value.kind() != ValueKind::Object {
        return Ok(None);
    }
    budget.spend(sorting(value.size()))?;
    Ok(value.members())
}

fn index<'v>(value: &Value<'v>, at: i64) -> Value<'v> {
    // An object has no member whose name is a number, and null has nothing.
    let Some(mut elements) = value.elements() else { return Value::NULL };
    let place = match usize::try_from(at) {
        Ok(place) => Some(place),
        Err(_) => value.elements().map_or(0, Iterator::count).checked_sub(clamped(at.unsigned_abs())),
    };
    place.and_then(|place| elements.nth(place)).unwrap_or(Value::NULL)
}

fn slice<'v>(value: &Value<'v>, from: Option<i64>, to: Option<i64>, budget: &Budget) -> Result<Value<'v>, Error> {
    budget.spend(value.size().saturating_mul(2))?;
    if let Some(text) = value.text() {
        let (skip, take) = bounds(from, to, text.chars().count());
        return Ok(Value::Text(text.chars().skip(skip).take(take).collect::<String>().into()));
    }
    let count = value.elements().map_or(0, Iterator::count);
    let (skip, take) = bounds(from, to, count);
    let elements = value.elements().into_iter().flatten().skip(skip).take(take);
    budget.spend(take.saturating_mul(size_of::<Value<'_>>()))?;
    Ok(Value::Array(Rc::new(elements.collect())))
}

/// How many to skip and how many to take of so many.
fn bounds(from: Option<i64>, to: Option<i64>, count: usize) -> (usize, usize) {
    let place = |at: i64| match at {
        0.. => clamped(at.unsigned_abs()).min(count),
        _ => count.saturating_sub(clamped(at.unsigned_abs())),
    };
    let skip = from.map_or(0, place);
    (skip, to.map_or(count, place).saturating_sub(skip))
}

fn clamped(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn logic<'v>(
    left: &'v Node,
    right: &'v Node,
    settles: bool,
    input: &Value<'v>,
    budget: &Budget,
    out: Out<'_, 'v>,
) -> Result<(), Error> {
    eval(left, input, budget, &mut |left| {
        if left.is_true() == settles {
            return out(Value::bool(settles));
        }
        eval(right, input, budget, &mut |right| out(Value::bool(right.is_true())))
    })
}

fn holds(comparison: Comparison, order: Ordering) -> bool {
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::Unequal => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    }
}

/// One object for each way to choose an output of each name and value; the first member turns slowest.
fn object<'v>(
    members: &'v [(Node, Node)],
    made: &mut Vec<Member<'v>>,
    input: &Value<'v>,
    budget: &Budget,
    out: Out<'_, 'v>,
) -> Result<(), Error> {
    let Some(((name, value), rest)) = members.split_first() else {
        budget.spend(made.len().saturating_mul(size_of::<Member<'_>>()))?;
        return out(Value::Object(Rc::new(without_doubles(made.iter().cloned()))));
    };
    eval(name, input, budget, &mut |name| {
        budget.spend(name.size())?;
        let text = name.text().ok_or_else(|| Error::value(format!("{} is no name of a member", shown(&name))))?;
        eval(value, input, budget, &mut |value| {
            budget.spend(text.len())?;
            made.push((text.clone(), value));
            let result = object(rest, made, input, budget, out);
            made.pop();
            result
        })
    })
}

fn length<'v>(value: &Value<'v>, budget: &Budget) -> Result<Value<'v>, Error> {
    budget.spend(value.size())?;
    Ok(match value.kind() {
        ValueKind::Null => Value::Count(0),
        ValueKind::False | ValueKind::True => return Err(Error::value(format!("{} has no length", shown(value)))),
        // The absolute value, with its digits as they are.
        ValueKind::Number => match value {
            Value::Json(JsonText { bytes: b"-0", .. }) => Value::scalar(b"0"),
            Value::Json(JsonText { bytes, .. }) => Value::scalar(bytes.strip_prefix(b"-").unwrap_or(bytes)),
            other => other.clone(),
        },
        ValueKind::String => Value::Count(value.text().map_or(0, |text| text.chars().count())),
        ValueKind::Array => Value::Count(value.elements().map_or(0, Iterator::count)),
        ValueKind::Object => Value::Count(paid_members(value, budget)?.map_or(0, |members| members.len())),
    })
}

fn keys<'v>(value: &Value<'v>, budget: &Budget) -> Result<Value<'v>, Error> {
    if let Some(members) = paid_members(value, budget)? {
        let mut names: Vec<_> = members.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        budget.spend(names.len().saturating_mul(size_of::<Value<'_>>()))?;
        return Ok(Value::Array(Rc::new(names.into_iter().map(Value::Text).collect())));
    }
    budget.spend(value.size())?;
    let count = value.elements().ok_or_else(|| Error::value(format!("{} has no keys", shown(value))))?.count();
    budget.spend(count.saturating_mul(size_of::<Value<'_>>()))?;
    Ok(Value::Array(Rc::new((0..count).map(Value::Count).collect())))
}

/// Appends an output, paying for each part of it.
fn write(value: &Value<'_>, into: &mut Vec<u8>, budget: &Budget) -> Result<(), Error> {
    value.push(into, &|size| budget.spend(size))
}

/// In a message.
const LONGEST_SHOWN: usize = 40;
