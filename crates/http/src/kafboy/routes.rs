//! Which path does what (contract, section 8): kafboy's own routes, those that
//! follow from its two configurable ones, and extra ones.

use super::state::KafboyOptions;
use crate::parameters::decode;
use std::borrow::Cow;

/// The place of the topic in a path.
const TOPIC: &str = ":topic";

/// How a route produces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Async,
    BatchAsync,
    Sync,
    BatchSync,
}

/// The paths that are always there; they stand behind the configured ones.
const DISCO: &str = "/disco";
const ECHO: &str = "/echo_post";

/// A route, and what a path makes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Match<'a> {
    /// Its place among [`Routes::patterns`].
    pub(super) place: usize,
    /// As it is configured.
    pub(super) pattern: &'a str,
    pub(super) found: Found<'a>,
}

/// What a path stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Produce {
        topic: Cow<'a, str>,
        mode: Mode,
        /// Behind the valve.
        is_guarded: bool,
    },
    Disco,
    Echo,
}

/// A path that can be no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRoute {
    /// The configuration's key.
    pub key: &'static str,
    /// As it is written there.
    pub path: String,
}

impl std::fmt::Display for InvalidRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, path } = self;
        write!(f, "{key}: {path:?} must begin with / and have {TOPIC} once")
    }
}

impl std::error::Error for InvalidRoute {}

/// The table of all routes; the first that fits counts.
#[derive(Debug)]
pub(super) struct Routes(Vec<Route>);

#[derive(Debug)]
struct Route {
    /// With what stands before it, and without a slash at the end.
    pattern: String,
    /// Without the slash at the end, which no request needs.
    segments: Vec<String>,
    mode: Mode,
    is_guarded: bool,
}

impl Routes {
    pub(super) fn new(options: &KafboyOptions) -> Result<Self, InvalidRoute> {
        let mut routes = Self(Vec::new());
        for (key, url, single, batch) in [
            (
                "kafboy_async_url",
                &options.async_url,
                Mode::Async,
                Mode::BatchAsync,
            ),
            (
                "kafboy_sync_url",
                &options.sync_url,
                Mode::Sync,
                Mode::BatchSync,
            ),
        ] {
            for (prefix, mode, is_guarded) in [
                ("", single, false),
                ("/batch", batch, false),
                ("/safe", single, true),
                ("/safe/batch", batch, true),
            ] {
                routes.add(key, url, prefix, mode, is_guarded)?;
            }
        }
        for (key, paths, mode) in [
            (
                "kafboy_routes_async_batch",
                &options.extra_async_batch,
                Mode::BatchAsync,
            ),
            ("kafboy_routes_async", &options.extra_async, Mode::Async),
            ("kafboy_routes_sync", &options.extra_sync, Mode::Sync),
        ] {
            for path in paths {
                routes.add(key, path, "", mode, false)?;
            }
        }
        Ok(routes)
    }

    fn add(
        &mut self,
        key: &'static str,
        path: &str,
        prefix: &str,
        mode: Mode,
        is_guarded: bool,
    ) -> Result<(), InvalidRoute> {
        let segments: Vec<String> = split(path).map(str::to_owned).collect();
        let topics = segments.iter().filter(|segment| *segment == TOPIC).count();
        if !path.starts_with('/') || topics != 1 {
            let path = path.to_owned();
            return Err(InvalidRoute { key, path });
        }
        let prefix = split(prefix).filter(|segment| !segment.is_empty());
        let segments: Vec<String> = prefix.map(str::to_owned).chain(segments).collect();
        self.0.push(Route {
            pattern: format!("/{}", segments.join("/")),
            segments,
            mode,
            is_guarded,
        });
        Ok(())
    }

    /// All routes, for those who count requests by them.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &str> {
        let configured = self.0.iter().map(|route| &*route.pattern);
        configured.chain([DISCO, ECHO])
    }

    /// The route of a path.
    pub(super) fn find<'a>(&'a self, path: &'a str) -> Option<Match<'a>> {
        let own = |place, pattern, found| Match {
            place: self.0.len() + place,
            pattern,
            found,
        };
        match path.strip_suffix('/').unwrap_or(path) {
            DISCO => return Some(own(0, DISCO, Found::Disco)),
            ECHO => return Some(own(1, ECHO, Found::Echo)),
            _ => {}
        }
        let mut routes = self.0.iter().enumerate();
        let (place, route) = routes.find(|(_, route)| route.fits(path))?;
        let mut pairs = route.segments.iter().zip(split(path));
        let (_, topic) = pairs.find(|(own, _)| *own == TOPIC)?;
        Some(Match {
            place,
            pattern: &route.pattern,
            found: Found::Produce {
                topic: text(topic),
                mode: route.mode,
                is_guarded: route.is_guarded,
            },
        })
    }
}

impl Route {
    fn fits(&self, path: &str) -> bool {
        let mut segments = split(path);
        let fit = self.segments.iter().all(|own| {
            let segment = segments.next();
            segment.is_some_and(|segment| own == TOPIC || own == segment)
        });
        fit && segments.next().is_none()
    }
}

/// What stands between the slashes; one at the end ends nothing.
fn split(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.strip_suffix('/').unwrap_or(path).split('/')
}

/// A segment's text. What cannot be decoded is no topic's name, and stays.
fn text(segment: &str) -> Cow<'_, str> {
    match decode(segment.as_bytes(), true) {
        Ok(Cow::Owned(bytes)) => String::from_utf8_lossy(&bytes).into_owned().into(),
        Ok(Cow::Borrowed(_)) | Err(_) => segment.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(options: &KafboyOptions, path: &str) -> Option<(String, Mode, bool)> {
        let routes = Routes::new(options).unwrap();
        let found = routes.find(path)?;
        let patterns: Vec<&str> = routes.patterns().collect();
        assert_eq!(patterns[found.place], found.pattern);
        match found.found {
            Found::Produce {
                topic,
                mode,
                is_guarded,
            } => Some((topic.into_owned(), mode, is_guarded)),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn every_route_with_and_without_a_slash() {
        let options = KafboyOptions::default();
        for (path, mode) in [
            ("/async/t", Mode::Async),
            ("/batch/async/t", Mode::BatchAsync),
            ("/sync/t", Mode::Sync),
            ("/batch/sync/t", Mode::BatchSync),
        ] {
            for (prefix, is_guarded) in [("", false), ("/safe", true)] {
                for end in ["", "/"] {
                    let path = format!("{prefix}{path}{end}");
                    let expected = Some(("t".to_owned(), mode, is_guarded));
                    assert_eq!(found(&options, &path), expected, "{path}");
                }
            }
        }
        for path in ["/", "/async", "/async/", "/async/t/x", "/batch/t", "async"] {
            assert_eq!(found(&options, path), None, "{path}");
        }
        let routes = Routes::new(&options).unwrap();
        for (path, pattern, expected) in [
            ("/disco/", "/disco", Found::Disco),
            ("/echo_post", "/echo_post", Found::Echo),
        ] {
            let own = routes.find(path).unwrap();
            assert_eq!((own.pattern, own.found), (pattern, expected));
            assert_eq!(routes.patterns().nth(own.place), Some(pattern));
        }
        assert_eq!(
            routes.find("/safe/batch/sync/t/").unwrap().pattern,
            "/safe/batch/sync/:topic"
        );
    }

    #[test]
    fn a_topic_is_decoded() {
        let options = KafboyOptions::default();
        for (path, topic) in [
            ("/async/a%2Eb", "a.b"),
            ("/async/a+b", "a b"),
            ("/async/a%2Fb", "a/b"),
            ("/async/a%zz", "a%zz"),
            ("/async//", ""),
        ] {
            let expected = Some((topic.to_owned(), Mode::Async, false));
            assert_eq!(found(&options, path), expected, "{path}");
        }
    }

    #[test]
    fn others_are_configured() {
        let options = KafboyOptions {
            sync_url: "/now/:topic/please".to_owned(),
            extra_async_batch: vec!["/1/foo/:topic".to_owned()],
            extra_async: vec!["/2/:topic/".to_owned()],
            extra_sync: vec!["/:topic".to_owned()],
            ..KafboyOptions::default()
        };
        for (path, mode, is_guarded) in [
            ("/now/t/please/", Mode::Sync, false),
            ("/safe/batch/now/t/please", Mode::BatchSync, true),
            ("/1/foo/t", Mode::BatchAsync, false),
            ("/2/t", Mode::Async, false),
            ("/t", Mode::Sync, false),
        ] {
            let expected = Some(("t".to_owned(), mode, is_guarded));
            assert_eq!(found(&options, path), expected, "{path}");
        }
        for path in ["now/:topic", "/now", "/:topic/:topic", ""] {
            let options = KafboyOptions {
                extra_sync: vec![path.to_owned()],
                ..KafboyOptions::default()
            };
            let problem = Routes::new(&options).unwrap_err();
            assert_eq!((problem.key, &*problem.path), ("kafboy_routes_sync", path));
        }
    }
}
