//! What functions of the standard library and of anyio do, by which a wait is put into words.
//!
//! They are known by their file and name, not by their code, so that a version that has changed them is still
//! understood, and one that has renamed them is not understood wrongly.

/// What a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Waits in something of the kind that its class is.
    InThing(&'static str),
    /// Enters an `async with` of a lock or semaphore: it is not held yet.
    Enters,
    /// `asyncio.sleep`.
    Sleeps,
    /// Waits for tasks that it has.
    WaitsForSet,
    /// The end of a `TaskGroup`.
    EndsGroup,
    /// Waits with a time limit.
    WaitsWithLimit,
    /// Waits for the network.
    Network(&'static str),
    /// Waits for a child process.
    Subprocess,
    /// Has a function run by a worker thread of anyio's.
    RunsInThread,
    /// Waits for a place of anyio's limiter.
    InLimiter,
    /// Runs a job of an executor, in its thread.
    RunsJob,
    /// Is a thread of an executor.
    ExecutorThread,
    /// Is a worker thread of anyio's.
    AnyioThread,
    /// Waits for an item of a queue between threads.
    ThreadQueue,
    /// Waits for sockets and timers: the innermost function of a loop with nothing to do.
    Parks,
    /// Runs a loop.
    RunsLoop,
    /// Cancels all tasks of a loop, and waits for their ends.
    CancelsAll,
}

impl Role {
    /// Whether it is a thread's that does jobs of a pool, which is looked at as such.
    pub fn is_of_pool(self) -> bool {
        matches!(self, Self::ExecutorThread | Self::AnyioThread)
    }

    /// What a function does, by the end of its file's path and its qualified name.
    pub fn of(file: &str, function: &str) -> Option<Self> {
        let (start, module) = file.rsplit_once('/')?;
        let folder = start.rsplit('/').next().unwrap_or_default();
        Some(match (folder, module) {
            ("asyncio", "locks.py" | "queues.py") => match CALLS.iter().find(|call| **call == function) {
                Some(call) => Self::InThing(call),
                None if function == "_ContextManagerMixin.__aenter__" => Self::Enters,
                None => return None,
            },
            ("asyncio", "tasks.py") => match function {
                "sleep" => Self::Sleeps,
                "_wait" | "wait" => Self::WaitsForSet,
                "wait_for" => Self::WaitsWithLimit,
                _ => return None,
            },
            ("asyncio", "taskgroups.py") if function.starts_with("TaskGroup.") => Self::EndsGroup,
            ("asyncio", "subprocess.py") if matches!(function, "Process.wait" | "Process.communicate") => {
                Self::Subprocess
            }
            ("asyncio", "base_subprocess.py") if function == "BaseSubprocessTransport._wait" => Self::Subprocess,
            ("asyncio", "streams.py" | "base_events.py" | "selector_events.py") => {
                match NETWORK.iter().find(|(call, _)| *call == function) {
                    Some((_, words)) => Self::Network(words),
                    None if matches!(function, "BaseEventLoop.run_forever" | "BaseEventLoop.run_until_complete") => {
                        Self::RunsLoop
                    }
                    None => return None,
                }
            }
            ("asyncio", "runners.py") if function == "Runner.run" => Self::RunsLoop,
            ("asyncio", "runners.py") if function == "_cancel_all_tasks" => Self::CancelsAll,
            (_, "selectors.py") if function.ends_with("Selector.select") => Self::Parks,
            ("futures", "thread.py") if function == "_WorkItem.run" => Self::RunsJob,
            ("futures", "thread.py") if function == "_worker" => Self::ExecutorThread,
            ("_backends", "_asyncio.py") => match function {
                "WorkerThread.run" => Self::AnyioThread,
                "AsyncIOBackend.run_sync_in_worker_thread" => Self::RunsInThread,
                "CapacityLimiter.acquire_on_behalf_of" => Self::InLimiter,
                _ => return None,
            },
            (_, "queue.py") if function == "Queue.get" => Self::ThreadQueue,
            _ => return None,
        })
    }
}

const CALLS: [&str; 9] = [
    "Queue.get",
    "Queue.put",
    "Queue.join",
    "Event.wait",
    "Condition.wait",
    "Condition.wait_for",
    "Lock.acquire",
    "Semaphore.acquire",
    "Barrier.wait",
];

const NETWORK: [(&str, &str); 22] = [
    ("StreamReader.read", "reading from a connection"),
    ("StreamReader.readexactly", "reading from a connection"),
    ("StreamReader.readline", "reading a line from a connection"),
    ("StreamReader.readuntil", "reading from a connection"),
    ("StreamReader._wait_for_data", "reading from a connection"),
    ("StreamWriter.drain", "writing to a connection"),
    ("StreamWriter.wait_closed", "the end of a connection"),
    ("FlowControlMixin._drain_helper", "writing to a connection"),
    ("BaseEventLoop.create_connection", "making a connection"),
    ("BaseEventLoop.getaddrinfo", "looking up a name"),
    ("BaseEventLoop.sock_sendfile", "sending a file"),
    ("BaseEventLoop.create_datagram_endpoint", "opening a socket"),
    ("Server.serve_forever", "serving connections"),
    ("Server.wait_closed", "the end of a server"),
    ("BaseSelectorEventLoop.sock_accept", "accepting a connection"),
    ("BaseSelectorEventLoop.sock_recv", "reading from a socket"),
    ("BaseSelectorEventLoop.sock_recv_into", "reading from a socket"),
    ("BaseSelectorEventLoop.sock_recvfrom", "reading from a socket"),
    ("BaseSelectorEventLoop.sock_recvfrom_into", "reading from a socket"),
    ("BaseSelectorEventLoop.sock_sendall", "writing to a socket"),
    ("BaseSelectorEventLoop.sock_sendto", "writing to a socket"),
    ("BaseSelectorEventLoop.sock_connect", "making a connection"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_known_by_its_file_and_its_name_together() {
        assert_eq!(Role::of("/usr/lib/python3.11/asyncio/queues.py", "Queue.get"), Some(Role::InThing("Queue.get")));
        assert_eq!(Role::of("/home/me/queues.py", "Queue.get"), None);
        assert_eq!(Role::of("/usr/lib/python3.11/asyncio/queues.py", "Queue.qsize"), None);
        assert_eq!(Role::of("queues.py", "Queue.get"), None);
    }
}
