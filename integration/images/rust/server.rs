//! Answers every connection with one page.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:8080")?;
    println!("listening");
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || {
            let mut request = [0; 1024];
            let read = stream.read(&mut request);
            read.and_then(|_| stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nserved by rust\n"))
        });
    }
    Ok(())
}
