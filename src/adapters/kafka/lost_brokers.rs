//! Clients that have no broker left to ask.
//!
//! A broker that stops, or has just started, may answer that its cluster has no brokers. librdkafka then
//! forgets those that it knew, and `bootstrap.servers` too. If the connection is lost in the same moment,
//! it does not begin again: it sends nothing more, and reports nothing
//! (github.com/confluentinc/librdkafka/issues/5301). But it logs the number of brokers in each answer,
//! in the debug context of [`log_metadata`](super::topic_identity::log_metadata).

use std::ffi::{CStr, CString};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::bindings::rd_kafka_brokers_add;
use rdkafka::client::{Client, ClientContext};
use tokio::time::Instant;
use tracing::info;

/// The client forgets its brokers soon after it has logged the answer. Those that are added before are
/// forgotten with them.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(500);

/// Whether a client has lost its brokers.
pub(super) struct LostBrokers {
    bootstrap_servers: CString,
    since: Mutex<Option<Instant>>,
}

impl LostBrokers {
    pub(super) fn new(bootstrap_servers: &str) -> Self {
        // A text with a NUL is refused with the configuration.
        let bootstrap_servers = CString::new(bootstrap_servers).unwrap_or_default();
        Self { bootstrap_servers, since: Mutex::default() }
    }

    /// Read a line of the client's log.
    pub(super) fn on_log(&self, line: &str) {
        if line.contains(": 0 brokers, ") {
            *self.since.lock() = Some(Instant::now());
        }
    }

    /// Give the client its first brokers again if it has lost them. To be called each second or so, and
    /// not by a callback for log lines.
    pub(super) fn restore<C: ClientContext>(&self, client: &Client<C>) {
        let lost = self.since.lock().take_if(|since| since.elapsed() >= FORGOTTEN_AFTER);
        if lost.is_some() {
            info!("a broker has answered that there are no brokers, asking the bootstrap servers");
            add_brokers(client, &self.bootstrap_servers);
        }
    }
}

#[expect(unsafe_code, reason = "rdkafka has no safe function for it")]
fn add_brokers<C: ClientContext>(client: &Client<C>, servers: &CStr) {
    // SAFETY: the client lives as long as this borrow, any thread may call the function, and it keeps a
    // copy of the text.
    unsafe { rd_kafka_brokers_add(client.native_ptr(), servers.as_ptr()) };
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rdkafka::ClientConfig;
    use rdkafka::config::RDKafkaLogLevel;
    use rdkafka::producer::{
        BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
    };

    use super::super::topic_identity::log_metadata;
    use super::*;

    const API_VERSIONS: u8 = 18;
    const METADATA: u8 = 3;
    const UNSUPPORTED_VERSION: u16 = 35;
    /// A client takes what memory it needs to read an answer from its length.
    const PADDING: [u8; 64] = [0; 64];

    /// A broker that names itself once; after that it answers that there are no brokers, and closes the
    /// connection.
    struct StoppingBroker {
        port: u16,
        /// Requests for metadata.
        asked: AtomicUsize,
    }

    impl StoppingBroker {
        fn start() -> Arc<Self> {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("an address").port();
            let broker = Arc::new(Self { port, asked: AtomicUsize::new(0) });
            let accepting = broker.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let broker = accepting.clone();
                    std::thread::spawn(move || while broker.answer(&stream).is_ok() {});
                }
            });
            broker
        }

        fn address(&self) -> String {
            format!("127.0.0.1:{}", self.port)
        }

        fn answer(&self, mut stream: &TcpStream) -> std::io::Result<()> {
            let mut size = [0; 4];
            stream.read_exact(&mut size)?;
            let mut request = vec![0; u32::from_be_bytes(size) as usize];
            stream.read_exact(&mut request)?;
            let (key, version, id) = (request[1], request[3], &request[4..8]);
            let body = match key {
                API_VERSIONS => api_versions(version),
                METADATA => self.metadata(),
                other => panic!("request {other}"),
            };
            let size = u32::try_from(id.len() + body.len()).expect("a short answer");
            stream.write_all(&[&size.to_be_bytes(), id, &body].concat())?;
            if key == METADATA && self.asked.load(Ordering::Relaxed) > 1 {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
            Ok(())
        }

        /// In version 1.
        fn metadata(&self) -> Vec<u8> {
            let brokers = if self.asked.fetch_add(1, Ordering::Relaxed) == 0 {
                let (id, host) = (1_u32.to_be_bytes(), b"\0\x09127.0.0.1");
                let port = u32::from(self.port).to_be_bytes();
                let no_rack = [0xff; 2];
                [&1_u32.to_be_bytes()[..], &id, host, &port, &no_rack].concat()
            } else {
                vec![0; 4]
            };
            let no_controller = [0xff; 4];
            // One, "t", without an error, not internal, without partitions.
            let topics = b"\0\0\0\x01\0\0\0\x01t\0\0\0\0\0";
            [&brokers[..], &no_controller, topics, &PADDING].concat()
        }
    }

    /// Metadata in versions 0 to 1, and this in version 0, in which the client asks again.
    fn api_versions(asked_in: u8) -> Vec<u8> {
        let error = if asked_in > 0 { UNSUPPORTED_VERSION } else { 0 };
        let entry = |key: u8, last: u8| [0, key, 0, 0, 0, last];
        let count = 2_u32.to_be_bytes();
        [&error.to_be_bytes()[..], &count, &entry(METADATA, 1), &entry(API_VERSIONS, 0)].concat()
    }

    struct LogReader(LostBrokers);

    impl ClientContext for LogReader {
        fn log(&self, _: RDKafkaLogLevel, _: &str, line: &str) {
            self.0.on_log(line);
            if line.contains(": 0 brokers, ") {
                // Called by the thread that forgets the brokers: the connection is lost meanwhile.
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }

    impl ProducerContext for LogReader {
        type DeliveryOpaque = ();

        fn delivery(&self, _: &DeliveryResult<'_>, _: Self::DeliveryOpaque) {}
    }

    #[test]
    fn a_client_that_lost_its_brokers_asks_the_first_ones_again() {
        let broker = StoppingBroker::start();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker.address());
        log_metadata(&mut config);
        let client: ThreadedProducer<LogReader> = config
            .create_with_context(LogReader(LostBrokers::new(&broker.address())))
            .expect("a client");
        // Its leader is wanted from now on.
        client.send(BaseRecord::<(), [u8], ()>::to("t").payload(&b"x"[..])).expect("it is queued");
        let asked = || broker.asked.load(Ordering::Relaxed);
        let is_asked = |times: usize| {
            (0..300).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                asked() >= times
            })
        };
        assert!(is_asked(2));
        std::thread::sleep(Duration::from_secs(2));
        let before = asked();
        assert!(!is_asked(before + 1), "librdkafka has learned to begin again: is this needed?");
        client.context().0.restore(client.client());
        assert!(is_asked(before + 1));
    }
}
