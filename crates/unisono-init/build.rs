//! Leaves the tables for unwinding out of the small binary, which never unwinds: they are a sixth of it, and with a
//! file this small the kernel maps all of it.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=without-unwinding.ld");
    // cargo does not tell a build script how panics end, but that this is the build for size. The start-up code of
    // musl refers to one of these tables.
    let is = |name: &str, value: &str| env::var(name).as_deref() == Ok(value);
    if is("OPT_LEVEL", "z") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/without-unwinding.ld");
    }
}
