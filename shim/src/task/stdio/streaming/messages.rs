//! The four messages of containerd's streaming, each of one field, written and read by hand.
//!
//! Source: containerd api/services/streaming/v1/streaming.proto and api/types/transfer/streaming.proto.

use containerd_shim_protos::protobuf::{
    self, CodedInputStream, CodedOutputStream, rt::WireType, well_known_types::any::Any,
};

/// Most bytes of one Data.
///
/// Source: `maxRead`, containerd core/transfer/streaming/stream.go.
pub(super) const DATA_BYTES_MAX: usize = 32 << 10;

/// Bytes that may be on their way at once.
///
/// Source: `windowSize`, ibid.
pub(super) const WINDOW_BYTES: i32 = 64 << 10;

const INIT: &str = "containerd.services.streaming.v1.StreamInit";
const DATA: &str = "containerd.types.transfer.Data";
const WINDOW_UPDATE: &str = "containerd.types.transfer.WindowUpdate";
const EMPTY: &str = "google.protobuf.Empty";

/// A message of a client's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Which stream it wants.
    Init(String),
    /// Input.
    Data(Vec<u8>),
    /// How much more output it takes, in bytes.
    WindowUpdate(i32),
}

/// Reads one.
pub(super) fn read(any: &Any) -> Result<Message, String> {
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let failed = |error: protobuf::Error| format!("{name}: {error}");
    match name {
        INIT => {
            let bytes = bytes_field(&any.value).map_err(failed)?;
            String::from_utf8(bytes).map(Message::Init).map_err(|_| format!("{name}: id is no text"))
        }
        DATA => bytes_field(&any.value).map(Message::Data).map_err(failed),
        WINDOW_UPDATE => int_field(&any.value).map(Message::WindowUpdate).map_err(failed),
        _ => Err(format!("message {name:?} is not one of a stream's")),
    }
}

/// The answer to Init.
pub(super) fn ready() -> Any {
    any(EMPTY, Vec::new())
}

/// Output.
pub(super) fn data(bytes: &[u8]) -> Result<Any, String> {
    let mut value = Vec::with_capacity(bytes.len() + 8);
    let mut stream = CodedOutputStream::vec(&mut value);
    stream.write_bytes(1, bytes).and_then(|()| stream.flush()).map_err(|error| error.to_string())?;
    drop(stream);
    Ok(any(DATA, value))
}

/// How much more input is taken, in bytes.
pub(super) fn window_update(bytes: i32) -> Result<Any, String> {
    let mut value = Vec::new();
    let mut stream = CodedOutputStream::vec(&mut value);
    stream.write_int32(1, bytes).and_then(|()| stream.flush()).map_err(|error| error.to_string())?;
    drop(stream);
    Ok(any(WINDOW_UPDATE, value))
}

fn any(name: &str, value: Vec<u8>) -> Any {
    let mut any = Any::new();
    any.type_url = name.to_owned();
    any.value = value;
    any
}

fn bytes_field(value: &[u8]) -> protobuf::Result<Vec<u8>> {
    let mut stream = CodedInputStream::from_bytes(value);
    let mut found = Vec::new();
    while let Some((field, wire)) = next_field(&mut stream)? {
        match (field, wire) {
            (1, WireType::LengthDelimited) => found = stream.read_bytes()?,
            (_, wire) => stream.skip_field(wire)?,
        }
    }
    Ok(found)
}

fn int_field(value: &[u8]) -> protobuf::Result<i32> {
    let mut stream = CodedInputStream::from_bytes(value);
    let mut found = 0;
    while let Some((field, wire)) = next_field(&mut stream)? {
        match (field, wire) {
            (1, WireType::Varint) => found = stream.read_int32()?,
            (_, wire) => stream.skip_field(wire)?,
        }
    }
    Ok(found)
}

fn next_field(stream: &mut CodedInputStream<'_>) -> protobuf::Result<Option<(u32, WireType)>> {
    if stream.eof()? {
        return Ok(None);
    }
    let tag = stream.read_raw_varint32()?;
    let wire = WireType::new(tag & 7).ok_or(std::io::Error::other("wire type"))?;
    Ok(Some((tag >> 3, wire)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(read(&data(b"text").unwrap()).unwrap(), Message::Data(b"text".to_vec()));
        assert_eq!(read(&window_update(70_000).unwrap()).unwrap(), Message::WindowUpdate(70_000));
    }

    #[test]
    fn bytes_are_those_of_protobuf() {
        assert_eq!(data(b"ab").unwrap().value, [0x0a, 2, b'a', b'b']);
        assert_eq!(window_update(300).unwrap().value, [0x08, 0xac, 0x02]);
        let init = any(&format!("type.googleapis.com/{INIT}"), vec![0x12, 1, b'?', 0x0a, 2, b'i', b'd']);
        assert_eq!(read(&init).unwrap(), Message::Init("id".to_owned()));
    }

    #[test]
    fn cut_and_foreign_messages_are_refused() {
        assert!(read(&any(DATA, vec![0x0a, 9, b'a'])).is_err());
        assert!(read(&any("containerd.types.transfer.Progress", Vec::new())).is_err());
        assert!(read(&any(INIT, vec![0x0a, 1, 0xff])).is_err());
    }
}
