//! Where functions begin and end, of stripped files too: the frame description entries of .eh_frame.

use gimli::{BaseAddresses, CieOrFde, EhFrame, EhFrameHdr, LittleEndian, UnwindSection as _};

use super::Elf;

/// Most entries that are looked at.
const ENTRIES_MAX: usize = 4_000_000;

/// A range of code that the compiler calls one function, or one part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Frame {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// It has code that only an exception reaches.
    pub(crate) landing_pads: bool,
}

/// In order of their start; what does not parse ends the list.
pub(crate) fn frames(elf: &Elf<'_>) -> Vec<Frame> {
    let mut found = all(elf).unwrap_or_default();
    found.retain(|frame| frame.start < frame.end && elf.is_code(frame.start));
    found.sort_unstable();
    found.dedup_by_key(|frame| frame.start);
    found
}

fn all(elf: &Elf<'_>) -> Option<Vec<Frame>> {
    let (bases, start, bytes) = match elf.unwind {
        Some((address, _)) => {
            let bases = BaseAddresses::default().set_eh_frame_hdr(address);
            let header = EhFrameHdr::new(elf.from(address)?, LittleEndian).parse(&bases, 8).ok()?;
            let gimli::Pointer::Direct(start) = header.eh_frame_ptr() else { return None };
            (bases, start, elf.from(start)?)
        }
        None => {
            let section = elf.unwind_section()?;
            let bytes = elf.from(section.start)?;
            let length = usize::try_from(section.end - section.start).ok()?;
            (BaseAddresses::default(), section.start, &bytes[..bytes.len().min(length)])
        }
    };
    let section = EhFrame::new(bytes, LittleEndian);
    let bases = bases.set_eh_frame(start);
    let mut found = Vec::new();
    let mut entries = section.entries(&bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let Ok(fde) = partial.parse(|section, bases, offset| section.cie_from_offset(bases, offset)) else {
            continue;
        };
        // The entry of a signal frame begins one byte early, so that unwinding finds it.
        let early = u64::from(fde.is_signal_trampoline());
        found.push(Frame {
            start: fde.initial_address().saturating_add(early),
            end: fde.end_address(),
            landing_pads: fde.lsda().is_some(),
        });
        if found.len() > ENTRIES_MAX {
            break;
        }
    }
    Some(found)
}
