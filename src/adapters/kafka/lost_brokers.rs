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

/// Mostly the client begins again by itself within a second.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// From one repair to the next, which costs the client some bytes for good.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Whether a client has lost its brokers.
pub(super) struct LostBrokers {
    bootstrap_servers: CString,
    state: Mutex<BrokersState>,
}

#[derive(Default)]
struct BrokersState {
    /// When the last answer named no broker; `None`: it named some.
    named_none: Option<Instant>,
    repaired: Option<Instant>,
}

impl LostBrokers {
    pub(super) fn new(bootstrap_servers: &str) -> Self {
        // A text with a NUL is refused with the configuration.
        let bootstrap_servers = CString::new(bootstrap_servers).unwrap_or_default();
        Self { bootstrap_servers, state: Mutex::default() }
    }

    /// Read a line of the client's log.
    pub(super) fn on_log(&self, line: &str) {
        if line.contains(" brokers, ") {
            let named_none = line.contains(": 0 brokers, ");
            self.state.lock().named_none = named_none.then(Instant::now);
        }
    }

    /// Give the client its first brokers again if it has lost them. To be called each second or so, and
    /// not by a callback for log lines.
    pub(super) fn restore<C: ClientContext>(&self, client: &Client<C>) {
        if self.is_due() {
            info!("a broker has answered that there are no brokers, asking the bootstrap servers");
            add_brokers(client, &self.bootstrap_servers);
        }
    }

    /// Whether it is to be repaired now. Counts as repaired then.
    fn is_due(&self) -> bool {
        let mut state = self.state.lock();
        let is_lost = state.named_none.is_some_and(|at| at.elapsed() >= LOST_AFTER);
        let is_due = is_lost && state.repaired.is_none_or(|at| at.elapsed() >= AGAIN_AFTER);
        if is_due {
            state.repaired = Some(Instant::now());
        }
        is_due
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

    use rdkafka::ClientConfig;
    use rdkafka::config::RDKafkaLogLevel;
    use rdkafka::producer::{DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

    use super::super::topic_identity::log_metadata;
    use super::*;

    const API_VERSIONS: u8 = 18;
    const METADATA: u8 = 3;
    const UNSUPPORTED_VERSION: u16 = 35;
    /// A client takes what memory it needs to read an answer from its length.
    const PADDING: [u8; 64] = [0; 64];

    /// Answers that there are no brokers.
    fn serve(listener: TcpListener) {
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || while answer(&stream).is_ok() {});
            }
        });
    }

    fn answer(mut stream: &TcpStream) -> std::io::Result<()> {
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        let mut request = vec![0; u32::from_be_bytes(size) as usize];
        stream.read_exact(&mut request)?;
        let (key, version, id) = (request[1], request[3], &request[4..8]);
        let body = match key {
            API_VERSIONS => api_versions(version),
            METADATA => metadata(),
            other => panic!("request {other}"),
        };
        let size = u32::try_from(id.len() + body.len()).expect("a short answer");
        stream.write_all(&[&size.to_be_bytes(), id, &body].concat())
    }

    /// Metadata in versions 0 to 1, and this in version 0, in which the client asks again.
    fn api_versions(asked_in: u8) -> Vec<u8> {
        let error = if asked_in > 0 { UNSUPPORTED_VERSION } else { 0 };
        let entry = |key: u8, last: u8| [0, key, 0, 0, 0, last];
        let count = 2_u32.to_be_bytes();
        [&error.to_be_bytes()[..], &count, &entry(METADATA, 1), &entry(API_VERSIONS, 0)].concat()
    }

    /// In version 1.
    fn metadata() -> Vec<u8> {
        let (no_brokers, no_controller) = ([0; 4], [0xff; 4]);
        // One, "t", without an error, not internal, without partitions.
        let topics = b"\0\0\0\x01\0\0\0\x01t\0\0\0\0\0";
        [&no_brokers[..], &no_controller, topics, &PADDING].concat()
    }

    struct LogReader(LostBrokers);

    impl ClientContext for LogReader {
        fn log(&self, _: RDKafkaLogLevel, _: &str, line: &str) {
            self.0.on_log(line);
        }
    }

    impl ProducerContext for LogReader {
        type DeliveryOpaque = ();

        fn delivery(&self, _: &DeliveryResult<'_>, _: Self::DeliveryOpaque) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_repaired_once_it_has_no_brokers_for_long() {
        let lost = LostBrokers::new("a:9092");
        assert!(!lost.is_due());
        lost.on_log("[thrd:main]: a:9092/1: 0 brokers, 1 topics");
        assert!(!lost.is_due(), "it may begin again by itself");
        tokio::time::advance(LOST_AFTER).await;
        assert!(lost.is_due() && !lost.is_due(), "once");
        tokio::time::advance(AGAIN_AFTER).await;
        assert!(lost.is_due(), "it is still so");
        lost.on_log("[thrd:main]: a:9092/1: 10 brokers, 1 topics");
        tokio::time::advance(AGAIN_AFTER).await;
        assert!(!lost.is_due());
    }

    /// Whether librdkafka stalls by itself is a race, so this client has no brokers from the beginning.
    #[test]
    fn a_client_asks_the_brokers_that_were_added_and_logs_how_many_they_name() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let servers = listener.local_addr().expect("an address").to_string();
        let mut config = ClientConfig::new();
        log_metadata(&mut config);
        let client: ThreadedProducer<LogReader> =
            config.create_with_context(LogReader(LostBrokers::new(&servers))).expect("a client");
        let lost = &client.context().0;
        add_brokers(client.client(), &lost.bootstrap_servers);
        serve(listener);
        let named_none = (0..3000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            lost.state.lock().named_none.is_some()
        });
        assert!(named_none, "the answer of the broker that was added");
    }
}
