//! Go's own table of functions, pclntab, which is there in stripped programs too and says where each one ends.
//!
//! Source: Go debug/gosym/pclntab.go and cmd/link/internal/ld/pcln.go, formats of Go 1.18 and of 1.20 and later, which
//! differ by nothing that is read here.

use super::Elf;

/// Begins the table: the magic of Go 1.20 and later, and of 1.18; two zero bytes, instructions of 1 byte, pointers of 8.
const HEADERS: [[u8; 8]; 2] = [[0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8], [0xf0, 0xff, 0xff, 0xff, 0, 0, 1, 8]];
/// Begins the name of a program's entry point. Source: Go cmd/link/internal/ld/lib.go, `entryname`.
const ENTRY: &[u8] = b"_rt0_";
/// Most functions that are looked at.
const FUNCTIONS_MAX: u64 = 2_000_000;

/// Start, end and name of each function, where Go's linker made the file.
pub(crate) fn functions(elf: &Elf<'_>) -> Vec<(u64, u64, String)> {
    for segment in elf.segments.iter().filter(|segment| !segment.executable) {
        let Some(bytes) = elf.data.get(segment.bytes.clone()) else { continue };
        let skip = usize::try_from(segment.start.next_multiple_of(8) - segment.start).unwrap_or(0);
        let words = bytes.get(skip..).unwrap_or_default().chunks_exact(8);
        for (at, _) in words.enumerate().filter(|(_, word)| HEADERS.iter().any(|header| header == *word)) {
            let address = segment.start + (skip + at * 8) as u64;
            if let Some(found) = table(elf, address) {
                return found;
            }
        }
    }
    Vec::new()
}

fn table(elf: &Elf<'_>, at: u64) -> Option<Vec<(u64, u64, String)>> {
    let word = |field: u64| elf.u64(at.checked_add(8 + field * 8)?);
    let (count, text) = (word(0)?, word(2)?);
    let (names, functions) = (at.checked_add(word(3)?)?, at.checked_add(word(7)?)?);
    if count == 0 || count > FUNCTIONS_MAX {
        return None;
    }
    let offset = |index: u64| Some(u64::from(elf.i32(functions.checked_add(index * 8)?)?.cast_unsigned()));
    let starts: Option<Vec<u64>> = (0..=count).map(offset).collect();
    let starts = starts?;
    let name = |index: u64| {
        let data = elf.i32(functions.checked_add(index * 8 + 4)?)?.cast_unsigned();
        let name = elf.i32(functions.checked_add(u64::from(data) + 4)?)?.cast_unsigned();
        Some(elf.text(names.checked_add(u64::from(name))?).unwrap_or_default())
    };
    // Newer linkers leave out where the text begins; the program's entry point must be the function of that name then:
    // in a large program one begins at most addresses that are guessed. A program with C code in it begins in the C
    // library's own code: there what the table says counts.
    let guesses = elf.code().flat_map(|segment| [segment.start, segment.start.saturating_add(0x1000)]);
    let fits = |text: &u64| {
        let entry = elf.entry.checked_sub(*text).and_then(|entry| starts.binary_search(&entry).ok());
        let name = entry.and_then(|index| name(index as u64));
        name.is_some_and(|name| name.starts_with(ENTRY))
    };
    let is_said = |text: &u64| {
        let last = starts.iter().max().and_then(|last| text.checked_add(last.saturating_sub(1)));
        *text != 0 && elf.is_code(*text) && last.is_some_and(|last| elf.is_code(last))
    };
    let said = Some(text).filter(is_said);
    let told = || module_text(elf, at, functions, *starts.first()?, *starts.last()?);
    let text = std::iter::once(text).chain(guesses).find(fits).or(said).or_else(told)?;
    let mut found = Vec::with_capacity(starts.len());
    for (index, pair) in (0u64..).zip(starts.windows(2)) {
        let name = name(index)?;
        let (start, end) = (text.checked_add(pair[0])?, text.checked_add(pair[1])?);
        if start < end {
            found.push((start, end, String::from_utf8_lossy(name).into_owned()));
        }
    }
    Some(found)
}

/// Where the text begins by the description of the module, which newer linkers leave that to: it has this table, its
/// functions, and where the first begins and the last ends. Not read where the loader writes these addresses (PIE).
///
/// Source: Go runtime/symtab.go, `moduledata`: pcHeader, five slices, ftab, findfunctab, minpc, maxpc, text.
fn module_text(elf: &Elf<'_>, table: u64, functions: u64, first: u64, last: u64) -> Option<u64> {
    let segments = elf.segments.iter().filter(|segment| !segment.executable);
    let words = segments.filter_map(|segment| {
        let skip = usize::try_from(segment.start.next_multiple_of(8) - segment.start).ok()?;
        let bytes = elf.data.get(segment.bytes.clone())?.get(skip..)?;
        Some((segment.start + skip as u64, bytes.chunks_exact(8)))
    });
    let is_table = |word: &[u8]| word == table.to_le_bytes();
    let places = words.flat_map(|(start, words)| {
        (0u64..).zip(words).filter(|(_, word)| is_table(word)).map(move |(at, _)| start + at * 8)
    });
    let text = |module: u64| {
        let word = |field: u64| elf.u64(module.checked_add(field * 8)?);
        let text = word(22)?;
        let (least, most) = (text.checked_add(first)?, text.checked_add(last)?);
        let is_it = word(16)? == functions && word(20)? == least && word(21)? == most;
        (is_it && elf.is_code(text) && elf.is_code(most.checked_sub(1)?)).then_some(text)
    };
    places.filter_map(text).next()
}
