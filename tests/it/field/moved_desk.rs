//! Desk's name points elsewhere, and the server behind the connections that exist answers with errors.
//!
//! Once the service went on using those connections, for ever: each call renewed them, the gate was
//! shut, and all events expired although a new connection would have reached Desk.

use std::time::Duration;

use handoff::sim::desk::SimulatedDeskSettings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::beside::finals;
use crate::support::worker::{World, by_event, escalation};

const REFUSED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_server_before_a_move_are_given_up() {
    let mut world = World::new("moved", 1, SimulatedDeskSettings::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let desk = world.desk.endpoint().trim_start_matches("http://").to_owned();
    let mut servers = JoinSet::new();
    servers.spawn(serve(listener, desk));
    world.set("DESK__ENDPOINT", &endpoint).set("DESK__TIMEOUT_MS", "2000");
    world.set("DESK__PROBE_INITIAL_MS", "500");
    let worker = world.process();
    // New sessions keep the connections in use: one that is idle for a minute is closed anyway.
    let mut published = 0;
    while finals(&world).await.is_empty() {
        assert!(published < 40, "none of {published} is answered: {}", worker.log());
        published += 1;
        world.publish([escalation(&format!("e-{published}"), &format!("s-{published}"))]).await;
        sleep(Duration::from_secs(1)).await;
    }
    let answered = by_event(world.outcomes(published).await);
    for outcome in answered.values() {
        assert_eq!(outcome["status"], "assigned", "{outcome}");
    }
    worker.terminate().await;
}

/// The first two connections reach the old server, which answers each call with 503 and keeps them
/// open; those after them reach Desk.
async fn serve(listener: TcpListener, desk: String) {
    let mut connections = JoinSet::new();
    for number in 0.. {
        let (mut client, _) = listener.accept().await.unwrap();
        let desk = desk.clone();
        connections.spawn(async move {
            if number >= 2 {
                let mut server = TcpStream::connect(desk).await.unwrap();
                drop(copy_bidirectional(&mut client, &mut server).await);
                return;
            }
            let mut received = Vec::new();
            while client.read_buf(&mut received).await.is_ok_and(|read| read > 0) {
                // The body is JSON without line breaks, so a request ends with its brace.
                if received.ends_with(b"}") {
                    received.clear();
                    drop(client.write_all(REFUSED).await);
                }
            }
        });
    }
}
