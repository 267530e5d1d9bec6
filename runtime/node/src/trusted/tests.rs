#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
};

use super::*;

/// A layout in a temporary directory with `etc/bulkhead/policy.toml`.
struct Node {
    _dir: tempfile::TempDir,
    layout: Layout,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let layout = Layout::below(dir.path());
        fs::create_dir_all(layout.config_dir()).unwrap();
        fs::write(layout.policy_file(), "version = 1\n").unwrap();
        Self { _dir: dir, layout }
    }

    fn read(&self) -> Result<TrustedFile, NodeError> {
        read_trusted(&self.layout, &self.layout.policy_file())
    }

    fn parts(&self) -> [PathBuf; 4] {
        let etc = self.layout.root().join("etc");
        [self.layout.root().to_owned(), etc, self.layout.config_dir(), self.layout.policy_file()]
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn file_that_root_alone_can_write_is_read() {
    let node = Node::new();
    let file = node.read().unwrap();
    assert_eq!((file.path, file.text), (node.layout.policy_file(), "version = 1\n".to_owned()));
}

#[test]
fn file_or_parent_of_another_owner_is_an_error_that_says_which() {
    for index in 0..4 {
        let node = Node::new();
        let part = &node.parts()[index];
        chown(part, Some(1234), None).unwrap();
        let error = node.read().unwrap_err();
        assert!(matches!(&error, NodeError::Owner { path, uid: 1234, .. } if path == part), "{error}");
        assert!(error.fix().contains(&format!("chown root: {}", part.display())));
        chown(part, Some(0), None).unwrap();
        node.read().unwrap();
    }
}

#[test]
fn file_or_parent_that_others_can_write_is_an_error_that_says_which() {
    for index in 0..4 {
        for (wrong, right) in [(0o775, 0o755), (0o757, 0o755), (0o1777, 0o1755)] {
            let node = Node::new();
            let part = &node.parts()[index];
            mode(part, wrong);
            let error = node.read().unwrap_err();
            assert!(matches!(&error, NodeError::Writable { path, .. } if path == part), "{error}");
            assert!(error.to_string().contains(&format!("{wrong:04o}")), "{error}");
            assert_eq!(error.fix(), format!("chmod go-w {}", part.display()));
            mode(part, right);
            node.read().unwrap();
        }
    }
}

#[test]
fn directory_above_the_root_may_be_sticky_and_not_writable_without() {
    let node = Node::new();
    let above = node.layout.root().join("shared");
    let layout = Layout::below(above.join("node"));
    fs::create_dir_all(layout.config_dir()).unwrap();
    fs::write(layout.policy_file(), "").unwrap();
    mode(&above, 0o1777);
    read_trusted(&layout, &layout.policy_file()).unwrap();
    mode(&above, 0o777);
    let error = read_trusted(&layout, &layout.policy_file()).unwrap_err();
    assert!(matches!(&error, NodeError::Writable { path, mode: 0o777 } if *path == above), "{error}");
    mode(&above, 0o1777);
    chown(&above, Some(1234), None).unwrap();
    let error = read_trusted(&layout, &layout.policy_file()).unwrap_err();
    assert!(matches!(&error, NodeError::Owner { path, .. } if *path == above), "{error}");
}

#[test]
fn symlink_below_the_root_is_an_error_wherever_it_leads() {
    for index in 1..4 {
        let node = Node::new();
        let part = &node.parts()[index];
        let moved = part.with_extension("moved");
        fs::rename(part, &moved).unwrap();
        symlink(&moved, part).unwrap();
        let error = node.read().unwrap_err();
        assert!(matches!(&error, NodeError::Kind { path, .. } if path == part), "{error}");
    }
}

#[test]
fn symlink_in_the_root_itself_is_resolved_and_its_end_judged() {
    let node = Node::new();
    let link = node.layout.root().join("link");
    symlink(node.layout.root(), &link).unwrap();
    let layout = Layout::below(&link);
    read_trusted(&layout, &layout.policy_file()).unwrap();
    mode(node.layout.root(), 0o777);
    assert!(read_trusted(&layout, &layout.policy_file()).is_err());
}

#[test]
fn what_is_no_regular_file_is_an_error_and_holds_no_one_up() {
    let node = Node::new();
    let path = node.layout.policy_file();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(node.read(), Err(NodeError::Kind { .. })));
    fs::remove_dir(&path).unwrap();
    nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    assert!(matches!(node.read(), Err(NodeError::Kind { .. })));
    fs::remove_file(&path).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    mode(&path, 0o600);
    assert!(matches!(node.read(), Err(NodeError::Kind { .. })));
}

#[test]
fn file_of_the_largest_size_is_read_and_one_byte_more_is_an_error() {
    let node = Node::new();
    let size = usize::try_from(FILE_BYTES_MAX).unwrap();
    fs::write(node.layout.policy_file(), "#".repeat(size)).unwrap();
    assert_eq!(node.read().unwrap().text.len(), size);
    fs::write(node.layout.policy_file(), "#".repeat(size + 1)).unwrap();
    assert!(matches!(node.read(), Err(NodeError::Size(_))));
}

#[test]
fn missing_file_and_other_bytes_than_text_are_errors_of_their_own() {
    let node = Node::new();
    fs::write(node.layout.policy_file(), [0xff, 0xfe]).unwrap();
    assert!(matches!(node.read(), Err(NodeError::Text(_))));
    fs::remove_file(node.layout.policy_file()).unwrap();
    assert!(matches!(node.read(), Err(NodeError::Missing(_))));
}

#[test]
fn path_beside_the_root_or_with_dots_is_an_error() {
    let node = Node::new();
    let dots = node.layout.root().join("etc/../etc/bulkhead/policy.toml");
    for path in [Path::new("/etc/passwd"), &dots, node.layout.root(), Path::new("relative")] {
        assert!(
            matches!(read_trusted(&node.layout, path), Err(NodeError::Outside { .. })),
            "{}",
            path.display()
        );
    }
}
