//! What the service reports about itself: `[log]` and `[traces]`.

use tracing_subscriber::EnvFilter;

use super::raw_config::RawConfig;
use crate::telemetry::{LogFormat, LogSettings, LoggedIds, SpanParent, TraceSettings};

/// Reads `[log]`.
pub(super) fn log(raw: &mut RawConfig) -> Option<LogSettings> {
    let wanted = "off, error, warn, info, debug or trace, or as \"info,handoff=debug\"";
    let level = raw.parsed("log.level", wanted, |text| is_level(text).then(|| text.to_owned()));
    let format = raw.parsed("log.format", "text or json", |text| match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    });
    let show_ids = raw.flag("log.show_ids");
    let ids = if show_ids? { LoggedIds::Full } else { LoggedIds::Shortened };
    Some(LogSettings { level: level?, format: format?, ids })
}

/// The section, whether or not traces are on.
pub(super) struct TracesSection {
    enabled: bool,
    settings: TraceSettings,
}

impl TracesSection {
    pub(super) fn settings(self) -> Option<TraceSettings> {
        self.enabled.then_some(self.settings)
    }
}

/// Reads `[traces]`.
pub(super) fn traces(raw: &mut RawConfig) -> Option<TracesSection> {
    let enabled = raw.flag("traces.enabled");
    let wanted = "a URL such as \"http://localhost:4318\", or \"\"";
    let endpoint =
        raw.parsed("traces.endpoint", wanted, |text| is_base_url(text).then(|| text.to_owned()));
    let parent = raw.parsed("traces.parent", "message or none", |text| match text {
        "message" => Some(SpanParent::Message),
        "none" => Some(SpanParent::None),
        _ => None,
    });
    let personal = raw.flag("traces.personal");
    let endpoint = Some(endpoint?).filter(|endpoint| !endpoint.is_empty());
    let settings = TraceSettings { endpoint, parent: parent?, personal: personal? };
    Some(TracesSection { enabled: enabled?, settings })
}

fn is_base_url(text: &str) -> bool {
    text.is_empty()
        || reqwest::Url::parse(text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none()
        })
}

/// Whether this is a level or a list of directives. `EnvFilter` would take a misspelt level for the
/// name of a module and log nothing, so a single word must be a level.
fn is_level(text: &str) -> bool {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_clear = |part: &str| {
        part.contains(['=', '[', ']'])
            || levels.iter().any(|level| part.trim().eq_ignore_ascii_case(level))
    };
    text.split(',').all(is_clear) && EnvFilter::try_new(text).is_ok()
}
