//! Blobs of containerd's content store: counted while they come, hashed when they are there.

use std::path::{Path, PathBuf};

use bulkhead_model::{Digest, ImageFacts, JUDGE_BLOB_BYTES_MAX};
use containerd_client::services::v1::{InfoRequest, PluginsRequest, ReadContentRequest};

use crate::{Containerd, Failure, client::found};

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
    /// The directory that has the blobs, by the hexadecimal digits of their digests.
    ///
    /// Source: containerd plugins/content/local/plugin.go, `exports["root"]`, and store.go, `blobPath`.
    pub(crate) async fn blobs_dir(&self) -> Result<PathBuf, Failure> {
        const CALL: &str = "introspection.Plugins";
        const CONTENT: &str = "io.containerd.content.v1";
        let request = self.request(PluginsRequest { filters: vec![format!("type=={CONTENT}")] });
        let mut client = self.introspection();
        let plugins = self.answer(CALL, CONTENT, client.plugins(request)).await?.into_inner().plugins;
        let mut roots = plugins
            .iter()
            .filter(|plugin| plugin.r#type == CONTENT)
            .filter_map(|plugin| plugin.exports.get("root"));
        // A content store in another process has no root here.
        match (roots.next(), roots.next()) {
            (Some(root), None) if Path::new(root).is_absolute() => Ok(Path::new(root).join("blobs/sha256")),
            _ => Err(Failure::Answer {
                call: CALL,
                subject: CONTENT.to_owned(),
                field: "root of the content store",
            }),
        }
    }

    /// How many bytes a blob has that the content store has; `None` where it has none of that digest.
    ///
    /// # Errors
    /// containerd does not answer.
    pub async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, Failure> {
        const CALL: &str = "content.Info";
        let subject = digest.to_string();
        let request = self.request(InfoRequest { digest: subject.clone() });
        let mut client = self.content();
        let Some(answer) = found(self.answer(CALL, &subject, client.info(request)).await)? else {
            return Ok(None);
        };
        let size = answer.info.and_then(|info| u64::try_from(info.size).ok());
        size.map(Some).ok_or(Failure::Answer { call: CALL, subject, field: "size" })
    }

    /// An image's config: bytes that hash to its name.
    ///
    /// # Errors
    /// containerd does not answer, or has other bytes by now.
    pub async fn config(&self, image: &ImageFacts) -> Result<Vec<u8>, Failure> {
        match self.blob(&image.config, JUDGE_BLOB_BYTES_MAX).await? {
            Blob::Bytes(bytes) => Ok(bytes),
            Blob::TooLarge | Blob::Spoilt(_) => Err(Failure::Answer {
                call: "content.Read",
                subject: image.config.to_string(),
                field: "bytes of that name",
            }),
        }
    }

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
