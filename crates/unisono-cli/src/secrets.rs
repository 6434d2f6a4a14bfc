//! Tokens from a command.

use std::{pin::Pin, process::Command, thread};

use tokio::sync::oneshot;
use unisono_core::Secret;
use unisono_runner::http_client::TokenSource;
use unisono_sys::descriptors::give_back;

/// A shell command that prints a token. It runs again when a token is refused.
pub struct TokenCommand(pub String);

impl TokenSource for TokenCommand {
    fn token(&self) -> Pin<Box<dyn Future<Output = Result<Secret, String>>>> {
        let command = self.0.clone();
        let (sender, receiver) = oneshot::channel();
        let run = move || drop(sender.send(run(&command)));
        let thread = thread::Builder::new().name("unisono-token".into()).spawn(run);
        Box::pin(async move {
            thread.map_err(|error| format!("no thread for the token command: {error}"))?;
            receiver.await.unwrap_or_else(|_| Err("the token command ended without an answer".to_owned()))
        })
    }
}

/// What it prints is never shown, not even when it fails: it may be a secret.
fn run(command: &str) -> Result<Secret, String> {
    let output = give_back(&mut Command::new("sh"))
        .arg("-c")
        .arg(command)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .output();
    let output = output.map_err(|error| format!("the token command cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("the token command failed ({})", output.status));
    }
    let token = String::from_utf8(output.stdout)
        .map_err(|_| "the token command printed something that is not text".to_owned())?;
    match token.trim() {
        "" => Err("the token command printed nothing".to_owned()),
        token => Ok(Secret::new(token)),
    }
}
