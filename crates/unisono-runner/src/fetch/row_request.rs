//! What a row of JSON says for its own request.
//!
//! `id`, `url`, `method`, `headers` and `params` speak for the request, and so does its body (`row_body.rs`); every
//! member is a column as well. What a row has of its own of what holds for all is in `row_options.rs`.

use std::{collections::BTreeMap, fmt};

use serde_json::value::RawValue;
use unisono_core::redacted;
use unisono_http::Body;

use super::{row_body::body_of, row_options::RowOptions};
use crate::{
    input::jsonl::{self, column},
    row::{RowFields, RowJson},
};

/// What a row says for itself.
#[derive(Default)]
pub struct RowRequest {
    /// Its name.
    pub id: Option<String>,
    /// Its address.
    pub url: Option<String>,
    /// Its method.
    pub method: Option<String>,
    /// Its headers; they come on top of the others, and replace those of the same name.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Option<Body>,
    /// The media type of that body, unless a header says another one.
    pub content_type: Option<&'static str>,
    /// Parameters to add to its query.
    pub params: Vec<(String, String)>,
    /// What it has of its own of what holds for all.
    pub options: RowOptions,
}

/// Values are not shown: a password may be in any of them.
impl fmt::Debug for RowRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        f.debug_struct("RowRequest")
            .field("id", &self.id.as_deref().map(redacted))
            .field("url", &self.url.as_deref().map(redacted))
            .field("method", &self.method)
            .field("headers", &names(&self.headers))
            .field("body_bytes", &self.body.as_ref().and_then(Body::length))
            .field("content_type", &self.content_type)
            .field("params", &names(&self.params))
            .field("options", &self.options)
            .finish()
    }
}

impl RowRequest {
    /// What the row's JSON says; nothing where it is not JSON.
    pub(crate) fn of(fields: &dyn RowFields) -> Result<Self, String> {
        match fields.json() {
            None => Ok(Self::default()),
            Some(RowJson::Text(url)) => Ok(Self { url: Some(url.to_owned()), ..Self::default() }),
            Some(RowJson::Object(members)) => from_members(members),
        }
    }
}

fn from_members(members: &BTreeMap<String, &RawValue>) -> Result<RowRequest, String> {
    let text = |name: &str| {
        members.get(name).map(|value| column(value).map_err(|what| format!("`{name}` is {what}, not text"))).transpose()
    };
    let pairs = |name: &str| match members.get(name) {
        None => Ok(Vec::new()),
        Some(value) => jsonl::pairs(value).map_err(|why| format!("`{name}` {why}")),
    };
    let (body, content_type) = body_of(members)?.map_or((None, None), |(body, media)| (Some(body), media));
    Ok(RowRequest {
        id: text("id")?,
        url: text("url")?,
        method: text("method")?,
        headers: pairs("headers")?,
        params: pairs("params")?,
        body,
        content_type,
        options: RowOptions::of_members(members)?,
    })
}
