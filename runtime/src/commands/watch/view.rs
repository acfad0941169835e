//! How a board is drawn.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::{Cell, Paragraph, Row, Table, Wrap};

use super::board::{Board, Pane};

const KEYS: &str = "q quit   Tab other table   s sort   r reverse   arrows scroll";
/// What is wrong takes no more room than that.
const WARNING_LINES_MAX: u16 = 3;

/// Draws the board as of `now`.
pub fn draw(board: &mut Board, frame: &mut Frame<'_>, now: Instant) {
    let trouble = board.trouble(now);
    let nodes = u16::try_from(board.panes[1].len()).unwrap_or(u16::MAX).saturating_add(1);
    let width = usize::from(frame.area().width.max(1));
    let lines = trouble.as_ref().map_or(0, |trouble| trouble.chars().count().div_ceil(width));
    let lines = u16::try_from(lines).unwrap_or(u16::MAX).min(WARNING_LINES_MAX);
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(lines),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(1),
        Constraint::Length(nodes.min(frame.area().height / 2)),
        Constraint::Length(1),
    ]);
    let [heading, warning, _, vips, _, nodes, keys] = areas.areas(frame.area());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    frame.render_widget(Paragraph::new(board.heading(now)).style(bold), heading);
    if let Some(trouble) = trouble {
        frame.render_widget(
            Paragraph::new(trouble).wrap(Wrap { trim: true }).style(bold.fg(Color::Red)),
            warning,
        );
    }
    let focus = board.focus;
    for (number, area) in [vips, nodes].into_iter().enumerate() {
        pane(&mut board.panes[number], number == focus, frame, area, now);
    }
    let dim = Style::new().add_modifier(Modifier::DIM);
    frame.render_widget(Paragraph::new(KEYS).style(dim), keys);
}

fn pane(pane: &mut Pane, has_keys: bool, frame: &mut Frame<'_>, area: Rect, now: Instant) {
    let visible = usize::from(area.height.saturating_sub(1));
    pane.top = pane.top.min(pane.len().saturating_sub(visible));
    let rows = pane.rows(now);
    let headings: Vec<String> = pane
        .headings
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let arrow = if pane.is_reversed { '▼' } else { '▲' };
            if column == pane.sorted_by { format!("{heading} {arrow}") } else { heading.clone() }
        })
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|(row, _)| row.get(column));
        let all = cells.chain(headings.get(column)).map(|cell| cell.chars().count());
        u16::try_from(all.max().unwrap_or(0)).unwrap_or(u16::MAX)
    };
    let widths = (0..headings.len()).map(|column| Constraint::Length(width(column)));
    let widths = std::iter::once(Constraint::Length(1)).chain(widths);
    let shown = rows.iter().skip(pane.top).take(visible).map(|(row, is_marked)| {
        let mark = if *is_marked { "*" } else { "" };
        let cells = std::iter::once(mark).chain(row.iter().map(String::as_str)).map(Cell::new);
        let style = match is_marked {
            true => Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD),
            false => Style::new(),
        };
        Row::new(cells).style(style)
    });
    let style = match has_keys {
        true => Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        false => Style::new().add_modifier(Modifier::BOLD),
    };
    let header = std::iter::once("").chain(headings.iter().map(String::as_str)).map(Cell::new);
    let table = Table::new(shown, widths).header(Row::new(header).style(style)).column_spacing(2);
    frame.render_widget(table, area);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyModifiers};
    use turnip_core::Revision;

    use super::super::board::{Flow, Key};
    use super::*;
    use crate::commands::overview::{Node, Overview, Vip};

    /// VIPs with owner and token.
    fn overview(vips: &[(&str, &str, i64)]) -> Overview {
        let vip = |owner: &str, token: i64| Vip {
            owner: owner.parse().ok(),
            token: Some(Revision(token)),
            ..Vip::default()
        };
        let vips =
            vips.iter().map(|(name, owner, token)| (name.parse().unwrap(), vip(owner, *token)));
        let node = Node { lease_ms: Some(3_000), ..Node::default() };
        Overview {
            certificates: Vec::new(),
            revision: Revision(41),
            vips: vips.collect(),
            nodes: [("a".parse().unwrap(), node)].into(),
            unreadable: Default::default(),
        }
    }

    struct Screen {
        terminal: Terminal<TestBackend>,
        board: Board,
        now: Instant,
    }

    impl Screen {
        fn new(height: u16) -> Self {
            Screen {
                terminal: Terminal::new(TestBackend::new(100, height)).unwrap(),
                board: Board::new("main", &["http://127.0.0.1:2379".to_owned()]),
                now: Instant::now(),
            }
        }

        fn show(&mut self, vips: &[(&str, &str, i64)]) {
            self.board.is_answered(self.now);
            self.board.show(&overview(vips), Duration::from_secs(3), self.now);
        }

        fn press(&mut self, code: KeyCode) -> Flow {
            self.board.press(Key::Pressed(code, KeyModifiers::NONE))
        }

        fn lines(&mut self) -> Vec<String> {
            let (board, now) = (&mut self.board, self.now);
            self.terminal.draw(|frame| draw(board, frame, now)).unwrap();
            let text = self.terminal.backend().to_string();
            text.lines().map(|line| line.trim_matches('"').trim_end().to_owned()).collect()
        }

        /// Mark and name of each VIP, from above.
        fn vips(&mut self) -> Vec<String> {
            let lines = self.lines();
            let rows = lines.iter().filter(|line| line.starts_with(['*', ' ']));
            let cells = rows.map(|line| line.split_whitespace().collect::<Vec<_>>());
            let cells = cells.filter(|cells| cells.iter().any(|cell| cell.starts_with("vip-")));
            cells.map(|cells| cells[..2].join(" ")).collect()
        }
    }

    const THREE: [(&str, &str, i64); 3] =
        [("vip-a", "n2", 9), ("vip-b", "n1", 10), ("vip-c", "n1", 8)];

    #[test]
    fn it_shows_what_the_status_shows() {
        let mut screen = Screen::new(16);
        assert!(screen.lines()[1].contains("waiting for etcd (http://127.0.0.1:2379)"));
        screen.show(&THREE);
        let lines = screen.lines();
        assert_eq!(lines[0], "cluster main at revision 41: every VIP has an owner");
        let text = lines.join("\n");
        for word in ["VIP ▲", "OWNER", "vip-b", "n2", "NODE", "ETCD MEMBER", "down", "q quit"] {
            assert!(text.contains(word), "{word} in\n{text}");
        }
        screen.show(&[("vip-a", "", 0)]);
        assert!(screen.lines()[0].ends_with("1 of 1 VIPs WITHOUT OWNER"));
    }

    #[test]
    fn a_change_is_marked_for_ten_seconds_and_what_was_there_at_first_is_none() {
        let mut screen = Screen::new(16);
        screen.show(&THREE);
        assert_eq!(screen.vips(), ["vip-a -", "vip-b -", "vip-c -"]);
        screen.show(&[("vip-a", "n2", 9), ("vip-b", "n2", 12), ("vip-c", "n1", 8)]);
        assert_eq!(screen.vips(), ["vip-a -", "* vip-b", "vip-c -"]);
        screen.now += Duration::from_secs(11);
        screen.board.is_answered(screen.now);
        assert_eq!(screen.vips(), ["vip-a -", "vip-b -", "vip-c -"]);
    }

    #[test]
    fn it_is_sorted_by_any_column_and_the_other_way_round() {
        let mut screen = Screen::new(16);
        screen.show(&THREE);
        let sorted_by = |screen: &mut Screen, heading: &str| {
            while !screen.lines().join("\n").contains(&format!("{heading} ▲")) {
                screen.press(KeyCode::Char('s'));
            }
            screen.vips()
        };
        assert_eq!(sorted_by(&mut screen, "OWNER"), ["vip-b -", "vip-c -", "vip-a -"]);
        // As numbers, not as letters.
        assert_eq!(sorted_by(&mut screen, "TOKEN"), ["vip-c -", "vip-a -", "vip-b -"]);
        screen.press(KeyCode::Char('r'));
        assert_eq!(screen.vips(), ["vip-b -", "vip-a -", "vip-c -"]);
        // The other table has an order of its own.
        screen.press(KeyCode::Tab);
        screen.press(KeyCode::Char('s'));
        assert_eq!(screen.vips(), ["vip-b -", "vip-a -", "vip-c -"]);
    }

    #[test]
    fn more_rows_than_there_is_room_for_are_scrolled_and_not_beyond_the_last() {
        let mut screen = Screen::new(8);
        screen.show(&THREE);
        assert_eq!(screen.vips(), ["vip-a -"; 1]);
        screen.press(KeyCode::Down);
        assert_eq!(screen.vips(), ["vip-b -"]);
        screen.press(KeyCode::PageDown);
        assert_eq!(screen.vips(), ["vip-c -"]);
        screen.press(KeyCode::Up);
        assert_eq!(screen.vips(), ["vip-b -"]);
    }

    #[test]
    fn an_etcd_that_does_not_answer_is_told_beside_what_was_known() {
        let mut screen = Screen::new(16);
        screen.show(&THREE);
        screen.board.is_not_answered("etcd does not answer: connection refused".to_owned());
        screen.now += Duration::from_secs(4);
        let lines = screen.lines();
        assert!(lines[1].contains("etcd does not answer: connection refused"), "{lines:?}");
        assert!(lines[1].contains("this is of 4.0 s ago"), "{lines:?}");
        assert_eq!(screen.vips().len(), 3);
        screen.board.is_answered(screen.now);
        assert_eq!(screen.lines()[1], "");
        screen.now += Duration::from_secs(8);
        assert!(screen.lines()[1].contains("nothing was heard of etcd"));
    }

    #[test]
    fn q_escape_and_control_c_quit() {
        let mut screen = Screen::new(9);
        assert_eq!(screen.press(KeyCode::Char('q')), Flow::Quit);
        assert_eq!(screen.press(KeyCode::Esc), Flow::Quit);
        assert_eq!(screen.press(KeyCode::Char('c')), Flow::Stay);
        let control_c = Key::Pressed(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.board.press(control_c), Flow::Quit);
        assert_eq!(screen.board.press(Key::Resized), Flow::Stay);
    }
}
