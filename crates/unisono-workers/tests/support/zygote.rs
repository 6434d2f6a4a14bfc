//! The zygote of the tests: starts a program anew per worker instead of forking, which would be unsafe code.

use std::{
    ffi::OsString,
    io::{IoSlice, IoSliceMut, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::{Command, Stdio},
};

use rustix::{
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// How a pool starts it. Standard output is the harness's, and of no interest.
pub fn command() -> Vec<OsString> {
    let script = "exec \"$0\" --exact support::zygote::zygote --ignored --nocapture >/dev/null";
    ["sh".into(), "-c".into(), script.into(), std::env::current_exe().unwrap().into()].into()
}

#[test]
#[ignore = "not a test: what a pool starts"]
fn zygote() {
    let mut children = Vec::new();
    while let Some(descriptors) = receive(std::io::stdin().as_fd()) {
        let [socket, memory, status, _settings, words]: [OwnedFd; 5] =
            descriptors.try_into().expect("what a worker inherits");
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "support::worker::worker", "--ignored", "--nocapture"])
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(words)
            .spawn()
            .unwrap();
        send(ours.as_fd(), &[socket.as_fd(), memory.as_fd()]);
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let watcher = std::thread::spawn(move || {
            let end = child.wait().unwrap();
            // The pool is not there any more when it has closed before its workers were gone.
            let _ = std::fs::File::from(status).write_all(&end.into_raw().to_le_bytes());
        });
        children.push((process, watcher));
    }
    for (process, watcher) in children {
        // Most have heard by themselves that their pool is gone, and have ended.
        let _ = pidfd_send_signal(process, Signal::KILL);
        watcher.join().unwrap();
    }
    std::process::exit(0);
}

/// The descriptors of the next message; `None` when there will be no other.
pub fn receive(socket: BorrowedFd<'_>) -> Option<Vec<OwnedFd>> {
    let mut text = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = rights.flatten().collect();
    (received.bytes > 0).then_some(descriptors)
}

pub fn send(socket: BorrowedFd<'_>, descriptors: &[BorrowedFd<'_>]) {
    send_text(socket, b"b", descriptors);
}

pub fn send_text(socket: BorrowedFd<'_>, text: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors)));
    sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL).unwrap();
}
