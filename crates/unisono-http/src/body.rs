//! What a request is sent with: nothing, bytes, a file, what comes in as it is sent, or a form of these.
//!
//! What is not in memory is read as it is sent (`upload.rs`). Whether it can be sent again is for it to say: bytes and
//! files can, what comes in once cannot. A file is known by its size and the time of its last change, as when the
//! request was made; one that is another by then is not sent, or not to its end.
//!
//! A form with files (RFC 7578) brings its own `Content-Type`, since its boundary is made up with it. What is asked for
//! by it is told by its parts and not by its boundary, so that the same form has the same fingerprint in each run.

use std::{
    fmt,
    fs::{File, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http::HeaderValue;
use unisono_core::ErrorKind;
use xxhash_rust::xxh3::Xxh3;

use crate::{Error, feed::BodyFeed};

/// A request's body.
#[derive(Clone)]
pub struct Body(Repr);

#[derive(Clone)]
enum Repr {
    /// By far the most are these.
    Bytes(Bytes),
    Composed(Arc<Composed>),
}

struct Composed {
    segments: Vec<Segment>,
    /// Of a form with files.
    form: Option<Form>,
}

struct Form {
    content_type: HeaderValue,
    fingerprint: u64,
}

/// A stretch of a body.
#[derive(Clone)]
pub(crate) enum Segment {
    Bytes(Bytes),
    File(Arc<FileContent>),
    Feed(Arc<BodyFeed>),
}

/// What is in a file, from some place to its end, as it was when the request was made.
pub(crate) struct FileContent {
    path: PathBuf,
    /// `None`: it is opened by its path for each sending.
    open: Option<Arc<File>>,
    from: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
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
    /// Whether there is certainly nothing to be sent.
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, Repr::Bytes(bytes) if bytes.is_empty())
    }

    /// How many bytes it has; `None` when only its end will tell.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Repr::Bytes(bytes) => Some(bytes.len() as u64),
            Repr::Composed(composed) => composed.segments.iter().map(Segment::length).sum(),
        }
    }

    /// What is sent, where it is in memory as one piece.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.0 {
            Repr::Bytes(bytes) => Some(bytes),
            Repr::Composed(composed) => match &composed.segments[..] {
                [Segment::Bytes(bytes)] => Some(bytes),
                _ => None,
            },
        }
    }

    /// Its media type, where that is its own to say.
    pub fn content_type(&self) -> Option<&HeaderValue> {
        match &self.0 {
            Repr::Bytes(_) => None,
            Repr::Composed(composed) => composed.form.as_ref().map(|form| &form.content_type),
        }
    }

    /// Whether it comes in once, so that it cannot be sent again once it was begun.
    pub fn is_once(&self) -> bool {
        self.feeds().next().is_some()
    }

    /// Whether it comes in once, and was begun.
    pub(crate) fn is_spent(&self) -> bool {
        self.feeds().any(|feed| feed.is_begun())
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        match &self.0 {
            Repr::Bytes(_) => &[],
            Repr::Composed(composed) => &composed.segments,
        }
    }

    fn feeds(&self) -> impl Iterator<Item = &Arc<BodyFeed>> {
        self.segments().iter().filter_map(|segment| match segment {
            Segment::Feed(feed) => Some(feed),
            Segment::Bytes(_) | Segment::File(_) => None,
        })
    }

    /// What is in a file, which is opened anew for each sending.
    ///
    /// # Errors
    /// When it cannot be read, or is no regular file.
    pub fn file(path: &Path) -> Result<Self, Error> {
        // Opened, so that one that may not be read is known now.
        let file = File::open(path).map_err(|error| unreadable(path, error))?;
        let found = file.metadata().map_err(|error| unreadable(path, error))?;
        Self::of_file(path, None, 0, &found)
    }

    /// What is in an open file from this place on. It is read beside whatever else is done with it: its position stays.
    ///
    /// # Errors
    /// As for [`Body::file`].
    pub fn open_file(path: &Path, file: File, from: u64) -> Result<Self, Error> {
        let found = file.metadata().map_err(|error| unreadable(path, error))?;
        Self::of_file(path, Some(Arc::new(file)), from, &found)
    }

    fn of_file(path: &Path, open: Option<Arc<File>>, from: u64, found: &Metadata) -> Result<Self, Error> {
        if !found.is_file() {
            let why = if found.is_dir() { "a folder" } else { "no regular file: open it, and give it open" };
            return Err(Error::new(ErrorKind::Unreadable, format!("cannot send `{}`: it is {why}", path.display())));
        }
        let content = FileContent { path: path.to_owned(), open, from, size: found.len(), modified: modified(found) };
        Ok(Self::composed(vec![Segment::File(Arc::new(content))], None))
    }

    /// What comes in as it is sent, and once.
    pub fn fed(feed: Arc<BodyFeed>) -> Self {
        Self::composed(vec![Segment::Feed(feed)], None)
    }

    fn composed(segments: Vec<Segment>, form: Option<Form>) -> Self {
        Self(Repr::Composed(Arc::new(Composed { segments, form })))
    }

    /// It as segments, of which none is empty.
    fn into_segments(self) -> Vec<Segment> {
        match self.0 {
            Repr::Bytes(bytes) if bytes.is_empty() => Vec::new(),
            Repr::Bytes(bytes) => vec![Segment::Bytes(bytes)],
            Repr::Composed(composed) => composed.segments.clone(),
        }
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
    /// let whole = format!("--{boundary}\r\n{head}\r\n\r\n1\r\n--{boundary}--\r\n");
    /// assert_eq!(body.as_bytes().unwrap(), whole.as_bytes());
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
            // 128 bits, so that one that is in a part as well has never been seen; but where that is in memory it is
            // looked for.
            let boundary = format!("unisono-{:032x}", fastrand::u128(..));
            let is_within =
                |part: &Part| part.content.as_bytes().is_some_and(|bytes| contains(bytes, boundary.as_bytes()));
            if !parts.iter().any(is_within) {
                break boundary;
            }
        };
        let (mut segments, mut bytes) = (Vec::new(), Vec::new());
        for (part, head) in parts.into_iter().zip(heads) {
            bytes.extend_from_slice(format!("--{boundary}\r\n{head}\r\n\r\n").as_bytes());
            for segment in part.content.into_segments() {
                match segment {
                    Segment::Bytes(piece) => bytes.extend_from_slice(&piece),
                    other => segments.extend([Segment::Bytes(std::mem::take(&mut bytes).into()), other]),
                }
            }
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        segments.push(Segment::Bytes(bytes.into()));
        let content_type = HeaderValue::try_from(format!("multipart/form-data; boundary={boundary}"))
            .expect("hexadecimal digits can be sent");
        Ok(Self::composed(segments, Some(Form { content_type, fingerprint: hash.digest() })))
    }

    /// What tells it apart from others, in pieces.
    pub(crate) fn add_to(&self, add: &mut impl FnMut(&[u8])) {
        let composed = match &self.0 {
            Repr::Bytes(bytes) => return add(bytes),
            Repr::Composed(composed) => composed,
        };
        if let Some(form) = &composed.form {
            add(b"multipart/form-data");
            return add(&form.fingerprint.to_le_bytes());
        }
        composed.segments.iter().for_each(|segment| match segment {
            Segment::Bytes(bytes) => add(bytes),
            Segment::File(file) => file.add_to(add),
            Segment::Feed(_) => add(b"once"),
        });
    }
}

impl Default for Body {
    fn default() -> Self {
        Bytes::new().into()
    }
}

impl Segment {
    fn length(&self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File(file) => Some(file.length()),
            Self::Feed(feed) => feed.length(),
        }
    }
}

impl FileContent {
    pub(crate) fn length(&self) -> u64 {
        self.size.saturating_sub(self.from)
    }

    /// Opens it where it is not open already. May wait for a disk.
    ///
    /// # Errors
    /// When it cannot be opened, or is another one by now.
    pub(crate) fn open(&self) -> Result<Arc<File>, Error> {
        let file = match &self.open {
            Some(open) => open.clone(),
            None => Arc::new(File::open(&self.path).map_err(|error| unreadable(&self.path, error))?),
        };
        self.check(&file)?;
        Ok(file)
    }

    /// The piece that follows so many bytes. Of the last one it is certain that they all are of one file.
    ///
    /// # Errors
    /// When it cannot be read, or has changed.
    pub(crate) fn piece(&self, file: &File, sent: u64) -> Result<Bytes, Error> {
        let left = self.length() - sent;
        let mut piece = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES)];
        let read = file.read_exact_at(&mut piece, self.from + sent);
        match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(self.changed()),
            read => read.map_err(|error| unreadable(&self.path, error))?,
        }
        if piece.len() as u64 == left {
            // Before it is handed over: without its last piece the body is none to any server.
            self.check(file)?;
        }
        Ok(piece.into())
    }

    fn check(&self, file: &File) -> Result<(), Error> {
        let found = file.metadata().map_err(|error| unreadable(&self.path, error))?;
        match found.len() == self.size && modified(&found) == self.modified {
            true => Ok(()),
            false => Err(self.changed()),
        }
    }

    fn changed(&self) -> Error {
        let path = self.path.display();
        let message = format!(
            "`{path}` has changed since the request was made, so that it was not sent in full: make a new request of it"
        );
        Error::new(ErrorKind::Changed, message).retryable(false)
    }

    fn add_to(&self, add: &mut impl FnMut(&[u8])) {
        add(b"file");
        add(self.path.as_os_str().as_bytes());
        for number in [self.from, self.size, self.modified.0 as u64, self.modified.1 as u64] {
            add(&number.to_le_bytes());
        }
    }
}

fn modified(found: &Metadata) -> (i64, i64) {
    (found.mtime(), found.mtime_nsec())
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    let kind = if is_missing { ErrorKind::Missing } else { ErrorKind::Unreadable };
    Error::new(kind, format!("cannot read `{}`", path.display())).retryable(false).with_source(error)
}

/// How much there is, and not what: a password may be in it.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("length", &self.length()).finish_non_exhaustive()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::Bytes(bytes))
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

/// What is read of a file at once: large enough that a disk is asked seldom, and small beside what connections buffer.
const PIECE_BYTES: usize = 128 << 10;

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
        String::from_utf8(body.as_bytes().unwrap().to_vec()).unwrap()
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
