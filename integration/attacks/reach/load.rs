//! The load: the same requests for every runtime, one after the other, from outside of the pod.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bulkhead_integration::{HarnessError, Result};

/// How many connections, each with one request for each of [`PATHS`].
pub(crate) const CONNECTIONS: usize = 100;

/// A text of nginx's own, a file by sendfile, and one that is not there.
const PATHS: [(&str, &str); 3] = [("/", " 200 "), ("/files/text", " 200 "), ("/missing", " 404 ")];

/// How long an answer may take: a machine whose instructions are translated is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for everything, over and over.
pub(crate) fn put_on(address: SocketAddr) -> Result<()> {
    (0..CONNECTIONS).try_for_each(|_| connection(address))
}

/// Whether it answers.
pub(crate) fn answers(address: SocketAddr) -> bool {
    connection(address).is_ok()
}

fn connection(address: SocketAddr) -> Result<()> {
    let failed = HarnessError::at("ask", address.to_string());
    let asked = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        for (number, (path, _)) in PATHS.iter().enumerate() {
            let keep = if number + 1 == PATHS.len() { "close" } else { "keep-alive" };
            write!(stream, "GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: {keep}\r\n\r\n")?;
        }
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = asked().map_err(failed)?;
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("HTTP/1.1 ")).collect();
    let right =
        lines.len() == PATHS.len() && lines.iter().zip(PATHS).all(|(line, (_, code))| line.contains(code));
    if right { Ok(()) } else { Err(HarnessError::Format { what: "the answers of nginx", found: text }) }
}
