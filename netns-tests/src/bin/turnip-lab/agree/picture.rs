//! The picture of the documentation: of each VIP of each scenario a bar from the least to the longest simulated gap, and
//! a dot where the measured one lies.

use std::fmt::Write as _;
use std::time::Duration;

use turnip_netns_tests::timeline::ms;

use super::compare::{Agreement, Compared, VipAgreement};

const LEFT: f64 = 270.0;
const WIDTH: f64 = 620.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 58.0;
const ROW: f64 = 20.0;

/// Draws it. Gaps from nothing to a minute fit, so the scale is logarithmic, and begins at 1 ms.
pub fn draw(all: &[Compared]) -> String {
    let rows: Vec<(String, &Agreement, &VipAgreement)> = all
        .iter()
        .filter_map(|compared| Some((compared, compared.counted()?)))
        .flat_map(|(compared, counted)| {
            let several = counted.vips.len() > 1;
            counted.vips.iter().map(move |vip| {
                let of = if several { format!(", {}", vip.vip) } else { String::new() };
                (format!("{}{of}", compared.scenario), counted, vip)
            })
        })
        .collect();
    let longest = rows.iter().map(|(_, _, vip)| vip.gap.most.max(vip.gap.measured)).max();
    let decades = decades(longest.unwrap_or_default());
    let bottom = TOP + rows.len() as f64 * ROW;
    let (width, height) = (LEFT + WIDTH + RIGHT, bottom + 34.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\">Longest gap: simulated (bar: least to most) and measured (dot)</text>\n"
    );
    for decade in 0..=decades {
        let x = LEFT + WIDTH * f64::from(decade) / f64::from(decades);
        let label =
            if decade == 0 { "0".into() } else { ms(Duration::from_millis(10_u64.pow(decade))) };
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.0}\" y1=\"{}\" x2=\"{x:.0}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.0}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{label}</text>",
            TOP - 8.0,
            TOP - 14.0,
        );
    }
    for (number, (name, agreement, vip)) in rows.iter().enumerate() {
        let middle = TOP + (number as f64 + 0.5) * ROW;
        let x = |gap: Duration| place(gap, decades);
        let (from, to) = (x(vip.gap.least), x(vip.gap.most).max(x(vip.gap.least) + 3.0));
        let colour = if agreement.agrees() { "#2a7f3f" } else { "#c0392b" };
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"10\" rx=\"2\" fill=\"#9dbbe0\"/>\
             <circle cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"4\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"{:.1}\" fill=\"#444\">{}</text>",
            LEFT - 12.0,
            middle + 4.0,
            middle - 5.0,
            to - from,
            x(vip.gap.measured),
            LEFT + WIDTH + 14.0,
            middle + 4.0,
            ms(vip.gap.measured),
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"12\" y=\"{}\" fill=\"#666\">green: all of it agrees, its moves, overlap and owner too; red: something lies outside</text>\n</svg>",
        height - 12.0
    );
    svg
}

/// How many powers of ten of ms it takes.
fn decades(longest: Duration) -> u32 {
    let ms = longest.as_secs_f64() * 1e3;
    (ms.max(10.0).log10().ceil() as u32).max(1)
}

fn place(gap: Duration, decades: u32) -> f64 {
    let ms = gap.as_secs_f64() * 1e3;
    let part = ms.max(1.0).log10() / f64::from(decades);
    LEFT + WIDTH * part.min(1.0)
}
