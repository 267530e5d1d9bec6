//! An ELF file as the loader sees it: segments and the dynamic section. Section headers are not looked at, but for
//! the names of functions, the global offset table and where data begins: nothing at run time depends on them.
//!
//! Invariant: every read is checked against the file; a header that lies gives less, or an [`ElfError`], never a panic.

pub(crate) mod dynamic;
pub(crate) mod go;
pub(crate) mod sections;
pub(crate) mod unwind;

use memchr::memmem;
use object::{
    Endianness,
    elf::{self, FileHeader64, ProgramHeader64},
    read::elf::{FileHeader as _, ProgramHeader as _},
};

/// Why a file is not looked at as an ELF file of this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ElfError {
    #[error("it is no ELF file")]
    NotElf,
    #[error("it is an ELF file of another architecture")]
    OtherMachine,
    #[error("its ELF header lies: {0}")]
    Broken(&'static str),
}

/// How much of a file a packer's mark is looked for in.
const HEAD_BYTES: usize = 4096;
/// Most program headers that are looked at. A real file has a dozen.
const HEADERS_MAX: usize = 256;

/// A part of the file that is mapped.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) start: u64,
    /// Bytes that are in the file.
    pub(crate) bytes: std::ops::Range<usize>,
    pub(crate) memory: u64,
    pub(crate) executable: bool,
    pub(crate) writable: bool,
}

impl Segment {
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add((self.bytes.end - self.bytes.start) as u64)
    }

    pub(crate) fn has(&self, address: u64) -> bool {
        (self.start..self.end()).contains(&address)
    }
}

/// A parsed file.
#[derive(Clone, Debug)]
pub(crate) struct Elf<'d> {
    pub(crate) data: &'d [u8],
    pub(crate) entry: u64,
    /// ET_DYN: loaded anywhere, so that an address in its data has a relocation.
    pub(crate) relocatable: bool,
    pub(crate) segments: Vec<Segment>,
    pub(crate) interpreter: Option<Vec<u8>>,
    /// Address and length of PT_DYNAMIC.
    pub(crate) dynamic: Option<(u64, u64)>,
    /// Address of PT_GNU_EH_FRAME.
    pub(crate) unwind: Option<(u64, u64)>,
}

impl<'d> Elf<'d> {
    pub(crate) fn parse(data: &'d [u8]) -> Result<Self, ElfError> {
        if !data.starts_with(&elf::ELFMAG) {
            return Err(ElfError::NotElf);
        }
        let header = FileHeader64::<Endianness>::parse(data).map_err(|_| ElfError::OtherMachine)?;
        let endian = header.endian().map_err(|_| ElfError::OtherMachine)?;
        if endian != Endianness::Little || header.e_machine(endian) != elf::EM_X86_64 {
            return Err(ElfError::OtherMachine);
        }
        let kind = header.e_type(endian);
        if kind != elf::ET_EXEC && kind != elf::ET_DYN {
            return Err(ElfError::Broken("neither a program nor a library"));
        }
        let headers: &[ProgramHeader64<Endianness>] = header
            .program_headers(endian, data)
            .map_err(|_| ElfError::Broken("the program headers lie outside of the file"))?;
        let mut parsed = Self {
            data,
            entry: header.e_entry(endian),
            relocatable: kind == elf::ET_DYN,
            segments: Vec::new(),
            interpreter: None,
            dynamic: None,
            unwind: None,
        };
        if headers.len() > HEADERS_MAX {
            return Err(ElfError::Broken("more program headers than any real file has"));
        }
        for header in headers {
            let (address, length) = (header.p_vaddr(endian), header.p_memsz(endian));
            match header.p_type(endian) {
                elf::PT_LOAD => {
                    let start = usize::try_from(header.p_offset(endian)).unwrap_or(usize::MAX);
                    let length_in_file = usize::try_from(header.p_filesz(endian)).unwrap_or(usize::MAX);
                    let end = start.saturating_add(length_in_file);
                    if end > data.len() || address.checked_add(length).is_none() {
                        return Err(ElfError::Broken("a segment lies outside of the file"));
                    }
                    let flags = header.p_flags(endian);
                    parsed.segments.push(Segment {
                        start: address,
                        bytes: start..end,
                        memory: length,
                        executable: flags & elf::PF_X != elf::ProgramFlags(0),
                        writable: flags & elf::PF_W != elf::ProgramFlags(0),
                    });
                }
                elf::PT_DYNAMIC => parsed.dynamic = Some((address, header.p_filesz(endian))),
                elf::PT_GNU_EH_FRAME => parsed.unwind = Some((address, header.p_filesz(endian))),
                elf::PT_INTERP => {
                    let path = header.data(endian, data).unwrap_or_default();
                    parsed.interpreter =
                        Some(path.split(|byte| *byte == 0).next().unwrap_or_default().to_vec());
                }
                _ => {}
            }
        }
        parsed.segments.sort_by_key(|segment| segment.start);
        for pair in parsed.segments.windows(2) {
            if pair[0].start + pair[0].memory > pair[1].start {
                return Err(ElfError::Broken("two segments overlap"));
            }
        }
        Ok(parsed)
    }

    fn segment(&self, address: u64) -> Option<&Segment> {
        let at = self.segments.partition_point(|segment| segment.start <= address).checked_sub(1)?;
        self.segments.get(at).filter(|segment| segment.has(address))
    }

    /// The bytes from `address` to the end of its segment in the file.
    pub(crate) fn from(&self, address: u64) -> Option<&'d [u8]> {
        let segment = self.segment(address)?;
        let skip = usize::try_from(address - segment.start).ok()?;
        self.data.get(segment.bytes.clone())?.get(skip..)
    }

    pub(crate) fn bytes(&self, address: u64, length: usize) -> Option<&'d [u8]> {
        self.from(address)?.get(..length)
    }

    pub(crate) fn u64(&self, address: u64) -> Option<u64> {
        let bytes = self.bytes(address, 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    pub(crate) fn i32(&self, address: u64) -> Option<i32> {
        let bytes = self.bytes(address, 4)?;
        Some(i32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The text at `address` up to its NUL.
    pub(crate) fn text(&self, address: u64) -> Option<&'d [u8]> {
        let bytes = self.from(address)?;
        let bytes = &bytes[..bytes.len().min(4096)];
        bytes.iter().position(|byte| *byte == 0).map(|end| &bytes[..end])
    }

    /// The text at `address`, where nobody writes to it.
    pub(crate) fn fixed_text(&self, address: u64) -> Option<&'d [u8]> {
        self.segment(address).filter(|segment| !segment.writable)?;
        self.text(address)
    }

    pub(crate) fn is_code(&self, address: u64) -> bool {
        self.segment(address).is_some_and(|segment| segment.executable)
    }

    /// Why code may run that is not in the file as it runs, if it may.
    pub(crate) fn unseen_code(&self) -> Option<&'static str> {
        if self.segments.iter().any(|segment| segment.executable && segment.writable) {
            return Some("it has a segment that is both writable and executable");
        }
        // Source: UPX src/stub/src/include/header.S, `UPX_MAGIC_LE32`.
        let head = &self.data[..self.data.len().min(HEAD_BYTES)];
        memmem::find(head, b"UPX!").map(|_| "it is packed: its code is made when it runs")
    }

    pub(crate) fn code(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.executable && !segment.bytes.is_empty())
    }

    /// Where the linker keeps the addresses that code loads one by one, and that nothing else points to; empty where no
    /// section is called so.
    pub(crate) fn global_offset_table(&self) -> std::ops::Range<u64> {
        section(self.data, b".got").unwrap_or_default()
    }

    /// Where .eh_frame is, if a section is called so: a static program may have no segment that says it.
    pub(crate) fn unwind_section(&self) -> Option<std::ops::Range<u64>> {
        section(self.data, b".eh_frame")
    }

    /// Whether it has code of Swift's: sections that its reflection needs, which stay in a file without names.
    ///
    /// Source: swift docs/Runtime.md and stdlib/public/runtime/SwiftRT-ELF-WASM.cpp.
    pub(crate) fn is_swift(&self) -> bool {
        [&b"swift5_protocols"[..], b"swift5_types", b"swift5_reflstr", b"swift5_typeref"]
            .iter()
            .any(|name| section(self.data, name).is_some())
    }

    /// Functions that .symtab names, where the file is not stripped: address, length and name.
    pub(crate) fn debug_names(&self) -> Vec<(u64, u64, String)> {
        debug_names(self.data).unwrap_or_default()
    }
}

fn section(data: &[u8], name: &[u8]) -> Option<std::ops::Range<u64>> {
    use object::read::elf::SectionHeader as _;
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let (_, section) = header.sections(endian, data).ok()?.section_by_name(endian, name)?;
    let start = section.sh_addr(endian);
    Some(start..start.checked_add(section.sh_size(endian))?)
}

fn debug_names(data: &[u8]) -> Option<Vec<(u64, u64, String)>> {
    use object::read::elf::Sym as _;
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let symbols = sections.symbols(endian, data, elf::SHT_SYMTAB).ok()?;
    let mut names = Vec::new();
    for symbol in symbols.iter() {
        let is_function = symbol.st_type() == elf::STT_FUNC || symbol.st_type() == elf::STT_GNU_IFUNC;
        if is_function && symbol.st_value(endian) != 0 {
            let name = symbol.name(endian, symbols.strings()).unwrap_or_default();
            names.push((
                symbol.st_value(endian),
                symbol.st_size(endian),
                String::from_utf8_lossy(name).into_owned(),
            ));
        }
    }
    Some(names)
}
