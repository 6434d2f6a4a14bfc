//! `unisono ps` and `unisono dump`: programs of Python that are watched, as they say of themselves where they stand.

mod asked;
mod dump;
mod ps;

pub use dump::{DumpArgs, run as dump};
pub use ps::{PsArgs, run as ps};
