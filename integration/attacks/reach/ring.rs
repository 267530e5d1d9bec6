//! Reads pages of the kernel's ring buffer as `trace_pipe_raw` gives them.
//!
//! Source: `events/header_page`, `events/header_event` and the `format` files of tracefs; include/linux/ring_buffer.h.

/// Size of a page of the buffer: `buffer_subbuf_size_kb` as it is unless somebody changes it.
pub(crate) const PAGE: usize = 4096;

/// Timestamp and commit count, before the data.
const HEADER: usize = 16;
/// How much of the commit count is the length of the data: the rest are flags.
const LENGTH: u64 = (1 << 27) - 1;
/// Flag of the commit count: events were lost before this page.
const MISSED: u64 = 1 << 31;

/// ID of `ftrace/function` and `ftrace/print`.
const FUNCTION: u16 = 1;
const PRINT: u16 = 5;
/// In an interrupt or an NMI that happened to come: flags of trace_flag_type, include/linux/trace_events.h.
const INTERRUPTED: u8 = 0x08 | 0x40;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A function was entered, at this time, by a process and not by an interrupt.
    Entered { at: u64, address: u64 },
    /// Something that was written to `trace_marker`.
    Marked { at: u64, text: String },
}

/// A page that is not what the format says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damaged(pub(crate) &'static str);

/// Gives every event of a page to `take`.
pub(crate) fn read(page: &[u8], mut take: impl FnMut(Event)) -> Result<(), Damaged> {
    let mut time = u64_at(page, 0)?;
    let commit = u64_at(page, 8)?;
    if commit & MISSED != 0 {
        return Err(Damaged("events were lost before this page"));
    }
    let end = HEADER + usize::try_from(commit & LENGTH).map_err(|_| Damaged("a length"))?;
    let mut at = HEADER;
    while at < end {
        let header = u32_at(page, at)?;
        let (kind, delta) = (header & 31, u64::from(header >> 5));
        let (body, length) = match kind {
            0 => (at + 8, u32_at(page, at + 4)? as usize - 4),
            // Padding without a time ends the page.
            29 if delta == 0 => return Ok(()),
            29 => (at + 8, u32_at(page, at + 4)? as usize - 4),
            30 | 31 => {
                let long = (u64::from(u32_at(page, at + 4)?) << 27) + delta;
                time = if kind == 30 { time + long } else { time >> 59 << 59 | long };
                at += 8;
                continue;
            }
            words => (at + 4, words as usize * 4),
        };
        time += delta;
        if kind != 29 {
            let data = page.get(body..body + length).ok_or(Damaged("an event beyond its page"))?;
            event(data, time)?.into_iter().for_each(&mut take);
        }
        at = body + length;
    }
    Ok(())
}

fn event(data: &[u8], at: u64) -> Result<Option<Event>, Damaged> {
    let [low, high, flags, ..] = *data else { return Err(Damaged("an event without a type")) };
    Ok(match u16::from_le_bytes([low, high]) {
        FUNCTION if flags & INTERRUPTED == 0 => Some(Event::Entered { at, address: u64_at(data, 8)? }),
        PRINT => {
            let text = data.get(16..).ok_or(Damaged("a mark without text"))?;
            let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
            Some(Event::Marked { at, text: String::from_utf8_lossy(text).trim().to_owned() })
        }
        _ => None,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Damaged> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map(|word| u32::from_le_bytes(*word)).ok_or(Damaged("a page that ends early"))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Damaged> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map(|word| u64::from_le_bytes(*word)).ok_or(Damaged("a page that ends early"))
}
