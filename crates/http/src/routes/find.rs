//! From a path to the resource that it addresses. Allocates nothing unless a
//! segment has escapes.

use super::{Api, Route, pixy, v1};
use crate::parameters::decode;
use hyper::Method;
use hyper::header::HeaderValue;
use std::borrow::Cow;
use std::sync::LazyLock;

/// More segments than any path has.
const SEGMENTS: usize = 8;

/// All methods of a path.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) api: Api,
    pub(crate) path: &'static str,
    pub(crate) is_of_cluster: bool,
    segments: Vec<&'static str>,
    routes: Vec<&'static Route>,
    /// Its methods, as `Allow` names them.
    pub(crate) allow: HeaderValue,
}

/// A resource and the names in its path.
#[derive(Debug)]
pub(crate) struct Target<'p> {
    pub(crate) resource: &'static Resource,
    /// Empty: the default one.
    pub(crate) cluster: Cow<'p, str>,
    pub(crate) group: Cow<'p, str>,
    pub(crate) topic: Cow<'p, str>,
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) enum Found<'p> {
    Target(Target<'p>),
    Nowhere(Api),
    /// The same without doubled slashes.
    Elsewhere(String),
    /// A percent escape that is none.
    Malformed(Api, String),
}

impl Resource {
    /// The route of a method. What answers GET answers HEAD, in the native
    /// API; Kafka-Pixy refuses it.
    pub(crate) fn route(&self, method: &Method) -> Option<&'static Route> {
        let method = match (self.api, method) {
            (Api::V1, &Method::HEAD) => &Method::GET,
            (_, method) => method,
        };
        self.routes
            .iter()
            .copied()
            .find(|route| route.method == *method)
    }

    /// Its routes in the order of the table.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &'static Route> {
        self.routes.iter().copied()
    }

    fn matches(&self, segments: &[Cow<'_, str>]) -> bool {
        self.segments.len() == segments.len()
            && self
                .segments
                .iter()
                .zip(segments)
                .all(|(own, segment)| match own.starts_with('{') {
                    true => !segment.is_empty(),
                    false => own == segment,
                })
    }

    /// What stands for a placeholder.
    fn name<'p>(&self, placeholder: &str, segments: &[Cow<'p, str>]) -> Option<Cow<'p, str>> {
        let index = self.segments.iter().position(|own| *own == placeholder)?;
        segments.get(index).cloned()
    }
}

/// All resources, those of Kafka-Pixy first.
pub(crate) fn resources() -> &'static [Resource] {
    static RESOURCES: LazyLock<Vec<Resource>> = LazyLock::new(|| {
        let mut resources: Vec<Resource> = Vec::new();
        for route in pixy::ROUTES.iter().chain(v1::ROUTES) {
            let is_same = |own: &&mut Resource| own.api == route.api && own.path == route.path;
            match resources.iter_mut().find(is_same) {
                Some(own) => own.routes.push(route),
                None => resources.push(Resource {
                    api: route.api,
                    path: route.path,
                    is_of_cluster: route.is_of_cluster,
                    segments: route.path.split('/').skip(1).collect(),
                    routes: vec![route],
                    allow: HeaderValue::from_static(""),
                }),
            }
        }
        for resource in &mut resources {
            let mut methods: Vec<&str> = resource
                .routes
                .iter()
                .map(|route| route.method.as_str())
                .collect();
            if resource.api == Api::V1 {
                if methods.contains(&"GET") {
                    methods.push("HEAD");
                }
                methods.push("OPTIONS");
            }
            // Names of methods are allowed in headers.
            if let Ok(allow) = HeaderValue::try_from(methods.join(", ")) {
                resource.allow = allow;
            }
        }
        resources
    });
    &RESOURCES
}

/// Finds what a path addresses.
pub(crate) fn find(path: &str) -> Found<'_> {
    let api = match path == "/v1" || path.starts_with("/v1/") {
        true => Api::V1,
        false => Api::Pixy,
    };
    if path.contains("//") {
        let mut clean = path.to_owned();
        while clean.contains("//") {
            clean = clean.replace("//", "/");
        }
        return Found::Elsewhere(clean);
    }
    let mut segments: [Cow<'_, str>; SEGMENTS] = Default::default();
    let mut count = 0;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        let Some(place) = segments.get_mut(count) else {
            return Found::Nowhere(api);
        };
        count += 1;
        *place = match segment.contains('%') {
            false => Cow::Borrowed(segment),
            true => match decode(segment.as_bytes(), false) {
                Ok(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
                Err(problem) => return Found::Malformed(api, problem),
            },
        };
    }
    let mut segments = segments.get(..count).unwrap_or_default();
    if api == Api::V1 {
        segments = segments.get(1..).unwrap_or_default();
    }
    let mut cluster = None;
    if let [word, name, rest @ ..] = segments
        && word == "clusters"
        && !name.is_empty()
        && !rest.is_empty()
    {
        cluster = Some(name.clone());
        segments = rest;
    }
    let resource = resources().iter().find(|resource| {
        resource.api == api
            && (cluster.is_none() || resource.is_of_cluster)
            && resource.matches(segments)
    });
    let Some(resource) = resource else {
        return Found::Nowhere(api);
    };
    let name = |placeholder: &str| resource.name(placeholder, segments);
    Found::Target(Target {
        resource,
        group: name("{group}").unwrap_or_default(),
        topic: name("{topic}").unwrap_or_default(),
        cluster: cluster.or_else(|| name("{cluster}")).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// API, path in the table, cluster, group, topic.
    fn target(path: &str) -> (Api, &'static str, String, String, String) {
        match find(path) {
            Found::Target(target) => (
                target.resource.api,
                target.resource.path,
                target.cluster.into_owned(),
                target.group.into_owned(),
                target.topic.into_owned(),
            ),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn paths_lead_somewhere() {
        let expected = |api, path, cluster: &str, group: &str, topic: &str| {
            let own = str::to_owned;
            (api, path, own(cluster), own(group), own(topic))
        };
        let messages =
            |cluster, topic| expected(Api::Pixy, "/topics/{topic}/messages", cluster, "", topic);
        assert_eq!(target("/topics/a%20b/messages"), messages("", "a b"));
        assert_eq!(target("/clusters/c/topics/t/messages"), messages("c", "t"));
        assert_eq!(
            target("/topics/clusters/messages"),
            messages("", "clusters")
        );
        let path = "/groups/{group}/topics/{topic}/records";
        assert_eq!(
            target("/v1/clusters/c/groups/g/topics/t/records"),
            expected(Api::V1, path, "c", "g", "t")
        );
        assert_eq!(
            target("/v1/groups/a%2Fb/topics/t/records"),
            expected(Api::V1, path, "", "a/b", "t")
        );
        let cluster = expected(Api::V1, "/clusters/{cluster}", "c", "", "");
        assert_eq!(target("/v1/clusters/c"), cluster);
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for nowhere in [
            "/",
            "",
            "/topics/t/messages/",
            "/topics/t/message",
            "/clusters/c",
            "/topics/",
            "/clusters/c/_ping",
            "/_ping/",
            "/v11/topics",
            "/a/b/c/d/e/f/g/h/i/j/k",
        ] {
            assert!(
                matches!(find(nowhere), Found::Nowhere(Api::Pixy)),
                "{nowhere}"
            );
        }
        for nowhere in ["/v1", "/v1/", "/v1/topics/", "/v1/clusters/c/openapi.json"] {
            assert!(
                matches!(find(nowhere), Found::Nowhere(Api::V1)),
                "{nowhere}"
            );
        }
        let Found::Elsewhere(clean) = find("/topics//t///acks") else {
            panic!("doubled slashes");
        };
        assert_eq!(clean, "/topics/t/acks");
        let malformed = find("/topics/%zz/acks");
        assert!(matches!(malformed, Found::Malformed(Api::Pixy, _)));
    }

    #[test]
    fn every_resource_says_its_methods() {
        for resource in resources() {
            let allow = resource.allow.to_str().unwrap();
            for route in resource.routes() {
                assert!(allow.contains(route.method.as_str()), "{route:?}");
                assert_eq!(route.is_of_cluster, resource.is_of_cluster, "{route:?}");
            }
        }
    }
}
