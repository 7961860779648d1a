//! `KEYS topics:` lists all topics; `KEYS topics:<glob>` and `KEYS *` filter
//! (contract, section 7).

use super::{Arguments, Context};

/// What precedes a topic's name in its key.
pub(super) const PREFIX: &str = "topics:";

pub(super) async fn run(
    context: &mut Context<'_>,
    arguments: &Arguments<'_>,
) -> std::io::Result<()> {
    let pattern = arguments.get(1);
    let pattern: &[u8] = match pattern {
        b"topics:" => b"*",
        b"*" => b"topics:*",
        other if other.starts_with(PREFIX.as_bytes()) => other,
        other => {
            let shown = String::from_utf8_lossy(other).into_owned();
            context.reply.error(&format!(
                "ERR Expected argument to be 'topics:', got {shown}"
            ));
            return Ok(());
        }
    };
    context.flush().await?;
    match topic_keys(context, pattern).await {
        Ok(keys) => {
            context.reply.array(keys.len());
            for key in keys {
                context.reply.bulk(key.as_bytes());
            }
        }
        Err(text) => context.reply.error(&text),
    }
    Ok(())
}

/// The keys of all topics that match, sorted; else the error's text.
pub(super) async fn topic_keys(
    context: &Context<'_>,
    pattern: &[u8],
) -> Result<Vec<String>, String> {
    let names = context
        .session
        .shared
        .producer
        .topic_names()
        .await
        .map_err(|error| format!("ERR Error getting metadata: {error}"))?;
    Ok(names
        .into_iter()
        .map(|name| format!("{PREFIX}{name}"))
        .filter(|key| matches_glob(pattern, key.as_bytes()))
        .collect())
}

/// Redis's glob: `*`, `?`, `[a-z]`, `[^a]`, `\x`. Linear in the product of
/// the lengths: only the last `*` is ever tried again.
pub(super) fn matches_glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        let matched = text
            .get(t)
            .and_then(|byte| match_one(pattern.get(p..).unwrap_or(&[]), *byte));
        if let Some(length) = matched {
            p += length;
            t += 1;
        } else if let Some((after, from)) = star {
            p = after;
            t = from + 1;
            star = Some((after, t));
        } else {
            return false;
        }
    }
    pattern
        .get(p..)
        .unwrap_or(&[])
        .iter()
        .all(|byte| *byte == b'*')
}

/// How much of the pattern one byte of text uses up; `None`: no match.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', class @ ..] => match_class(class, byte),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

fn match_class(class: &[u8], byte: u8) -> Option<usize> {
    let (is_negated, mut at) = match class.first() {
        Some(b'^') => (true, 1),
        _ => (false, 0),
    };
    let mut is_inside = false;
    loop {
        match class.get(at..).unwrap_or(&[]) {
            [] | [b']', ..] => break,
            [b'\\', escaped, ..] => {
                is_inside |= *escaped == byte;
                at += 2;
            }
            [low, b'-', high, ..] if *high != b']' => {
                let (low, high) = (low.min(high), low.max(high));
                is_inside |= (*low..=*high).contains(&byte);
                at += 3;
            }
            [single, ..] => {
                is_inside |= *single == byte;
                at += 1;
            }
        }
    }
    // The opening and the closing bracket.
    (is_inside != is_negated).then_some(at + 2)
}

#[cfg(test)]
mod tests {
    use super::matches_glob;

    #[test]
    fn globs_are_those_of_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("topics:*", "topics:orders", true),
            ("topics:o*s", "topics:orders", true),
            ("topics:o*x", "topics:orders", false),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a**b", "ab", true),
            ("", "a", false),
            ("[", "a", false),
        ] {
            assert_eq!(
                matches_glob(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let pattern = "a*".repeat(40) + "b";
        assert!(!matches_glob(
            pattern.as_bytes(),
            "a".repeat(200).as_bytes()
        ));
    }
}
