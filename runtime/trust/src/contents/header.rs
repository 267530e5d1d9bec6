//! One header block of a tar, read as Go's `archive/tar` reads it, because containerd unpacks with that.
//!
//! Source: archive/tar, reader.go and strconv.go. Where another reader would see another file, the layer's directory
//! would not be what this one expects, and the image is refused.

use super::flaw::TarFlaw;

/// Size of a header, and what every file's bytes are filled up to.
pub(super) const BLOCK: usize = 512;

/// What one header block says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) size: i64,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) device: (i64, i64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// Reads a block that is not all zeros.
pub(super) fn read(block: &[u8; BLOCK]) -> Result<Header, TarFlaw> {
    let format = format(block).ok_or(TarFlaw::Header)?;
    let mut header = Header {
        kind: block[156],
        name: text(&block[0..100]).to_vec(),
        link: text(&block[157..257]).to_vec(),
        size: number(&block[124..136])?,
        mode: number(&block[100..108])?,
        uid: number(&block[108..116])?,
        gid: number(&block[116..124])?,
        device: (0, 0),
    };
    number(&block[136..148])?;
    if format == Format::V7 {
        return Ok(header);
    }
    header.device = (number(&block[329..337])?, number(&block[337..345])?);
    let prefix = match format {
        Format::V7 | Format::Ustar => text(&block[345..500]),
        Format::Star => {
            number(&block[476..488])?;
            number(&block[488..500])?;
            text(&block[345..476])
        }
        // An old writer of Go's put a prefix where GNU tar keeps times: then they are no numbers.
        Format::Gnu => {
            let time = |field: &[u8]| field[0] == 0 || number(field).is_ok();
            let times = time(&block[345..357]) && time(&block[357..369]);
            let prefix = text(&block[345..500]);
            if times || !prefix.is_ascii() { &[] } else { prefix }
        }
    };
    if !prefix.is_empty() {
        header.name = [prefix, b"/", &header.name].concat();
    }
    Ok(header)
}

/// The format, if the checksum is right.
fn format(block: &[u8; BLOCK]) -> Option<Format> {
    let wanted = octal(&block[148..156]).ok()?;
    let unsigned: i64 = sum(block, i64::from);
    let signed: i64 = sum(block, |byte| i64::from(byte.cast_signed()));
    if wanted != unsigned && wanted != signed {
        return None;
    }
    Some(match (&block[257..263], &block[263..265], &block[508..512]) {
        (b"ustar\0", _, b"tar\0") => Format::Star,
        (b"ustar\0", _, _) => Format::Ustar,
        (b"ustar ", b" \0", _) => Format::Gnu,
        _ => Format::V7,
    })
}

/// The checksum's own field counts as eight spaces.
fn sum(block: &[u8; BLOCK], value: impl Fn(u8) -> i64) -> i64 {
    let own = 148..156;
    block.iter().enumerate().map(|(at, byte)| value(if own.contains(&at) { b' ' } else { *byte })).sum()
}

/// Up to the first zero byte.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal digits, or a binary number whose first bit is set.
fn number(field: &[u8]) -> Result<i64, TarFlaw> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field),
        _ => octal(field),
    }
}

/// Two's complement, big end first; the first bit is a mark and the second one the sign.
fn binary(field: &[u8]) -> Result<i64, TarFlaw> {
    let flip = if field[0] & 0x40 != 0 { 0xff } else { 0 };
    let mut value: u64 = 0;
    for (index, byte) in field.iter().enumerate() {
        let byte = byte ^ flip;
        let byte = if index == 0 { byte & 0x7f } else { byte };
        if value >> 56 != 0 {
            return Err(TarFlaw::Header);
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).map_err(|_| TarFlaw::Header)?;
    Ok(if flip == 0 { value } else { !value })
}

fn octal(field: &[u8]) -> Result<i64, TarFlaw> {
    let filler = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !filler(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !filler(byte)).map_or(start, |at| at + 1);
    let digits = text(&field[start..end]);
    if digits.is_empty() {
        return Ok(0);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| TarFlaw::Header)?;
    // No sign: Go parses these as unsigned.
    if digits.starts_with('+') {
        return Err(TarFlaw::Header);
    }
    let value = u64::from_str_radix(digits, 8).map_err(|_| TarFlaw::Header)?;
    Ok(value.cast_signed())
}
