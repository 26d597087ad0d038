//! From places in a text to line numbers.

/// The lines of a text, to be asked in any order.
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The line, from 1, that holds a byte of the text.
    pub(crate) fn of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// The line on which a part of the text begins; the part must be a slice of it.
    pub(crate) fn of_part(&self, part: &str) -> usize {
        self.of((part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_line() {
        let text = "ab\nc\n\nd";
        let lines = Lines::new(text);
        let found: Vec<usize> = (0..text.len()).map(|at| lines.of(at)).collect();
        assert_eq!(found, [1, 1, 1, 2, 2, 3, 4]);
        assert_eq!(lines.of_part(&text[6..]), 4);
    }
}
