//! Servers that no package has: static Rust, static Go, one that musl's loader starts, and one without a shell beside it.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use bulkhead_integration::{run, workspace};
use tempfile::TempDir;

const RUST: &str = include_str!("made/server.rs");
const GO: &str = include_str!("made/server.go");

/// What exporters do: reads /proc, counts itself, pushes by TLS.
const EXPORTER: &str = r#"package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func metrics(w http.ResponseWriter, r *http.Request) {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	var disk syscall.Statfs_t
	syscall.Statfs("/", &disk)
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	entries, _ := os.ReadDir("/proc/self/fd")
	load, _ := os.ReadFile("/proc/loadavg")
	zone, _ := time.LoadLocation("Europe/Berlin")
	host, _ := os.Hostname()
	fmt.Fprintf(w, "load_1m %s\nblocks %d\nfds %d\nheap %d\nmaxrss %d\nat %s\nhost %s\n",
		strings.Fields(string(load) + " 0")[0], disk.Blocks, len(entries), memory.HeapAlloc, used.Maxrss,
		time.Now().In(zone), host)
}

func push(w http.ResponseWriter, r *http.Request) {
	client := http.Client{Timeout: 2 * time.Second}
	_, err := client.Get("https://localhost:1/push")
	fmt.Fprintln(w, err)
}

func main() {
	if os.Args[1] == "probe" {
		answer, err := http.Get("http://" + os.Args[2] + "/metrics")
		if err != nil {
			os.Exit(1)
		}
		fmt.Println(answer.StatusCode)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", metrics)
	mux.HandleFunc("/push", push)
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

/// A program alone with its C library: threads, names of users, a configuration that is read again, an end of its own.
const DISTROLESS: &str = r#"#include <arpa/inet.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static volatile sig_atomic_t read_again = 1;
static char certificates[4096];
static void again(int signal) { read_again = 1; }
static void stop(int signal) { _exit(0); }
static void *serve(void *given) {
    int one = (int)(long)given;
    char text[512] = "";
    if (read(one, text, sizeof text - 1) > 0) {
        if (!strncmp(text, "GET /certificates ", 18)) dprintf(one, "HTTP/1.0 200 OK\r\n\r\n%s", certificates);
        else if (!strncmp(text, "GET / ", 6)) dprintf(one, "HTTP/1.0 200 OK\r\n\r\nserved");
        else dprintf(one, "HTTP/1.0 400 Bad Request\r\n\r\n");
    }
    close(one);
    return 0;
}
int main(int argc, char **argv) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(18578)};
    struct sigaction action = {.sa_handler = again};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    inet_aton("127.0.0.1", &to.sin_addr);
    if (argc > 1) return connect(listener, (void *)&to, sizeof to) ? 1 : (puts("there"), 0);
    struct passwd *me = getpwuid(getuid());
    printf("%s\n", me ? me->pw_name : "nobody");
    sigaction(SIGHUP, &action, 0);
    signal(SIGTERM, stop);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (void *)&to, sizeof to) || listen(listener, 8)) return 1;
    for (;;) {
        if (read_again) {
            FILE *file = fopen("/etc/ssl/certs/ca-certificates.crt", "r");
            if (!file) return 2;
            certificates[fread(certificates, 1, sizeof certificates - 1, file)] = 0;
            fclose(file);
            read_again = 0;
        }
        long one = accept(listener, 0, 0);
        pthread_t thread;
        if (one >= 0 && !pthread_create(&thread, 0, serve, (void *)one)) pthread_detach(thread);
    }
}
"#;

const C: &str = r#"#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
static void again(int signal) {}
static void stop(int signal) { _exit(0); }
int main(int argc, char **argv) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(18577)};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    char text[512];
    inet_aton("127.0.0.1", &to.sin_addr);
    if (argc > 1) return connect(listener, (void *)&to, sizeof to) ? 1 : (puts("there"), 0);
    signal(SIGHUP, again);
    signal(SIGTERM, stop);
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
    go(GO)
}

pub(crate) fn exporter() -> Vec<u8> {
    go(EXPORTER)
}

fn go(text: &str) -> Vec<u8> {
    build("server.go", text, |source, program| {
        let mut command = Command::new("go");
        command.env("CGO_ENABLED", "0").args(["build", "-trimpath", "-ldflags=-s -w", "-o"]);
        command.arg(program).arg(source);
        command
    })
}

pub(crate) fn distroless_server() -> Vec<u8> {
    build("server.c", DISTROLESS, |source, program| {
        let mut command = Command::new("gcc");
        command.args(["-O2", "-pthread", "-o"]).arg(program).arg(source);
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
