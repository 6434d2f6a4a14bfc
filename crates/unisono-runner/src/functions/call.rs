//! A call of a function as a kind of work: what an item asks for, and what became of it.

use std::{borrow::Cow, marker::PhantomData, sync::Arc};

use unisono_core::{ErrorKind, Peer};
use unisono_journal::{Json, Members, Repeat};

use crate::{
    row::LineNumber,
    work::{Call, Done},
};

/// What an item asks for. The item itself stays with the caller of the function.
#[derive(Debug)]
pub struct FunctionCall<V> {
    /// What its limits are kept by; empty where there is nothing to tell apart.
    pub key: Box<str>,
    /// The item, where it is a short text: what a person knows it by.
    pub label: Option<Box<str>>,
    /// Function and item, in short.
    pub fingerprint: u64,
    /// The item as JSON, where results are written.
    pub item: Option<Arc<[u8]>>,
    /// Doing it twice does no more than doing it once.
    pub repeatable: bool,
    /// What the function returns.
    pub returns: PhantomData<fn() -> V>,
}

/// A call to be made.
#[derive(Debug, Clone, Copy)]
pub struct Invocation {
    /// Which of the program's items it is for.
    pub line: LineNumber,
    /// 1 for the first attempt.
    pub attempt: u16,
}

/// How a call ended, as its caller says.
#[derive(Debug)]
pub struct CallResult<V> {
    /// How.
    pub how: CallEnd,
    /// It did not go well, and another attempt is worth it.
    pub retry: bool,
    /// What went wrong, on one line.
    pub message: String,
    /// What the function answered or raised.
    pub value: Option<V>,
    /// What it answered, as JSON, where results are written.
    pub json: Option<Box<[u8]>>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// The function returned.
    Returned,
    /// It raised, or something else went wrong.
    Failed(ErrorKind),
    /// It raised what says that whatever it was for is away.
    Away,
    /// It ended since it was asked to.
    Stopped,
    /// It was taken back before it began.
    Unbegun,
    /// It was asked to end, and went on to an end of its own.
    Swallowed,
    /// That is not known: what it ran on has gone, and it may have taken effect before.
    Lost,
}

/// What became of a call.
#[derive(Debug)]
pub struct Returned<V> {
    /// What the function answered or raised.
    pub value: Option<V>,
    /// Why it did not go well.
    pub error: Option<(ErrorKind, String)>,
    /// As the call's.
    pub label: Option<Box<str>>,
    /// What it says of whatever its key stands for.
    pub(crate) peer: Peer,
    pub(crate) item: Option<Arc<[u8]>>,
    pub(crate) key: Box<str>,
    pub(crate) json: Option<Box<[u8]>>,
}

impl<V> Returned<V> {
    pub(crate) fn of_error(kind: ErrorKind, message: String) -> Self {
        Self { error: Some((kind, message)), ..Self::default() }
    }
}

impl<V> Default for Returned<V> {
    fn default() -> Self {
        Self { value: None, error: None, label: None, peer: Peer::Unknown, item: None, key: Box::default(), json: None }
    }
}

impl<V: Send + 'static> Call for FunctionCall<V> {
    type Done = Returned<V>;

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn limit_key(&self) -> Cow<'_, str> {
        (&*self.key).into()
    }

    fn repeat(&self) -> Repeat {
        if self.repeatable { Repeat::ByNature } else { Repeat::Never }
    }

    const REPEATABLE_WITH: &'static str = "idempotent=True";

    fn describe(&self, done: &mut Returned<V>) {
        done.label = self.label.clone();
        done.item = self.item.clone();
        done.key = self.key.clone();
    }
}

impl<V: Send + 'static> Done for Returned<V> {
    type Style = ();

    fn failed(kind: ErrorKind, message: String) -> Self {
        Self::of_error(kind, message)
    }

    fn error(&self) -> Option<(ErrorKind, String)> {
        self.error.clone()
    }

    fn group(&self) -> Option<Cow<'_, str>> {
        (!self.key.is_empty()).then(|| (&*self.key).into())
    }

    fn label(&self) -> Option<Cow<'_, str>> {
        self.label.as_deref().map(Cow::Borrowed)
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn peer(&self) -> Peer {
        self.peer
    }

    fn push_subject(&self, fields: &mut Members<'_>) {
        if let Some(item) = &self.item {
            push_json("item", "item_error", item, fields);
        }
    }

    fn push_result(&self, (): (), _fields: &mut Members<'_>, body: &mut Members<'_>) {
        if let Some(json) = &self.json {
            push_json("result", "json_error", json, body);
        }
    }
}

/// What a program says is JSON; as text where it is not, or not for every reader, with the reason.
fn push_json(name: &str, error: &str, json: &[u8], into: &mut Members<'_>) {
    match Json::check(json) {
        Ok(json) => into.json(name, json),
        Err(why) => {
            into.text(error, &why);
            into.bytes(name, json);
        }
    }
}
