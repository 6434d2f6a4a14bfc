//! One file per facility of the system that the standard library and rustix do not offer whole. Linux only.
//!
//! Nothing here prints, decides or waits for long; what to do with a facility is for the engines to say.

pub mod arrivals;
pub mod cgroup;
pub mod descriptors;
pub mod epoll;
pub mod foreground;
pub mod forks;
pub mod monotonic;
pub mod own_memory;
pub mod private;
pub mod private_copy;
pub mod process;
pub mod readiness;
pub mod shared;
pub mod signals;
pub mod standard;
pub mod start;
pub mod system;
pub mod thread_activity;
pub mod tree;
