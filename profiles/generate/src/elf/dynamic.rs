//! The dynamic section: what a file needs, exports, imports and has the loader write into it.

use object::elf;

use super::Elf;

/// Most dynamic entries, symbols and relocations that are looked at.
const ENTRIES_MAX: u64 = 4096;
const SYMBOLS_MAX: u64 = 4_000_000;
const RELOCATIONS_MAX: u64 = 16_000_000;

const SYMBOL_BYTES: u64 = 24;
const RELA_BYTES: u64 = 24;

#[derive(Clone, Debug, Default)]
pub(crate) struct Dynamic {
    pub(crate) needed: Vec<String>,
    pub(crate) soname: Option<String>,
    pub(crate) rpath: Option<String>,
    pub(crate) runpath: Option<String>,
    pub(crate) symbols: Vec<Symbol>,
    pub(crate) relocations: Vec<Relocation>,
    /// DT_INIT, DT_FINI, and what is in the arrays of initialisers and finalisers.
    pub(crate) init: Vec<u64>,
    /// DT_PLTGOT.
    pub(crate) offset_table: Option<u64>,
    /// Places where the loader writes which file's thread-local data is meant, and where in it: what `__tls_get_addr` is
    /// handed the address of.
    pub(crate) thread_local: Vec<u64>,
    /// The loader writes something of a kind that is not known here.
    pub(crate) unknown: bool,
    /// Names of symbols and libraries: what the loader reads and no code does.
    pub(crate) strings: std::ops::Range<u64>,
    /// The symbols themselves, with their addresses: the same.
    pub(crate) symbol_table: std::ops::Range<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Symbol {
    pub(crate) name: String,
    pub(crate) address: u64,
    pub(crate) defined: bool,
    pub(crate) function: bool,
    /// STT_GNU_IFUNC: the loader calls it, and binds to what it answers.
    pub(crate) resolver: bool,
}

/// What the loader writes at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// An address of this file.
    Own(u64),
    /// What a function of this file answers: its address.
    Resolved(u64),
    /// The address of a symbol, by number: a table slot that code goes through.
    Slot(u32),
    /// The address of a symbol, by number: data.
    Symbol(u32),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Relocation {
    pub(crate) at: u64,
    pub(crate) written: Written,
}

#[derive(Default)]
struct Table {
    strings: (u64, u64),
    symbols: u64,
    gnu_hash: u64,
    hash: u64,
    rela: (u64, u64),
    jump_rela: (u64, u64),
    relr: (u64, u64),
    /// DT_PREINIT_ARRAY, DT_INIT_ARRAY, DT_FINI_ARRAY: address and length.
    arrays: [(u64, u64); 3],
}

impl Dynamic {
    /// Empty for a static file; what does not parse is left out.
    pub(crate) fn of(elf: &Elf<'_>) -> Self {
        let mut found = Self::default();
        let Some((address, length)) = elf.dynamic else { return found };
        let mut table = Table::default();
        let (mut needed, mut soname, mut rpath, mut runpath) = (Vec::new(), None, None, None);
        for at in 0..(length / 16).min(ENTRIES_MAX) {
            let (Some(tag), Some(value)) = (elf.u64(address + at * 16), elf.u64(address + at * 16 + 8))
            else {
                break;
            };
            match elf::DynamicTag(tag.cast_signed()) {
                elf::DT_NULL => break,
                elf::DT_NEEDED => needed.push(value),
                elf::DT_SONAME => soname = Some(value),
                elf::DT_RPATH => rpath = Some(value),
                elf::DT_RUNPATH => runpath = Some(value),
                elf::DT_STRTAB => table.strings.0 = value,
                elf::DT_STRSZ => table.strings.1 = value,
                elf::DT_SYMTAB => table.symbols = value,
                elf::DT_PLTGOT => found.offset_table = Some(value),
                elf::DT_GNU_HASH => table.gnu_hash = value,
                elf::DT_HASH => table.hash = value,
                elf::DT_RELA => table.rela.0 = value,
                elf::DT_RELASZ => table.rela.1 = value,
                elf::DT_JMPREL => table.jump_rela.0 = value,
                elf::DT_PLTRELSZ => table.jump_rela.1 = value,
                elf::DT_RELR => table.relr.0 = value,
                elf::DT_RELRSZ => table.relr.1 = value,
                elf::DT_INIT | elf::DT_FINI => found.init.push(value),
                elf::DT_PREINIT_ARRAY => table.arrays[0].0 = value,
                elf::DT_PREINIT_ARRAYSZ => table.arrays[0].1 = value,
                elf::DT_INIT_ARRAY => table.arrays[1].0 = value,
                elf::DT_INIT_ARRAYSZ => table.arrays[1].1 = value,
                elf::DT_FINI_ARRAY => table.arrays[2].0 = value,
                elf::DT_FINI_ARRAYSZ => table.arrays[2].1 = value,
                _ => {}
            }
        }
        let text = |at: u64| {
            let text = elf.text(table.strings.0.checked_add(at)?)?;
            Some(String::from_utf8_lossy(text).into_owned())
        };
        found.needed = needed.into_iter().filter_map(text).collect();
        found.soname = soname.and_then(text);
        found.rpath = rpath.and_then(text);
        found.runpath = runpath.and_then(text);
        found.strings = table.strings.0..table.strings.0.saturating_add(table.strings.1);
        (found.relocations, found.thread_local, found.unknown) = relocations(elf, &table);
        found.init.extend(in_arrays(elf, &table, &found.relocations));
        let mentioned = found.relocations.iter().filter_map(|relocation| match relocation.written {
            Written::Slot(symbol) | Written::Symbol(symbol) => Some(u64::from(symbol) + 1),
            Written::Own(_) | Written::Resolved(_) => None,
        });
        let count = mentioned.max().unwrap_or(0).max(count(elf, &table)).min(SYMBOLS_MAX);
        found.symbol_table = table.symbols..table.symbols.saturating_add(count * SYMBOL_BYTES);
        for at in 0..count {
            let Some(symbol) =
                elf.bytes(table.symbols.saturating_add(at * SYMBOL_BYTES), SYMBOL_BYTES as usize)
            else {
                break;
            };
            let word = |at: usize| u64::from_le_bytes(symbol[at..at + 8].try_into().unwrap_or_default());
            let kind = elf::SymbolType(symbol[4] & 0xf);
            let section = u16::from_le_bytes([symbol[6], symbol[7]]);
            found.symbols.push(Symbol {
                name: text(word(0) & 0xffff_ffff).unwrap_or_default(),
                address: word(8),
                defined: section != elf::SHN_UNDEF.0,
                // NOTYPE too: hand-written assembly forgets it.
                function: matches!(kind, elf::STT_FUNC | elf::STT_GNU_IFUNC | elf::STT_NOTYPE),
                resolver: kind == elf::STT_GNU_IFUNC,
            });
        }
        found
    }
}

/// What the arrays of initialisers and finalisers hold once the file is relocated. Symbols are told by their relocation.
fn in_arrays(elf: &Elf<'_>, table: &Table, relocations: &[Relocation]) -> Vec<u64> {
    let arrays = || table.arrays.iter().filter(|(start, length)| *start != 0 && *length >= 8);
    let mut found = Vec::new();
    for (start, length) in arrays() {
        let words = (0..(length / 8).min(ENTRIES_MAX)).map_while(|at| elf.u64(start.checked_add(at * 8)?));
        found.extend(words.filter(|address| *address != 0));
    }
    for relocation in relocations {
        let within = |(start, length): &(u64, u64)| {
            relocation.at.checked_sub(*start).is_some_and(|offset| offset < *length)
        };
        if let Written::Own(address) = relocation.written
            && arrays().any(within)
        {
            found.push(address);
        }
    }
    found
}

/// And the places of those for thread-local data, and whether there is one of a kind that is not known.
fn relocations(elf: &Elf<'_>, table: &Table) -> (Vec<Relocation>, Vec<u64>, bool) {
    let (mut found, mut thread_local, mut unknown) = (Vec::new(), Vec::new(), false);
    for (start, length) in [table.rela, table.jump_rela] {
        for at in 0..(length / RELA_BYTES).min(RELOCATIONS_MAX) {
            let Some(bytes) = elf.bytes(start.saturating_add(at * RELA_BYTES), RELA_BYTES as usize) else {
                break;
            };
            let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
            let (at, info, addend) = (word(0), word(8), word(16));
            let symbol = (info >> 32) as u32;
            let written = match elf::RelocationType((info & 0xffff_ffff) as u32) {
                elf::R_X86_64_RELATIVE => Written::Own(addend),
                elf::R_X86_64_IRELATIVE => Written::Resolved(addend),
                elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT => Written::Slot(symbol),
                elf::R_X86_64_64 => Written::Symbol(symbol),
                // In code that the loader writes to: an operand.
                elf::R_X86_64_PC32
                | elf::R_X86_64_PLT32
                | elf::R_X86_64_PC64
                | elf::R_X86_64_32
                | elf::R_X86_64_32S => Written::Symbol(symbol),
                // Data of another file is asked for by its name, and what a thread has is told by no address.
                elf::R_X86_64_NONE
                | elf::R_X86_64_COPY
                | elf::R_X86_64_SIZE32
                | elf::R_X86_64_SIZE64
                | elf::R_X86_64_DTPOFF64
                | elf::R_X86_64_TPOFF64 => continue,
                elf::R_X86_64_DTPMOD64 | elf::R_X86_64_TLSDESC => {
                    thread_local.push(at);
                    continue;
                }
                _ => {
                    unknown = true;
                    continue;
                }
            };
            found.push(Relocation { at, written });
        }
    }
    relative(elf, table.relr, &mut found);
    (found, thread_local, unknown)
}

/// DT_RELR: addresses, each followed by bitmaps of the words after it.
fn relative(elf: &Elf<'_>, (start, length): (u64, u64), found: &mut Vec<Relocation>) {
    let mut next = 0u64;
    let mut own = |at: u64| {
        if let Some(address) = elf.u64(at) {
            found.push(Relocation { at, written: Written::Own(address) });
        }
    };
    for at in 0..(length / 8).min(RELOCATIONS_MAX / 64) {
        let Some(word) = elf.u64(start.saturating_add(at * 8)) else { break };
        if word & 1 == 0 {
            own(word);
            next = word.wrapping_add(8);
        } else {
            for bit in 0..63 {
                if word >> (bit + 1) & 1 == 1 {
                    own(next.wrapping_add(bit * 8));
                }
            }
            next = next.wrapping_add(63 * 8);
        }
    }
}

/// How many dynamic symbols there are: only the hash tables tell.
fn count(elf: &Elf<'_>, table: &Table) -> u64 {
    let word = |at: u64| elf.i32(at).map_or(0, |word| u64::from(word.cast_unsigned()));
    if table.hash != 0 {
        return word(table.hash.saturating_add(4));
    }
    if table.gnu_hash == 0 {
        return 0;
    }
    let at = |words: u64| table.gnu_hash.saturating_add(words.saturating_mul(4));
    let (buckets, first, bloom) = (word(at(0)), word(at(1)), word(at(2)));
    let start = 4u64.saturating_add(bloom.saturating_mul(2));
    let last = (0..buckets.min(SYMBOLS_MAX)).map(|bucket| word(at(start + bucket))).max().unwrap_or(0);
    if last < first {
        return first;
    }
    let chains = start.saturating_add(buckets);
    let mut symbol = last;
    while symbol - last < SYMBOLS_MAX {
        let Some(hash) = elf.i32(at(chains.saturating_add(symbol - first))) else { break };
        symbol += 1;
        if hash & 1 == 1 {
            break;
        }
    }
    symbol
}
