//! The lines into the simulated Desk: connections that can be cut at any moment.
//!
//! A real service can vanish in the middle of a call, and a client must be tried against that. So
//! every connection runs through a [`Wire`] that fails once its [`Line`] is cut: not a byte of an
//! answer leaves after that, and the client sees a closed connection. An outage cuts all lines at
//! once; in its harder kind the port itself is shut. Nothing here knows of HTTP, and a line that
//! was cut never comes back.

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

use super::counters::lock;

const BREATH: Duration = Duration::from_millis(20);

/// Whether anybody can reach this Desk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// Everybody can.
    #[default]
    None,
    /// Every call loses its connection, those under way too; the controls can still be reached.
    Closing,
    /// The port is shut: connections are refused, those to the controls too.
    Refusing,
}

/// The switchboard: cuts every line at once.
pub(super) struct Lines {
    outage: watch::Sender<Outage>,
    /// The parent of the lines of now.
    trunk: Mutex<CancellationToken>,
}

/// One connection, as the handlers of its calls see it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    cut: CancellationToken,
}

/// One connection, as the HTTP server sees it.
pub(super) struct Wire {
    stream: TcpStream,
    line: Line,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// The listener, which can be shut and opened again on the same port.
pub(super) struct Entrance {
    listener: Option<TcpListener>,
    address: SocketAddr,
    outage: watch::Receiver<Outage>,
    lines: Arc<Lines>,
    accepted: Box<dyn Fn() + Send>,
}

impl Lines {
    pub(super) fn new() -> Self {
        let (outage, _) = watch::channel(Outage::None);
        Self { outage, trunk: Mutex::default() }
    }

    pub(super) fn set(&self, outage: Outage) {
        self.outage.send_replace(outage);
        if outage != Outage::None {
            std::mem::take(&mut *lock(&self.trunk)).cancel();
        }
    }

    /// Whether a call that comes now has to be cut.
    pub(super) fn are_out(&self) -> bool {
        *self.outage.borrow() != Outage::None
    }

    /// Cuts every line for good, those to come too: the server stops.
    pub(super) fn cut_all(&self) {
        lock(&self.trunk).cancel();
    }
}

impl Line {
    /// Ends the connection; whatever its call answers is lost.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }
}

impl Entrance {
    /// Calls `accepted` for every connection.
    pub(super) fn new(
        listener: TcpListener,
        lines: Arc<Lines>,
        accepted: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let outage = lines.outage.subscribe();
        Ok(Self { listener: Some(listener), address, outage, lines, accepted: Box::new(accepted) })
    }

    async fn next_connection(&mut self) -> Option<(TcpStream, SocketAddr)> {
        let Some(listener) = &self.listener else {
            self.listener = TcpListener::bind(self.address).await.ok();
            if self.listener.is_none() {
                tokio::time::sleep(BREATH).await;
            }
            return None;
        };
        tokio::select! {
            biased;
            _ = self.outage.changed() => None,
            connection = listener.accept() => match connection {
                Ok(connection) => Some(connection),
                Err(_) => {
                    tokio::time::sleep(BREATH).await;
                    None
                }
            },
        }
    }
}

impl Listener for Entrance {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        loop {
            if *self.outage.borrow_and_update() == Outage::Refusing {
                self.listener = None;
                if self.outage.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            if let Some((stream, peer)) = self.next_connection().await {
                (self.accepted)();
                let cut = lock(&self.lines.trunk).child_token();
                return (Wire::new(stream, Line { cut }), peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Connected<IncomingStream<'_, Entrance>> for Line {
    fn connect_info(stream: IncomingStream<'_, Entrance>) -> Self {
        stream.io().line.clone()
    }
}

impl Wire {
    fn new(stream: TcpStream, line: Line) -> Self {
        // Without it small answers wait for the client's acknowledgement; nothing else depends on it.
        stream.set_nodelay(true).ok();
        let cut = Box::pin(line.cut.clone().cancelled_owned());
        Self { stream, line, cut }
    }

    fn is_cut(&self) -> bool {
        self.line.cut.is_cancelled()
    }
}

fn gone() -> io::Error {
    io::Error::from(ErrorKind::ConnectionReset)
}

impl AsyncRead for Wire {
    /// The HTTP server reads all the time, so a cut wakes it even while a call hangs.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(gone()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Ready(Err(gone()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Ready(Err(gone()));
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
