//! An input taken apart: whatever is asked of it, it has an answer, so that
//! every input means something and small changes stay small.

/// The bytes that are left.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next bytes; zeros behind the end.
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        for (into, byte) in array.iter_mut().zip(taken) {
            *into = *byte;
        }
        array
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// So many bytes, or what there is.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    /// What stands before the next newline, which goes.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        let length = self.0.iter().position(|byte| *byte == b'\n');
        let line = self.take(length.unwrap_or(usize::MAX));
        self.take(1);
        line
    }
}
