//! Those who listen to `/live`, also those who are gone.

use axum::http::{StatusCode, header};
use reqwest::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::super::AdminSettings;
use super::{Port, SECOND, event, now};

/// The next event of a stream, without the comments.
async fn next_event(response: &mut Response, buffered: &mut String) -> String {
    loop {
        if let Some((event, rest)) = buffered.split_once("\n\n") {
            let (event, rest) = (event.to_owned(), rest.to_owned());
            *buffered = rest;
            if event.starts_with("event:") {
                return event;
            }
            continue;
        }
        let chunk = response.chunk().await.unwrap().expect("the stream goes on");
        buffered.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

#[tokio::test]
async fn a_listener_gets_the_document_whenever_it_changes() {
    let mut port = Port::open(AdminSettings::default()).await;
    let mut response = port.get("/live").send().await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut buffered = String::new();
    let first = next_event(&mut response, &mut buffered).await;
    assert!(first.contains("\"what\":\"all well\""), "{first}");
    port.view.health.set_waiting_for(Some("no topic".into()));
    let second = next_event(&mut response, &mut buffered).await;
    assert!(second.contains("the service has not started: no topic"), "{second}");
    let id =
        |event: &str| event.lines().find_map(|line| line.strip_prefix("id: ")).map(str::to_owned);
    assert_ne!(id(&first), id(&second));
    // One that has this document already waits for the next.
    let mut again =
        port.get("/live").header("last-event-id", id(&second).unwrap()).send().await.unwrap();
    port.view.health.set_waiting_for(None);
    let third = next_event(&mut again, &mut String::new()).await;
    assert!(third.contains("\"what\":\"all well\""), "{third}");

    let mut listeners = Vec::new();
    for _ in 0..30 {
        listeners.push(port.get("/live").send().await.unwrap());
    }
    let refused = port.get("/live").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "5");
    // Open streams do not hold up the stop.
    port.stop.cancel();
    port.tasks.join_next().await.unwrap().unwrap();
}

/// A listener whose system takes a part of the first document, and then nothing any more.
#[cfg(target_os = "linux")]
async fn deaf_listener(port: &Port) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1_024).unwrap();
    let address = port.base.strip_prefix("http://").unwrap().parse().unwrap();
    let mut connection = socket.connect(address).await.unwrap();
    connection.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut status = [0; 12];
    connection.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200", "it has a place");
    connection
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_listener_that_takes_nothing_loses_its_place() {
    let port = Port::within(SECOND, "127.0.0.1:0", AdminSettings::default()).await;
    // The document has to be larger than what the system of a listener takes unasked.
    let events = port.view.activity.unfinished_events().clone();
    let _open: Vec<_> = (0..100).map(|n| events.add(&event(&format!("evt-{n}")), now())).collect();
    let mut deaf = Vec::new();
    for _ in 0..32 {
        deaf.push(deaf_listener(&port).await);
    }
    let is_served = async || {
        while port.get("/live").send().await.unwrap().status() != StatusCode::OK {
            tokio::time::sleep(SECOND / 5).await;
        }
    };
    let served = tokio::time::timeout(60 * SECOND, is_served()).await;
    served.expect("the places of those who take nothing are free again");
}
