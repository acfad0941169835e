//! A program and its arguments, as a list: no shell reads them.

use super::section::Given;

/// Reads them; `example` is one.
pub(super) fn read(given: &Given, example: &str) -> Result<Vec<String>, String> {
    let form = format!("there is no shell; write the program and its arguments, as in {example}");
    let items = given.as_list().map_err(|_| format!("not a list; {form}"))?;
    let argv: Result<Vec<String>, _> =
        items.iter().map(|item| item.as_text().map(str::to_owned)).collect();
    let argv = argv?;
    if argv.first().is_none_or(String::is_empty) {
        return Err(format!("names no program; {form}"));
    }
    if argv.iter().any(|text| text.contains('\0')) {
        return Err("with a zero byte in it, which no argument can have".into());
    }
    Ok(argv)
}
