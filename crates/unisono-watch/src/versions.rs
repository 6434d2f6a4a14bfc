//! The layouts of the versions of CPython that are known.
//!
//! Up to 3.12 the offsets are those of its headers; from 3.13 on the interpreter says them itself, at the beginning of
//! `_PyRuntime`. An interpreter that is not known is not looked at. That the offsets are right is tried when watching
//! starts, against what the interpreter itself says.

mod python_3_11;
mod python_3_12;
mod python_3_13;

use crate::{
    layout::{Layout, Unknown},
    memory::Memory,
};

/// Returns where the version whose `PY_VERSION_HEX` is `hex` keeps what is looked at; `runtime` is the address of its
/// `_PyRuntime`.
///
/// # Errors
/// When the interpreter is not one that is known.
pub fn layout_of(hex: u32, runtime: u64, memory: &impl Memory) -> Result<Layout, Unknown> {
    match (hex >> 24, hex >> 16 & 0xff) {
        (3, 11) => Ok(python_3_11::LAYOUT),
        (3, 12) => Ok(python_3_12::LAYOUT),
        (3, 13) => python_3_13::read(runtime, hex, memory),
        _ => Err(Unknown::Version),
    }
}
