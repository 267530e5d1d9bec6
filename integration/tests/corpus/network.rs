//! What a server of the corpus has of a network: a loopback of its own, names, a certificate.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bulkhead_integration::run;
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);

/// Where each image has key and certificate of `localhost`, made for this run.
pub(crate) const CERTIFICATE: &str = "/etc/it.pem";

/// As kubelet writes them into each container.
pub(crate) const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";
pub(crate) const RESOLV_CONF: &str = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";

pub(crate) fn certificate() -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-keyout", "key", "-out", "certificate"]).current_dir(dir.path());
    run(openssl.stdin(Stdio::null()), MINUTE).unwrap().success().unwrap();
    [std::fs::read(dir.path().join("key")).unwrap(), std::fs::read(dir.path().join("certificate")).unwrap()]
        .concat()
}

/// A network of this thread and of what it starts: nobody else has its ports.
pub(crate) struct Loopback {
    stop: Arc<AtomicBool>,
    names: Option<JoinHandle<()>>,
}

impl Loopback {
    pub(crate) fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run(Command::new("ip").args(["link", "set", "lo", "up"]), MINUTE).unwrap().success().unwrap();
        // As containerd and kubelet have it in each pod.
        std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let names = std::thread::spawn(move || {
            let mut packet = [0; 512];
            while !told.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut packet)
                    && let Some(answer) = answer(&packet[..length])
                {
                    // Who asked may be gone.
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        Self { stop, names: Some(names) }
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(names) = self.names.take() {
            let ended = names.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

/// Each name below `test` has the address 127.0.0.1 and no other record, as a cluster's service has; others are not
/// there. Source: RFC 1035, section 4.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*question.get(at)?);
        let label = question.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if label.is_empty() {
            break;
        }
        labels.push(label);
    }
    let end = at + 4;
    let is_address = *question.get(at..end)? == [0, 1, 0, 1];
    let is_there = labels.last().is_some_and(|last| last.eq_ignore_ascii_case(b"test"));
    let has_answer = is_there && is_address;
    let mut answer = question[..2].to_vec();
    // A response, recursion desired and available; NXDOMAIN is 3.
    answer.extend([0x81, if is_there { 0x80 } else { 0x83 }, 0, 1, 0, u8::from(has_answer), 0, 0, 0, 0]);
    answer.extend(&question[12..end]);
    if has_answer {
        // The name of the question, A, IN, one second, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
