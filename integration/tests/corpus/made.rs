//! Servers that no package has: static Rust and static Go.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use bulkhead_integration::run;
use tempfile::TempDir;

const RUST: &str = r#"use std::io::{Read, Write};
fn main() {
    let listener = std::net::TcpListener::bind("127.0.0.1:18574").unwrap();
    for stream in listener.incoming() {
        std::thread::spawn(move || {
            let mut stream = stream.unwrap();
            let mut text = [0; 512];
            stream.read(&mut text).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nserved").unwrap();
        });
    }
}
"#;

const GO: &str = r#"package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		text, _ := os.ReadFile("/etc/debian_version")
		fmt.Fprintf(w, "served %s", text)
	})
	server := &http.Server{Addr: os.Args[1], Handler: mux}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		wait, done := context.WithTimeout(context.Background(), time.Second)
		defer done()
		server.Shutdown(wait)
	}()
	fmt.Println(server.ListenAndServe())
}
"#;

fn build(name: &str, text: &str, command: impl Fn(&Path, &Path) -> Command) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let (source, program) = (dir.path().join(name), dir.path().join("server"));
    std::fs::write(&source, text).unwrap();
    run(command(&source, &program).stdin(Stdio::null()), Duration::from_secs(300))
        .unwrap()
        .success()
        .unwrap();
    std::fs::read(program).unwrap()
}

pub(crate) fn rust_server() -> Vec<u8> {
    build("server.rs", RUST, |source, program| {
        let mut command = Command::new("rustc");
        command.args(["-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"]);
        command.arg(program).arg(source);
        command
    })
}

pub(crate) fn go_server() -> Vec<u8> {
    build("server.go", GO, |source, program| {
        let mut command = Command::new("go");
        command.env("CGO_ENABLED", "0").args(["build", "-trimpath", "-ldflags=-s -w", "-o"]);
        command.arg(program).arg(source);
        command
    })
}
