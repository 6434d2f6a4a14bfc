//! What was met on the way to a peer, and what it says of that peer.
//!
//! Only what would happen to the next connection as well is news. What is wrong on this side (no descriptor, no port,
//! no right) is none.

use std::io;

use unisono_core::Peer;

/// What ended the way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialFailure {
    /// Nothing listens there.
    Refused,
    /// No way leads there.
    Unreachable,
    /// There was neither a connection nor a refusal in time.
    NoConnection,
    /// The resolver had no answer.
    NameForNow,
    /// There is no such name, or it has no address.
    NoSuchName,
    /// The connection ended in the middle of the handshake, and TLS gave no reason.
    HandshakeCut,
    /// One side did not accept what the other showed.
    HandshakeRefused,
    /// A proxy is there, and says that the host is not, or hangs up.
    ProxyCannotReach,
    /// A proxy does not let us through.
    ProxyRefuses,
    /// Anything else: a fault of this side, or nonsense.
    Other,
}

impl DialFailure {
    /// What it means that a connection could not be made.
    pub fn of_connecting(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            // A socket in the file system whose server has not made it yet, or has taken it away.
            Kind::ConnectionRefused | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::NotFound => Self::Refused,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => Self::Unreachable,
            Kind::TimedOut => Self::NoConnection,
            // EHOSTDOWN has no kind of its own.
            _ if error.raw_os_error() == Some(rustix::io::Errno::HOSTDOWN.raw_os_error()) => Self::Unreachable,
            _ => Self::Other,
        }
    }

    /// The news that it is.
    pub fn peer(self) -> Peer {
        match self {
            Self::Refused | Self::Unreachable | Self::NoConnection | Self::NameForNow => Peer::Away,
            Self::HandshakeCut | Self::ProxyCannotReach => Peer::Away,
            Self::NoSuchName | Self::HandshakeRefused | Self::ProxyRefuses | Self::Other => Peer::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_is_wrong_on_this_side_is_no_news_of_the_host() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::ACCESS, Errno::PERM, Errno::NOBUFS] {
            assert_eq!(DialFailure::of_connecting(&errno.into()), DialFailure::Other, "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::HOSTDOWN, Errno::TIMEDOUT] {
            assert_eq!(DialFailure::of_connecting(&errno.into()).peer(), Peer::Away, "{errno}");
        }
    }
}
