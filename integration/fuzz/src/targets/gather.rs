//! What is gathered: files that people import, and what a registry answers.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use bulkhead_gather::{Access, Harvest, fetch, import as import_file};
use bulkhead_model::{Digest, SIGNATURE_BYTES_MAX};

/// One name for each process, written again for each input.
pub(crate) fn import(bytes: &[u8]) {
    let attempt = || -> io::Result<()> {
        let path = super::scratch()?.join(format!("import-{}", std::process::id()));
        fs::write(&path, bytes)?;
        let harvest = import_file(&path);
        fs::remove_file(&path)?;
        if let Ok(harvest) = harvest {
            bounded(&harvest);
        }
        Ok(())
    };
    if let Err(error) = attempt() {
        panic!("the file to import: {error}");
    }
}

fn bounded(harvest: &Harvest) {
    assert!(harvest.found.iter().all(|found| found.bytes.len() as u64 <= SIGNATURE_BYTES_MAX));
}

/// What the registry says, one answer after the other: divided by lines `---`, each a head and a body.
static SAYS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Real HTTP over a loopback socket, one registry for all inputs.
pub(crate) fn registry(bytes: &[u8]) {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    let address = ADDRESS.get_or_init(|| match serve() {
        Ok(address) => address,
        Err(error) => panic!("a registry on loopback: {error}"),
    });
    let mut answers = super::divided(bytes);
    // The body that was asked for by digest is the first one's.
    let target = answers.first().and_then(|answer| {
        let at = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
        Some(Digest::of(&answer[at + 4..]))
    });
    answers.reverse();
    *SAYS.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    let access = Access {
        hosts_dirs: Vec::new(),
        docker_config: None,
        plain_http: true,
        time_max: Duration::from_secs(5),
    };
    let name = format!("{address}/a/b@{}", target.unwrap_or_else(|| Digest::of(b"")));
    if let Ok(reference) = name.parse()
        && let Ok(fetched) = fetch(&reference, &access)
    {
        bounded(&fetched.harvest);
        assert_eq!(Some(fetched.target), target, "another image than was asked about");
    }
}

fn serve() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || {
        // Whoever had enough closes before the end.
        listener.incoming().map_while(Result::ok).for_each(|stream| drop(answer(stream)));
    });
    Ok(address)
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let says = SAYS.lock().unwrap_or_else(PoisonError::into_inner).pop();
    stream.write_all(&says.unwrap_or_else(|| b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n".to_vec()))
}
