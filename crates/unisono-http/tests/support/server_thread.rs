//! Servers on a thread and a clock of their own: they go on while the test's reactor stands, or is kept busy.

use std::{net::SocketAddr, sync::mpsc, thread};

use tokio::sync::oneshot;
use unisono_testkit::{Connection, Server};

pub struct ServerThread {
    pub address: SocketAddr,
    /// Dropped with the server, which ends the thread.
    _stop: oneshot::Sender<()>,
}

impl ServerThread {
    pub fn start<F, R>(script: F) -> Self
    where
        F: Fn(Connection) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let (sender, address) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::start(script).await;
                sender.send(server.address).unwrap();
                let _ = stopped.await;
            });
        });
        Self { address: address.recv().unwrap(), _stop: stop }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}
