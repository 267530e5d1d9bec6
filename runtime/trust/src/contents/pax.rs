//! PAX headers, and lists of the parts that a sparse file has.
//!
//! Source: archive/tar, reader.go (`parsePAX`, `readGNUSparseMap1x0`, `readGNUSparseMap0x1`) and strconv.go.

use std::collections::BTreeMap;

use super::flaw::TarFlaw;

/// Records of one PAX header, by key.
pub(super) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys of an extended attribute begin so.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

const SPARSE_MAP: &[u8] = b"GNU.sparse.map";

/// Most parts of one sparse file.
const PARTS_MAX: usize = 1 << 20;

/// A part of a sparse file that has bytes: where, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// How a sparse file keeps its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SparseMap {
    /// In its header.
    InHeader(Vec<Part>),
    /// Before its bytes.
    InData,
}

/// Reads all records.
pub(super) fn records(mut bytes: &[u8]) -> Result<Records, TarFlaw> {
    let mut records = Records::new();
    let mut sparse: Vec<&[u8]> = Vec::new();
    while !bytes.is_empty() {
        let (key, value, rest) = record(bytes)?;
        bytes = rest;
        let next = if sparse.len().is_multiple_of(2) { b"offset".as_slice() } else { b"numbytes" };
        match key.strip_prefix(b"GNU.sparse.") {
            Some(word @ (b"offset" | b"numbytes")) => {
                if word != next || value.contains(&b',') {
                    return Err(TarFlaw::Pax);
                }
                sparse.push(value);
            }
            _ => {
                records.insert(key.to_vec(), value.to_vec());
            }
        }
    }
    if !sparse.is_empty() {
        records.insert(SPARSE_MAP.to_vec(), sparse.join(&b','));
    }
    Ok(records)
}

/// Key, value, and what comes after.
type Record<'b> = (&'b [u8], &'b [u8], &'b [u8]);

/// `LENGTH KEY=VALUE\n`, the length being that of all of it.
fn record(bytes: &[u8]) -> Result<Record<'_>, TarFlaw> {
    let space = bytes.iter().position(|byte| *byte == b' ').ok_or(TarFlaw::Pax)?;
    let length = decimal(&bytes[..space]).and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|length| *length > space + 1 && *length <= bytes.len()).ok_or(TarFlaw::Pax)?;
    let (this, rest) = bytes.split_at(length);
    let this = this[space + 1..].strip_suffix(b"\n").ok_or(TarFlaw::Pax)?;
    let equals = this.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or(TarFlaw::Pax)?;
    let (key, value) = (&this[..equals], &this[equals + 1..]);
    let zero = match key {
        b"path" | b"linkpath" | b"uname" | b"gname" => value.contains(&0),
        _ => key.contains(&0),
    };
    if zero { Err(TarFlaw::Pax) } else { Ok((key, value, rest)) }
}

/// A whole number in decimal digits, as a header's record has it.
pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What the records say of a sparse file: its name and size where they are there, and its list. `None` if it is none.
#[derive(Debug)]
pub(super) struct Sparse<'r> {
    pub(super) name: Option<&'r [u8]>,
    pub(super) size: Option<i64>,
    pub(super) map: SparseMap,
}

pub(super) fn sparse(records: &Records) -> Result<Option<Sparse<'_>>, TarFlaw> {
    let get = |key: &[u8]| records.get(key).map(Vec::as_slice).filter(|value| !value.is_empty());
    let in_data = match (get(b"GNU.sparse.major"), get(b"GNU.sparse.minor")) {
        (Some(b"0"), Some(b"0" | b"1")) => false,
        (Some(b"1"), Some(b"0")) => true,
        (None, None) if get(SPARSE_MAP).is_some() => false,
        _ => return Ok(None),
    };
    let size = get(b"GNU.sparse.size").or_else(|| get(b"GNU.sparse.realsize"));
    let size = size.map(|size| decimal(size).ok_or(TarFlaw::Sparse)).transpose()?;
    let map = if in_data { SparseMap::InData } else { SparseMap::InHeader(map_0_1(records)?) };
    Ok(Some(Sparse { name: get(b"GNU.sparse.name"), size, map }))
}

fn map_0_1(records: &Records) -> Result<Vec<Part>, TarFlaw> {
    let count = records.get(b"GNU.sparse.numblocks".as_slice()).map_or(Some(0), |count| decimal(count));
    let count = count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count <= PARTS_MAX);
    let count = count.ok_or(TarFlaw::Sparse)?;
    let text = records.get(SPARSE_MAP).map(Vec::as_slice).unwrap_or_default();
    let numbers: Vec<&[u8]> =
        if text.is_empty() { Vec::new() } else { text.split(|byte| *byte == b',').collect() };
    if numbers.len() != 2 * count {
        return Err(TarFlaw::Sparse);
    }
    numbers.chunks_exact(2).map(|pair| part(pair[0], pair[1])).collect()
}

/// The list that stands before a file's bytes, in blocks of decimal numbers, one a line.
pub(super) fn map_1_0(
    mut block: impl FnMut() -> Result<[u8; 512], TarFlaw>,
) -> Result<(Vec<Part>, u64), TarFlaw> {
    let (mut buffer, mut taken, mut read) = (Vec::new(), 0, 0);
    let mut line = || -> Result<Vec<u8>, TarFlaw> {
        loop {
            if let Some(end) = buffer[taken..].iter().position(|byte| *byte == b'\n') {
                let line = buffer[taken..taken + end].to_vec();
                taken += end + 1;
                return Ok(line);
            }
            if buffer.len() - taken > 512 {
                return Err(TarFlaw::Sparse);
            }
            buffer.drain(..taken);
            taken = 0;
            buffer.extend_from_slice(&block()?);
            read += 512;
        }
    };
    let count = decimal(&line()?).and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| *count <= PARTS_MAX).ok_or(TarFlaw::Sparse)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        parts.push(part(&line()?, &line()?)?);
    }
    Ok((parts, read))
}

fn part(offset: &[u8], length: &[u8]) -> Result<Part, TarFlaw> {
    let number = |text| decimal(text).and_then(|number| u64::try_from(number).ok()).ok_or(TarFlaw::Sparse);
    Ok(Part { offset: number(offset)?, length: number(length)? })
}

/// Whether the parts are in order, apart from each other and within the file.
pub(super) fn check(parts: &[Part], size: u64) -> Result<(), TarFlaw> {
    let mut end = 0;
    for part in parts {
        let this =
            part.offset.checked_add(part.length).filter(|this| *this <= size).ok_or(TarFlaw::Sparse)?;
        if part.offset < end {
            return Err(TarFlaw::Sparse);
        }
        end = this;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn records_are_read_by_their_length_and_the_last_of_a_key_counts() {
        let read = records(b"11 path=a\nb\n10 path=c\n9 uid=12\n").unwrap_err();
        assert_eq!(read, TarFlaw::Pax);
        let read = records(b"12 path=a\nb\n\n10 path=c\n").unwrap_err();
        assert_eq!(read, TarFlaw::Pax);
        let read = records(b"13 path=a\nbc\n10 path=c\n9 uid=12\n").unwrap();
        assert_eq!(read[b"path".as_slice()], b"c");
        for bad in
            [&b"5 a=b"[..], b"x a=b\n", b"6 =ab\n", b"99 a=b\n", b"8 path=\0\n", b"0 a=b\n", b"-6 a=b\n"]
        {
            assert!(records(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parts_that_overlap_or_reach_beyond_the_file_are_refused() {
        let part = |offset, length| Part { offset, length };
        assert!(check(&[part(0, 5), part(5, 5)], 10).is_ok());
        assert!(check(&[part(0, 6), part(5, 5)], 10).is_err());
        assert!(check(&[part(5, 6)], 10).is_err());
        assert!(check(&[part(u64::MAX, 2)], 10).is_err());
    }
}
