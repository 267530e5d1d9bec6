//! A client of containerd 2's streaming, as small as the protocol allows: ttrpc frames on a unix socket.
//!
//! Source: ttrpc PROTOCOL.md; containerd core/streaming/proxy and core/transfer/streaming.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use containerd_shim_protos::protobuf::{CodedOutputStream, Message as _, well_known_types::any::Any};

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;
const DATA: u8 = 3;
/// Flags of a frame.
const REMOTE_CLOSED: u8 = 1;
const REMOTE_OPEN: u8 = 2;
const NO_DATA: u8 = 4;

/// Bytes that may be on their way at once.
const WINDOW: i64 = 64 << 10;

/// One stream on a connection of its own.
pub(crate) struct Stream {
    socket: UnixStream,
}

/// A message with one field.
fn message(write: impl FnOnce(&mut CodedOutputStream<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut stream = CodedOutputStream::vec(&mut bytes);
    write(&mut stream);
    stream.flush().unwrap();
    drop(stream);
    bytes
}

fn any(name: &str, value: Vec<u8>) -> Vec<u8> {
    let mut any = Any::new();
    any.type_url = name.to_owned();
    any.value = value;
    any.write_to_bytes().unwrap()
}

impl Stream {
    /// Opens the stream of that name, and waits until the server has it.
    pub(crate) fn open(socket: &Path, id: &str) -> Self {
        // Longer than a socket's address may be: by its directory.
        let socket = UnixStream::connect(socket).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut stream = Self { socket };
        let request = message(|out| {
            out.write_string(1, "containerd.services.streaming.v1.Streaming").unwrap();
            out.write_string(2, "Stream").unwrap();
        });
        stream.send(REQUEST, REMOTE_OPEN | NO_DATA, &request).unwrap();
        let init = message(|out| out.write_string(1, id).unwrap());
        stream.send(DATA, 0, &any("containerd.services.streaming.v1.StreamInit", init)).unwrap();
        let (kind, _, ready) = stream.receive().unwrap();
        assert_eq!(kind, DATA, "{}", String::from_utf8_lossy(&ready));
        stream
    }

    /// Writes as input, as far as the server lets it.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        let mut window = 0;
        while !bytes.is_empty() {
            while window <= 0 {
                let (_, _, payload) = self.receive().unwrap();
                let update = Any::parse_from_bytes(&payload).unwrap();
                assert_eq!(update.type_url, "containerd.types.transfer.WindowUpdate");
                window += varint(&update.value[1..]);
            }
            let count = bytes.len().min(usize::try_from(window).unwrap()).min(32 << 10);
            let data = message(|out| out.write_bytes(1, &bytes[..count]).unwrap());
            self.send(DATA, 0, &any("containerd.types.transfer.Data", data)).unwrap();
            window -= i64::try_from(count).unwrap();
            bytes = &bytes[count..];
        }
    }

    /// No more input.
    pub(crate) fn close(&mut self) {
        self.send(DATA, REMOTE_CLOSED | NO_DATA, &[]).unwrap();
    }

    /// Reads output until `enough` says so, or to its end.
    pub(crate) fn read_until(&mut self, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let (mut found, mut window) = (Vec::new(), 0);
        while !enough(&found) {
            if window < WINDOW {
                let update = message(|out| out.write_int64(1, WINDOW).unwrap());
                // The stream may be at its end by now.
                drop(self.send(DATA, 0, &any("containerd.types.transfer.WindowUpdate", update)));
                window += WINDOW;
            }
            let (kind, flags, payload) = self
                .receive()
                .unwrap_or_else(|error| panic!("{error} after {} bytes, window {window}", found.len()));
            if kind == RESPONSE || flags & REMOTE_CLOSED != 0 {
                return found;
            }
            let data = Any::parse_from_bytes(&payload).unwrap();
            assert_eq!(data.type_url, "containerd.types.transfer.Data");
            // Tag, length, bytes.
            let length = usize::try_from(varint(&data.value[1..])).unwrap();
            assert!(length <= 32 << 10);
            found.extend(&data.value[data.value.len() - length..]);
            window -= i64::try_from(length).unwrap();
            assert!(window >= 0, "more than the window allows");
        }
        found
    }

    fn send(&mut self, kind: u8, flags: u8, payload: &[u8]) -> io::Result<()> {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(1u32.to_be_bytes());
        frame.extend([kind, flags]);
        frame.extend(payload);
        self.socket.write_all(&frame)
    }

    fn receive(&mut self) -> io::Result<(u8, u8, Vec<u8>)> {
        let mut header = [0; 10];
        self.socket.read_exact(&mut header)?;
        let length = u32::from_be_bytes(header[..4].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        self.socket.read_exact(&mut payload)?;
        Ok((header[8], header[9], payload))
    }
}

fn varint(bytes: &[u8]) -> i64 {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate() {
        value |= i64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
