//! Whatever breaks, nothing is granted: containerd that is gone, silent or odd, and judges that misbehave.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::{
    os::unix::net::UnixListener,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bulkhead_containerd::{Containerd, Failure, Judge, VerifyError, verify};
use bulkhead_model::LINE_BYTES_MAX;
use common::{Image, NAME, Node, judge};

/// A node with container `c`, whose image nobody judged yet.
fn node() -> Node {
    let node = Node::start();
    node.import(&Image::new(&["good"]), NAME);
    node.ctr(&["container", "create", NAME, "c"]);
    node
}

/// A judge that counts and records the pids of its processes.
fn counted(judge: Judge) -> (Judge, Arc<Mutex<Vec<u32>>>) {
    let pids = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&pids);
    let admit = move |pid| {
        seen.lock().unwrap().push(pid);
        Ok(())
    };
    (Judge { admit: Some(Arc::new(admit)), ..judge }, pids)
}

fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn files_below(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, |entries| entries.count())
}

#[tokio::test]
async fn containerd_that_is_gone_is_a_failure() {
    let mut node = node();
    let request = node.create_request("c").await;
    let client = node.client().await;
    assert!(verify(&client, &node.layout(), &judge(), &request).await.is_ok());
    node.stop();
    let error = verify(&client, &node.layout(), &judge(), &request).await.unwrap_err();
    assert!(matches!(error, VerifyError::Failed(_)), "{error:?}");
    let error =
        Containerd::connect(&node.socket(), &node.namespace, Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, Failure::Connect { .. }), "{error:?}");
    assert!(VerifyError::from(error).line().contains("grpc.sock"));
}

#[tokio::test]
async fn containerd_that_never_answers_is_a_failure_within_the_deadline() {
    let node = node();
    let request = node.create_request("c").await;
    let socket = node.dir.path().join("silent.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let started = Instant::now();
    let limit = Duration::from_millis(300);
    let error = match Containerd::connect(&socket, &node.namespace, limit).await {
        Err(failure) => failure.into(),
        Ok(client) => verify(&client, &node.layout(), &judge(), &request).await.unwrap_err(),
    };
    assert!(matches!(error, VerifyError::Failed(Failure::Silent { .. })), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[tokio::test]
async fn container_that_containerd_does_not_know_is_a_failure() {
    let node = node();
    let mut request = node.create_request("c").await;
    request.id = "other".parse().unwrap();
    let error = verify(&node.client().await, &node.layout(), &judge(), &request).await.unwrap_err();
    assert!(matches!(error, VerifyError::Failed(Failure::Call { .. })), "{error:?}");
}

#[tokio::test]
async fn blob_that_is_missing_is_a_failure_and_no_verdict_is_kept() {
    let node = Node::start();
    let image = Image::new(&["good"]);
    node.import(&image, NAME);
    node.ctr(&["container", "create", NAME, "c"]);
    let request = node.create_request("c").await;
    let path = node.blob(&image.config);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = verify(&node.client().await, &node.layout(), &judge(), &request).await.unwrap_err();
    assert!(matches!(error, VerifyError::Failed(_)), "{error:?}");
    std::fs::write(&path, bytes).unwrap();
    assert!(verify(&node.client().await, &node.layout(), &judge(), &request).await.is_ok());
}

#[tokio::test]
async fn judge_that_does_not_end_is_stopped_and_the_answer_is_try_again() {
    let node = node();
    let request = node.create_request("c").await;
    let slow = Judge {
        program: "/bin/sleep".into(),
        arguments: vec!["1000".into()],
        time_max: Duration::from_millis(300),
        ..judge()
    };
    let (slow, pids) = counted(slow);
    let error = verify(&node.client().await, &node.layout(), &slow, &request).await.unwrap_err();
    assert!(matches!(error, VerifyError::Unavailable(Failure::JudgeTime { .. })), "{error:?}");
    let pid = *pids.lock().unwrap().first().unwrap();
    assert!(!is_running(pid), "judge {pid} is still there");
    assert!(verify(&node.client().await, &node.layout(), &judge(), &request).await.is_ok());
}

#[tokio::test]
async fn judge_is_killed_when_nobody_waits_for_it_any_more() {
    let node = node();
    let request = node.create_request("c").await;
    let (slow, pids) =
        counted(Judge { program: "/bin/sleep".into(), arguments: vec!["1000".into()], ..judge() });
    let (client, layout) = (node.client().await, node.layout());
    let begun = async {
        while pids.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = verify(&client, &layout, &slow, &request) => panic!("{answer:?}"),
        () = begun => {}
    }
    let pid = *pids.lock().unwrap().first().unwrap();
    let started = Instant::now();
    loop {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if state.is_empty() || state.contains(") Z ") {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{state}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn judge_that_lies_babbles_or_dies_grants_nothing() {
    let node = node();
    let request = node.create_request("c").await;
    let facts = r#"{"facts":{"target":"sha256:0000000000000000000000000000000000000000000000000000000000000000","manifest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","config":"sha256:0000000000000000000000000000000000000000000000000000000000000000","diff_ids":[],"layers":[],"user":"","volumes":[]}}"#;
    let endless = r#"while :; do echo '{"blob":{"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","bytes_max":1}}'; done"#;
    let bad: [&[&str]; 7] = [
        &["/bin/true"],
        &["/bin/cat"],
        &["/bin/echo", "{}"],
        &["/bin/echo", facts],
        &["/bin/dd", "if=/dev/zero", "bs=1M"],
        &["/bin/sh", "-c", endless],
        &["/nonexistent/judge"],
    ];
    for command in bad {
        let judge = Judge {
            program: command[0].into(),
            arguments: command[1..].iter().map(Into::into).collect(),
            // None of them is told by its time: on a busy machine that would be up first.
            time_max: Duration::from_secs(60),
            ..judge()
        };
        let error = verify(&node.client().await, &node.layout(), &judge, &request).await.unwrap_err();
        assert!(matches!(error, VerifyError::Failed(_)), "{command:?}: {error:?}");
        assert!(error.line().len() <= LINE_BYTES_MAX && !error.line().contains('\n'));
    }
    let refusing = Judge { admit: Some(Arc::new(|_| Err(std::io::ErrorKind::Other.into()))), ..judge() };
    let error = verify(&node.client().await, &node.layout(), &refusing, &request).await.unwrap_err();
    assert!(matches!(error, VerifyError::Failed(Failure::Judge { step: "admit", .. })), "{error:?}");
    assert!(verify(&node.client().await, &node.layout(), &judge(), &request).await.is_ok());
}

#[tokio::test]
async fn one_judge_serves_however_many_launches_wait() {
    let node = Arc::new(node());
    let request = node.create_request("c").await;
    let (judge, pids) = counted(judge());
    let mut launches = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (node, judge, request) = (Arc::clone(&node), judge.clone(), request.clone());
        launches.spawn(async move {
            verify(&node.client().await, &node.layout(), &judge, &request).await.is_ok()
        });
    }
    let verified = launches.join_all().await;
    assert!(verified.iter().all(|ok| *ok), "{verified:?}");
    assert_eq!(pids.lock().unwrap().len(), 1);
    assert!(!is_running(pids.lock().unwrap()[0]));
    assert_eq!(files_below(&node.layout().run_dir().join("judge")), 0, "locks left behind");
    assert_eq!(files_below(node.layout().facts_file(&Image::new(&["good"]).manifest).parent().unwrap()), 1);
}

#[tokio::test]
async fn launch_that_waits_too_long_for_another_ones_judge_is_told_to_try_again() {
    let node = node();
    let request = node.create_request("c").await;
    let (slow, pids) = counted(Judge {
        program: "/bin/sleep".into(),
        arguments: vec!["1000".into()],
        time_max: Duration::from_secs(600),
        ..judge()
    });
    let hurried = Judge { wait_max: Duration::from_millis(100), ..judge() };
    let (client, layout) = (node.client().await, node.layout());
    let second = async {
        while pids.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        verify(&client, &layout, &hurried, &request).await
    };
    tokio::select! {
        first = verify(&client, &layout, &slow, &request) => panic!("{first:?}"),
        second = second => {
            assert!(matches!(second, Err(VerifyError::Unavailable(Failure::JudgeBusy { .. }))), "{second:?}");
        }
    }
}

/// Warm and cold, on this machine, debug build; the issue promises below 50 ms for a repeated refusal.
#[tokio::test]
async fn repeated_verdict_needs_no_judge_and_costs_less_than_50_ms() {
    let node = Node::start();
    node.import(&Image::new(&["good"]), NAME);
    node.import(&Image::new(&[]), "registry.example/broken:1");
    node.ctr(&["container", "create", NAME, "good"]);
    node.ctr(&["container", "create", "registry.example/broken:1", "broken"]);
    let (judge, pids) = counted(judge());
    for id in ["good", "broken"] {
        let request = node.create_request(id).await;
        let mut times = Vec::new();
        for _ in 0..21 {
            let started = Instant::now();
            let result = verify(&node.client().await, &node.layout(), &judge, &request).await;
            times.push(started.elapsed());
            assert_eq!(result.is_ok(), id == "good", "{result:?}");
        }
        let cold = times.remove(0);
        times.sort();
        println!("{id}: cold {cold:?}, warm median {:?}, longest {:?}", times[10], times[19]);
        // The fastest: a machine may be slow, and is not always. What costs more is never as fast.
        assert!(times[0] < Duration::from_millis(50), "{times:?}");
    }
    assert_eq!(pids.lock().unwrap().len(), 2, "one judge per digest");
}
