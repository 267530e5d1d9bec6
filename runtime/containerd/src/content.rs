//! Blobs of containerd's content store: counted while they come, hashed when they are there.

use bulkhead_model::Digest;
use containerd_client::services::v1::ReadContentRequest;

use crate::{Containerd, Failure};

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Blob {
    /// Bytes that hash to the digest.
    Bytes(Vec<u8>),
    /// More than were wanted.
    TooLarge,
    /// Bytes that hash to something else: containerd's store is damaged, or somebody wrote to it.
    Spoilt(Digest),
}

impl Containerd {
    /// Reads a blob of at most `bytes_max` bytes.
    pub(crate) async fn blob(&self, digest: &Digest, bytes_max: u64) -> Result<Blob, Failure> {
        const CALL: &str = "content.Read";
        let subject = digest.to_string();
        let request = ReadContentRequest { digest: subject.clone(), offset: 0, size: 0 };
        let mut client = self.content();
        let mut stream = self.answer(CALL, &subject, client.read(self.request(request))).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = self.answer(CALL, &subject, stream.message()).await? {
            if part.offset != bytes.len() as i64 {
                return Err(Failure::Answer { call: CALL, subject, field: "offset" });
            }
            if bytes.len() as u64 + part.data.len() as u64 > bytes_max {
                return Ok(Blob::TooLarge);
            }
            bytes.extend_from_slice(&part.data);
        }
        let found = Digest::of(&bytes);
        Ok(if found == *digest { Blob::Bytes(bytes) } else { Blob::Spoilt(found) })
    }
}
