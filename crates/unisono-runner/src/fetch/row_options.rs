//! What a row has of its own of what holds for all rows: times, repeats, what counts as a success, and credentials.
//!
//! `timeout`, `deadline`, `retries`, `expect`, `follow_redirects`, `auth`, `cookies` and `idempotency_key`, by the same
//! words as a member of a JSON row, as a keyword of Python and, for all rows, as options of the command. `null` is as
//! if it were not there. None of them is part of what tells a row apart, so they may differ from run to run.

use std::{collections::BTreeMap, fmt, time::Duration};

use http::{HeaderMap, HeaderValue, header};
use serde_json::value::RawValue;
use unisono_core::{FOR_EVER, Secret, Span};
use unisono_http::{IDEMPOTENCY_KEY, Request, RequestCookie, RequestOptions, StatusSet, basic_authorization};

use crate::input::jsonl::column;

/// See the module's documentation.
#[derive(Clone, Default)]
pub struct RowOptions {
    /// What the engine and the client heed.
    pub request: RequestOptions,
    /// User name and password.
    pub auth: Option<(String, Secret)>,
    /// What makes a request that is not idempotent one that may be repeated.
    pub idempotency_key: Option<String>,
}

/// Names alone: a password may be in any value.
impl fmt::Debug for RowOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowOptions")
            .field("request", &self.request)
            .field("has_auth", &self.auth.is_some())
            .field("has_idempotency_key", &self.idempotency_key.is_some())
            .finish()
    }
}

/// The words, for rows of JSON and keywords alike.
pub const ROW_OPTIONS: [&str; 8] =
    ["timeout", "deadline", "retries", "expect", "follow_redirects", "auth", "cookies", "idempotency_key"];

impl RowOptions {
    /// What the members of a row of JSON say.
    ///
    /// # Errors
    /// Which of them is not what it should be.
    pub(crate) fn of_members(members: &BTreeMap<String, &RawValue>) -> Result<Self, String> {
        let given = |name: &str| members.get(name).copied().filter(|value| value.get() != "null");
        let text = |name: &str| {
            given(name).map(|value| column(value).map_err(|what| format!("`{name}` is {what}, not text"))).transpose()
        };
        let overrides = unisono_core::Overrides {
            timeout: time("timeout", given("timeout"))?,
            deadline: time("deadline", given("deadline"))?,
            repeats: text("retries")?
                .map(|text| text.parse().map_err(|_| format!("`retries` must be a whole number, not {text}")))
                .transpose()?,
        };
        let expect = text("expect")?.map(|text| text.parse::<StatusSet>()).transpose();
        let follow_redirects = given("follow_redirects")
            .map(|value| {
                let wrong = |_| format!("`follow_redirects` must be true or false, not {}", value.get());
                serde_json::from_str(value.get()).map_err(wrong)
            })
            .transpose()?;
        Ok(Self {
            request: RequestOptions {
                overrides,
                expect: expect.map_err(|error| format!("`expect`: {error}"))?,
                follow_redirects,
                cookies: given("cookies").map_or(Ok(Vec::new()), cookies)?,
            },
            auth: given("auth").map(auth).transpose()?,
            idempotency_key: text("idempotency_key")?,
        })
    }

    /// Takes over what the other has.
    pub fn change(&mut self, other: Self) {
        let Self { request, auth, idempotency_key } = other;
        let RequestOptions { overrides, expect, follow_redirects, cookies } = request;
        let now = &mut self.request;
        now.overrides.timeout = overrides.timeout.or(now.overrides.timeout);
        now.overrides.deadline = overrides.deadline.or(now.overrides.deadline);
        now.overrides.repeats = overrides.repeats.or(now.overrides.repeats);
        now.expect = expect.or_else(|| now.expect.take());
        now.follow_redirects = follow_redirects.or(now.follow_redirects);
        if !cookies.is_empty() {
            now.cookies = cookies;
        }
        self.auth = auth.or_else(|| self.auth.take());
        self.idempotency_key = idempotency_key.or_else(|| self.idempotency_key.take());
    }

    /// Puts them on a request. Headers that the row has itself go before credentials and keys.
    ///
    /// # Errors
    /// When the key cannot be sent.
    pub(crate) fn put_on(
        &self,
        request: &mut Request,
        has_itself: impl Fn(&http::HeaderName) -> bool,
    ) -> Result<(), String> {
        if let Some((name, password)) = self.auth.as_ref().filter(|_| !has_itself(&header::AUTHORIZATION)) {
            request.headers.insert(header::AUTHORIZATION, basic_authorization(name, password));
        }
        if let Some(key) = self.idempotency_key.as_ref().filter(|_| !has_itself(&IDEMPOTENCY_KEY)) {
            put_key(&mut request.headers, key)?;
        }
        if self.request != RequestOptions::default() {
            request.options = Some(Box::new(self.request.clone()));
        }
        Ok(())
    }
}

fn put_key(headers: &mut HeaderMap, key: &str) -> Result<(), String> {
    let value = HeaderValue::try_from(key).ok().filter(|_| !key.trim().is_empty());
    let value = value.ok_or("`idempotency_key` has characters that cannot be sent, or none")?;
    headers.insert(IDEMPOTENCY_KEY, value);
    Ok(())
}

/// Seconds, or text such as `10s`; `none` for no bound.
fn time(name: &str, value: Option<&RawValue>) -> Result<Option<Duration>, String> {
    let Some(value) = value else { return Ok(None) };
    let wrong = |why: &str| format!("`{name}` must be seconds, or text such as \"10s\": {why}");
    let text = column(value).map_err(|what| wrong(&format!("it is {what}")))?;
    if !value.get().starts_with('"') {
        let seconds: f64 = text.parse().map_err(|_| wrong(&format!("it is {text}")))?;
        let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| *time < FOR_EVER);
        return time.map(Some).ok_or_else(|| wrong(&format!("it is {text}")));
    }
    let Span(time) = text.parse().map_err(|error| wrong(&format!("{error}")))?;
    Ok(Some(time.unwrap_or(FOR_EVER)))
}

fn auth(value: &RawValue) -> Result<(String, Secret), String> {
    let parts: [String; 2] = serde_json::from_str(value.get())
        .map_err(|_| "`auth` must be an array of user name and password, as [\"ann\", \"secret\"]".to_owned())?;
    let [name, password] = parts;
    Ok((name, Secret::new(password)))
}

fn cookies(value: &RawValue) -> Result<Vec<RequestCookie>, String> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(value.get())
        .map_err(|_| "`cookies` must be an object, as {\"session\": \"abc\"}".to_owned())?;
    let cookie = |(name, value): (&String, &&RawValue)| {
        let value = column(value).map_err(|what| format!("`cookies` has a `{name}` that is {what}"))?;
        RequestCookie::new(name, &value).map_err(|error| format!("`cookies`: {error} (`{name}`)"))
    };
    members.iter().map(cookie).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<RowOptions, String> {
        RowOptions::of_members(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn every_word_is_read_and_null_is_as_if_it_were_not_there() {
        let all = r#"{"timeout": 1.5, "deadline": "2m", "retries": 0, "expect": "2xx,404", "follow_redirects": false,
                      "auth": ["ann", "pw"], "cookies": {"a": 1, "b": "x y"}, "idempotency_key": "k-1"}"#;
        let options = of(all).unwrap();
        let bounds = options.request.overrides;
        assert_eq!(bounds.timeout, Some(Duration::from_millis(1500)));
        assert_eq!((bounds.deadline, bounds.repeats), (Some(Duration::from_secs(120)), Some(0)));
        assert!(options.request.expect.unwrap().contains(http::StatusCode::NOT_FOUND));
        assert_eq!((options.request.follow_redirects, options.request.cookies.len()), (Some(false), 2));
        assert_eq!(options.auth.unwrap().0, "ann");
        assert_eq!(options.idempotency_key.as_deref(), Some("k-1"));
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(all).unwrap();
        assert!(members.keys().all(|name| ROW_OPTIONS.contains(&name.as_str())));
        let nulls = ROW_OPTIONS.map(|name| format!("\"{name}\": null")).join(",");
        assert_eq!(of(&format!("{{{nulls}}}")).unwrap().request, RequestOptions::default());
        assert_eq!(of(r#"{"timeout": "none"}"#).unwrap().request.overrides.timeout, Some(FOR_EVER));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_it_should_be() {
        for (json, said) in [
            (r#"{"timeout": "soon"}"#, "`timeout` must be seconds"),
            (r#"{"timeout": -1}"#, "`timeout` must be seconds"),
            (r#"{"deadline": [1]}"#, "it is an array"),
            (r#"{"retries": -1}"#, "`retries` must be a whole number, not -1"),
            (r#"{"expect": "fine"}"#, "`expect`: `fine` is not a status"),
            (r#"{"follow_redirects": "yes"}"#, "must be true or false"),
            (r#"{"auth": "ann:pw"}"#, "`auth` must be an array"),
            (r#"{"cookies": "a=1"}"#, "`cookies` must be an object"),
            (r#"{"cookies": {"a": "1;b"}}"#, "the value of a cookie cannot be sent (`a`)"),
        ] {
            let why = of(json).map(|_| ()).unwrap_err();
            assert!(why.contains(said), "{json}: {why}");
        }
    }
}
