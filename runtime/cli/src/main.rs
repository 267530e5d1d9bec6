//! bulkhead: the same questions asked by people, and the judge
fn main() {}
