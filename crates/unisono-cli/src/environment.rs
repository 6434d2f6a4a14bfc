//! What the environment says: proxies, and where the netrc file is. Engines do not read it; this face does.

use std::{env, path::PathBuf};

use unisono_runner::{
    Netrc,
    http_client::{Error, NoProxy, Proxies, Proxy},
};

use crate::failure::Failure;

/// A variable's value, if it is set and text.
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// The proxies to use: those of the flags, or those of the environment.
pub fn proxies(proxy: Option<&str>, exceptions: Option<&str>) -> Result<Proxies, Failure> {
    let mut proxies = match proxy {
        Some("") => Proxies::default(),
        Some(proxy) => Proxies::all(Proxy::parse(proxy).map_err(Error::from)?, NoProxy::default()),
        None => Proxies::from_environment(variable)?,
    };
    if let Some(exceptions) = exceptions {
        proxies.exceptions = NoProxy::parse(exceptions);
    }
    Ok(proxies)
}

/// Reads the netrc file at this path; by default the one that `NETRC` names, or `~/.netrc`.
pub fn netrc(path: &str) -> Result<Netrc, Failure> {
    let path = match path {
        "" => variable("NETRC")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".netrc"))),
        path => Some(PathBuf::from(path)),
    };
    let path = path.ok_or_else(|| {
        Failure::usage("--netrc: there is no home folder to look in").hint("name the file: --netrc=FILE")
    })?;
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::usage(format!("cannot read `{}`: {error}", path.display())))?;
    Netrc::parse(&text).map_err(|why| Failure::usage(format!("cannot read `{}`: {why}", path.display())))
}
