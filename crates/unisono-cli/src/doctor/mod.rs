//! `unisono doctor`: what of this machine, container and environment will limit a run here.
//!
//! Ten things, a line each. Nothing is sent but a look-up of localhost, and nothing is changed. What a run decides by
//! code of its own is asked of that code: which proxy, which certificates, how many commands at once. Secrets are not
//! shown.

mod args;
mod checks;
mod finding;

use serde_json::json;

pub use args::DoctorArgs;

use crate::{
    failure::Failure,
    output::{self, StandardOutput},
};

/// Runs the command; returns its exit status.
pub fn run(args: &DoctorArgs) -> Result<u8, Failure> {
    let mut out = StandardOutput::open()?;
    if !args.root.is_dir() {
        return Err(Failure::usage(format!("--root: `{}` is no folder", args.root.display())));
    }
    let findings = checks::all(&args.root);
    let fails = findings.iter().any(|finding| finding.fails.is_some());
    let text = match args.json {
        true => {
            let all: Vec<_> = findings.iter().map(finding::Finding::json).collect();
            format!("{}\n", json!({"fails": fails, "findings": all}))
        }
        false => findings.iter().map(finding::Finding::line).collect(),
    };
    let status = output::ended(out.own(&text).and_then(|()| out.flush()))?;
    Ok(if status == 0 { u8::from(fails) } else { status })
}
