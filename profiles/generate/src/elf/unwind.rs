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

/// What the tables say.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// In order of their start.
    pub(crate) frames: Vec<Frame>,
    /// Every entry was read: what the list does not say is not so.
    pub(crate) whole: bool,
}

pub(crate) fn frames(elf: &Elf<'_>) -> Frames {
    let mut found = all(elf).unwrap_or_default();
    found.frames.retain(|frame| frame.start < frame.end && elf.is_code(frame.start));
    found.frames.sort_unstable();
    found.frames.dedup_by_key(|frame| frame.start);
    found
}

/// None where a table is said to be there and is not.
fn all(elf: &Elf<'_>) -> Option<Frames> {
    let named = elf.unwind_section();
    let (bases, start, bytes) = match elf.unwind {
        Some((address, _)) => {
            let bases = BaseAddresses::default().set_eh_frame_hdr(address);
            let header = EhFrameHdr::new(elf.from(address)?, LittleEndian).parse(&bases, 8).ok()?;
            let gimli::Pointer::Direct(start) = header.eh_frame_ptr() else { return None };
            (bases, start, elf.from(start)?)
        }
        None => {
            let Some(section) = &named else { return Some(Frames { frames: Vec::new(), whole: true }) };
            (BaseAddresses::default(), section.start, elf.from(section.start)?)
        }
    };
    // Without a mark of its end the table ends with its section.
    let named = named.filter(|section| section.start == start);
    let length = named.map_or(bytes.len(), |section| {
        usize::try_from(section.end - section.start).unwrap_or(usize::MAX).min(bytes.len())
    });
    let bytes = &bytes[..length];
    let section = EhFrame::new(bytes, LittleEndian);
    let bases = bases.set_eh_frame(start);
    let (mut found, mut whole) = (Vec::new(), true);
    let mut entries = section.entries(&bases);
    loop {
        let entry = match entries.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(_) => {
                whole = false;
                break;
            }
        };
        let CieOrFde::Fde(partial) = entry else { continue };
        let Ok(fde) = partial.parse(|section, bases, offset| section.cie_from_offset(bases, offset)) else {
            whole = false;
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
            whole = false;
            break;
        }
    }
    Some(Frames { frames: found, whole })
}
