//! Placeholder while dependencies compile.
#[test]
fn nothing() {}
