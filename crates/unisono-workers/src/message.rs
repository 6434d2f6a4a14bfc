//! What goes over the socket between a pool and a worker: wake-ups, descriptors with a number, and that one is not
//! needed.
//!
//! A sequenced-packet socket keeps each message whole (unix(7)). Everything else is in shared memory, so a message is
//! rare, and its end of file means the other side's death. The pool's side never blocks.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use unisono_sys::private::Private;

/// One message.
#[derive(Debug)]
pub enum Message {
    /// Look at the shared memory.
    Wake,
    /// Memory, and the number by which it is referred to.
    Memory(u64, OwnedFd),
    /// That memory is not referred to after all.
    Forget(u64),
    /// A descriptor of the worker's own process (pidfd_open(2)), and its number.
    Process(OwnedFd, i32),
    /// The other side is gone.
    Closed,
}

/// Two ends; both are closed on exec, and no fork gets them.
///
/// # Errors
/// As socketpair(2).
pub fn pair() -> io::Result<(Private, Private)> {
    Private::pair(|| Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?))
}

/// Wakes the other side. One that cannot be told now has enough to read.
pub fn wake(socket: BorrowedFd<'_>) {
    let _ = rustix::net::send(socket, &[WAKE], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

/// Sends memory.
///
/// # Errors
/// `EAGAIN` when the other side must read first and `waits` is not set; `EPIPE` when it is gone.
pub fn send_memory(socket: BorrowedFd<'_>, number: u64, memory: BorrowedFd<'_>, waits: bool) -> io::Result<()> {
    let mut text = [MEMORY; 9];
    text[1..].copy_from_slice(&number.to_le_bytes());
    send(socket, &text, &[memory], waits)
}

/// Takes back memory that was sent, and to which no task refers now.
///
/// # Errors
/// As [`send_memory`] when `waits` is not set.
pub fn send_forget(socket: BorrowedFd<'_>, number: u64) -> io::Result<()> {
    let mut text = [FORGET; 9];
    text[1..].copy_from_slice(&number.to_le_bytes());
    Ok(rustix::net::send(socket, &text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(drop)?)
}

/// Sends the descriptor and the number of this process.
///
/// # Errors
/// `EPIPE` when the other side is gone.
pub fn send_process(socket: BorrowedFd<'_>, process: BorrowedFd<'_>) -> io::Result<()> {
    let mut text = [PROCESS; 5];
    text[1..].copy_from_slice(&rustix::process::getpid().as_raw_nonzero().get().to_le_bytes());
    send(socket, &text, &[process], true)
}

/// Sends bytes with descriptors.
///
/// # Errors
/// As [`send_memory`]; `EINVAL` when there are too many descriptors.
pub fn send(socket: BorrowedFd<'_>, text: &[u8], descriptors: &[BorrowedFd<'_>], waits: bool) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = if waits { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::DONTWAIT };
    loop {
        match sendmsg(socket, &[IoSlice::new(text)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// Receives one message; `None` when there is none and `waits` is not set, or when a signal came.
///
/// # Errors
/// When the message is none of ours, or there are too many descriptors open.
pub fn receive(socket: BorrowedFd<'_>, waits: bool) -> io::Result<Option<Message>> {
    let mut text = [0; 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = if waits { RecvFlags::CMSG_CLOEXEC } else { RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT };
    let received = match recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, flags) {
        Ok(received) => received.bytes,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
        Err(rustix::io::Errno::CONNRESET) => return Ok(Some(Message::Closed)),
        Err(error) => return Err(error.into()),
    };
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptor = || descriptors.by_ref().flatten().next();
    let number = u64::from_le_bytes(text[1..9].try_into().expect("eight bytes"));
    match (received, text[0]) {
        (0, _) => Ok(Some(Message::Closed)),
        (_, WAKE) => Ok(Some(Message::Wake)),
        (9, FORGET) => Ok(Some(Message::Forget(number))),
        (9, MEMORY) => {
            let memory =
                descriptor().ok_or_else(|| io::Error::other("memory without a descriptor: too many are open"))?;
            Ok(Some(Message::Memory(number, memory)))
        }
        (5, PROCESS) => {
            let process = descriptor().ok_or_else(|| io::Error::other("no descriptor came: too many are open"))?;
            let number = i32::from_le_bytes(text[1..5].try_into().expect("four bytes"));
            Ok(Some(Message::Process(process, number)))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a message that is none of ours")),
    }
}

const WAKE: u8 = b'w';
const MEMORY: u8 = b'm';
const FORGET: u8 = b'f';
const PROCESS: u8 = b'p';
/// A worker inherits so many descriptors at most: its socket, its memory, its status pipe, its settings, its standard
/// error, and what its initializer is given.
pub const MOST: usize = 64;
