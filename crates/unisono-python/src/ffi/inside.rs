//! Where the interpreter lies, for whatever looks into its memory.

use pyo3::ffi;

unsafe extern "C" {
    /// The runtime, which the interpreter exports as data; only its address is taken.
    #[link_name = "_PyRuntime"]
    static RUNTIME: u8;
}

/// Addresses of one interpreter, as seen by the thread that asks.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Of its `_PyRuntime`.
    pub runtime: u64,
    /// Of its state.
    pub state: u64,
    /// Of the state of the thread that asks.
    pub thread: u64,
    /// Of the type of code objects.
    pub code_type: u64,
}

/// Returns where the interpreter of this thread lies. `_py` proves that it is attached.
pub fn addresses(_py: pyo3::Python<'_>) -> Addresses {
    // SAFETY: the thread is attached, so it has a state, and an interpreter that lives as long as it is. Of the statics
    // only the addresses are taken, and nothing is read.
    unsafe {
        Addresses {
            runtime: (&raw const RUNTIME).addr() as u64,
            state: ffi::PyInterpreterState_Get().addr() as u64,
            thread: ffi::PyThreadState_Get().addr() as u64,
            code_type: (&raw const ffi::PyCode_Type).addr() as u64,
        }
    }
}
