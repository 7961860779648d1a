//! Properties of librdkafka as they were.

/// What librdkafka takes for `queued.max.messages.kbytes`; 0.8.6 took more.
const MAX_QUEUED_KBYTES: u64 = 2_097_151;
const QUEUED_KBYTES: &str = "queued.max.messages.kbytes";

/// What had an effect in 0.8.6 and no longer exists.
const GONE: [&str; 1] = ["enforce.isr.cnt"];

/// Brings properties that were written for librdkafka 0.8.6 to what this one
/// takes: what no longer exists is left out, what is too large now is lowered.
/// Returns a sentence about each of them.
pub fn bring_up_to_date(properties: &mut Vec<(String, String)>) -> Vec<String> {
    let mut warnings = Vec::new();
    properties.retain_mut(|(name, value)| {
        if GONE.contains(&name.as_str()) {
            warnings.push(format!(
                "Configuration property {name} no longer exists: it has no effect"
            ));
            return false;
        }
        if name == QUEUED_KBYTES
            && let Ok(kbytes) = value.parse::<u64>()
            && kbytes > MAX_QUEUED_KBYTES
        {
            warnings.push(format!(
                "Configuration property {name} value {kbytes} is above the maximum and is taken \
                 as {MAX_QUEUED_KBYTES}"
            ));
            *value = MAX_QUEUED_KBYTES.to_string();
        }
        true
    });
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outdated_is_left_out_or_lowered_and_told() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut properties = vec![
            pair("enforce.isr.cnt", "0"),
            pair(QUEUED_KBYTES, "2097152"),
            pair("client.id", "x"),
        ];
        let warnings = bring_up_to_date(&mut properties);
        let kept = [pair(QUEUED_KBYTES, "2097151"), pair("client.id", "x")];
        assert_eq!(properties, kept);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert_eq!(bring_up_to_date(&mut properties), [""; 0]);
        assert_eq!(properties, kept);
    }
}
