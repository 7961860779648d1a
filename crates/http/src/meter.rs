//! What is counted of requests to Kafka-Pixy's, the native and kafboy's API. Each
//! has its place in the list, which is known from the route without looking it up.

use crate::routes::{Operation, PixyOperation, Route, V1Operation, resources};
use barnabas_metrics::Meter;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// Statuses that have a label of their own, ascending.
const STATUSES: [u16; 27] = [
    200, 201, 202, 204, 206, 207, 301, 304, 400, 401, 403, 404, 405, 406, 408, 409, 410, 411, 413,
    415, 422, 429, 500, 501, 502, 503, 504,
];

/// The same as labels; then those of requests without one.
const OUTCOMES: [&str; STATUSES.len() + 2] = [
    "200",
    "201",
    "202",
    "204",
    "206",
    "207",
    "301",
    "304",
    "400",
    "401",
    "403",
    "404",
    "405",
    "406",
    "408",
    "409",
    "410",
    "411",
    "413",
    "415",
    "422",
    "429",
    "500",
    "501",
    "502",
    "503",
    "504",
    "other",
    "cancelled",
];
const OTHER: usize = STATUSES.len();
const CANCELLED: usize = OTHER + 1;

/// Operations of Kafka-Pixy's API, then the native ones, then what is none.
const V1: usize = PixyOperation::Topic as usize + 1;
const NOWHERE: usize = V1 + V1Operation::WriteOffsets as usize + 1;

/// What goes wrong with connections.
const FAILURES: [&str; 4] = ["accept", "full", "tls", "connection"];
/// And with kafboy's hook.
const KAFBOY_FAILURES: [&str; 5] = ["accept", "full", "tls", "connection", "hook"];

/// The numbers of kprf's port: connections, bytes and failures. Its requests
/// are counted under its own names.
pub(crate) fn kprf_meter() -> Arc<Meter> {
    Arc::new(Meter::new("kprf", Vec::new(), &OUTCOMES, &FAILURES))
}

/// The numbers of kafboy's port: requests by these routes, or by none.
pub(crate) fn kafboy_meter<'a>(patterns: impl Iterator<Item = &'a str>) -> Arc<Meter> {
    let patterns = patterns.map(|pattern| Cow::Owned(pattern.to_owned()));
    let requests = patterns.chain([Cow::Borrowed("other")]).collect();
    Arc::new(Meter::new("kafboy", requests, &OUTCOMES, &KAFBOY_FAILURES))
}

/// Kinds of [`FAILURES`] and [`KAFBOY_FAILURES`]; each is its place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    /// None could be accepted.
    Accept,
    /// There are too many.
    Full,
    /// The handshake of TLS failed or took too long.
    Tls,
    /// It broke, or what came over it was no HTTP.
    Connection,
    /// kafboy's hook failed, or took too long.
    Hook,
}

/// The numbers of one HTTP front end: requests by method and path, and by
/// status.
pub fn meter() -> Arc<Meter> {
    let mut requests = vec![Cow::Borrowed("other"); NOWHERE + 1];
    let routes = resources().iter().flat_map(|resource| resource.routes());
    for route in routes {
        if let Some(request) = requests.get_mut(place(route)) {
            let api = match route.operation {
                Operation::Pixy(_) => "",
                Operation::V1(_) => "/v1",
            };
            *request = format!("{} {api}{}", route.method, route.path).into();
        }
    }
    Arc::new(Meter::new("http", requests, &OUTCOMES, &FAILURES))
}

fn place(route: &Route) -> usize {
    match route.operation {
        Operation::Pixy(operation) => operation as usize,
        Operation::V1(operation) => V1 + operation as usize,
    }
}

/// A request that is being answered. One that is dropped before has been
/// cancelled by its client.
pub(crate) struct Asked<'a> {
    meter: &'a Meter,
    since: Instant,
    request: usize,
    outcome: usize,
}

impl<'a> Asked<'a> {
    pub(crate) fn now(meter: &'a Meter) -> Self {
        Self::at(meter, NOWHERE)
    }

    /// One whose place among the requests is known.
    pub(crate) fn at(meter: &'a Meter, request: usize) -> Self {
        Self {
            meter,
            since: Instant::now(),
            request,
            outcome: CANCELLED,
        }
    }

    /// It is for this route.
    pub(crate) fn is_for(&mut self, route: &Route) {
        self.request = place(route);
    }

    /// It has been answered.
    pub(crate) fn answered(mut self, status: u16) {
        self.outcome = STATUSES.binary_search(&status).unwrap_or(OTHER);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let after = self.since.elapsed();
        self.meter.answered(self.request, self.outcome, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_status_has_its_label() {
        assert!(STATUSES.is_sorted());
        for (status, label) in STATUSES.iter().zip(OUTCOMES) {
            assert_eq!(status.to_string(), label);
        }
        assert_eq!(
            (OUTCOMES[OTHER], OUTCOMES[CANCELLED]),
            ("other", "cancelled")
        );
    }

    #[test]
    fn every_route_has_a_place_of_its_own() {
        let routes = resources().iter().flat_map(|resource| resource.routes());
        let places: Vec<usize> = routes.map(place).collect();
        assert_eq!(KAFBOY_FAILURES[..FAILURES.len()], FAILURES);
        assert_eq!(KAFBOY_FAILURES[Failure::Hook as usize], "hook");
        let different: BTreeSet<usize> = places.iter().copied().collect();
        assert_eq!(different.len(), places.len());
        assert!(different.iter().all(|place| *place < NOWHERE));
    }
}
