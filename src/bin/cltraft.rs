//! `cltraft`: everything a person or a script does.

fn main() {}
