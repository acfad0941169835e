//! What a hook says: its first lines go into the log, and its last one is the reason of a failure.

use turnip_core::text;

/// So many lines are logged.
const LINES_MAX: usize = 100;
/// So much of a line is kept, in bytes.
const LINE_MAX: usize = 1024;

/// What both of a hook's streams have said.
#[derive(Default)]
pub(super) struct Said {
    lines: usize,
    last: String,
}

/// One stream, cut into lines.
#[derive(Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that have ended with these bytes, of each the beginning.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut ended = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_MAX.saturating_sub(self.begun.len());
            let is_whole = part.ends_with(b"\n");
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            self.begun.extend_from_slice(&text[..text.len().min(room)]);
            if is_whole {
                ended.extend(self.rest());
            }
        }
        ended
    }

    /// What no line has ended.
    pub(super) fn rest(&mut self) -> Option<String> {
        let begun = std::mem::take(&mut self.begun);
        let line = String::from_utf8_lossy(&begun);
        let line = line.trim_end();
        (!line.is_empty()).then(|| text::escaped(line))
    }
}

impl Said {
    /// Takes note of a line; what to log of it.
    pub(super) fn line(&mut self, line: String) -> Option<String> {
        self.lines += 1;
        self.last.clone_from(&line);
        match self.lines.checked_sub(LINES_MAX) {
            None => Some(line),
            Some(0) => Some("… what else it says is not logged".to_owned()),
            Some(_) => None,
        }
    }

    /// Whether so much was said that the rest is read slowly.
    pub(super) fn is_too_much(&self) -> bool {
        self.lines > LINES_MAX
    }

    /// The last line, or some of it.
    pub(super) fn last(&self) -> String {
        text::shown(&self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_where_they_end_and_escaped() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\ntw"), ["one"]);
        assert_eq!(lines.push(b"o\r\n\n\x1b[2J\n"), ["two", "\\u{1b}[2J"]);
        lines.push(b"no end");
        assert_eq!(lines.rest().as_deref(), Some("no end"));
        assert_eq!(lines.rest(), None);
    }

    #[test]
    fn of_a_line_without_end_the_beginning_is_kept() {
        let mut lines = Lines::default();
        for _ in 0..1_000 {
            assert!(lines.push(&[b'x'; 4096]).is_empty());
        }
        assert_eq!(lines.push(b"\nnext\n").iter().map(String::len).collect::<Vec<_>>(), [1024, 4]);
    }

    #[test]
    fn a_flood_is_some_lines_and_the_last_one_is_the_reason() {
        let mut said = Said::default();
        let logged = (0..10_000).filter_map(|n| said.line(n.to_string())).count();
        assert_eq!((logged, said.last()), (LINES_MAX, "9999".to_owned()));
        assert!(said.is_too_much());
    }
}
