#![allow(clippy::unwrap_used)]

use super::*;

/// A tree in a directory, beside one that is none of it.
fn tree() -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("root")).unwrap();
    fs::create_dir_all(dir.path().join("outside")).unwrap();
    let root = File::open(dir.path().join("root")).unwrap().into();
    (dir, Tree { root, of_layer: BTreeSet::new(), left: 1 << 20 })
}

fn file(tree: &mut Tree, name: &str, text: &str) -> Result<(), Stopped> {
    tree.file(name.as_bytes(), 0o755, &mut text.as_bytes(), text.len() as u64)
}

fn link_to(tree: &mut Tree, name: &str, to: &str) {
    let (parent, base) = tree.cleared(name.as_bytes()).unwrap();
    symlink(to, below(&parent, base)).unwrap();
}

/// Names below the root, and what files hold.
fn seen(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            let name = entry.path().strip_prefix(dir).unwrap().display().to_string();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => open.push(entry.path()),
                kind if kind.is_file() => {
                    names.push(format!("{name}={}", fs::read_to_string(entry.path()).unwrap()));
                }
                _ => names.push(name),
            }
        }
    }
    names.sort();
    names
}

#[test]
fn upper_layer_replaces_and_hides_what_lies_below_and_keeps_its_own() {
    let (dir, mut tree) = tree();
    for name in ["bin/sh", "etc/a", "etc/b", "usr/lib/x", "usr/lib-x"] {
        file(&mut tree, name, "lower").unwrap();
    }
    tree.of_layer.clear();
    file(&mut tree, "etc/a", "upper").unwrap();
    tree.gone(b"etc/b").unwrap();
    tree.gone(b"etc/none").unwrap();
    tree.gone(b"none/none").unwrap();
    file(&mut tree, "usr/own/y", "upper").unwrap();
    tree.opaque(b"usr").unwrap();
    tree.gone(b"bin").unwrap();
    assert_eq!(seen(&dir.path().join("root")), ["etc/a=upper", "usr/own/y=upper"]);
    file(&mut tree, "usr", "a file now").unwrap();
    tree.directory(b"etc/a", 0o755).unwrap();
    assert_eq!(seen(&dir.path().join("root")), ["usr=a file now"]);
}

#[test]
fn name_and_link_that_lead_out_end_within_the_tree() {
    let (dir, mut tree) = tree();
    let outside = dir.path().join("outside");
    fs::write(outside.join("kept"), "kept").unwrap();
    let path = outside.to_str().unwrap().trim_start_matches('/');
    // Absolute, and upwards: both are the tree's own.
    tree.directory(path.as_bytes(), 0o755).unwrap();
    link_to(&mut tree, "absolute", outside.to_str().unwrap());
    link_to(&mut tree, "upwards", "../../../../../../../../outside");
    file(&mut tree, "absolute/new", "x").unwrap();
    assert_eq!(seen(&outside), ["kept=kept"]);
    assert!(seen(&dir.path().join("root")).contains(&format!("{path}/new=x")));
    assert!(matches!(file(&mut tree, "upwards/new", "x"), Err(Stopped::Layer(_))), "it leads to nothing");
    tree.gone(b"absolute/kept").unwrap();
    assert!(tree.link(b"stolen", b"upwards/kept").is_err());
    // A link in the place of a file is replaced, not written through.
    link_to(&mut tree, "here", outside.join("kept").to_str().unwrap());
    file(&mut tree, "here", "own").unwrap();
    assert_eq!(seen(&outside), ["kept=kept"]);
    for name in ["..", "a/..", "a/.", "", "a/"] {
        assert!(matches!(file(&mut tree, name, "x"), Err(Stopped::Layer(_))), "{name:?}");
    }
}

#[test]
fn second_name_of_a_file_is_that_file_and_of_nothing_is_none() {
    let (dir, mut tree) = tree();
    file(&mut tree, "bin/one", "x").unwrap();
    tree.link(b"bin/two", b"bin/one").unwrap();
    assert_eq!(seen(&dir.path().join("root")), ["bin/one=x", "bin/two=x"]);
    assert!(matches!(tree.link(b"bin/three", b"bin/none"), Err(Stopped::Layer(_))));
}

#[test]
fn files_of_more_than_there_is_room_for_are_refused_before_they_are_read() {
    let (_dir, mut tree) = tree();
    let error = tree.file(b"bomb", 0o644, &mut io::empty(), u64::MAX).unwrap_err();
    assert!(error.to_string().contains("room"), "{error}");
    file(&mut tree, "small", "x").unwrap();
}
