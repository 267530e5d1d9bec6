//! Lists the techniques: each file of src/techniques is one.

use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    let dir = Path::new("src/techniques").canonicalize()?;
    println!("cargo:rerun-if-changed={}", dir.display());
    let mut names: Vec<String> = fs::read_dir(&dir)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    let mut code = String::new();
    for name in &names {
        code += &format!("#[path = {:?}] mod {name};\n", dir.join(format!("{name}.rs")));
    }
    code += "const ALL: &[(&str, crate::Technique)] = &[\n";
    for name in &names {
        code += &format!("    ({name:?}, {name}::THIS),\n");
    }
    code += "];\n";
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("techniques.rs"), code)
}
