//! What pictures of plans and of scenario files have in common.

/// The colours of VIPs, by number.
pub const COLOURS: [&str; 8] =
    ["#2f6db5", "#3a9b59", "#b5762f", "#7d4fb0", "#2f9fa6", "#a34a6c", "#6f8f2e", "#5b6b7f"];

/// A text as XML takes it.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
