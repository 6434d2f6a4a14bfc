//! What was found about one thing, and how it is told: a line for people, an object for programs.

use serde_json::{Map, Value, json};
use unisono_core::printable;

/// One thing that may limit a run.
#[derive(Debug)]
pub struct Finding {
    /// In one word.
    pub what: &'static str,
    /// As it is here.
    pub value: String,
    /// What a run is limited to by it.
    pub limits_to: Option<String>,
    /// How there is more of it.
    pub raised_by: Option<&'static str>,
    /// Why a run that needs it will surely fail.
    pub fails: Option<String>,
    /// The same as numbers and texts.
    pub details: Map<String, Value>,
}

impl Finding {
    pub fn new(what: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        Self { what, value, limits_to: None, raised_by: None, fails: None, details: Map::new() }
    }

    pub fn limits_to(mut self, what: impl Into<String>, raised_by: &'static str) -> Self {
        (self.limits_to, self.raised_by) = (Some(what.into()), Some(raised_by));
        self
    }

    pub fn fails(mut self, why: impl Into<String>) -> Self {
        self.fails = Some(why.into());
        self
    }

    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// The line, with its end.
    pub fn line(&self) -> String {
        let mut line = format!("{:<12}  {}", self.what, self.value);
        if let Some(limit) = &self.limits_to {
            line += &format!(" · limits you to {limit}");
        }
        if let Some(way) = self.raised_by {
            line += &format!(" · more by {way}");
        }
        if let Some(why) = &self.fails {
            line += &format!(" · FAILS: {why}");
        }
        // Much of it is from files and the environment.
        format!("{}\n", printable(&line))
    }

    pub fn json(&self) -> Value {
        json!({
            "what": self.what,
            "value": self.value,
            "limits_to": self.limits_to,
            "raised_by": self.raised_by,
            "fails": self.fails,
            "details": self.details,
        })
    }
}
