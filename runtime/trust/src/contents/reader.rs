//! The entries of a tar, one after the other, as Go's `archive/tar` gives them.

use std::io::{self, BufRead, Read};

use super::{
    flaw::TarFlaw,
    header::{self, BLOCK, Header},
    pax::{self, Part, Records, SparseMap},
};

/// Largest name or PAX header, in bytes.
///
/// Source: archive/tar, `maxSpecialFileSize`.
const SPECIAL_BYTES_MAX: u64 = 1 << 20;

/// Why a tar could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// It is damaged.
    #[error(transparent)]
    Flaw(#[from] TarFlaw),
    /// Its bytes could not be had.
    #[error("read(2) of the layer's blob")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match (error.raw_os_error(), error.kind()) {
            // The kernel's; all others are a decompressor's.
            (Some(_), _) => ReadError::Io(error),
            (None, io::ErrorKind::UnexpectedEof) => TarFlaw::Short.into(),
            (None, _) => TarFlaw::Compression(error.to_string().chars().take(200).collect()).into(),
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    /// Of its file, holes included.
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) device: (u32, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of a sparse file.
    parts: Option<Vec<Part>>,
}

/// A piece of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'b> {
    Bytes(&'b [u8]),
    /// A hole of this many.
    Zeros(u64),
}

/// Reads entries.
pub(super) struct Reader<R> {
    input: R,
    /// Bytes of the current entry that are still to come, and what fills them up to a block.
    left: u64,
    fill: u64,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, left: 0, fill: 0 }
    }

    /// What was read from.
    pub(super) fn into_inner(self) -> R {
        self.input
    }

    /// The next entry; `None` at the end. Bytes of the one before that were not taken are passed over.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        let mut records = Records::new();
        let (mut long_name, mut long_link) = (Vec::new(), Vec::new());
        loop {
            self.pass_over()?;
            let Some(mut header) = self.header()? else { return Ok(None) };
            self.start(&header)?;
            match header.kind {
                b'x' => records = pax::records(&self.special()?)?,
                b'g' => {
                    pax::records(&self.special()?)?;
                    return Ok(Some(Entry::global(header.name)));
                }
                b'L' => long_name = header::text(&self.special()?).to_vec(),
                b'K' => long_link = header::text(&self.special()?).to_vec(),
                _ => {
                    merge(&mut header, &records)?;
                    if !long_name.is_empty() {
                        header.name = long_name;
                    }
                    if !long_link.is_empty() {
                        header.link = long_link;
                    }
                    if header.kind == 0 {
                        header.kind = if header.name.ends_with(b"/") { b'5' } else { b'0' };
                    }
                    // The records may have said another size.
                    self.start(&header)?;
                    let parts = self.sparse(&mut header, &records)?;
                    return Entry::new(header, &records, parts).map(Some).map_err(ReadError::from);
                }
            }
        }
    }

    /// Hands the entry's bytes to `take`, in order.
    pub(super) fn content<E: From<ReadError>>(
        &mut self,
        entry: &Entry,
        take: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(parts) = &entry.parts else { return self.bytes(entry.size, take) };
        let mut at = 0;
        for part in parts {
            if part.offset > at {
                take(Piece::Zeros(part.offset - at))?;
            }
            self.bytes(part.length, take)?;
            at = part.offset + part.length;
        }
        if entry.size > at {
            take(Piece::Zeros(entry.size - at))?;
        }
        Ok(())
    }

    fn bytes<E: From<ReadError>>(
        &mut self,
        mut count: u64,
        take: &mut dyn FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if count > self.left {
            return Err(ReadError::from(TarFlaw::Short).into());
        }
        while count > 0 {
            let bytes = self.input.fill_buf().map_err(ReadError::from)?;
            let length = bytes.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(ReadError::from(TarFlaw::Short).into());
            }
            take(Piece::Bytes(&bytes[..length]))?;
            self.input.consume(length);
            count -= length as u64;
            self.left -= length as u64;
        }
        Ok(())
    }

    /// Goes on to the end of the current entry.
    fn pass_over(&mut self) -> Result<(), ReadError> {
        self.bytes(self.left, &mut |_| Ok::<(), ReadError>(()))?;
        // Of the last entry what fills it up may be missing.
        while self.fill > 0 {
            let length = (self.input.fill_buf()?.len() as u64).min(self.fill);
            if length == 0 {
                break;
            }
            self.input.consume(usize::try_from(length).unwrap_or(0));
            self.fill -= length;
        }
        self.fill = 0;
        Ok(())
    }

    /// Two blocks of zeros are the end, and so is the end of the input between entries.
    fn header(&mut self) -> Result<Option<Header>, ReadError> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Ok(Some(header::read(&block)?));
        }
        match self.block()? {
            None => Ok(None),
            Some(block) if block == [0; BLOCK] => Ok(None),
            Some(_) => Err(TarFlaw::Header.into()),
        }
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, ReadError> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block)?;
        Ok(Some(block))
    }

    fn start(&mut self, header: &Header) -> Result<(), TarFlaw> {
        let size = u64::try_from(header.size).map_err(|_| TarFlaw::Header)?;
        // Links, devices, directories and FIFOs have no bytes whatever they say.
        self.left = if matches!(header.kind, b'1'..=b'6') { 0 } else { size };
        self.fill = self.left.next_multiple_of(BLOCK as u64) - self.left;
        Ok(())
    }

    /// The bytes of a header that speaks of the next one.
    fn special(&mut self) -> Result<Vec<u8>, ReadError> {
        if self.left > SPECIAL_BYTES_MAX {
            return Err(TarFlaw::LongHeader.into());
        }
        let mut bytes = Vec::new();
        (&mut self.input).take(self.left).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != self.left {
            return Err(TarFlaw::Short.into());
        }
        self.left = 0;
        Ok(bytes)
    }

    fn sparse(&mut self, header: &mut Header, records: &Records) -> Result<Option<Vec<Part>>, ReadError> {
        let Some(sparse) = pax::sparse(records)? else { return Ok(None) };
        if let Some(name) = sparse.name {
            header.name = name.to_vec();
        }
        if let Some(size) = sparse.size {
            header.size = size;
        }
        let parts = match sparse.map {
            SparseMap::InHeader(parts) => parts,
            SparseMap::InData => {
                let mut left = self.left;
                let (parts, read) = pax::map_1_0(|| {
                    left = left.checked_sub(BLOCK as u64).ok_or(TarFlaw::Sparse)?;
                    let mut block = [0; BLOCK];
                    self.input.read_exact(&mut block).map_err(|_| TarFlaw::Short)?;
                    Ok(block)
                })?;
                self.left -= read;
                parts
            }
        };
        let size = u64::try_from(header.size).map_err(|_| TarFlaw::Sparse)?;
        if matches!(header.kind, b'1'..=b'6') {
            return Err(TarFlaw::Header.into());
        }
        pax::check(&parts, size)?;
        Ok(Some(parts))
    }
}

/// What the records say of the file.
fn merge(header: &mut Header, records: &Records) -> Result<(), TarFlaw> {
    let number = |value: &[u8]| pax::decimal(value).ok_or(TarFlaw::Header);
    for (key, value) in records.iter().filter(|(_, value)| !value.is_empty()) {
        match key.as_slice() {
            b"path" => header.name.clone_from(value),
            b"linkpath" => header.link.clone_from(value),
            b"uid" => header.uid = number(value)?,
            b"gid" => header.gid = number(value)?,
            b"size" => header.size = number(value)?,
            _ => {}
        }
    }
    Ok(())
}

impl Entry {
    fn new(header: Header, records: &Records, parts: Option<Vec<Part>>) -> Result<Self, TarFlaw> {
        let Header { kind, name, link, size, mode, uid, gid, device } = header;
        let id = |id: i64| u32::try_from(id).map_err(|_| TarFlaw::Number);
        let device = match kind {
            b'3' | b'4' => (id(device.0)?, id(device.1)?),
            _ => (0, 0),
        };
        let xattr = |(key, value): (&Vec<u8>, &Vec<u8>)| {
            Some((key.strip_prefix(pax::XATTR)?.to_vec(), value.clone()))
        };
        Ok(Self {
            kind,
            name,
            link,
            size: u64::try_from(size).map_err(|_| TarFlaw::Header)?,
            mode: u32::try_from(mode & 0o7777).map_err(|_| TarFlaw::Number)?,
            uid: id(uid)?,
            gid: id(gid)?,
            device,
            xattrs: records.iter().filter_map(xattr).collect(),
            parts,
        })
    }

    /// A header for all that follow, which containerd does not heed, but for its name.
    fn global(name: Vec<u8>) -> Self {
        Self {
            kind: b'g',
            name,
            link: Vec::new(),
            size: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            device: (0, 0),
            xattrs: Vec::new(),
            parts: None,
        }
    }
}
