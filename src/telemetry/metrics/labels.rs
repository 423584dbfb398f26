//! The labels of the metrics. Each has a small, closed set of values: words of this crate, and names of the
//! configuration.

use std::borrow::Cow;

use prometheus_client::encoding::EncodeLabelSet;

/// The route of an outcome without one.
pub(super) const NO_ROUTE: &str = "none";

/// What parked events wait for: their next attempt, the events ahead of them in their session, or an
/// agent of their plan.
pub(super) const PARKED_WHY: [&str; 3] = ["retry", "behind_in_session", "nobody_online"];

/// What the consumer's group did with partitions of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebalanceKind {
    /// It assigned some.
    Assigned,
    /// It took some back, after they were drained.
    Revoked,
    /// Another instance may have them already.
    Lost,
}

impl RebalanceKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Assigned, Self::Revoked, Self::Lost];

    /// The word in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Revoked => "revoked",
            Self::Lost => "lost",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabel {
    pub(super) status: &'static str,
    pub(super) route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StatusLabel {
    pub(super) status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ClassLabel {
    pub(super) class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabel {
    pub(super) command: &'static str,
    pub(super) verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CommandLabel {
    pub(super) command: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DialectLabel {
    pub(super) dialect: Cow<'static, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct KindLabel {
    pub(super) kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WhyLabel {
    pub(super) why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ProblemLabel {
    pub(super) problem: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PartitionLabel {
    pub(super) topic: String,
    pub(super) partition: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabel {
    pub(super) route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FileLabel {
    pub(super) file: &'static str,
}
