//! Minimum, median and maximum of what was measured.

/// Minimum, median and maximum.
pub fn range(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let (Some(&first), Some(&last)) = (figures.first(), figures.last()) else { return "-".into() };
    if last == 0.0 {
        return "0".into();
    }
    format!("{} / {} / {} ms", whole(first), whole(median(&figures)), whole(last))
}

/// Of sorted figures; the mean of the middle two where there are two.
pub fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// Without digits after the point, but for less than one.
pub fn whole(figure: f64) -> String {
    if figure > 0.0 && figure < 1.0 { format!("{figure:.3}") } else { format!("{figure:.0}") }
}
