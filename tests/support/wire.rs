//! The wire between a client and the API server, which a test cuts.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

/// Passes on what comes, unless it is cut. Ends when it is dropped.
pub struct Wire {
    address: SocketAddr,
    state: watch::Sender<State>,
    refused: Arc<AtomicUsize>,
    task: AbortHandle,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct State {
    is_cut: bool,
    /// How often the connections were broken.
    broken: u64,
}

impl Wire {
    /// To the API server with such an URL.
    pub async fn to(url: &str) -> Self {
        let server = url.strip_prefix("https://").expect("it speaks TLS").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, refused) = (watch::Sender::new(State::default()), Arc::new(AtomicUsize::default()));
        let (states, refusals) = (state.clone(), refused.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if states.borrow().is_cut {
                    refusals.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                tokio::spawn(pass_on(client, server.clone(), states.subscribe()));
            }
        });
        Self { address, state, refused, task: task.abort_handle() }
    }

    /// Where it begins.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Breaks all connections. New ones are passed on.
    pub fn break_connections(&self) {
        self.state.send_modify(|state| state.broken += 1);
    }

    /// Breaks all connections, and accepts none.
    pub fn cut(&self) {
        self.state.send_modify(|state| *state = State { is_cut: true, broken: state.broken + 1 });
    }

    /// Accepts connections again.
    pub fn mend(&self) {
        self.state.send_modify(|state| state.is_cut = false);
    }

    /// How many connections came to nothing.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn pass_on(mut client: TcpStream, server: String, mut state: watch::Receiver<State>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    tokio::select! {
        // Who closes it is not our business.
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = state.changed() => {}
    }
}
