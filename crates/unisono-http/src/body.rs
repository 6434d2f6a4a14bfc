//! What a request is sent with: nothing, bytes, or a form.
//!
//! A form with files (RFC 7578) brings its own `Content-Type`, since its boundary is made up with it. What is asked for
//! by it is told by its parts and not by its boundary, so that the same form has the same fingerprint in each run.

use std::{fmt, io, path::Path};

use bytes::Bytes;
use http::HeaderValue;
use unisono_core::ErrorKind;
use xxhash_rust::xxh3::Xxh3;

use crate::Error;

/// A request's body.
#[derive(Clone, Default)]
pub struct Body {
    bytes: Bytes,
    /// What is a form with files; boxed, since most are none.
    form: Option<Box<Form>>,
}

#[derive(Clone)]
struct Form {
    content_type: HeaderValue,
    fingerprint: u64,
}

/// One part of a form with files.
#[derive(Clone)]
pub struct Part {
    /// The name of its field.
    pub name: String,
    /// The name of its file; `None` for a field of text.
    pub file_name: Option<String>,
    /// Its media type, as a file has one.
    pub content_type: Option<String>,
    /// What is in it.
    pub content: Body,
}

impl Body {
    /// Whether there is nothing to be sent.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What is sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its media type, where that is its own to say.
    pub fn content_type(&self) -> Option<&HeaderValue> {
        self.form.as_ref().map(|form| &form.content_type)
    }

    /// What is in a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(path: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let kind = if missing { ErrorKind::Missing } else { ErrorKind::Unreadable };
            Error::new(kind, format!("cannot read `{}`", path.display())).with_source(error)
        };
        std::fs::read(path).map(Self::from).map_err(failed)
    }

    /// A form with files (RFC 7578). Names are written as WHATWG has it: quotes and line ends as `%22`, `%0D` and
    /// `%0A`.
    ///
    /// # Errors
    /// Of kind `input` when the media type of a part cannot be sent.
    ///
    /// ```
    /// use unisono_http::{Body, Part};
    /// let text = Part { name: "a".into(), file_name: None, content_type: None, content: Body::from("1") };
    /// let body = Body::multipart(vec![text]).unwrap();
    /// let boundary = body.content_type().unwrap().to_str().unwrap().split_once("boundary=").unwrap().1;
    /// let head = "Content-Disposition: form-data; name=\"a\"";
    /// assert_eq!(&body.bytes()[..], format!("--{boundary}\r\n{head}\r\n\r\n1\r\n--{boundary}--\r\n").as_bytes());
    /// ```
    pub fn multipart(parts: Vec<Part>) -> Result<Self, Error> {
        let mut hash = Xxh3::new();
        for part in &parts {
            part.add_to(&mut |bytes| {
                hash.update(&(bytes.len() as u64).to_le_bytes());
                hash.update(bytes);
            });
        }
        let heads = parts.iter().map(Part::head).collect::<Result<Vec<_>, _>>()?;
        let boundary = loop {
            // 128 bits, so that one that is in a part as well has never been seen; but it must not be.
            let boundary = format!("unisono-{:032x}", fastrand::u128(..));
            let is_within = |part: &Part| contains(&part.content.bytes, boundary.as_bytes());
            if !parts.iter().any(is_within) {
                break boundary;
            }
        };
        let mut bytes = Vec::new();
        for (part, head) in parts.iter().zip(heads) {
            bytes.extend_from_slice(format!("--{boundary}\r\n{head}\r\n\r\n").as_bytes());
            bytes.extend_from_slice(&part.content.bytes);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        let content_type = HeaderValue::try_from(format!("multipart/form-data; boundary={boundary}"))
            .expect("hexadecimal digits can be sent");
        let form = Form { content_type, fingerprint: hash.digest() };
        Ok(Self { bytes: bytes.into(), form: Some(Box::new(form)) })
    }

    /// What tells it apart from others, in pieces.
    pub(crate) fn add_to(&self, add: &mut impl FnMut(&[u8])) {
        match &self.form {
            None => add(&self.bytes),
            Some(form) => {
                add(b"multipart/form-data");
                add(&form.fingerprint.to_le_bytes());
            }
        }
    }
}

/// How much there is, and not what: a password may be in it.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("bytes", &self.length()).finish_non_exhaustive()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, form: None }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl Part {
    fn head(&self) -> Result<String, Error> {
        let mut head = format!("Content-Disposition: form-data; name=\"{}\"", escaped(&self.name));
        if let Some(file_name) = &self.file_name {
            head.push_str(&format!("; filename=\"{}\"", escaped(file_name)));
        }
        if let Some(content_type) = &self.content_type {
            if content_type.trim().is_empty() || HeaderValue::from_str(content_type).is_err() {
                let name = unisono_core::printable(&self.name);
                let message =
                    format!("the media type of part `{name}` is none, or has a character that cannot be sent");
                return Err(Error::new(ErrorKind::Input, message));
            }
            head.push_str(&format!("\r\nContent-Type: {content_type}"));
        }
        Ok(head)
    }

    fn add_to(&self, add: &mut impl FnMut(&[u8])) {
        add(self.name.as_bytes());
        for text in [&self.file_name, &self.content_type] {
            add(&[u8::from(text.is_some())]);
            add(text.as_deref().unwrap_or("").as_bytes());
        }
        self.content.add_to(add);
    }
}

/// A form as a browser sends one without files (`application/x-www-form-urlencoded`, as WHATWG has it).
///
/// ```
/// let pairs = [("q", "a b&c"), ("é", "*-._")];
/// assert_eq!(unisono_http::encode_form(pairs), "q=a+b%26c&%C3%A9=*-._");
/// ```
pub fn encode_form<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> String {
    ::url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// The media type of [`encode_form`].
pub const FORM: &str = "application/x-www-form-urlencoded";

/// The name of a field or file within its quotes (WHATWG, "multipart form data").
fn escaped(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, file_name: &str, content: &'static str) -> Part {
        let content_type = Some("text/plain".to_owned());
        Part { name: name.into(), file_name: Some(file_name.into()), content_type, content: content.into() }
    }

    fn text_of(body: &Body) -> String {
        String::from_utf8(body.bytes().to_vec()).unwrap()
    }

    #[test]
    fn no_name_of_a_part_ends_its_header() {
        let body = Body::multipart(vec![file("a\"b\r\nX: y", "c\";\nd", "x")]).unwrap();
        let head = "Content-Disposition: form-data; name=\"a%22b%0D%0AX: y\"; filename=\"c%22;%0Ad\"\r\n";
        assert!(text_of(&body).contains(head), "{}", text_of(&body));
        let broken = Part { content_type: Some("a/b\r\nX: y".into()), ..file("f", "n", "") };
        let error = Body::multipart(vec![broken]).unwrap_err();
        assert!(error.to_string().starts_with("the media type of part `f` is none"), "{error}");
    }

    #[test]
    fn the_same_form_is_the_same_request_although_its_boundary_is_another() {
        let print = |parts: Vec<Part>| {
            let mut all = Vec::new();
            Body::multipart(parts).unwrap().add_to(&mut |part| all.extend_from_slice(part));
            all
        };
        let [one, other] = [(); 2].map(|()| Body::multipart(vec![file("f", "n", "x")]).unwrap());
        assert_ne!(one.content_type(), other.content_type());
        assert_eq!(print(vec![file("f", "n", "x")]), print(vec![file("f", "n", "x")]));
        for changed in [file("g", "n", "x"), file("f", "m", "x"), file("f", "n", "y")] {
            assert_ne!(print(vec![file("f", "n", "x")]), print(vec![changed]));
        }
        assert_ne!(print(vec![file("f", "nx", "")]), print(vec![file("f", "n", "x")]));
    }
}
