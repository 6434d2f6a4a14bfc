//! The thread that says, to programs of the same user, where this process stands: also while Python hangs.

use std::{
    fs::Permissions,
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};

use unisono_sys::signals;

use crate::{
    descriptor::{Guarded, GuardedEvent},
    folder,
    protocol::Question,
    watched_loop::now,
};

/// No question is longer.
const QUESTION_MAX: usize = 4096;
/// A program that asks and does not go on is left.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says what is asked; on the server's thread.
pub type Respond = dyn Fn(Question) -> String + Send;

/// The server of a process. Dropped, it ends, is waited for, and its socket is gone.
#[derive(Debug)]
pub struct Server {
    stop: Arc<GuardedEvent>,
    thread: Option<JoinHandle<()>>,
    /// Is disconnected when the thread is through.
    ended: Mutex<Receiver<()>>,
    path: PathBuf,
}

impl Server {
    /// Serves this process's socket in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder is not this user's alone, or there is no socket, descriptor or thread to be had.
    pub fn start(folder: &Path, respond: Box<Respond>) -> io::Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        folder::prepare(folder, uid)?;
        let path = folder::socket_of(folder, std::process::id());
        // It is of a process that had this number before.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let listener = Guarded::of(listener)?;
        let stop = Arc::new(GuardedEvent::new()?);
        let (stopped, (still, ended)) = (Arc::clone(&stop), mpsc::channel());
        let thread = std::thread::Builder::new().name("unisono-watch-io".into()).spawn(move || {
            serve(&listener, &stopped, uid, &respond);
            drop::<mpsc::Sender<()>>(still);
        })?;
        Ok(Self { stop, thread: Some(thread), ended: Mutex::new(ended), path })
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, Receiver<()>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.set();
        // Where the program has closed its descriptors, it is never told; it has nothing that anything waits for.
        if let Some(thread) = self.thread.take()
            && self.ended().recv_timeout(PATIENCE * 4) != Err(RecvTimeoutError::Timeout)
        {
            let _ = thread.join();
        }
        // Whatever cleans such folders may have been before us.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(listener: &Guarded<UnixListener>, stop: &GuardedEvent, uid: u32, respond: &Respond) {
    signals::hold_from_thread();
    loop {
        let mut wanted = [PollFd::new(stop, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        let _ = poll(&mut wanted, None);
        if !wanted[0].revents().is_empty() {
            return;
        }
        // The program has closed it: whatever has its number now is not asked.
        if !listener.is_ours() {
            return;
        }
        if let Ok((stream, _)) = listener.accept() {
            // What it could not be told, it asks again.
            let _ = say(stream, uid, respond);
        }
    }
}

fn say(mut stream: UnixStream, uid: u32, respond: &Respond) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream.as_fd())?;
    // The folder lets no other through; should it ever, nothing is told to them.
    if !peer.uid.is_root() && peer.uid.as_raw() != uid {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let line = question(&mut stream)?;
    let text = match serde_json::from_slice(&line) {
        Ok(question) => respond(question),
        Err(error) => serde_json::json!({"error": format!("this is no question: {error}")}).to_string(),
    };
    stream.write_all(text.as_bytes())?;
    stream.write_all(b"\n")
}

/// The line that is sent, which must be there in time: a program that sends it in drops keeps others waiting.
fn question(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let (mut line, begun) = (Vec::new(), now());
    let mut piece = [0; 512];
    while !line.contains(&b'\n') && line.len() < QUESTION_MAX {
        let length = stream.read(&mut piece)?;
        if length == 0 {
            break;
        }
        if now().saturating_sub(begun) > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        line.extend_from_slice(&piece[..length]);
    }
    Ok(line)
}

/// Asks the process behind a socket, and returns its answer.
///
/// # Errors
/// When nothing listens there, or it does not answer in time.
pub fn ask(path: &Path, question: Question) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let line = serde_json::to_string(&question).map_err(io::Error::other)?;
    writeln!(stream, "{line}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(folder: &Path) -> Server {
        Server::start(folder, Box::new(|question| format!("{question:?}"))).unwrap()
    }

    #[test]
    fn what_is_asked_is_said_and_what_is_no_question_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("unisono");
        let server = served(&folder);
        assert_eq!(ask(server.path(), Question::Loops).unwrap(), "Loops\n");
        let mut stream = UnixStream::connect(server.path()).unwrap();
        stream.write_all(b"{\"ask\":\"run\",\"code\":\"1\"}\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("this is no question"), "{answer}");
        let path = server.path().to_owned();
        drop(server);
        assert!(!path.exists());
    }

    #[test]
    fn a_program_that_says_nothing_and_leaves_does_not_keep_others_waiting() {
        let root = tempfile::tempdir().unwrap();
        let server = served(&root.path().join("unisono"));
        for _ in 0..10 {
            drop(UnixStream::connect(server.path()).unwrap());
        }
        assert_eq!(ask(server.path(), Question::Threads).unwrap(), "Threads\n");
    }

    #[test]
    fn a_socket_that_was_left_behind_is_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("unisono");
        folder::prepare(&folder, rustix::process::geteuid().as_raw()).unwrap();
        let path = folder::socket_of(&folder, std::process::id());
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(ask(served(&folder).path(), Question::Loops).unwrap(), "Loops\n");
    }
}
