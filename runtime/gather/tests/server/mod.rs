//! A registry that says what a test wants it to say: real HTTP over a loopback socket.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A request: its path, and its headers as they came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: String,
}

/// How a request is answered: with a head and a body, or by a hand on the socket.
pub(crate) enum Says {
    Text(u16, Vec<(&'static str, String)>, Vec<u8>),
    Raw(Box<dyn FnOnce(TcpStream) + Send>),
}

/// A running server; its thread ends with the test's process.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&str, &str) -> Says + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { address, asked }
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|asked| asked.path.clone()).collect()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Asked>>, answer: &dyn Fn(&str, &str) -> Says) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let headers = headers.join("\n").to_lowercase();
    seen.lock().unwrap().push(Asked { path: path.clone(), headers: headers.clone() });
    match answer(&path, &headers) {
        Says::Raw(hand) => hand(stream),
        Says::Text(status, headers, body) => {
            let mut head =
                format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            // Whoever had enough closes before the end.
            let sent = write!(stream, "{head}\r\n").and_then(|()| stream.write_all(&body));
            drop(sent);
        }
    }
}

pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Says {
    Says::Text(200, Vec::new(), body.into())
}

pub(crate) fn missing() -> Says {
    Says::Text(404, Vec::new(), b"{}".to_vec())
}

pub(crate) fn to(location: &str) -> Says {
    Says::Text(307, vec![("Location", location.to_owned())], Vec::new())
}
