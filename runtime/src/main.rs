//! The `turnip` command.

fn main() {}
