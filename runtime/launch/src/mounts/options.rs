//! Options of a mount, as mount(8) has them, sorted into what the kernel's calls take.
//!
//! Source: mount(8); those with an `r` before them: OCI runtime-spec, config.md, "Linux mount options".

use nix::mount::MsFlags;

use crate::{
    rootfs::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY},
    sys::trees::{Change, Reach},
};

// Source: include/uapi/linux/mount.h.
const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

/// What a confinement relies on, and the kernel is asked back.
pub(super) const RELIED_ON: u64 =
    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

/// Options of one mount.
#[derive(Debug, Default)]
pub(super) struct Options<'a> {
    top: Change,
    tree: Change,
    propagation: Option<MsFlags>,
    propagation_of_tree: bool,
    /// What is the file system's own.
    pub(super) parameters: Vec<&'a str>,
}

impl<'a> Options<'a> {
    /// In their order: the last word counts.
    pub(super) fn read(options: &'a [String]) -> Self {
        let mut read = Self::default();
        for option in options {
            read.take(option);
        }
        read
    }

    fn take(&mut self, option: &'a str) {
        let (word, of_tree) = match option.strip_prefix('r') {
            Some("o" | "w" | "elatime") | None => (option, false),
            Some(word) => (word, true),
        };
        let (set, clear) = match word {
            "ro" => (MOUNT_ATTR_RDONLY, 0),
            "rw" => (0, MOUNT_ATTR_RDONLY),
            "nosuid" => (MOUNT_ATTR_NOSUID, 0),
            "suid" => (0, MOUNT_ATTR_NOSUID),
            "nodev" => (MOUNT_ATTR_NODEV, 0),
            "dev" => (0, MOUNT_ATTR_NODEV),
            "noexec" => (MOUNT_ATTR_NOEXEC, 0),
            "exec" => (0, MOUNT_ATTR_NOEXEC),
            "nosymfollow" => (NOSYMFOLLOW, 0),
            "symfollow" => (0, NOSYMFOLLOW),
            "noatime" => (NOATIME, ATIME),
            "strictatime" => (STRICTATIME, ATIME),
            "relatime" => (0, ATIME),
            "nodiratime" => (NODIRATIME, 0),
            "diratime" => (0, NODIRATIME),
            "private" | "slave" | "shared" | "unbindable" => {
                self.propagation_of_tree |= of_tree;
                self.propagation = Some(match word {
                    "private" => MsFlags::MS_PRIVATE,
                    "slave" => MsFlags::MS_SLAVE,
                    "shared" => MsFlags::MS_SHARED,
                    _ => MsFlags::MS_UNBINDABLE,
                });
                return;
            }
            // What a mount is without them, and what is said by its type or by its mappings.
            "bind" | "idmap" | "defaults" | "atime" | "norelatime" | "nostrictatime" | "emount" => return,
            _ => {
                self.parameters.push(option);
                return;
            }
        };
        let change = if of_tree { &mut self.tree } else { &mut self.top };
        change.set = change.set & !clear & !(if set & ATIME != 0 { ATIME } else { 0 }) | set;
        change.clear = change.clear & !set | clear;
    }

    /// What is to be changed of a tree that was cloned.
    pub(super) fn changes(&self) -> Vec<(Reach, Change)> {
        let mut changes = Vec::new();
        if let Some(flags) = self.propagation {
            let reach = if self.propagation_of_tree { Reach::Tree } else { Reach::Top };
            changes.push((reach, Change { propagation: flags.bits(), ..Change::default() }));
        }
        for (reach, change) in [(Reach::Top, self.top), (Reach::Tree, self.tree)] {
            if change.set != 0 || change.clear != 0 {
                changes.push((reach, change));
            }
        }
        changes
    }

    /// What a file system that is made here has of it: its one mount is top and tree.
    pub(super) fn attributes(&self) -> u64 {
        self.top.set | self.tree.set
    }

    /// Whether the node is to see what is mounted below.
    pub(super) fn shared(&self) -> bool {
        self.propagation == Some(MsFlags::MS_SHARED)
    }

    /// What its topmost mount must show of [`RELIED_ON`], and what each mount below it must.
    pub(super) fn demanded(&self) -> (u64, u64) {
        (self.attributes() & RELIED_ON, self.tree.set & RELIED_ON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(options: &[&str]) -> Vec<(Reach, u64, u64, u64)> {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        let changes = Options::read(&options).changes();
        changes.into_iter().map(|(reach, c)| (reach, c.set, c.clear, c.propagation)).collect()
    }

    #[test]
    fn words_hold_for_the_top_and_those_with_an_r_for_the_tree() {
        assert_eq!(run(&["rbind", "ro"]), [(Reach::Top, MOUNT_ATTR_RDONLY, 0, 0)]);
        assert_eq!(run(&["rbind", "rro"]), [(Reach::Tree, MOUNT_ATTR_RDONLY, 0, 0)]);
        assert_eq!(run(&["bind", "rw"]), [(Reach::Top, 0, MOUNT_ATTR_RDONLY, 0)]);
        let both = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        assert_eq!(run(&["rbind", "nosuid", "nodev"]), [(Reach::Top, both, 0, 0)]);
        assert_eq!(run(&["rbind", "relatime"]), [(Reach::Top, 0, 0x70, 0)]);
        assert_eq!(run(&["rbind"]), []);
    }

    #[test]
    fn propagation_is_of_the_tree_or_of_the_top() {
        let private = MsFlags::MS_PRIVATE.bits();
        assert_eq!(run(&["rbind", "rprivate"]), [(Reach::Tree, 0, 0, private)]);
        assert_eq!(run(&["bind", "private"]), [(Reach::Top, 0, 0, private)]);
        assert_eq!(run(&["rbind", "rslave"]), [(Reach::Tree, 0, 0, MsFlags::MS_SLAVE.bits())]);
        assert_eq!(run(&["rbind", "rshared"]), [(Reach::Tree, 0, 0, MsFlags::MS_SHARED.bits())]);
        assert_eq!(run(&["bind", "unbindable"]), [(Reach::Top, 0, 0, MsFlags::MS_UNBINDABLE.bits())]);
    }

    #[test]
    fn last_word_counts() {
        assert_eq!(run(&["rbind", "ro", "rw"]), [(Reach::Top, 0, MOUNT_ATTR_RDONLY, 0)]);
        assert_eq!(run(&["rbind", "rw", "ro"]), [(Reach::Top, MOUNT_ATTR_RDONLY, 0, 0)]);
    }

    #[test]
    fn what_is_no_attribute_is_the_file_system_s() {
        let options =
            ["nosuid", "strictatime", "mode=755", "size=64k", "rsize=1", "defaults"].map(str::to_owned);
        let read = Options::read(&options);
        assert_eq!(read.parameters, ["mode=755", "size=64k", "rsize=1"]);
        assert_eq!(read.attributes(), MOUNT_ATTR_NOSUID | STRICTATIME);
        assert_eq!(read.demanded(), (MOUNT_ATTR_NOSUID, 0));
    }
}
