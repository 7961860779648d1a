//! Which form a reply takes (RFC 9110, section 12.5.1). Own lines: what the
//! crates for this give is a parsed header, and the choice is what is needed.

use hyper::HeaderMap;
use hyper::header::ACCEPT;

/// The offer that the client likes best; the first of several that it likes
/// alike, and of all if it does not say. `None` if it accepts none.
pub(crate) fn best(headers: &HeaderMap, offers: &[&'static str]) -> Option<&'static str> {
    let sent: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .collect();
    if sent.is_empty() {
        return offers.first().copied();
    }
    let mut best: Option<(u16, &'static str)> = None;
    for offer in offers {
        let quality = quality(&sent, offer);
        if quality > best.map_or(0, |(quality, _)| quality) {
            best = Some((quality, offer));
        }
    }
    best.map(|(_, offer)| offer)
}

/// How much an offer is liked, in thousandths: as the most specific range
/// says that covers it.
fn quality(sent: &[&str], offer: &str) -> u16 {
    let kind = offer.split('/').next().unwrap_or_default();
    let mut found = (0, 0);
    for range in sent {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let specificity = if name.eq_ignore_ascii_case(offer) {
            3
        } else if name
            .strip_suffix("/*")
            .is_some_and(|own| own.eq_ignore_ascii_case(kind))
        {
            2
        } else if name == "*/*" {
            1
        } else {
            continue;
        };
        let weight = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(Some(1.0), |weight| weight.parse::<f32>().ok())
            .map_or(0, |weight| (weight.clamp(0.0, 1.0) * 1000.0) as u16);
        if specificity > found.0 {
            found = (specificity, weight);
        }
    }
    found.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn the_client_chooses() {
        let offers = ["application/octet-stream", "application/json"];
        let choose = |sent: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in sent {
                headers.append(ACCEPT, HeaderValue::from_str(value).unwrap());
            }
            best(&headers, &offers)
        };
        let (bytes, json) = (Some(offers[0]), Some(offers[1]));
        assert_eq!(choose(&[]), bytes);
        assert_eq!(choose(&["*/*"]), bytes);
        assert_eq!(choose(&["Application/JSON"]), json);
        assert_eq!(choose(&["application/json, */*;q=0.8"]), json);
        assert_eq!(choose(&["text/html", "application/*; q=0.5"]), bytes);
        assert_eq!(choose(&["*/*, application/octet-stream;q=0"]), json);
        assert_eq!(
            choose(&["application/json;q=x, application/octet-stream"]),
            bytes
        );
        assert_eq!(choose(&["text/html"]), None);
        assert_eq!(choose(&["application/json;q=0"]), None);
    }
}
