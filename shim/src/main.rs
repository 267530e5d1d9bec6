//! containerd shim v2 of Bulkhead
fn main() {}
