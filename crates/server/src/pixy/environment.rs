//! Environment variables in front of the file: `KAFKA_PIXY_TCP_ADDR` is
//! `tcp_addr`, `KAFKA_PIXY_PROXIES__MAIN__NET__SASL__USERNAME` is
//! `proxies.main.net.sasl.username`. The old program had none.

use crate::config::set_at;
use anyhow::{Context as _, Result};
use serde_norway::Value;

const PREFIX: &str = "KAFKA_PIXY_";
/// A variable of this end names a file that holds the value.
const FILE: &str = "_file";
/// Keys whose values may be in a file of their own. (Others end with `_file`
/// by themselves.)
const SECRETS: [&str; 3] = ["password", "token", "auth"];

/// Writes the variables into the document. A value is YAML, and a text if it
/// is not; keys that do not exist are warned of like those of the file. False:
/// there are none.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn override_with(
    document: &mut Value,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<bool> {
    let mut is_overridden = false;
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        let lower = rest.to_lowercase();
        let mut path: Vec<String> = lower.split("__").map(str::to_owned).collect();
        let short = path.last().and_then(|last| last.strip_suffix(FILE));
        let value = match short
            .filter(|short| SECRETS.contains(short))
            .map(str::to_owned)
        {
            Some(short) => {
                let held = std::fs::read_to_string(&text)
                    .with_context(|| format!("{variable}: cannot read {text}"))?;
                let is_structure = short == "auth";
                path.pop();
                path.push(short);
                match is_structure {
                    true => serde_norway::from_str(&held).with_context(|| variable.clone())?,
                    false => Value::String(held.trim_end_matches(['\r', '\n']).to_owned()),
                }
            }
            None => serde_norway::from_str(&text).unwrap_or(Value::String(text)),
        };
        set_at(document, &path, value);
        is_overridden = true;
    }
    Ok(is_overridden)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overridden(text: &str, variables: &[(&str, &str)]) -> Result<Value> {
        let mut document = serde_norway::from_str(text).unwrap();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        override_with(&mut document, variables)?;
        Ok(document)
    }

    #[test]
    fn variables_stand_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "12345\n").unwrap();
        let document = overridden(
            "tcp_addr: a:1\nproxies: {Main: {kafka: {tls: false}}}\n",
            &[
                ("KAFKA_PIXY_TCP_ADDR", "b:2"),
                ("KAFKA_PIXY_PROXIES__MAIN__KAFKA__TLS", "true"),
                ("KAFKA_PIXY_PROXIES__MAIN__KAFKA__SEED_PEERS", "[x:1, y:2]"),
                (
                    "KAFKA_PIXY_PROXIES__MAIN__KAFKA__CLIENT_KEY_FILE",
                    "key.pem",
                ),
                (
                    "KAFKA_PIXY_PROXIES__MAIN__NET__SASL__PASSWORD_FILE",
                    secret.to_str().unwrap(),
                ),
                ("OTHER", "x"),
            ],
        );
        let expected = "tcp_addr: b:2\nproxies: {Main: {kafka: {tls: true, seed_peers: ['x:1', \
                        'y:2'], client_key_file: key.pem}, net: {sasl: {password: '12345'}}}}\n";
        let expected: Value = serde_norway::from_str(expected).unwrap();
        assert_eq!(document.unwrap(), expected);
        let missing = overridden("{}", &[("KAFKA_PIXY_AUTH_FILE", "/nonexistent")]);
        let error = format!("{:#}", missing.unwrap_err());
        assert!(
            error.starts_with("KAFKA_PIXY_AUTH_FILE: cannot read /nonexistent: "),
            "{error}"
        );
    }
}
