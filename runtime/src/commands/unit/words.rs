//! Words and environment files, as systemd reads them.

/// Splits a line into words; quotes keep blanks together, and a backslash what follows it.
pub fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The variables of an environment file: one a line, as `NAME=value`. Unlike in a shell, a value goes on to the
/// end of its line.
pub fn environment_file(text: &str) -> Vec<(String, String)> {
    let text = text.replace("\\\n", "");
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    lines.filter_map(assignment).collect()
}

fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    let value = match value.starts_with(['"', '\'']) {
        true => split(value).concat(),
        false => value.replace('\\', ""),
    };
    Some((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        let words = split(r#"A=1 "B=two words" 'C=3'  D=\"x"#);
        assert_eq!(words, ["A=1", "B=two words", "C=3", "D=\"x"]);
    }

    #[test]
    fn an_environment_file_has_one_variable_a_line() {
        let text = "# four\nTURNIP_IP=10.0.0.50\n TURNIP_DEV = \"lo\" \n;x=y\nnonsense\nA=b\\\nc\n";
        let read = environment_file(text);
        let read: Vec<_> = read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(read, [("TURNIP_IP", "10.0.0.50"), ("TURNIP_DEV", "lo"), ("A", "bc")]);
    }

    #[test]
    fn several_in_one_line_are_one_value() {
        let read = environment_file("TURNIP_IP=10.0.0.50 TURNIP_NETMASK=/32\n");
        assert_eq!(read, [("TURNIP_IP".to_owned(), "10.0.0.50 TURNIP_NETMASK=/32".to_owned())]);
    }
}
