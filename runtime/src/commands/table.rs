//! Columns for people.

/// Rows of texts, printed in columns as wide as their widest text.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Table { rows: vec![headings.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row, as many texts as there are headings. An empty text becomes a dash.
    pub fn row(&mut self, texts: Vec<String>) {
        debug_assert_eq!(texts.len(), self.rows[0].len());
        let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        self.rows.push(texts.into_iter().map(dash).collect());
    }

    /// The rows, the headings first.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// The table as text, each row a line.
    pub fn render(&self) -> String {
        let width = |text: &String| text.chars().count();
        let widths: Vec<usize> = (0..self.rows[0].len())
            .map(|column| self.rows.iter().map(|row| width(&row[column])).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
            text += cells.join("  ").trim_end();
            text.push('\n');
        }
        text
    }
}

/// A duration in ms as people say it: `0.3 s`, `5 min 2 s`, `3 h 10 min`, `4 d 2 h`.
pub fn how_long(ms: u64) -> String {
    let secs = ms / 1_000;
    match secs {
        0..60 => format!("{:.1} s", ms as f64 / 1_000.0),
        60..3_600 => format!("{} min {} s", secs / 60, secs % 60),
        3_600..86_400 => format!("{} h {} min", secs / 3_600, secs / 60 % 60),
        _ => format!("{} d {} h", secs / 86_400, secs / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_text() {
        let mut table = Table::new(&["VIP", "OWNER"]);
        table.row(vec!["gateway".into(), "a".into()]);
        table.row(vec!["v".into(), String::new()]);
        assert_eq!(table.render(), "VIP      OWNER\ngateway  a\nv        -\n");
    }

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(how_long(340), "0.3 s");
        assert_eq!(how_long(302_000), "5 min 2 s");
        assert_eq!(how_long(11_400_000), "3 h 10 min");
        assert_eq!(how_long(352_800_000), "4 d 2 h");
    }
}
