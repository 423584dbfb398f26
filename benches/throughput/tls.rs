//! TLS in front of the simulated Desk, which speaks plain HTTP: decrypts and forwards.
//!
//! The certificate is made for one run by the `openssl` program, which `scripts/setup` installs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A relay with a certificate for localhost; it ends when dropped.
pub(crate) struct TlsRelay {
    _task: JoinSet<()>,
    folder: TempDir,
    pub(crate) endpoint: String,
}

impl TlsRelay {
    /// Forwards to this address, `host:port`.
    pub(crate) async fn start(address: String) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        make_certificate(folder.path())?;
        let chain = CertificateDer::pem_file_iter(folder.path().join("cert.pem"))?
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(folder.path().join("key.pem"))?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("https://localhost:{}", listener.local_addr()?.port());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(forward(client, acceptor.clone(), address.clone()));
            }
        });
        Ok(Self { _task: task, folder, endpoint })
    }

    /// The certificate that a client has to trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }
}

async fn forward(client: TcpStream, acceptor: TlsAcceptor, address: String) -> Result<()> {
    client.set_nodelay(true)?;
    let mut server = TcpStream::connect(address).await?;
    server.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

fn make_certificate(folder: &Path) -> Result<()> {
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '))
        .args("-subj /CN=localhost -addext subjectAltName=DNS:localhost".split(' '))
        // A certificate that says it may sign others is refused as that of a server.
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output()
        .context("the program openssl is needed for a certificate")?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}
