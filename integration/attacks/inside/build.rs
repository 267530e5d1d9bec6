//! Lists the techniques from inside.

#[path = "../list.rs"]
mod list;

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=../list.rs");
    list::list("src/techniques", "ALL", "crate::Technique", "techniques.rs")
}
