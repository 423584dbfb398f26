//! Why each route is used or not: for people, by the comparison that [`Routes::find`] makes.

use std::fmt;

use jiff::Timestamp;

use super::{HoursCondition, RouteMatch, RouteMismatch, Routes};
use crate::domain::event::TransferRequest;

/// A route, and what it is for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExaminedRoute {
    /// Its name.
    pub name: String,
    /// It is only counted, never used.
    pub shadow: bool,
    /// What it is for the request.
    pub standing: RouteStanding,
}

/// What a route is for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteStanding {
    /// It is used.
    Used,
    /// It would be used if it were no shadow route.
    UsedInShadow,
    /// It is not used, and why.
    NotUsed(String),
}

impl Routes {
    /// What each route is for this request now, in their order.
    pub fn examine(&self, request: &TransferRequest, now: Timestamp) -> Vec<ExaminedRoute> {
        let RouteMatch { route: used, shadows } = self.find(request, now);
        let is = |found: &super::Route, name: &str| found.name == name;
        let standing = |route: &super::Route| {
            if used.is_some_and(|used| is(used, &route.name)) {
                return RouteStanding::Used;
            }
            if shadows.iter().any(|shadow| is(shadow, &route.name)) {
                return RouteStanding::UsedInShadow;
            }
            RouteStanding::NotUsed(match (route.first_mismatch(request, now), used) {
                (Some(mismatch), _) => mismatch.to_string(),
                (None, Some(used)) => format!("{:?} before it matches, too", used.name),
                (None, None) => String::new(),
            })
        };
        let examined = |route: &super::Route| ExaminedRoute {
            name: route.name.clone(),
            shadow: route.shadow,
            standing: standing(route),
        };
        self.0.iter().map(examined).collect()
    }

    /// Why the route of this name is not used for this request now; `None` if it is, or if there is
    /// none of this name.
    pub fn why_not(&self, name: &str, request: &TransferRequest, now: Timestamp) -> Option<String> {
        let examined = self.examine(request, now).into_iter().find(|route| route.name == name)?;
        match examined.standing {
            RouteStanding::Used => None,
            RouteStanding::UsedInShadow => Some("it is a shadow route".to_owned()),
            RouteStanding::NotUsed(why) => Some(why),
        }
    }
}

impl fmt::Display for RouteMismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { subject, value: None } => {
                write!(f, "`when.{subject}` does not hold: it is absent")
            }
            Self::Value { subject, value: Some(value) } => {
                write!(f, "`when.{subject}` does not hold: it is {value:?}")
            }
            Self::Hours { hours, now } => {
                let state =
                    if matches!(hours, HoursCondition::Open(_)) { "closed" } else { "open" };
                write!(f, "`when.hours` does not hold: they are {state} at {now}")
            }
        }
    }
}
