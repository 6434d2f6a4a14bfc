//! Servers that misbehave as they are told, for tests.
//!
//! A [`Server`] runs on the test's own runtime, on real sockets: with tokio's clock paused, a slow server costs no
//! time, and everything is as deterministic as the script. What a script does is bytes; nothing here knows better than
//! the test what HTTP is. [`h2`] makes frames of HTTP/2 by hand, [`Certificates`] a CA and what it signs.

#![expect(clippy::disallowed_methods, reason = "a peer of the engines, used by tests alone")]

mod certificates;
pub mod h2;
mod server;

pub use certificates::{Certificates, Signed};
pub use server::{Connection, SeenRequest, Server, answer};
