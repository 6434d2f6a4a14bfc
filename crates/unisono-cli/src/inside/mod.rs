//! `unisono ps`, `dump` and `top`: programs of Python that are watched, as they say of themselves where they stand.

mod asked;
mod dump;
mod ps;
mod top;

pub use dump::{DumpArgs, run as dump};
pub use ps::{PsArgs, run as ps};
pub use top::{TopArgs, run as top};
