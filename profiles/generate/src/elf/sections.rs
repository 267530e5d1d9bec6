//! What the section headers say of data, which nothing at run time depends on.

use std::ops::Range;

use object::{
    Endianness,
    elf::{self, FileHeader64},
    read::elf::{FileHeader as _, SectionHeader as _},
};

use super::Elf;

/// Most stretches of data. A real file has half a dozen.
const STRETCHES_MAX: usize = 64;
/// Sections that others than code read: the loader, and code by the thread's own copy of them.
const NOT_BY_CODE: &[&[u8]] =
    &[b".got", b".got.plt", b".init_array", b".fini_array", b".preinit_array", b".dynamic", b".tdata"];
/// The global offset table, of which linkers make two sections. Its address, from which code of the larger models counts,
/// is the start of either.
const TABLES: &[&[u8]] = &[b".got", b".got.plt"];
/// Sections of data beyond what an operand reaches.
const LARGE: &[&[u8]] = &[b".ldata", b".lbss", b".lrodata"];
/// SHF_X86_64_LARGE. Source: System V ABI, AMD64 supplement, "Sections".
const SHF_LARGE: elf::SectionFlags = elf::SectionFlags(0x1000_0000);

/// Where data is.
#[derive(Debug, Default)]
pub(crate) struct Data {
    /// Stretches of data that may be written to, in order: sections that code alone reads, through an address within them.
    pub(crate) stretches: Vec<Range<u64>>,
    /// The global offset table.
    pub(crate) tables: Vec<Range<u64>>,
    /// Data that nobody writes to.
    pub(crate) constants: Vec<Range<u64>>,
}

impl Elf<'_> {
    /// None where the headers are not there or contradict the segments or each other, and where data is so large that code
    /// names it by a number.
    pub(crate) fn data_sections(&self) -> Option<Data> {
        let header = FileHeader64::<Endianness>::parse(self.data).ok()?;
        let endian = header.endian().ok()?;
        let sections = header.sections(endian, self.data).ok()?;
        let mut found = Data::default();
        for section in sections.iter() {
            let flags = section.sh_flags(endian);
            let has = |flag| flags & flag == flag;
            if !has(elf::SHF_ALLOC) || section.sh_size(endian) == 0 {
                continue;
            }
            let name = sections.section_name(endian, section).ok()?;
            let is_large = |large: &&[u8]| {
                name.strip_prefix(*large).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
            };
            if has(SHF_LARGE) || LARGE.iter().any(is_large) {
                return None;
            }
            let start = section.sh_addr(endian);
            let end = start.checked_add(section.sh_size(endian))?;
            if TABLES.contains(&name) {
                found.tables.push(start..end);
            }
            if !has(elf::SHF_WRITE) {
                let is_data = section.sh_type(endian) == elf::SHT_PROGBITS && !has(elf::SHF_EXECINSTR);
                if is_data && !name.starts_with(b".eh_frame") && !has(elf::SHF_TLS) {
                    found.constants.push(start..end);
                }
                continue;
            }
            let inside = |segment: &super::Segment| {
                segment.start <= start && end <= segment.start.saturating_add(segment.memory)
            };
            if has(elf::SHF_EXECINSTR) || !self.segments.iter().any(inside) {
                return None;
            }
            if !has(elf::SHF_TLS) && !NOT_BY_CODE.contains(&name) {
                found.stretches.push(start..end);
            }
        }
        found.stretches.sort_by_key(|stretch| stretch.start);
        let apart = found.stretches.windows(2).all(|pair| pair[0].end <= pair[1].start);
        (apart && found.stretches.len() <= STRETCHES_MAX).then_some(found)
    }
}
