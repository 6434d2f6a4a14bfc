//! A body on its way out, in pieces, as fast as the connection takes them.
//!
//! There is one piece in memory at a time, beside what the connection buffers. A file is read on threads beside the
//! reactor. The body is never cut or longer than was said: where a source does not bring what it said it would, that is
//! an error, after which the connection is of no use.
//!
//! An answer that says no while the body is still going out ends the upload: the rest would be read by a server that
//! has decided already, or not be read at all.

use std::{
    cell::Cell,
    fs::File,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use unisono_core::{ErrorKind, reactor::spawn_blocking};

use crate::{
    Body, Error,
    body::{FileContent, Segment},
};

/// Reads a body once, from its beginning.
pub(crate) struct BodyReader {
    body: Body,
    /// The segment that is read.
    segment: usize,
    /// How much of it was.
    sent: u64,
    reading: Reading,
    /// What is missing of the whole, where that is known.
    left: Option<u64>,
}

/// A piece of a file, with the file, from a thread that may have panicked.
type PieceRead = Pin<Box<dyn Future<Output = io::Result<Result<(Arc<File>, Bytes), Error>>>>>;

enum Reading {
    /// The segment was not begun.
    New,
    File(Arc<File>),
    Piece(PieceRead),
    Feed,
}

impl BodyReader {
    pub(crate) fn new(body: Body) -> Self {
        let left = body.length();
        Self { body, segment: 0, sent: 0, reading: Reading::New, left }
    }

    /// What is missing of the whole, where that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        self.left
    }

    /// The next piece, which is not empty; `None` at the end.
    pub(crate) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let piece = ready!(self.poll_any(context));
        Poll::Ready(match (piece, &mut self.left) {
            (Some(Ok(piece)), Some(left)) => match left.checked_sub(piece.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    Some(Ok(piece))
                }
                None => Some(Err(wrong_length("longer"))),
            },
            (None, Some(1..)) => Some(Err(wrong_length("shorter"))),
            (piece, _) => piece,
        })
    }

    fn poll_any(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let Some(segment) = self.body.segments().get(self.segment) else { return Poll::Ready(None) };
            match segment.clone() {
                Segment::Bytes(bytes) => {
                    self.next_segment();
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                Segment::File(content) => {
                    if self.sent == content.length() && !matches!(self.reading, Reading::New) {
                        self.next_segment();
                        continue;
                    }
                    match ready!(self.poll_file(&content, context)) {
                        Ok(piece) if piece.is_empty() => self.next_segment(),
                        read => return Poll::Ready(Some(read)),
                    }
                }
                Segment::Feed(feed) => {
                    if let Reading::New = self.reading {
                        if let Err(error) = feed.begin() {
                            return Poll::Ready(Some(Err(error)));
                        }
                        self.reading = Reading::Feed;
                    }
                    match ready!(feed.poll_piece(context)) {
                        None => self.next_segment(),
                        Some(Ok(piece)) if piece.is_empty() => {}
                        piece => return Poll::Ready(piece),
                    }
                }
            }
        }
    }

    fn poll_file(&mut self, content: &Arc<FileContent>, context: &mut Context<'_>) -> Poll<Result<Bytes, Error>> {
        loop {
            let open = match &mut self.reading {
                Reading::Piece(reading) => {
                    let read = ready!(reading.as_mut().poll(context));
                    // The thread that reads has panicked, or there is none any more.
                    let faulty = |error| Error::new(ErrorKind::Internal, "a file could not be read").with_source(error);
                    let (file, piece) = read.map_err(faulty)??;
                    self.sent += piece.len() as u64;
                    self.reading = Reading::File(file);
                    return Poll::Ready(Ok(piece));
                }
                Reading::File(file) => Some(file.clone()),
                Reading::New | Reading::Feed => None,
            };
            let (content, sent) = (content.clone(), self.sent);
            self.reading = Reading::Piece(Box::pin(spawn_blocking(move || {
                let file = open.map_or_else(|| content.open(), Ok)?;
                let piece = content.piece(&file, sent)?;
                Ok((file, piece))
            })));
        }
    }

    fn next_segment(&mut self) {
        (self.segment, self.sent, self.reading) = (self.segment + 1, 0, Reading::New);
    }
}

fn wrong_length(how: &str) -> Error {
    let message = format!("what was to be sent is {how} than it was said to be");
    Error::new(ErrorKind::Changed, message).retryable(false)
}

/// How far an upload has come, for both its ends.
#[derive(Debug, Default)]
pub(crate) struct UploadState {
    is_done: Cell<bool>,
    is_stopped: Cell<bool>,
}

impl UploadState {
    /// Whether all of it was given to the connection.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done.get()
    }

    /// Nothing more is sent: the connection is of no use when its answer was read.
    pub(crate) fn stop(&self) {
        self.is_stopped.set(true);
    }
}

/// A body as hyper takes it.
pub(crate) enum Outgoing {
    Whole(Bytes),
    Read(Box<BodyReader>, Rc<UploadState>),
}

impl Outgoing {
    /// What is read as it is sent comes with how far it has got.
    pub(crate) fn new(body: Body) -> (Self, Option<Rc<UploadState>>) {
        match body.as_bytes() {
            Some(bytes) => (Self::Whole(bytes.clone()), None),
            None => {
                let state = Rc::new(UploadState::default());
                (Self::Read(Box::new(BodyReader::new(body)), state.clone()), Some(state))
            }
        }
    }
}

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            // What reads the answer polls the connection, so nothing waits for this.
            Self::Read(_, state) if state.is_stopped.get() => Poll::Pending,
            Self::Read(reader, state) => {
                let piece = ready!(reader.poll_piece(context));
                if piece.is_none() || reader.left() == Some(0) {
                    state.is_done.set(true);
                }
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Read(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let left = match self {
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Read(reader, _) => reader.left(),
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
