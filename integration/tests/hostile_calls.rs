//! Well-formed ttrpc that asks for nonsense, said straight to a server's socket: who else than root cannot even say it.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{os::unix::net::UnixStream, path::PathBuf, process::Command, thread, time::Duration};

use bulkhead_integration::{Bench, Cri, Release, run};
use containerd_shim_protos::{
    api::{CreateTaskRequest, DeleteRequest, ExecProcessRequest, KillRequest, StartRequest, StateRequest},
    protobuf::{Message, MessageField, well_known_types::any::Any},
    ttrpc,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The name of the task service that every shim has.
///
/// Source: containerd api/runtime/task/v2/shim.proto.
const SERVICE: &str = "containerd.task.v2.Task";

/// Ids and paths of those who would rather be somewhere else.
const IDS: [&str; 9] =
    ["", ".", "..", "../../etc", "/", "/etc/passwd", "a/../../b", "nobody\0else", "\u{202e}\n; rm -rf /"];

/// A pod that runs, its server's socket, and a neighbour's pod.
struct Server {
    bench: Bench,
    id: String,
    neighbour: String,
    socket: PathBuf,
}

impl Server {
    fn start() -> Self {
        let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
        let id = bench.start_task("besieged", &["/bin/probe", "pause"]).unwrap();
        let neighbour = bench.start_task("neighbour", &["/bin/probe", "pause"]).unwrap();
        let (socket, _) = bench.daemon.shim_socket(&id).unwrap();
        Self { bench, id, neighbour, socket }
    }

    fn client(&self) -> ttrpc::Client {
        ttrpc::Client::connect(&format!("unix://{}", self.socket.display())).unwrap()
    }

    /// Both pods take an exec, a new one runs, and nothing is left of any.
    #[track_caller]
    fn assert_unharmed(self) {
        for id in [&self.id, &self.neighbour] {
            let output = self.bench.exec(id, &["/bin/echo", "alive"]).unwrap().success().unwrap();
            assert_eq!(output.stdout, "alive\n");
        }
        self.bench.run("another", &["/bin/true"]).unwrap().success().unwrap();
        for id in [&self.id, &self.neighbour] {
            self.bench.remove(id).unwrap();
        }
        self.bench.assert_nothing_left();
    }
}

/// What one call is answered, which must be before its deadline: nothing, or an error's text.
fn call(client: &ttrpc::Client, service: &str, method: &str, payload: Vec<u8>) -> Result<(), String> {
    let mut request = ttrpc::Request::new();
    request.service = service.to_owned();
    request.method = method.to_owned();
    request.timeout_nano = 20_000_000_000;
    request.payload = payload;
    let answer = client.request(request).map(drop).map_err(|error| error.to_string());
    assert!(!format!("{answer:?}").to_lowercase().contains("timeout"), "{service}/{method}: {answer:?}");
    answer
}

fn ask(client: &ttrpc::Client, method: &str, body: &impl Message) -> Result<(), String> {
    call(client, SERVICE, method, body.write_to_bytes().unwrap())
}

#[test]
fn calls_of_no_service_no_method_and_no_message_are_errors() {
    let server = Server::start();
    let client = server.client();
    for (service, method) in [
        ("", ""),
        ("containerd.task.v2.Tusk", "State"),
        (SERVICE, "Reboot"),
        (SERVICE, "../State"),
        (&*"x".repeat(100_000), "State"),
    ] {
        assert!(call(&client, service, method, Vec::new()).is_err(), "{service:.40} {method}");
    }
    for method in ["State", "Create", "Start", "Delete", "Exec", "Kill", "Update", "Wait", "Stats", "CloseIO"]
    {
        // A field of 2 GiB, and bytes that are no field at all.
        for payload in [vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x07], vec![0xff; 3000]] {
            assert!(call(&client, SERVICE, method, payload).is_err(), "{method}");
        }
    }
    server.assert_unharmed();
}

#[test]
fn ids_and_bundles_that_lead_elsewhere_are_errors() {
    let server = Server::start();
    let client = server.client();
    for id in IDS {
        let mut state = StateRequest::new();
        state.id = id.to_owned();
        let mut start = StartRequest::new();
        start.id = id.to_owned();
        let mut delete = DeleteRequest::new();
        delete.id = id.to_owned();
        let mut kill = KillRequest::new();
        kill.id = id.to_owned();
        kill.signal = 9;
        kill.all = true;
        for answer in [
            ask(&client, "State", &state),
            ask(&client, "Start", &start),
            ask(&client, "Delete", &delete),
            ask(&client, "Kill", &kill),
        ] {
            assert!(answer.is_err(), "{id:?}");
        }
        // The pod's own container, and a process of it by that name: a directory of that name would be made.
        let mut exec = ExecProcessRequest::new();
        exec.id.clone_from(&server.id);
        exec.exec_id = id.to_owned();
        let mut any = Any::new();
        any.value = br#"{"args":["/bin/true"],"cwd":"/","user":{"uid":65532,"gid":65532}}"#.to_vec();
        exec.spec = MessageField::some(any);
        assert!(ask(&client, "Exec", &exec).is_err(), "exec {id:?}");
        for bundle in ["/", "/etc", "..", "/proc/self/root", id] {
            let mut create = CreateTaskRequest::new();
            create.id = if bundle == id { "fine".to_owned() } else { id.to_owned() };
            create.bundle = bundle.to_owned();
            assert!(ask(&client, "Create", &create).is_err(), "create {id:?} {bundle}");
        }
    }
    server.assert_unharmed();
}

#[test]
fn of_execs_of_one_name_that_race_one_is_made() {
    let server = Server::start();
    for round in 0..5 {
        let mut exec = ExecProcessRequest::new();
        exec.id.clone_from(&server.id);
        exec.exec_id = format!("same{round}");
        let mut any = Any::new();
        any.value =
            br#"{"args":["/bin/true"],"cwd":"/","user":{"uid":65532,"gid":65532},"env":["PATH=/bin"]}"#
                .to_vec();
        exec.spec = MessageField::some(any);
        let made = thread::scope(|scope| {
            let asked = [(); 8].map(|()| scope.spawn(|| ask(&server.client(), "Exec", &exec)));
            asked.into_iter().filter_map(|thread| thread.join().unwrap().ok()).count()
        });
        assert_eq!(made, 1, "round {round}");
        let mut delete = DeleteRequest::new();
        delete.id.clone_from(&server.id);
        delete.exec_id.clone_from(&exec.exec_id);
        ask(&server.client(), "Delete", &delete).unwrap();
    }
    server.assert_unharmed();
}

#[test]
fn a_thousand_connections_that_say_nothing_are_borne() {
    // They are this process' files as well, and the tests beside this one have theirs.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).unwrap();
    let server = Server::start();
    let held: Vec<UnixStream> = (0..1000).filter_map(|_| UnixStream::connect(&server.socket).ok()).collect();
    assert!(held.len() > 100, "{} connections", held.len());
    let output = server.bench.exec(&server.neighbour, &["/bin/echo", "alive"]).unwrap().success().unwrap();
    assert_eq!(output.stdout, "alive\n");
    drop(held);
    server.assert_unharmed();
}

#[test]
fn root_alone_can_connect_to_a_servers_socket() {
    let server = Server::start();
    // As the daemon's mount namespace has it: the path through /proc is root's for another reason.
    let (_, path) = server.bench.daemon.shim_socket(&server.id).unwrap();
    let own = format!("/proc/{}/ns/mnt", server.bench.daemon.pid());
    let here = |uid: &str| {
        let script = "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; connect($s, sockaddr_un($ARGV[0])) or exit 7";
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={own}")).args([
            "--",
            "setpriv",
            "--reuid",
            uid,
            "--regid",
            uid,
            "--clear-groups",
        ]);
        command.args(["--", "perl", "-e", script, &path]);
        run(&mut command, Duration::from_secs(60)).unwrap().code()
    };
    assert_eq!((here("0"), here("65532")), (0, 7));
    server.assert_unharmed();
}
