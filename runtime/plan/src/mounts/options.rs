//! Options of a mount: each known one is read into a field, any other is refused by name.

use bulkhead_model::{Refusal, Rule};

use crate::refuse::{refuse, short};

/// Most options of one mount.
const OPTIONS_MAX: usize = 64;

/// Options of one mount. What is forced anyway (nosuid, nodev) or changes nothing is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// `bind` or `rbind`.
    pub(crate) bind: bool,
    /// `rbind`: mounts below the source come along.
    pub(crate) recursive: bool,
    /// `ro`, wherever in the list it stands.
    pub(crate) read_only: bool,
    /// `noexec`.
    pub(crate) no_exec: bool,
    /// `suid`, `dev` or `exec` were asked for.
    pub(crate) loosened: bool,
    /// `slave` or `rslave`: mounts of the host would appear.
    pub(crate) slave: bool,
    /// `nosymfollow`.
    pub(crate) no_symlinks: bool,
    /// `noatime`, `relatime`, `strictatime` or `nodiratime`.
    pub(crate) access_time: Option<&'static str>,
    /// `newinstance` of devpts.
    pub(crate) new_instance: bool,
    /// `key=value` of the file system.
    pub(crate) parameters: Vec<(String, String)>,
}

impl Options {
    /// Reads a list.
    pub(super) fn read(field: &str, options: &[String]) -> Result<Self, Refusal> {
        let refused = |option: &str, why: &str, fix: &str| {
            Err(refuse(Rule::Mounts, &format!("{field}.options"), format!("{:?}", short(option)), why, fix))
        };
        if options.len() > OPTIONS_MAX {
            return refused(
                &format!("{} options", options.len()),
                "at most 64 are accepted",
                "shorten the list",
            );
        }
        let mut read = Self::default();
        for option in options {
            match option.as_str() {
                "bind" => read.bind = true,
                "rbind" => (read.bind, read.recursive) = (true, true),
                "ro" | "rro" => read.read_only = true,
                "noexec" | "rnoexec" => read.no_exec = true,
                "suid" | "rsuid" | "dev" | "rdev" | "exec" | "rexec" | "rrw" => read.loosened = true,
                "slave" | "rslave" => read.slave = true,
                "nosymfollow" | "rnosymfollow" => read.no_symlinks = true,
                "noatime" => read.access_time = Some("noatime"),
                "relatime" => read.access_time = Some("relatime"),
                "strictatime" => read.access_time = Some("strictatime"),
                "nodiratime" => read.access_time = Some("nodiratime"),
                "newinstance" => read.new_instance = true,
                // Forced anyway, or what is so without it.
                "nosuid" | "rnosuid" | "nodev" | "rnodev" | "rw" | "defaults" | "async" | "private"
                | "rprivate" | "unbindable" | "runbindable" | "atime" | "diratime" | "norelatime"
                | "nostrictatime" => {}
                "shared" | "rshared" => {
                    return refused(
                        option,
                        "mounts made in the container would appear on the host",
                        "drop mountPropagation: Bidirectional (ctr: rshared)",
                    );
                }
                "idmap" | "ridmap" => {
                    return refused(
                        option,
                        "id-mapped mounts are not built yet",
                        "leave it out (pod: hostUsers: true)",
                    );
                }
                other => match other.split_once('=') {
                    Some((key, value)) if !key.is_empty() && !other.chars().any(char::is_control) => {
                        read.parameters.push((key.to_owned(), value.to_owned()));
                    }
                    Some(_) | None => {
                        return refused(option, "bulkhead does not know it", "leave the option out");
                    }
                },
            }
        }
        Ok(read)
    }

    /// The value of a parameter; the last one counts, as for mount(8).
    pub(super) fn parameter(&self, key: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Refuses parameters other than `known`, and `newinstance` outside of devpts.
    pub(super) fn only(&self, field: &str, known: &[&str]) -> Result<(), Refusal> {
        let strange = self.parameters.iter().find(|(key, _)| !known.contains(&key.as_str()));
        let name = match strange {
            Some((key, _)) => key,
            None if self.new_instance && !known.contains(&"newinstance") => "newinstance",
            None => return Ok(()),
        };
        let field = format!("{field}.options");
        let why = "that file system has no such option here";
        Err(refuse(Rule::Mounts, &field, format!("{:?}", short(name)), why, "leave the option out"))
    }
}

/// A size such as `65536k` or `64m` in bytes; none for a share of memory (`50%`) and for what is no size.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        b'g' | b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1u64),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(options: &[&str]) -> Result<Options, Refusal> {
        Options::read("mounts[0]", &options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn read_only_wins_wherever_it_stands() {
        assert!(read(&["ro", "rw"]).unwrap().read_only);
        assert!(read(&["rw", "ro"]).unwrap().read_only);
        assert!(!read(&["rw"]).unwrap().read_only);
    }

    #[test]
    fn shared_id_mapped_and_unknown_options_are_refused_by_name() {
        for option in ["shared", "rshared", "idmap", "ridmap", "remount", "tmpcopyup", "=x", "Z"] {
            let refusal = read(&["rbind", option]).unwrap_err();
            assert!(refusal.what.contains(option), "{refusal}");
        }
        assert!(read(&["rbind", "rslave", "nosuid", "relatime"]).unwrap().slave);
    }

    #[test]
    fn parameters_are_an_allow_list_and_the_last_counts() {
        let options = read(&["mode=755", "size=1m", "size=2m"]).unwrap();
        assert_eq!(options.parameter("size"), Some("2m"));
        assert!(options.only("mounts[0]", &["mode", "size"]).is_ok());
        assert!(options.only("mounts[0]", &["mode"]).unwrap_err().what.contains("size"));
        assert!(read(&["newinstance"]).unwrap().only("mounts[0]", &["mode"]).is_err());
    }

    #[test]
    fn sizes_are_read_as_the_kernel_does() {
        for (text, size) in
            [("65536k", Some(64 << 20)), ("64M", Some(64 << 20)), ("1g", Some(1 << 30)), ("7", Some(7))]
        {
            assert_eq!(bytes(text), size);
        }
        for text in ["", "50%", "k", "-1", "1x", "99999999999999999999g"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
