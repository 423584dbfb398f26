//! A TCP relay that can drop its connections in silence, as a firewall does that has forgotten them:
//! what is sent goes nowhere, and neither side gets an error.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::kafka::Broker;

/// Forwards connections to one target. Ends when dropped, and its connections with it.
pub(crate) struct Relay {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    _accepting: JoinSet<()>,
}

#[derive(Clone, Default)]
struct State {
    /// `host:port`; connections wait until it is set.
    target: Option<String>,
    /// Connections accepted before this number of calls to [`Relay::drop_in_silence`] are dropped.
    generation: u64,
}

impl Relay {
    /// Listen on a port of its own, without a target yet: a broker has to be told the relay's
    /// address before it starts.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(watch::Sender::new(State::default()));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, state.clone()));
        Self { address, state, _accepting: accepting }
    }

    /// In front of a broker of the test's own, which names the relay's address as its own.
    pub(crate) async fn with_broker() -> (Self, Broker) {
        let relay = Self::start().await;
        let advertised = format!("PLAINTEXT://{}", relay.address());
        let broker = Broker::start_with(&[("advertised.listeners", &advertised)]).await;
        relay.forward_to(broker.bootstrap());
        (relay, broker)
    }

    /// The same with its target, `host:port`.
    pub(crate) async fn to(target: &str) -> Self {
        let relay = Self::start().await;
        relay.forward_to(target);
        relay
    }

    /// Forward to this target, `host:port`.
    pub(crate) fn forward_to(&self, target: &str) {
        self.state.send_modify(|state| state.target = Some(target.to_owned()));
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on the connections that exist forward nothing, and are not closed. New ones work.
    pub(crate) fn drop_in_silence(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

async fn accept(listener: TcpListener, state: Arc<watch::Sender<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let state = state.subscribe();
        connections.spawn(forward(client, state));
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(mut client: TcpStream, mut state: watch::Receiver<State>) {
    let generation = state.borrow().generation;
    let target = match state.wait_for(|state| state.target.is_some()).await {
        Ok(state) => state.target.clone().unwrap_or_default(),
        Err(_) => return,
    };
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let dropped = async { drop(state.wait_for(|state| state.generation > generation).await) };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        () = dropped => {}
    }
    // Both ends stay open, and nobody reads from them.
    std::future::pending::<()>().await;
}
