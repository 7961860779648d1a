//! What members of consumer groups tell each other (Kafka's consumer
//! protocol), as far as we read it: bytes that any client may have written.
//!
//! Integers are big-endian; a string is an int16 length and as many bytes.

/// The topics of a `ConsumerProtocolSubscription`: int16 version, int32
/// count, strings; what follows is not read. Empty if it is malformed.
pub(super) fn subscription(bytes: &[u8]) -> Vec<String> {
    read_subscription(bytes).unwrap_or_default()
}

/// The partitions of a `ConsumerProtocolAssignment`, sorted: int16 version,
/// int32 count; per topic a string, int32 count, int32 partitions; what
/// follows is not read. Empty if it is malformed.
pub(super) fn assignment(bytes: &[u8]) -> Vec<(String, i32)> {
    read_assignment(bytes).unwrap_or_default()
}

fn read_subscription(bytes: &[u8]) -> Option<Vec<String>> {
    let mut input = Input(bytes);
    let _version = input.int16()?;
    let mut topics = Vec::new();
    for _ in 0..input.count()? {
        topics.push(input.string()?.to_owned());
    }
    Some(topics)
}

fn read_assignment(bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    let mut input = Input(bytes);
    let _version = input.int16()?;
    let mut assigned = Vec::new();
    for _ in 0..input.count()? {
        let topic = input.string()?;
        for _ in 0..input.count()? {
            assigned.push((topic.to_owned(), input.int32()?));
        }
    }
    assigned.sort_unstable();
    Some(assigned)
}

/// What is left to read. Every step is checked against it; since no element
/// is empty, a count that lies ends the reading and reserves no memory.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn int16(&mut self) -> Option<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn int32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    /// How many elements follow; negative (null) is malformed.
    fn count(&mut self) -> Option<u32> {
        u32::try_from(self.int32()?).ok()
    }

    fn string(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.int16()?).ok()?;
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        std::str::from_utf8(head).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SUBSCRIPTION: &[u8] = b"\0\x01\0\0\0\x02\0\x01b\0\x02aa";
    const ASSIGNMENT: &[u8] =
        b"\0\x01\0\0\0\x02\0\x01b\0\0\0\x02\0\0\0\x07\0\0\0\x03\0\x02aa\0\0\0\x01\0\0\0\0";

    fn pairs(pairs: &[(&str, i32)]) -> Vec<(String, i32)> {
        pairs
            .iter()
            .map(|(topic, partition)| ((*topic).to_owned(), *partition))
            .collect()
    }

    #[test]
    fn topics_of_a_subscription() {
        assert_eq!(subscription(SUBSCRIPTION), ["b", "aa"]);
        assert!(subscription(b"\0\0\0\0\0\0").is_empty());
    }

    #[test]
    fn partitions_of_an_assignment_are_sorted() {
        let expected = pairs(&[("aa", 0), ("b", 3), ("b", 7)]);
        assert_eq!(assignment(ASSIGNMENT), expected);
        assert!(assignment(b"\0\0\0\0\0\0").is_empty());
    }

    #[test]
    fn what_follows_is_not_read() {
        let with_data = [SUBSCRIPTION, b"\xff\xff\xff\xff\0\0\0\0"].concat();
        assert_eq!(subscription(&with_data), ["b", "aa"]);
        let with_data = [ASSIGNMENT, b"\0\0\0\x02xy"].concat();
        assert_eq!(assignment(&with_data).len(), 3);
    }

    #[test]
    fn cut_anywhere_it_reads_as_empty() {
        for length in 0..SUBSCRIPTION.len() {
            assert!(subscription(&SUBSCRIPTION[..length]).is_empty(), "{length}");
        }
        for length in 0..ASSIGNMENT.len() {
            assert!(assignment(&ASSIGNMENT[..length]).is_empty(), "{length}");
        }
    }

    #[test]
    fn lies_read_as_empty() {
        // Negative and huge counts and lengths, and a name that is no text.
        assert!(subscription(b"\0\x01\xff\xff\xff\xff").is_empty());
        assert!(subscription(b"\0\x01\x7f\xff\xff\xff\0\x01a").is_empty());
        assert!(subscription(b"\0\x01\0\0\0\x01\xff\xff").is_empty());
        assert!(subscription(b"\0\x01\0\0\0\x01\x7f\xffa").is_empty());
        assert!(subscription(b"\0\x01\0\0\0\x01\0\x01\xff").is_empty());
        assert!(assignment(b"\0\x01\0\0\0\x01\0\x01a\xff\xff\xff\xff").is_empty());
        assert!(assignment(b"\0\x01\0\0\0\x01\0\x01a\x7f\xff\xff\xff\0\0\0\x01").is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            subscription(&bytes);
            assignment(&bytes);
        }
    }
}
