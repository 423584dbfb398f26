//! Connections to the simulated Desk that can be cut at any moment.
//!
//! A real service can disappear in the middle of a call, so clients must be tested against that.
//! The HTTP server reads and writes through a [`CuttableStream`], which fails once its
//! [`Connection`] is cut: no further byte of an answer leaves, and the client sees a closed
//! connection. An [`ConnectionOutage`] cuts all connections at once; its harder kind also closes the port.

use parking_lot::Mutex;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Pause before another try to open the port or to accept a connection.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Whether clients can reach this Desk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionOutage {
    /// They can.
    #[default]
    None,
    /// Each call loses its connection, calls in flight too; the controls still work.
    Closing,
    /// The port is closed: connections are refused, also to the controls.
    Refusing,
}

/// All connections; cuts them at once.
pub(super) struct Connections {
    outage: watch::Sender<ConnectionOutage>,
    /// Parent of the tokens of all open connections; an outage replaces it.
    open: Mutex<CancellationToken>,
}

/// One connection, as the handlers of its calls see it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    cut: CancellationToken,
}

/// One connection, as the HTTP server sees it.
pub(super) struct CuttableStream {
    stream: TcpStream,
    connection: Connection,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// A listener that closes its port during an outage and opens it again afterwards.
pub(super) struct OutageListener {
    listener: Option<TcpListener>,
    address: SocketAddr,
    outage: watch::Receiver<ConnectionOutage>,
    connections: Arc<Connections>,
    on_accept: Box<dyn Fn() + Send>,
}

impl Connections {
    pub(super) fn new() -> Self {
        let (outage, _) = watch::channel(ConnectionOutage::None);
        Self { outage, open: Mutex::default() }
    }

    pub(super) fn set(&self, outage: ConnectionOutage) {
        self.outage.send_replace(outage);
        if outage != ConnectionOutage::None {
            std::mem::take(&mut *self.open.lock()).cancel();
        }
    }

    /// Whether a call that arrives now must be cut.
    pub(super) fn are_cut(&self) -> bool {
        *self.outage.borrow() != ConnectionOutage::None
    }

    /// Cuts every connection, future ones too: the server stops.
    pub(super) fn cut_all(&self) {
        self.open.lock().cancel();
    }
}

impl Connection {
    /// Ends the connection; the answer of its call is lost.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }
}

impl OutageListener {
    /// Calls `on_accept` for each accepted connection.
    pub(super) fn new(
        listener: TcpListener,
        connections: Arc<Connections>,
        on_accept: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let outage = connections.outage.subscribe();
        Ok(Self {
            listener: Some(listener),
            address,
            outage,
            connections,
            on_accept: Box::new(on_accept),
        })
    }

    async fn next_connection(&mut self) -> Option<(TcpStream, SocketAddr)> {
        let Some(listener) = &self.listener else {
            self.listener = TcpListener::bind(self.address).await.ok();
            if self.listener.is_none() {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            return None;
        };
        tokio::select! {
            biased;
            _ = self.outage.changed() => None,
            connection = listener.accept() => match connection {
                Ok(connection) => Some(connection),
                Err(_) => {
                    tokio::time::sleep(RETRY_DELAY).await;
                    None
                }
            },
        }
    }
}

impl Listener for OutageListener {
    type Io = CuttableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (CuttableStream, SocketAddr) {
        loop {
            if *self.outage.borrow_and_update() == ConnectionOutage::Refusing {
                // Dropping the listener closes the port, so that connections are refused.
                self.listener = None;
                if self.outage.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            if let Some((stream, peer)) = self.next_connection().await {
                (self.on_accept)();
                let cut = self.connections.open.lock().child_token();
                return (CuttableStream::new(stream, Connection { cut }), peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Connected<IncomingStream<'_, OutageListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, OutageListener>) -> Self {
        stream.io().connection.clone()
    }
}

impl CuttableStream {
    fn new(stream: TcpStream, connection: Connection) -> Self {
        // Otherwise small answers wait for the client's acknowledgement. A failure costs only latency.
        stream.set_nodelay(true).ok();
        let cut = Box::pin(connection.cut.clone().cancelled_owned());
        Self { stream, connection, cut }
    }

    fn is_cut(&self) -> bool {
        self.connection.cut.is_cancelled()
    }
}

fn connection_reset() -> io::Error {
    io::Error::from(ErrorKind::ConnectionReset)
}

impl AsyncRead for CuttableStream {
    // The HTTP server reads all the time, so polling `cut` here wakes it even while a call hangs.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(connection_reset()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Ready(Err(connection_reset()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Ready(Err(connection_reset()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
