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

impl Elf<'_> {
    /// Stretches of data that may be written to, in order: sections that code alone reads, through an address within
    /// them. None where the headers are not there or contradict the segments or each other.
    pub(crate) fn data_sections(&self) -> Vec<Range<u64>> {
        self.stretches().unwrap_or_default()
    }

    fn stretches(&self) -> Option<Vec<Range<u64>>> {
        let header = FileHeader64::<Endianness>::parse(self.data).ok()?;
        let endian = header.endian().ok()?;
        let sections = header.sections(endian, self.data).ok()?;
        let mut found = Vec::new();
        for section in sections.iter() {
            let flags = section.sh_flags(endian);
            let has = |flag| flags & flag == flag;
            if !has(elf::SHF_ALLOC) || !has(elf::SHF_WRITE) || section.sh_size(endian) == 0 {
                continue;
            }
            let name = sections.section_name(endian, section).ok()?;
            let start = section.sh_addr(endian);
            let end = start.checked_add(section.sh_size(endian))?;
            let inside = |segment: &super::Segment| {
                segment.start <= start && end <= segment.start.saturating_add(segment.memory)
            };
            if has(elf::SHF_EXECINSTR) || !self.segments.iter().any(inside) {
                return None;
            }
            if !has(elf::SHF_TLS) && !NOT_BY_CODE.contains(&name) {
                found.push(start..end);
            }
        }
        found.sort_by_key(|stretch| stretch.start);
        let apart = found.windows(2).all(|pair| pair[0].end <= pair[1].start);
        (apart && found.len() <= STRETCHES_MAX).then_some(found)
    }
}
