//! Lists a directory of techniques for a build script: each file is one, so that adding a file adds a technique.

use std::{env, fs, io, path::Path};

/// Writes `mod` lines and `const NAME: &[(&str, KIND)]` for the files of `dir` to `OUT_DIR/to`.
pub(crate) fn list(dir: &str, name: &str, kind: &str, to: &str) -> io::Result<()> {
    let dir = Path::new(dir).canonicalize()?;
    println!("cargo:rerun-if-changed={}", dir.display());
    let mut names: Vec<String> = fs::read_dir(&dir)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    let mut code = String::new();
    for name in &names {
        code += &format!("#[path = {:?}] mod {name};\n", dir.join(format!("{name}.rs")));
    }
    code += &format!("const {name}: &[(&str, {kind})] = &[\n");
    for name in &names {
        code += &format!("    ({name:?}, {name}::THIS),\n");
    }
    code += "];\n";
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join(to), code)
}
