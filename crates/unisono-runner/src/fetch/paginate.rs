//! Where the next page is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use unisono_core::redacted;
use unisono_http::{Request, Response, Url};
use unisono_select::Outputs;
use xxhash_rust::xxh3::xxh3_128;

use super::{
    Filter,
    evaluator::{Body, Evaluator},
    links,
};

/// How an API says that there is more.
#[derive(Debug)]
pub struct Paginate {
    how: Paging,
    /// A row has at most this many pages, over all runs that write to one results file.
    pub most: u32,
}

#[derive(Debug)]
enum Paging {
    /// `Link: <...>; rel="next"` (RFC 8288).
    Link,
    /// An expression returns the next address, or null.
    Next(Filter),
    /// A parameter counts up until an expression holds.
    Count { parameter: String, until: Filter },
}

impl Paginate {
    /// Reads `link`, `next=EXPRESSION` or `page=PARAMETER,until=EXPRESSION`.
    ///
    /// # Errors
    /// When it is none of them, or no page is allowed.
    pub fn parse(text: &str, most: u32) -> Result<Self, String> {
        if most == 0 {
            return Err("0 pages are none to follow: at least 1 is needed (max-pages)".to_owned());
        }
        let how = if text == "link" {
            Paging::Link
        } else if let Some(expression) = text.strip_prefix("next=") {
            Paging::Next(Filter::new(expression)?)
        } else if let Some((parameter, until)) = text.strip_prefix("page=").and_then(|rest| rest.split_once(",until="))
        {
            Paging::Count { parameter: parameter.to_owned(), until: Filter::new(until)? }
        } else {
            return Err(format!(
                "`{text}` is not a way to find pages (try `link`, `next=.next_url` or `page=page,until=.items|length==0`)"
            ));
        };
        Ok(Self { how, most })
    }

    /// The expression in it, if there is one.
    pub fn filter(&self) -> Option<&Filter> {
        match &self.how {
            Paging::Link => None,
            Paging::Next(filter) | Paging::Count { until: filter, .. } => Some(filter),
        }
    }

    /// The request for the page after this one; `None` after the last.
    ///
    /// # Errors
    /// When an expression fails, or what it returns is not an address.
    pub(crate) async fn next(
        &self,
        evaluator: &Evaluator,
        request: &Request,
        response: &Response,
        body: &Body<'_>,
        by: Option<Instant>,
    ) -> Result<Option<Request>, String> {
        let outputs = match self.filter() {
            Some(filter) => evaluator.run(filter, body, by).await?,
            None => Outputs::default(),
        };
        self.after(request, response, &outputs)
    }

    /// The same where nothing waits for a process that evaluates: an expression is of the plain part.
    ///
    /// # Errors
    /// As `next`, and when the expression is not of the plain part.
    pub fn next_here(&self, request: &Request, response: &Response) -> Result<Option<Request>, String> {
        let outputs = self.filter().map(|filter| filter.run_here(&response.body)).transpose()?;
        self.after(request, response, &outputs.unwrap_or_default())
    }

    fn after(&self, request: &Request, response: &Response, outputs: &Outputs) -> Result<Option<Request>, String> {
        let url = match &self.how {
            Paging::Link => links::next(&response.headers, &response.url)?,
            Paging::Next(_) => match address(outputs)? {
                None => None,
                Some(reference) => Some(response.url.join(&reference).map_err(|error| error.chain())?),
            },
            Paging::Count { .. } if is_last(outputs) => return Ok(None),
            Paging::Count { parameter, .. } => return counted_up(request, parameter).map(Some),
        };
        let Some(url) = url else { return Ok(None) };
        request.moved_to(url).map(Some).map_err(|error| error.chain())
    }
}

/// The pages of a row that were asked for in this run, so that a circle is noticed however many pages it has. One map
/// for all pages of a row: each adds itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visited(Option<Arc<Mutex<HashMap<u128, u32>>>>);

impl Visited {
    /// With this page, for the next one.
    ///
    /// # Errors
    /// When the next one is this one, or one before it.
    pub(super) fn and_next(&self, number: u32, page: &Url, next: &Url) -> Result<Self, String> {
        let pages = self.0.clone().unwrap_or_default();
        let mut numbers = pages.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.insert(xxh3_128(page.to_string().as_bytes()), number);
        match numbers.get(&xxh3_128(next.to_string().as_bytes())) {
            Some(before) if *before == number => Err("the next page is this page again".to_owned()),
            Some(before) => Err(format!("the next page is page {before} again: the pages go round in a circle")),
            None => {
                drop(numbers);
                Ok(Self(Some(pages)))
            }
        }
    }
}

fn address(outputs: &Outputs) -> Result<Option<String>, String> {
    match outputs.first() {
        None | Some(b"null" | b"false" | b"\"\"") => Ok(None),
        Some(json) => serde_json::from_slice(json)
            .map(Some)
            .map_err(|_| format!("the next page is not an address: {}", redacted(&String::from_utf8_lossy(json)))),
    }
}

fn is_last(outputs: &Outputs) -> bool {
    outputs.first().is_some_and(|output| !matches!(output, b"false" | b"null"))
}

/// The same address with its parameter counted up; without one, this was page 1.
fn counted_up(request: &Request, parameter: &str) -> Result<Request, String> {
    let mut url = request.url.parsed().map_err(|error| error.to_string())?;
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let current = pairs.iter().find(|(name, _)| name == parameter).map_or("1", |(_, value)| value);
    let current: u64 = current.parse().map_err(|_| format!("parameter `{parameter}` is not a number: `{current}`"))?;
    let next = current.checked_add(1).ok_or_else(|| format!("parameter `{parameter}` cannot count any further"))?;
    url.query_pairs_mut()
        .clear()
        .extend_pairs(pairs.iter().filter(|(name, _)| name != parameter))
        .append_pair(parameter, &next.to_string());
    let next = request.url.with_target_of(&url).ok_or_else(|| "the next page's address cannot be sent".to_owned())?;
    request.moved_to(next).map_err(|error| error.chain())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &[(&'static str, &'static str)], body: &'static str) -> Response {
        Response {
            status: http::StatusCode::OK,
            version: http::Version::HTTP_11,
            headers: headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(),
            url: unisono_http::Url::parse("http://api/items?page=2").unwrap(),
            body: body.into(),
            wire_bytes: 0,
            redirects: 0,
        }
    }

    fn next(how: &str, headers: &[(&'static str, &'static str)], body: &'static str) -> Result<Option<String>, String> {
        let request = Request::get("http://api/items?page=2").unwrap();
        let (paginate, evaluator) = (Paginate::parse(how, 10).unwrap(), Evaluator::new(None));
        let (response, body) = (response(headers, body), Body::new(body.as_bytes()));
        let next = paginate.next(&evaluator, &request, &response, &body, None);
        let next = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(next)?;
        Ok(next.map(|request| request.url.to_string()))
    }

    #[test]
    fn a_link_is_found_among_others_and_resolved() {
        let links = [("link", "</items?page=1>; rel=\"prev\", </items?page=3>; title=\"a, b\"; rel=\"last next\"")];
        assert_eq!(next("link", &links, "").unwrap().as_deref(), Some("http://api/items?page=3"));
        assert_eq!(next("link", &[("link", "</x>; rel=last")], "").unwrap(), None);
        assert_eq!(next("link", &[], "").unwrap(), None);
    }

    #[test]
    fn an_expression_answers_the_address_or_nothing() {
        assert_eq!(
            next("next=.next", &[], r#"{"next":"?page=9"}"#).unwrap().as_deref(),
            Some("http://api/items?page=9")
        );
        for body in [r#"{"next":null}"#, r#"{}"#, r#"{"next":""}"#] {
            assert_eq!(next("next=.next", &[], body).unwrap(), None);
        }
        assert!(next("next=.next", &[], r#"{"next":7}"#).is_err());
    }

    #[test]
    fn a_parameter_counts_up_until_the_expression_holds() {
        let how = "page=page,until=.items|length==0";
        assert_eq!(next(how, &[], r#"{"items":[1]}"#).unwrap().as_deref(), Some("http://api/items?page=3"));
        assert_eq!(next(how, &[], r#"{"items":[]}"#).unwrap(), None);
    }

    #[test]
    fn what_is_found_here_is_what_a_run_finds() {
        let request = Request::get("http://api/items?page=2").unwrap();
        for (how, body) in [
            ("next=.next", r#"{"next":"?page=9"}"#),
            ("next=.next", r#"{"next":null}"#),
            ("next=.next", r#"{"next":7}"#),
            ("next=.next", "no JSON"),
            ("page=page,until=.items|length==0", r#"{"items":[1]}"#),
        ] {
            let here = Paginate::parse(how, 10).unwrap().next_here(&request, &response(&[], body));
            assert_eq!(here.map(|next| next.map(|next| next.url.to_string())), next(how, &[], body), "{how} {body}");
        }
        let beyond = Paginate::parse("next=.a | ltrimstr(\"x\")", 10).unwrap();
        let error = beyond.next_here(&request, &response(&[], "{}")).unwrap_err();
        assert!(error.contains("plain part"), "{error}");
    }

    #[test]
    fn a_way_that_is_none_is_refused() {
        for text in ["", "links", "next=", "page=p", "page=p,until=.["] {
            assert!(Paginate::parse(text, 1).is_err(), "{text}");
        }
        assert!(Paginate::parse("link", 0).is_err_and(|why| why.contains("at least 1")));
    }
}
