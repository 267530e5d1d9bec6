//! Functions of which only is asked whom they call: of a large library, most.
//!
//! What a function calls can be told from its instructions one by one, with nothing known of the arguments and of the
//! conditions: that is never less than following it would find. It is enough where neither is worth anything: a function
//! that leads to no code of its file that enters the kernel, and calls of other files only what does the same whatever it
//! is handed. An address that it takes is taken whatever comes, and a jump through a table leads wherever an entry does.
//!
//! Of a huge file that is asked of every function but those that are next to such code.

use std::collections::BTreeSet;

use super::{
    address::{AddressMap, AddressSet},
    function::{Callee, Found},
    object::Object,
    summary::{Call, Target},
    tables::Beyond,
};

/// Bytes of code from which on a file is huge: of compilers and browsers, which are all of a piece.
const HUGE_BYTES: u64 = 32 << 20;

/// Whom a range of code calls or jumps to, in the order of its instructions, and whose address it takes.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) calls: Vec<Callee>,
    /// Stretches of data that it refers to.
    pub(super) data: BTreeSet<u8>,
    pub(super) taken: Vec<Callee>,
    /// It jumps to where it is told: addresses within it that data holds are its own business.
    pub(super) jumps_by_table: bool,
    /// Where tables may lead beyond it.
    pub(super) by_table: Vec<Beyond>,
}

impl Object<'_> {
    fn code_bytes(&self) -> u64 {
        self.elf.code().map(|segment| segment.end() - segment.start).sum()
    }

    pub(super) fn is_huge(&self) -> bool {
        self.code_bytes() >= HUGE_BYTES && !self.go
    }

    /// Functions of this file that do the same whatever they are handed.
    pub(super) fn dull(&self) -> AddressSet {
        let dull = self.names.iter().filter(|(address, name)| is_dull(name) || self.never_returns(**address));
        dull.map(|(address, _)| *address).collect()
    }

    /// Keeps those outlines that say all that is asked.
    pub(super) fn keep_outlines(&mut self, all: AddressMap<Outline>) {
        let exported: BTreeSet<&str> = self.exports.iter().map(|(name, _)| name.as_str()).collect();
        let dull: Vec<bool> =
            self.imports.iter().map(|name| exported.contains(name.as_str()) || is_dull(name)).collect();
        let huge = self.is_huge();
        let mut kept: AddressMap<Outline> = AddressMap::default();
        let mut named: Vec<u64> = self.referred.iter().copied().collect();
        named.sort_unstable();
        for (start, Outline { calls, data, mut taken, jumps_by_table, by_table }) in all {
            let told = calls.into_iter().map(|callee| match callee {
                Callee::Address(to) => match self.callee(to) {
                    Callee::Address(to) => self.function_at(to).map(Callee::Address),
                    import => Some(import),
                },
                import => Some(import),
            });
            let by_table = by_table.into_iter().filter_map(|entry| {
                // Within itself only an instruction is somewhere.
                let to = entry.to.and_then(|to| self.function_at(to)).filter(|to| *to != start);
                // What leads nowhere is of another table where one begins in between.
                (to.is_some() || !lies_between(&named, &entry)).then_some(to.map(Callee::Address))
            });
            let calls: Option<BTreeSet<Callee>> = told.chain(by_table).collect();
            let is_dull = |callee: &Callee| match callee {
                Callee::Import(import) => huge || dull.get(*import as usize).copied().unwrap_or(false),
                Callee::Address(_) => true,
            };
            if let Some(calls) = calls.filter(|calls| calls.iter().chain(&taken).all(is_dull)) {
                taken.sort_unstable();
                taken.dedup();
                let calls = calls.into_iter().collect();
                kept.insert(start, Outline { calls, data, taken, jumps_by_table, by_table: Vec::new() });
            }
        }
        // A part that was split off has an outline, or whoever jumps there has none.
        let mut callers: AddressMap<Vec<u64>> = AddressMap::default();
        let mut lost = Vec::new();
        for (start, outline) in &kept {
            for callee in &outline.calls {
                match callee {
                    Callee::Address(to) if !self.is_start(*to) && kept.contains_key(to) => {
                        callers.entry(*to).or_default().push(*start);
                    }
                    Callee::Address(to) if !self.is_start(*to) => lost.push(*start),
                    _ => {}
                }
            }
        }
        while let Some(start) = lost.pop() {
            kept.remove(&start);
            lost.extend(callers.remove(&start).unwrap_or_default());
        }
        self.outlines = kept;
    }

    /// Where the function, or the part that was split off from one, begins that a jump or call to `to` runs. None where
    /// it leads into the middle of a function, which nobody looks at that begins with its start, or where no frame is.
    fn function_at(&self, to: u64) -> Option<u64> {
        if self.is_start(to) {
            return Some(to);
        }
        self.frame_of(to).map(|frame| frame.start).filter(|start| !self.is_start(*start))
    }

    /// What is known of the function at `entry` where its outline is enough.
    pub(super) fn outlined(&self, entry: u64) -> Option<Found> {
        let Outline { calls, data, taken, jumps_by_table, by_table: _ } = self.outlines.get(&entry)?;
        let told = calls.iter().filter(|callee| match callee {
            Callee::Address(to) => !self.is_silent(*to),
            Callee::Import(_) => true,
        });
        let call = || Call { to: Target::Own(0), args: Vec::new(), when: Vec::new() };
        let parts = calls.iter().filter_map(|callee| match callee {
            Callee::Address(to) if !self.is_start(*to) => Some(*to),
            _ => None,
        });
        let labels = if *jumps_by_table { self.labels_within(entry) } else { Vec::new() };
        Some(Found {
            heads: std::iter::once(entry).chain(parts).chain(labels).collect(),
            calls: told.map(|callee| (*callee, call())).collect(),
            data: data.clone(),
            taken: taken.iter().map(|callee| (*callee, Vec::new())).collect(),
            ..Found::default()
        })
    }
}

/// Whether somebody names an address behind a table's start, up to the place of an entry that is read as the table's.
fn lies_between(named: &[u64], entry: &Beyond) -> bool {
    let next = named.partition_point(|address| *address <= entry.table);
    named.get(next).is_some_and(|next| *next <= entry.place)
}

/// Whether which system call a function of other files makes, or what that does, is told by a constant that it is handed.
pub(super) fn goes_by_arguments(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "syscall",
        "dlsym",
        "dlvsym",
        "ioctl",
        "fcntl",
        "fcntl64",
        "prctl",
        "socket",
        "socketpair",
        "epoll_ctl",
        "clone",
        "unshare",
        "mprotect",
        "mmap",
        "mmap64",
        "madvise",
        "sysconf",
        "pathconf",
        "fpathconf",
    ];
    NAMES.contains(&name)
}

/// Whether a function of other files does the same system calls whatever it is handed: what copies, compares, allocates,
/// prints, locks and computes. A guess that is wrong makes a profile wider, never narrower.
fn is_dull(name: &str) -> bool {
    const PREFIXES: &[&str] =
        &["mem", "str", "__mem", "__str", "wcs", "wmem", "_Z", "__cxa_", "_Unwind_", "__ctype_"];
    const SUFFIXES: &[&str] = &["printf", "printf_chk", "alloc"];
    const NAMES: &[&str] = &[
        "free",
        "posix_memalign",
        "reallocarray",
        "__errno_location",
        // What glibc's character sets call besides: a profiler, and tables of texts.
        "_dl_mcount_wrapper_check",
        "__gconv_transliterate",
        "__stack_chk_fail",
        "__assert_fail",
        "abort",
        "getenv",
        "secure_getenv",
        "fputs",
        "fputc",
        "fwrite",
        "fflush",
        "putc",
        "puts",
        "pthread_self",
        "pthread_equal",
        "pthread_mutex_lock",
        "pthread_mutex_unlock",
        "pthread_mutex_init",
        "pthread_mutex_destroy",
        "pthread_mutex_trylock",
        "pthread_cond_signal",
        "pthread_cond_broadcast",
        "pthread_cond_wait",
        "pthread_cond_destroy",
        "pthread_cond_init",
        "pthread_rwlock_rdlock",
        "pthread_rwlock_wrlock",
        "pthread_rwlock_unlock",
        "pthread_getspecific",
        "pthread_setspecific",
        "time",
        "gmtime_r",
        "toupper",
        "tolower",
        "qsort",
        "bsearch",
        "atoi",
        "floor",
        "ceil",
        "pow",
        "log",
        "log2",
        "log10",
        "exp",
        "sqrt",
        "fmod",
        "sin",
        "cos",
        "tan",
        "atan",
        "atan2",
        "round",
        "trunc",
        "frexp",
        "ldexp",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
        || NAMES.contains(&name)
}
