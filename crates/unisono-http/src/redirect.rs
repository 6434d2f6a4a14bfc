//! Where a redirect leads, and what may go along (RFC 9110, section 15.4).

use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use unisono_core::ErrorKind;

use crate::{Body, Error, Request, feed::SENT_ONCE};

/// The request that an answer redirects to; `None` when it is not a redirect.
pub(crate) fn follow(request: &Request, status: StatusCode, headers: &HeaderMap) -> Option<Result<Request, Error>> {
    let keeps_method = match status.as_u16() {
        301 | 302 => request.method != Method::POST,
        303 => request.method == Method::GET || request.method == Method::HEAD,
        307 | 308 => true,
        _ => return None,
    };
    let location = headers.get(header::LOCATION)?;
    Some(next(request, location.as_bytes(), keeps_method))
}

fn next(request: &Request, location: &[u8], keeps_method: bool) -> Result<Request, Error> {
    let from = request.url.origin();
    let bad = |why: &str| Error::new(ErrorKind::Redirect, format!("{from} redirects to {why}"));
    let url = request
        .url
        .join_bytes(location)
        .map_err(|error| bad("something that is not an http address").with_source(error))?;
    if keeps_method && request.body.is_spent() {
        let message = format!("{from} redirects to another address, where the body was to be sent as well");
        return Err(Error::new(ErrorKind::Redirect, message).with_source(SENT_ONCE));
    }
    let mut next = request.moved_to(url)?;
    if !keeps_method {
        next.method = Method::GET;
        next.body = Body::default();
        for name in OF_THE_BODY {
            next.headers.remove(name);
        }
    }
    Ok(next)
}

const OF_THE_BODY: [HeaderName; 4] =
    [header::CONTENT_ENCODING, header::CONTENT_LANGUAGE, header::CONTENT_TYPE, header::CONTENT_LENGTH];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn redirected(method: Method, status: u16, from: &str, to: &str) -> Result<Request, Error> {
        let mut request = Request::get(from).unwrap();
        request.method = method;
        request.body = "body".into();
        for name in ["authorization", "cookie", "x-api-key", "accept", "content-type"] {
            request.headers.insert(HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_bytes(to.as_bytes()).unwrap());
        follow(&request, StatusCode::from_u16(status).unwrap(), &headers).unwrap()
    }

    #[test]
    fn the_method_follows_the_rules_of_rfc_9110() {
        for (method, status, becomes) in [
            (Method::POST, 301, Method::GET),
            (Method::POST, 302, Method::GET),
            (Method::POST, 303, Method::GET),
            (Method::POST, 307, Method::POST),
            (Method::POST, 308, Method::POST),
            (Method::PUT, 301, Method::PUT),
            (Method::PUT, 303, Method::GET),
            (Method::HEAD, 303, Method::HEAD),
        ] {
            let next = redirected(method.clone(), status, "http://a/", "/next").unwrap();
            assert_eq!(next.method, becomes, "{method} {status}");
            assert_eq!(next.body.is_empty(), becomes == Method::GET);
        }
    }

    #[test]
    fn another_origin_gets_only_what_says_nothing_about_the_user() {
        let names = |to: &str| {
            let next = redirected(Method::GET, 302, "http://a/", to).unwrap();
            let mut names: Vec<String> = next.headers.keys().map(|name| name.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(names("/same").len(), 5);
        for other in ["http://b/", "http://a:81/", "https://a/"] {
            assert_eq!(names(other), ["accept", "content-type"], "{other}");
        }
    }

    #[test]
    fn a_redirect_to_plain_text_or_to_nowhere_is_refused() {
        for to in ["http://a/", "ftp://a/", "http://", "https://[::"] {
            let error = redirected(Method::GET, 302, "https://a/", to).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Redirect, "{to}");
        }
    }
}
