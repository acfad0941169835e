//! Text that somebody else wrote, as it may be shown to people.

/// So much of it is shown.
const SHOWN_MAX: usize = 200;

/// What others wrote, fit for a line of a log or a table: what would move the cursor, begin another line,
/// or turn the direction of writing is escaped, and of what is very long only the beginning is shown.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (at, character) in text.char_indices() {
        if at >= SHOWN_MAX {
            return format!("{shown}... ({} bytes)", text.len());
        }
        push_escaped(&mut shown, character);
    }
    shown
}

/// The same, whole: for what is as long as it has to be.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    text.chars().for_each(|character| push_escaped(&mut escaped, character));
    escaped
}

fn push_escaped(text: &mut String, character: char) {
    match is_plain(character) {
        true => text.push(character),
        false => text.extend(character.escape_default()),
    }
}

/// Neither a control character nor one that is not seen and changes how the rest is.
fn is_plain(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_a_terminal_or_a_line_is_escaped_and_the_rest_is_as_it_was() {
        assert_eq!(shown("grün, 10.0.0.1"), "grün, 10.0.0.1");
        assert_eq!(shown("a\nb\x1b[2Jc\0d\te\u{9b}1m"), "a\\nb\\u{1b}[2Jc\\u{0}d\\te\\u{9b}1m");
        assert_eq!(shown("safe\u{202e}elif"), "safe\\u{202e}elif");
    }

    #[test]
    fn of_what_is_very_long_the_beginning_is_shown_and_how_long_it_is() {
        let long = "ä".repeat(1 << 20);
        let shown = shown(&long);
        assert!(shown.len() < SHOWN_MAX + 40, "{shown}");
        assert!(shown.ends_with("... (2097152 bytes)"), "{shown}");
    }
}
