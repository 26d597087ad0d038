//! What a process writes, as lines: cut where they are too long, counted where they are too many.

use tokio::io::{AsyncRead, AsyncReadExt};

/// How much of what a process writes is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capture {
    /// Of each of its two outputs.
    pub(super) max_lines: usize,
    pub(super) max_line_bytes: usize,
}

/// Cuts bytes into lines, whatever they are and however they arrive.
pub(super) struct Cutter {
    max_bytes: usize,
    line: Vec<u8>,
    n_cut: usize,
}

impl Cutter {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, line: Vec::new(), n_cut: 0 }
    }

    /// Takes the next bytes; gives every line that ends in them to `each`.
    pub(super) fn push(&mut self, bytes: &[u8], each: &mut impl FnMut(String)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = self.max_bytes.saturating_sub(self.line.len()).min(text.len());
            let (kept, cut) = text.split_at(room);
            self.line.extend_from_slice(kept);
            self.n_cut += cut.len();
            if ends {
                each(self.take());
            }
        }
    }

    /// The last line, when the end was not at the end of one.
    pub(super) fn finish(mut self, each: &mut impl FnMut(String)) {
        if !self.line.is_empty() {
            each(self.take());
        }
    }

    fn take(&mut self) -> String {
        let bytes = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let mut line = String::from_utf8_lossy(bytes).into_owned();
        if self.n_cut > 0 {
            line = format!("{line}… ({} bytes cut)", self.n_cut);
        }
        self.line.clear();
        self.n_cut = 0;
        line
    }
}

/// Reads `source` to its end and gives its lines to `each` as they come.
pub(super) async fn pump(
    source: Option<impl AsyncRead + Unpin>,
    capture: Capture,
    mut each: impl FnMut(String),
) {
    let Some(mut source) = source else { return };
    let mut cutter = Cutter::new(capture.max_line_bytes);
    let mut buffer = vec![0; 8 * 1024];
    // An output that can't be read is as good as one that has ended.
    while let Ok(n) = source.read(&mut buffer).await
        && n > 0
    {
        cutter.push(buffer.get(..n).unwrap_or_default(), &mut each);
    }
    cutter.finish(&mut each);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(max_bytes: usize, pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut cutter = Cutter::new(max_bytes);
        for piece in pieces {
            cutter.push(piece, &mut |line| lines.push(line));
        }
        cutter.finish(&mut |line| lines.push(line));
        lines
    }

    #[test]
    fn lines_are_the_same_however_their_bytes_arrive() {
        let text = "one\r\n\nzwei ä\nlast".as_bytes();
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(cut(100, &bytes), ["one", "", "zwei ä", "last"]);
        assert_eq!(cut(100, &[text]), cut(100, &bytes));
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_says_so() {
        assert_eq!(cut(4, &[b"abcdef", b"gh\nij\n"]), ["abcd… (4 bytes cut)", "ij"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_far_as_they_are() {
        assert_eq!(cut(9, &[b"a\xffb\n"]), ["a\u{fffd}b"]);
    }
}
