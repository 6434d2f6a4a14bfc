//! Manifests: lists of digests, in the formats that are out there.
//!
//! | format | a line |
//! |---|---|
//! | coreutils (`sha256sum`), b3sum | `<hex>  <name>`, a `\` before it when the name is escaped |
//! | BSD (`sha256sum --tag`) | `SHA256 (<name>) = <hex>` |
//! | hashdeep | a header, then `<size>,<hex>,...,<name>` |
//! | JSON | an object with `path` or `path_base64`, and a member per digest |
//!
//! Names are bytes. Backslash, newline and carriage return are escaped as coreutils 9 does; with zero-terminated lines
//! nothing is.

mod read;
mod write;

pub use read::{Entry, Line, Reader};
pub use write::{Layout, push_entry, push_name};

use unisono_hash::Algorithm;

/// The name of an algorithm in a BSD line.
fn tag(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha256 => "SHA256",
        Algorithm::Sha512 => "SHA512",
        Algorithm::Sha1 => "SHA1",
        Algorithm::Md5 => "MD5",
        Algorithm::Blake3 => "BLAKE3",
        Algorithm::Xxh3_128 => "XXH128",
        Algorithm::Crc32c => "CRC32C",
    }
}
