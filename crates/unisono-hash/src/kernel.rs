//! The kernels, by the names users write, and which of them this machine has.

use std::fmt;
use std::str::FromStr;

use crate::arch::{Avx2, Avx512, ShaNi};
use crate::error::{Error, ErrorKind};

/// How SHA-256 is computed; [`Lanes::new`](crate::Lanes::new) says what it means for BLAKE3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Sixteen streams in the lanes of 512-bit registers (x86-64 with AVX-512 F and BW).
    Avx512,
    /// Eight streams in the lanes of 256-bit registers (x86-64 with AVX2).
    Avx2,
    /// Four streams that take turns with the processor's SHA instructions (x86-64).
    ShaNi,
    /// One stream, by the `sha2` crate with whatever it finds on this processor.
    Portable,
}

impl Kernel {
    /// All of them, best first.
    ///
    /// AVX2 comes after SHA-NI because eight of its lanes are slower than four streams of the SHA instructions
    /// wherever a processor has both (see the example `throughput`).
    pub const ALL: [Kernel; 4] = [Kernel::Avx512, Kernel::ShaNi, Kernel::Avx2, Kernel::Portable];

    /// Those that this machine can run, best first; never empty.
    pub fn available() -> Vec<Kernel> {
        Self::ALL.into_iter().filter(|kernel| kernel.is_available()).collect()
    }

    /// The first of [`Kernel::available`].
    pub fn best() -> Kernel {
        Self::ALL.into_iter().find(|kernel| kernel.is_available()).unwrap_or(Kernel::Portable)
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Kernel::Avx512 => Avx512::detect().is_some(),
            Kernel::Avx2 => Avx2::detect().is_some(),
            Kernel::ShaNi => ShaNi::detect().is_some(),
            Kernel::Portable => true,
        }
    }

    /// The name: what `Display` prints and `FromStr` reads.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kernel::Avx512 => "avx512",
            Kernel::Avx2 => "avx2",
            Kernel::ShaNi => "sha-ni",
            Kernel::Portable => "portable",
        }
    }
}

impl FromStr for Kernel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|kernel| kernel.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Error::new(ErrorKind::UnknownName, format!("`{text}` is no kernel: it is one of {names}"))
        })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_is_read_from_the_name_it_prints() {
        for kernel in Kernel::ALL {
            assert_eq!(kernel.to_string().parse(), Ok(kernel));
        }
        assert_eq!("sse2".parse::<Kernel>().expect_err("no such name").kind(), ErrorKind::UnknownName);
    }

    #[test]
    fn the_portable_kernel_is_everywhere_and_the_last_choice() {
        let available = Kernel::available();
        assert_eq!(available.last(), Some(&Kernel::Portable));
        assert_eq!(available.first(), Some(&Kernel::best()));
    }
}
