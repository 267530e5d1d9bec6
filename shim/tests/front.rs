//! The program as containerd calls it, and the server that it leaves behind. Needs root, as a shim does.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{
        ConnectRequest, ConnectResponse, CreateTaskRequest, DeleteResponse, ShutdownRequest, StateRequest,
    },
    bootstrap_api::{BootstrapParams, BootstrapResult},
    protobuf::Message,
    shim_sync::{Client, TaskClient},
    ttrpc::{self, Code, context},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A bundle and a socket directory of its own.
struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        node.bundle("c1", "{}");
        node
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn bundle(&self, id: &str, config: &str) {
        fs::create_dir(self.path().join(id)).unwrap();
        fs::write(self.path().join(id).join("config.json"), config).unwrap();
    }

    /// Runs an action as containerd 2.3 does, in the bundle of `id`.
    fn shim(&self, id: &str, action: &str) -> Output {
        let mut params = BootstrapParams::new();
        params.instance_id = id.to_owned();
        params.namespace = "test".to_owned();
        params.containerd_grpc_address = self.path().join("none.sock").display().to_string();
        params.containerd_ttrpc_address = self.path().join("none.ttrpc").display().to_string();
        params.socket_dir = Some(self.path().join("s").display().to_string());
        let mut child = Command::new(env!("CARGO_BIN_EXE_containerd-shim-bulkhead-v2"))
            .args(["-namespace", "test", "-id", id, "-address", &params.containerd_grpc_address, action])
            .env("BULKHEAD_ROOT", self.path())
            .current_dir(self.path().join(id))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // `delete` reads nothing, and may have ended by now.
        if action == "start" {
            stdin.write_all(&params.write_to_bytes().unwrap()).unwrap();
        }
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    /// Starts, or finds, the server of `id`.
    fn start(&self, id: &str) -> String {
        let output = self.shim(id, "start");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let result = BootstrapResult::parse_from_bytes(&output.stdout).unwrap();
        assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
        assert_eq!(fs::read_to_string(self.path().join(id).join("address")).unwrap(), result.address);
        result.address
    }

    fn sockets(&self) -> usize {
        fs::read_dir(self.path().join("s")).map_or(0, Iterator::count)
    }
}

fn soon() -> context::Context {
    context::with_duration(PATIENCE)
}

fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn code<T: std::fmt::Debug>(answer: ttrpc::Result<T>) -> Code {
    match answer {
        Err(ttrpc::Error::RpcStatus(status)) => status.code(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn containers_of_a_pod_get_one_server_which_ends_when_it_is_asked_to() {
    let node = Node::new();
    let pod = r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"c1"}}"#;
    node.bundle("c2", pod);
    node.bundle("c3", "{}");
    let first = node.start("c1");
    assert_eq!(node.start("c2"), first);
    let other = node.start("c3");
    assert_ne!(other, first);
    assert_eq!(node.sockets(), 2);
    for address in [first, other] {
        TaskClient::new(Client::connect(&address).unwrap())
            .shutdown(soon(), &ShutdownRequest::new())
            .unwrap();
    }
    until("the sockets are gone", || node.sockets() == 0);
}

#[test]
fn task_service_answers_under_both_of_its_names_and_under_no_other() {
    let node = Node::new();
    let client = Client::connect(&node.start("c1")).unwrap();
    let call = |service: &str| {
        let mut request = ttrpc::Request::new();
        request.service = service.to_owned();
        request.method = "Connect".to_owned();
        request.timeout_nano = i64::try_from(PATIENCE.as_nanos()).unwrap();
        request.payload = ConnectRequest::new().write_to_bytes().unwrap();
        client.request(request)
    };
    for service in ["containerd.task.v2.Task", "containerd.task.v3.Task"] {
        let answer = ConnectResponse::parse_from_bytes(&call(service).unwrap().payload).unwrap();
        assert!(answer.shim_pid != 0 && answer.task_pid == 0, "{answer:?}");
    }
    assert!(call("containerd.runtime.sandbox.v1.Sandbox").is_err());
    TaskClient::new(client).shutdown(soon(), &ShutdownRequest::new()).unwrap();
}

#[test]
fn create_without_a_policy_is_refused_and_leaves_nothing_but_a_server_that_can_be_asked_to_end() {
    let node = Node::new();
    let client = TaskClient::new(Client::connect(&node.start("c1")).unwrap());
    let mut request = CreateTaskRequest::new();
    request.id = "c1".to_owned();
    request.bundle = node.path().join("c1").display().to_string();
    assert_eq!(code(client.create(soon(), &request)), Code::PERMISSION_DENIED);
    let mut state = StateRequest::new();
    state.id = "c1".to_owned();
    assert_eq!(code(client.state(soon(), &state)), Code::NOT_FOUND);
    // The node's own run directory is the server's rule to have; the create left nothing in it.
    assert_eq!(fs::read_dir(node.path().join("run/bulkhead")).unwrap().count(), 0);
    client.shutdown(soon(), &ShutdownRequest::new()).unwrap();
    until("the socket is gone", || node.sockets() == 0);
}

#[test]
fn id_that_is_a_path_is_refused_by_every_call() {
    let node = Node::new();
    let client = TaskClient::new(Client::connect(&node.start("c1")).unwrap());
    let mut request = CreateTaskRequest::new();
    request.id = "../c1".to_owned();
    assert_eq!(code(client.create(soon(), &request)), Code::INVALID_ARGUMENT);
    client.shutdown(soon(), &ShutdownRequest::new()).unwrap();
}

#[test]
fn start_that_fails_says_why_and_leaves_no_socket() {
    let node = Node::new();
    node.bundle("broken", "{");
    let output = node.shim("broken", "start");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("config.json"), "{output:?}");
    assert_eq!(node.sockets(), 0);
}

#[test]
fn delete_answers_137_and_removes_what_a_dead_server_left() {
    let node = Node::new();
    let task_dir = node.path().join("run/bulkhead/tasks/test/c1");
    fs::create_dir_all(&task_dir).unwrap();
    let socket = node.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    fs::write(node.path().join("c1/address"), format!("unix://{}", socket.display())).unwrap();

    let output = node.shim("c1", "delete");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(DeleteResponse::parse_from_bytes(&output.stdout).unwrap().exit_status, 137);
    assert!(!task_dir.exists() && !socket.exists());
}

#[test]
fn delete_of_one_container_leaves_the_socket_of_a_server_that_lives() {
    let node = Node::new();
    let address = node.start("c1");
    assert!(node.shim("c1", "delete").status.success());
    TaskClient::new(Client::connect(&address).unwrap()).shutdown(soon(), &ShutdownRequest::new()).unwrap();
}
