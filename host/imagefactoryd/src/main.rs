//! (growing)
fn main() {}
