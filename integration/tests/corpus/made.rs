//! Servers that no package has: static Rust, static Go, and one that musl's loader starts.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use bulkhead_integration::{run, workspace};
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

const C: &str = r#"#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
static void again(int signal) {}
int main(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(18577)};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    char text[512];
    inet_aton("127.0.0.1", &to.sin_addr);
    signal(SIGHUP, again);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (void *)&to, sizeof to) || listen(listener, 8)) return 1;
    for (;;) {
        int one = accept(listener, 0, 0);
        if (one < 0) continue;
        if (read(one, text, sizeof text) > 0) write(one, "HTTP/1.0 200 OK\r\n\r\nserved", 25);
        close(one);
    }
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

/// Linked with the musl of the image, which must be unpacked.
pub(crate) fn musl_server() -> Vec<u8> {
    let musl = workspace().join("target/deps/corpus/musl/usr");
    let (headers, libraries) = (musl.join("include/x86_64-linux-musl"), musl.join("lib/x86_64-linux-musl"));
    build("server.c", C, |source, program| {
        let mut command = Command::new("gcc");
        command.args(["-O2", "-nostdinc", "-nostdlib", "-isystem"]).arg(&headers).arg("-o").arg(program);
        command.args([libraries.join("Scrt1.o"), libraries.join("crti.o")]).arg(source);
        // By its name: musl has no soname, and a path would be kept as it is.
        command.arg("-L").arg(&libraries).arg("-lc").arg(libraries.join("crtn.o"));
        command.arg("-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1");
        command
    })
}
