//! D-Bus messages: the few types that systemd's manager is asked with, in little endian.
//!
//! Source: the D-Bus specification, "Marshaling (Wire Format)" and "Message Format".

/// Longest message that is read, in bytes: systemd's answers to our calls have under 1 KiB.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Bytes of the fixed part of a header.
pub(super) const FIXED_BYTES: usize = 16;

/// The value of a unit's property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Flag(bool),
    Number(u64),
    Text(String),
    Pids(Vec<u32>),
    Bytes(Vec<u8>),
    Pairs(Vec<(String, String)>),
}

/// An argument of a call.
#[derive(Clone, Debug)]
pub(super) enum Argument<'a> {
    Text(&'a str),
    Flag(bool),
    Properties(&'a [(&'static str, Value)]),
    /// The units that are started along: none.
    NoUnits,
}

/// A call of a method.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) arguments: &'a [Argument<'a>],
}

/// What came back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Incoming {
    pub(super) kind: u8,
    pub(super) reply_to: u32,
    pub(super) member: String,
    pub(super) error: String,
    /// The strings and object paths of its body, in order; numbers are left out.
    pub(super) texts: Vec<String>,
}

// Kinds of messages.
const CALL: u8 = 1;
pub(super) const RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(signature.len() as u8);
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    /// An array, whose elements begin at multiples of `align`; its length does not count the gap before the first.
    fn array(&mut self, align: usize, elements: impl FnOnce(&mut Self)) {
        self.u32(0);
        let at = self.0.len() - 4;
        self.align(align);
        let begin = self.0.len();
        elements(self);
        let length = (self.0.len() - begin) as u32;
        self.0[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn variant(&mut self, value: &Value) {
        match value {
            Value::Flag(flag) => {
                self.signature("b");
                self.u32(u32::from(*flag));
            }
            Value::Number(number) => {
                self.signature("t");
                self.u64(*number);
            }
            Value::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Value::Pids(pids) => {
                self.signature("au");
                self.array(4, |w| pids.iter().for_each(|pid| w.u32(*pid)));
            }
            Value::Bytes(bytes) => {
                self.signature("ay");
                self.array(1, |w| w.0.extend(bytes));
            }
            Value::Pairs(pairs) => {
                self.signature("a(ss)");
                self.array(8, |w| {
                    for (first, second) in pairs {
                        w.align(8);
                        w.text(first);
                        w.text(second);
                    }
                });
            }
        }
    }

    fn argument(&mut self, argument: &Argument<'_>) {
        match argument {
            Argument::Text(text) => self.text(text),
            Argument::Flag(flag) => self.u32(u32::from(*flag)),
            Argument::NoUnits => self.array(8, |_| {}),
            Argument::Properties(properties) => self.array(8, |w| {
                for (name, value) in *properties {
                    w.align(8);
                    w.text(name);
                    w.variant(value);
                }
            }),
        }
    }
}

impl Call<'_> {
    /// The message, under a number of the caller's.
    pub(super) fn encode(&self, serial: u32) -> Vec<u8> {
        let (mut body, mut signature) = (Writer::default(), String::new());
        for argument in self.arguments {
            body.argument(argument);
            signature.push_str(match argument {
                Argument::Text(_) => "s",
                Argument::Flag(_) => "b",
                Argument::Properties(_) => "a(sv)",
                Argument::NoUnits => "a(sa(sv))",
            });
        }
        let mut message = Writer(vec![b'l', CALL, 0, 1]);
        message.u32(body.0.len() as u32);
        message.u32(serial);
        let texts = [
            (1, "o", self.path),
            (2, "s", self.interface),
            (3, "s", self.member),
            (6, "s", self.destination),
        ];
        message.array(8, |w| {
            for (code, kind, text) in texts {
                w.align(8);
                w.0.push(code);
                w.signature(kind);
                w.text(text);
            }
            if !signature.is_empty() {
                w.align(8);
                w.0.push(8);
                w.signature("g");
                w.signature(&signature);
            }
        });
        message.align(8);
        message.0.extend(body.0);
        message.0
    }
}

/// Reads within bounds: what does not fit is `None`.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?.into();
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }
}

/// How long a message is in all, from its fixed part. `None`: it is none of ours, or too long.
pub(super) fn length(fixed: &[u8]) -> Option<usize> {
    if fixed.len() < FIXED_BYTES || fixed[0] != b'l' || fixed[3] != 1 {
        return None;
    }
    let mut reader = Reader { bytes: fixed, at: 4 };
    let body = reader.u32()? as usize;
    reader.u32()?;
    let fields = reader.u32()? as usize;
    let length = FIXED_BYTES.checked_add(fields)?.next_multiple_of(8).checked_add(body)?;
    (length <= MESSAGE_BYTES_MAX).then_some(length)
}

/// Reads a whole message.
pub(super) fn decode(bytes: &[u8]) -> Option<Incoming> {
    let mut incoming = Incoming { kind: *bytes.get(1)?, ..Incoming::default() };
    let mut reader = Reader { bytes, at: 12 };
    let end = FIXED_BYTES.checked_add(reader.u32()? as usize)?;
    let mut body = String::new();
    while reader.at < end {
        reader.align(8);
        let code = reader.byte()?;
        match (code, reader.signature()?.as_str()) {
            (3, "s") => incoming.member = reader.text()?,
            (4, "s") => incoming.error = reader.text()?,
            (5, "u") => incoming.reply_to = reader.u32()?,
            (8, "g") => body = reader.signature()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "u") => drop(reader.u32()?),
            (_, "g") => drop(reader.signature()?),
            _ => return None,
        }
    }
    reader.align(8);
    for kind in body.chars() {
        match kind {
            's' | 'o' => incoming.texts.push(reader.text()?),
            'u' | 'i' | 'b' => drop(reader.u32()?),
            // Nothing that we ask answers with more.
            _ => break,
        }
    }
    Some(incoming)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn call_is_laid_out_as_the_specification_says() {
        let properties = [("Delegate", Value::Flag(true)), ("PIDs", Value::Pids(vec![7]))];
        let arguments = [Argument::Text("a.scope"), Argument::Properties(&properties), Argument::NoUnits];
        let call = Call { destination: "d", path: "/p", interface: "i", member: "M", arguments: &arguments };
        let bytes = call.encode(9);
        assert_eq!(bytes[..4], [b'l', 1, 0, 1]);
        assert_eq!(length(&bytes).unwrap(), bytes.len());
        let read = decode(&bytes).unwrap();
        assert_eq!((read.kind, read.member.as_str(), read.texts), (CALL, "M", vec!["a.scope".to_owned()]));
        // "a.scope", a(sv) of 2: at 12 its length, at 16 its first structure.
        let body = &bytes[bytes.len() - u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize..];
        assert_eq!(body[..12], [7, 0, 0, 0, b'a', b'.', b's', b'c', b'o', b'p', b'e', 0]);
        assert_eq!(body[16..29], [8, 0, 0, 0, b'D', b'e', b'l', b'e', b'g', b'a', b't', b'e', 0]);
        assert_eq!(body[29..36], [1, b'b', 0, 1, 0, 0, 0]);
    }

    #[test]
    fn signal_of_a_finished_job_is_read() {
        let mut body = Writer::default();
        body.u32(17);
        for text in ["/org/freedesktop/systemd1/job/17", "a.scope", "done"] {
            body.text(text);
        }
        let mut message = Writer(vec![b'l', SIGNAL, 0, 1]);
        message.u32(body.0.len() as u32);
        message.u32(3);
        message.array(8, |w| {
            for (code, kind, text) in [(1, "o", "/org/freedesktop/systemd1"), (3, "s", "JobRemoved")] {
                w.align(8);
                w.0.push(code);
                w.signature(kind);
                w.text(text);
            }
            w.align(8);
            w.0.push(8);
            w.signature("g");
            w.signature("uoss");
        });
        message.align(8);
        message.0.extend(body.0);
        assert_eq!(length(&message.0).unwrap(), message.0.len());
        let read = decode(&message.0).unwrap();
        assert_eq!(read.member, "JobRemoved");
        assert_eq!(read.texts, ["/org/freedesktop/systemd1/job/17", "a.scope", "done"]);
    }

    #[test]
    fn message_that_is_cut_lies_or_is_too_long_is_none() {
        let call = Call { destination: "d", path: "/p", interface: "i", member: "M", arguments: &[] };
        let bytes = call.encode(1);
        for end in 0..bytes.len() - 8 {
            assert_eq!(decode(&bytes[..end]).filter(|read| read.member == "M" && end < 40), None, "{end}");
        }
        let mut long = bytes.clone();
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(length(&long), None);
        let mut lies = bytes;
        lies[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&lies), None);
        assert_eq!(length(&lies), None);
    }
}
