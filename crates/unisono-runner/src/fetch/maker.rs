//! From a row's fields to its request: what the flags say, and what the row itself says, which wins.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use unisono_core::redacted;
use unisono_http::{Body, Request, RequestCookie, Trail, Url, basic_authorization, request_header};

use super::{FetchCall, Login, Netrc, RowRequest, call::PageKeys, paginate::Visited, row_body::ROW_BODIES};
use crate::{
    Error,
    row::{Maker, Row, RowFields, RowJson, RowOrigin, check_columns},
    template::Template,
};

/// What holds for every row that does not say otherwise.
#[derive(Clone, Default)]
pub struct Defaults {
    /// The address; without one, a row must bring its own.
    pub address: Option<Template>,
    /// The row's name.
    pub id: Option<Template>,
    /// Where the body of a success goes.
    pub save: Option<Template>,
    /// The method; by default POST when there is a body, otherwise GET.
    pub method: Option<Method>,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// Cookies to begin with.
    pub cookies: Vec<RequestCookie>,
    /// The body of every request.
    pub body: Option<Body>,
    /// Logins by host, for requests that bring no credentials.
    pub netrc: Option<Arc<Netrc>>,
}

/// Values of headers and the body are not shown: a password may be in any of them.
impl fmt::Debug for Defaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Defaults")
            .field("address", &self.address)
            .field("id", &self.id)
            .field("save", &self.save)
            .field("method", &self.method)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("cookies", &self.cookies)
            .field("body_bytes", &self.body.as_ref().and_then(Body::length))
            .field("netrc", &self.netrc)
            .finish()
    }
}

impl Defaults {
    /// Makes one call of a row.
    pub fn row(&self, fields: &dyn RowFields, row: &RowRequest, combination: u64, origin: RowOrigin) -> Row<FetchCall> {
        let id = match (&row.id, &self.id) {
            (Some(id), _) => Ok(Some(id.as_str().into())),
            (None, Some(template)) => template.render(fields, combination).map(|id| Some(id.into())),
            (None, None) => Ok(None),
        };
        match id {
            Ok(id) => {
                let call = self.call(fields, row, combination);
                Row { id: id.map(|id| without_user(id, call.is_err())), origin, call }
            }
            Err(why) => Row { id: None, origin, call: Err(why) },
        }
    }

    fn call(&self, fields: &dyn RowFields, row: &RowRequest, combination: u64) -> Result<FetchCall, String> {
        let mut url = self.url(fields, row, combination)?;
        if !row.params.is_empty() {
            url = with_params(&url, &row.params)?;
        }
        let body = row.body.as_ref().or(self.body.as_ref());
        let method = match &row.method {
            Some(method) => self::method(method)?,
            None => self.method.clone().unwrap_or_else(|| if body.is_some() { Method::POST } else { Method::GET }),
        };
        if row.url.is_some() && body.is_none() && [Method::POST, Method::PUT, Method::PATCH].contains(&method) {
            // As a column it would be passed over, and the request be carried out with nothing in it.
            if let Some(name) = NO_BODIES.iter().find(|name| fields.field(name).is_ok()) {
                let words = ROW_BODIES.map(|word| format!("`{word}`")).join(", ");
                return Err(format!("`{name}` is no member of a request: its body is one of {words}"));
            }
        }
        let mut request = Request::new(method, url);
        request.headers = self.headers.clone();
        request.body = body.cloned().unwrap_or_default();
        let mut own_names = Vec::new();
        for (name, value) in &row.headers {
            let (name, value) = self::header(name, value)?;
            // The first of a name replaces those of every request; further ones stand beside it.
            if own_names.contains(&name) {
                request.headers.append(name, value);
            } else {
                own_names.push(name.clone());
                request.headers.insert(name, value);
            }
        }
        if request.body.content_type().is_some() {
            if own_names.contains(&header::CONTENT_TYPE) {
                return Err(
                    "a form with files has a `Content-Type` of its own, with its boundary: leave it out".to_owned()
                );
            }
            request.headers.remove(header::CONTENT_TYPE);
        }
        if let (Some(media), false) = (row.content_type, request.headers.contains_key(header::CONTENT_TYPE)) {
            request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        }
        row.options.put_on(&mut request, |name| own_names.contains(name))?;
        if !self.cookies.is_empty() {
            request.options.get_or_insert_default().cookies.extend(self.cookies.iter().cloned());
        }
        if let Some(netrc) = &self.netrc
            && !request.headers.contains_key(header::AUTHORIZATION)
            && let Some((name, password)) = from_netrc(netrc, &request.url)
        {
            request.headers.insert(header::AUTHORIZATION, basic_authorization(&name, &password));
        }
        let save = self.save.as_ref().map(|template| template.render(fields, combination)).transpose()?;
        let keys = PageKeys::own(&request);
        Ok(FetchCall {
            request,
            trail: Trail::default(),
            save: save.map(Into::into),
            keys,
            visited: Visited::default(),
        })
    }

    fn url(&self, fields: &dyn RowFields, row: &RowRequest, combination: u64) -> Result<Url, String> {
        let rendered;
        let text = match (&row.url, &self.address) {
            (Some(url), _) => url,
            (None, Some(template)) => {
                rendered = template.render(fields, combination)?;
                &rendered
            }
            (None, None) => {
                rendered = fields
                    .field("url")
                    .map_err(|_| "the row has no `url`, and no address was given to fill in".to_owned())?
                    .to_owned();
                &rendered
            }
        };
        Url::parse(text).map_err(|error| error.chain())
    }
}

impl Maker for Defaults {
    type Call = FetchCall;

    fn make(&self, fields: &dyn RowFields, origin: RowOrigin, push: &mut dyn FnMut(Row<FetchCall>) -> bool) {
        let row = match RowRequest::of(fields) {
            Ok(own) => own,
            Err(why) => {
                push(Row { id: None, origin, call: Err(why) });
                return;
            }
        };
        // A row that brings its own address is one call, whatever the address that it replaces stands for.
        let combinations = if row.url.is_some() { 1 } else { self.combinations() };
        for combination in 0..combinations {
            if !push(self.row(fields, &row, combination, origin.clone())) {
                return;
            }
        }
    }

    fn check(&self, first: &dyn RowFields) -> Result<(), Error> {
        // What a row of JSON says itself goes before what would be filled in for it.
        let has = |name: &str| match first.json() {
            None => false,
            Some(RowJson::Text(_)) => name == "url",
            Some(RowJson::Object(members)) => members.contains_key(name),
        };
        let address = self.address.iter().filter(|_| !has("url"));
        let templates = address.chain(self.id.iter().filter(|_| !has("id"))).chain(&self.save);
        check_columns(first, templates.flat_map(Template::columns))?;
        if self.address.is_some() || has("url") {
            return Ok(());
        }
        if let Some([b'{' | b'[', ..]) = first.line() {
            return Err(Error::usage("its first line is JSON, and lines are read as URLs")
                .hint("`--input-format jsonl` reads an object per line"));
        }
        let missing = first.lacks("url").map(|why| {
            let what = if first.json().is_some() { "member" } else { "column" };
            Error::usage(format!("{why}, and no URL was given to fill in"))
                .hint(format!("have a {what} `url`, or give a URL with {what}s: `--from FILE 'https://host/{{name}}'`"))
        });
        missing.map_or(Ok(()), Err)
    }

    fn combinations(&self) -> u64 {
        self.address.as_ref().map_or(1, Template::combinations)
    }
}

/// Reads a header.
///
/// # Errors
/// When its name or value cannot be sent, or is not the caller's to say.
pub fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    request_header(name, value).map_err(|error| error.to_string())
}

/// Reads a method.
///
/// # Errors
/// When it is none.
pub fn method(text: &str) -> Result<Method, String> {
    match Method::from_bytes(text.to_ascii_uppercase().as_bytes()) {
        Ok(Method::CONNECT) => Err("CONNECT asks for a tunnel, which is nothing that can be fetched".to_owned()),
        method => method.map_err(|_| format!("`{text}` is not a method")),
    }
}

/// A user who is named without a password has one there; a password in the address wins.
fn from_netrc(netrc: &Netrc, url: &Url) -> Option<Login> {
    match url.user() {
        None => netrc.get(url.host(), None),
        Some((name, password)) if password.reveal().is_empty() => netrc.get(url.host(), Some(name)),
        Some(_) => None,
    }
}

/// A name is shown and kept everywhere; one that is the row's address may have a password in it. What could not be
/// read may be one as well.
fn without_user(id: Box<str>, is_bad: bool) -> Box<str> {
    let begins = id.trim_start().get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case("http"));
    match id.contains('@') && (begins || (is_bad && id.contains(':'))) {
        false => id,
        true => match Url::parse(&id) {
            Ok(url) if url.user().is_none() => id,
            Ok(url) => url.to_string().into(),
            Err(_) => redacted(&id).into(),
        },
    }
}

fn with_params(url: &Url, params: &[(String, String)]) -> Result<Url, String> {
    let mut full = url.parsed().map_err(|error| error.to_string())?;
    full.query_pairs_mut().extend_pairs(params);
    // Only path and query change, so that user information stays.
    url.with_target_of(&full).ok_or_else(|| "the parameters cannot be sent".to_owned())
}

/// What other tools call a body.
const NO_BODIES: [&str; 5] = ["data", "content", "form", "payload", "text"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::NoFields;

    #[test]
    fn nothing_that_a_request_is_made_of_shows_what_may_be_secret_in_it() {
        let secret = "hunter2";
        let request = RowRequest {
            id: Some(format!("http://bob:{secret}@h/")),
            url: Some(format!("http://bob:{secret}@h/x")),
            headers: vec![("X-Key".to_owned(), secret.to_owned())],
            body: Some("hunter2".into()),
            params: vec![("key".to_owned(), secret.to_owned())],
            ..RowRequest::default()
        };
        let address = format!("http://bob:{secret}@{{eu,{secret}}}/{{id}}?{secret}");
        let defaults = Defaults {
            address: Some(Template::address(&address).unwrap()),
            id: Some(Template::text(secret).unwrap()),
            save: Some(Template::file_path(secret).unwrap()),
            headers: [header("X-Key", secret).unwrap()].into_iter().collect(),
            body: Some("hunter2".into()),
            ..Defaults::default()
        };
        let without_params = RowRequest { params: Vec::new(), ..RowRequest::of(&NoFields).unwrap() };
        let url = RowRequest { url: request.url.clone(), headers: request.headers.clone(), ..without_params };
        // Names of rows and files are shown everywhere.
        let unnamed = Defaults { id: None, save: None, ..defaults.clone() };
        let row = unnamed.row(&NoFields, &url, 0, RowOrigin::default());
        assert!(row.call.is_ok());
        for shown in [format!("{request:?}"), format!("{defaults:?}"), format!("{row:?}")] {
            // A body may also be shown as the numbers of its bytes.
            assert!(!shown.contains(secret) && !shown.contains("104, 117"), "{shown}");
        }
        assert!(format!("{request:?}").contains("X-Key") && format!("{defaults:?}").contains("columns: [\"id\"]"));
    }
}
