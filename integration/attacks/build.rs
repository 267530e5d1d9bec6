//! Lists the techniques from outside.

#[path = "list.rs"]
mod list;

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=list.rs");
    list::list("src/outside", "OUTSIDE", "crate::technique::Outside", "outside.rs")
}
