//! The page: one HTML, one style, one script, embedded. None of them holds data, so they need no token;
//! the table for browsers without JavaScript does, and is there only for who may read `/status`.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse};

use super::Admin;
use super::document::StatusDocument;

const INDEX: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
/// Where the table goes.
const MARK: &str = "<!-- status -->";

pub(super) async fn index(State(admin): State<Admin>, headers: HeaderMap) -> Html<String> {
    let needs_token = admin.guard.reading_needs_token();
    let may_read = !needs_token || admin.guard.check_token(&headers).await.is_ok();
    let table = if may_read {
        table(&admin.snapshots.current().await.document)
    } else {
        "<p>What is here needs the token of <code>admin.token_file</code>.</p>".to_owned()
    };
    Html(INDEX.replacen(MARK, &table, 1))
}

pub(super) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}

pub(super) async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)
}

/// The status without JavaScript.
fn table(status: &StatusDocument) -> String {
    let headline = &status.headline;
    let mut rows = vec![
        ("what", headline.what.clone()),
        ("cost", headline.cost.clone().unwrap_or_default()),
        ("do", headline.repair.clone().unwrap_or_default()),
        ("gate", status.gate.state.to_owned()),
        ("unfinished", status.now.unfinished.to_string()),
    ];
    for (problem, count) in &status.now.by_problem {
        if *count > 0 {
            rows.push((problem, count.to_string()));
        }
    }
    for (status, count) in &status.last_hour.by_status {
        rows.push((status, format!("{count} in the last hour")));
    }
    rows.push(("dead letters", format!("{} in the last hour", status.now.dead_letters_last_hour)));
    let partitions = status
        .service
        .partitions_in_all
        .map_or_else(String::new, |all| format!("{} of {all}", status.service.partitions));
    rows.push(("partitions", partitions));
    let mut table = String::from("<table><caption>Status of this instance</caption>");
    for (name, text) in rows.iter().filter(|(_, text)| !text.is_empty()) {
        // Writing to a String cannot fail.
        write!(table, "<tr><th>{}</th><td>{}</td></tr>", escaped(name), escaped(text))
            .unwrap_or_default();
    }
    table + "</table>"
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_place_for_the_table_and_nothing_inline() {
        assert_eq!(INDEX.matches(MARK).count(), 1);
        for inline in ["<style", "style=", "<script>", "onclick=", "onload=", "http://", "https://"]
        {
            assert!(!INDEX.contains(inline), "{inline}");
        }
        assert_eq!(escaped("<b a='1'>&\""), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;");
    }
}
