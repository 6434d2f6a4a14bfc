//! gzip (RFC 1952): members one after the other, each with a head, deflated data, and a checksum.
//!
//! The framing is done here, since a decoder that is a writer cannot say whether it stands at the end of a member, nor
//! tell a body that is cut short from one whose checksum is wrong: the first is worth a repeat, the second is not.

use std::io;

use flate2::Crc;

use super::{coding_decoder::CodingDecoder, deflate::Inflate};

pub(super) struct Gzip {
    state: State,
    inflate: Inflate,
    /// Of the head, as far as it came.
    head: Crc,
    /// Of what came out.
    made: Crc,
    flags: u8,
    /// A field of fixed size, as far as it came.
    field: [u8; FIXED_BYTES],
    have: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fixed,
    ExtraLength,
    Extra(u16),
    Name,
    Comment,
    HeadCheck,
    Body,
    Trailer,
    /// After a member.
    Between,
}

impl Default for Gzip {
    fn default() -> Self {
        Self {
            state: State::Fixed,
            inflate: Inflate::new(false),
            head: Crc::new(),
            made: Crc::new(),
            flags: 0,
            field: [0; FIXED_BYTES],
            have: 0,
        }
    }
}

impl CodingDecoder for Gzip {
    fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        let mut rest = input;
        while self.state != State::Body && !rest.is_empty() {
            self.frame(&mut rest)?;
        }
        if self.state == State::Body {
            self.body(&mut rest, output)?;
        }
        Ok(input.len() - rest.len())
    }

    fn has_more(&self) -> bool {
        self.state == State::Body && self.inflate.has_more()
    }

    fn is_whole(&self) -> bool {
        self.state == State::Between
    }
}

impl Gzip {
    fn body(&mut self, rest: &mut &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        let made = output.len();
        *rest = &rest[self.inflate.step(rest, output)?..];
        self.made.update(&output[made..]);
        if self.inflate.is_whole() {
            self.state = State::Trailer;
        }
        Ok(())
    }

    /// Takes some of what is around the data. At least one byte, of which there is one.
    fn frame(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        let (before, state) = (*rest, self.state);
        match state {
            State::Fixed => {
                if let Some(field) = self.field(rest, FIXED_BYTES) {
                    if field[..3] != [0x1f, 0x8b, 8] || field[3] & RESERVED != 0 {
                        return Err(io::Error::other("no gzip header"));
                    }
                    self.flags = field[3];
                    self.state = State::ExtraLength;
                }
            }
            State::ExtraLength => {
                if let Some(field) = self.field(rest, 2) {
                    self.state = State::Extra(u16::from_le_bytes([field[0], field[1]]));
                }
            }
            State::Extra(left) => {
                let some = rest.len().min(left.into());
                *rest = &rest[some..];
                self.state = State::Extra(left - some as u16);
            }
            State::Name | State::Comment => {
                let end = rest.iter().position(|byte| *byte == 0);
                *rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
                if end.is_some() {
                    self.state = if state == State::Name { State::Comment } else { State::HeadCheck };
                }
            }
            State::HeadCheck => {
                if let Some(field) = self.field(rest, 2) {
                    if u32::from(u16::from_le_bytes([field[0], field[1]])) != self.head.sum() & 0xffff {
                        return Err(io::Error::other("the checksum of the gzip header is wrong"));
                    }
                    self.state = State::Body;
                }
            }
            State::Trailer => {
                if let Some(field) = self.field(rest, 8) {
                    let number =
                        |at: usize| u32::from_le_bytes([field[at], field[at + 1], field[at + 2], field[at + 3]]);
                    if (number(0), number(4)) != (self.made.sum(), self.made.amount()) {
                        return Err(io::Error::other("the checksum is wrong"));
                    }
                    self.state = State::Between;
                }
            }
            State::Between => match rest.iter().position(|byte| *byte != 0) {
                None => *rest = &[],
                Some(at) if rest[at] == 0x1f => {
                    *rest = &rest[at..];
                    self.next_member();
                    return Ok(());
                }
                Some(_) => return Err(io::Error::other("something follows the end of the compressed data")),
            },
            State::Body => {}
        }
        if !matches!(state, State::HeadCheck | State::Trailer | State::Between) {
            self.head.update(&before[..before.len() - rest.len()]);
        }
        self.pass_what_is_absent();
        Ok(())
    }

    /// The optional parts of a head stand in this order.
    fn pass_what_is_absent(&mut self) {
        let has = |flag: u8| self.flags & flag != 0;
        if self.state == State::ExtraLength && !has(HAS_EXTRA) || self.state == State::Extra(0) {
            self.state = State::Name;
        }
        if self.state == State::Name && !has(HAS_NAME) {
            self.state = State::Comment;
        }
        if self.state == State::Comment && !has(HAS_COMMENT) {
            self.state = State::HeadCheck;
        }
        if self.state == State::HeadCheck && !has(HAS_HEAD_CHECK) {
            self.state = State::Body;
        }
    }

    fn next_member(&mut self) {
        self.state = State::Fixed;
        self.inflate.begin_again();
        self.head.reset();
        self.made.reset();
    }

    /// A field of this size, once it is there in full.
    fn field(&mut self, rest: &mut &[u8], size: usize) -> Option<[u8; FIXED_BYTES]> {
        let some = rest.len().min(size - self.have);
        self.field[self.have..self.have + some].copy_from_slice(&rest[..some]);
        *rest = &rest[some..];
        self.have += some;
        if self.have < size {
            return None;
        }
        self.have = 0;
        Some(self.field)
    }
}

const FIXED_BYTES: usize = 10;
const HAS_HEAD_CHECK: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;
/// A member that sets these means something that is not known here.
const RESERVED: u8 = 0xe0;
