//! Manifests: lists of digests, in the formats that are out there.
//!
//! | format | a line |
//! |---|---|
//! | coreutils (`sha256sum`), b3sum | `<hex>  <name>`, a `\` before it when the name is escaped |
//! | BSD's `md5 -r`, some scripts | `<hex> <name>`, with one space or a tab, in all lines of a manifest or none |
//! | BSD (`sha256sum --tag`) | `SHA256 (<name>) = <hex>` |
//! | OpenSSL (`openssl dgst`) | `SHA256(<name>)= <hex>`, `SHA2-256(<name>)= <hex>` |
//! | hashdeep | a header, then `<size>,<hex>,...,<name>` |
//! | JSON | an object with `path` or `path_base64`, and a member per digest |
//!
//! Names are bytes. Backslash, newline and carriage return are escaped as coreutils 9 does; with zero-terminated lines
//! nothing is; such a manifest is known by a zero byte near its beginning ([`is_zero_terminated`]).
//!
//! A bare digest does not say what it is, and its length may fit two algorithms. What is written here says it where its
//! length does not: BLAKE3 is told from SHA-256 by trying, since b3sum reads no other lines than bare ones, and XXH3,
//! which is easy to forge, is always written with its name. What is read has the other algorithm as its
//! [`ManifestEntry::alternative`].

mod read;
mod write;

pub use read::{HEAD_BYTES, ManifestEntry, ManifestLine, ManifestReader, is_zero_terminated};
pub use write::{Layout, push_entry, push_name};

use unisono_hash::Algorithm;

/// The names of an algorithm in a BSD line: the one that is written, and those that others write, OpenSSL's among them.
fn tags(algorithm: Algorithm) -> &'static [&'static str] {
    match algorithm {
        Algorithm::Sha256 => &["SHA256", "SHA2-256"],
        Algorithm::Sha512 => &["SHA512", "SHA2-512"],
        Algorithm::Sha1 => &["SHA1"],
        Algorithm::Md5 => &["MD5"],
        Algorithm::Blake3 => &["BLAKE3"],
        Algorithm::Blake2b => &["BLAKE2b", "BLAKE2b-512", "BLAKE2B-512"],
        Algorithm::Xxh3_128 => &["XXH128"],
        Algorithm::Crc32c => &["CRC32C"],
    }
}
