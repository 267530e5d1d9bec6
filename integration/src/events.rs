//! What containerd publishes about tasks, counted per container.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use containerd_client::{
    events::{TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOom, TaskStart},
    services::v1::{PublishRequest, SubscribeRequest, events_client::EventsClient},
};
use prost_types::Any;
use tokio::sync::oneshot;
use tonic::Request;

use crate::{
    Containerd, HarnessError, Result, run,
    tasks::{connect, runtime},
};

/// How long an event may take from the shim to a subscriber.
const ARRIVAL: Duration = Duration::from_secs(60);

/// The harness's own topic.
const MARKER: &str = "/tasks/marker";

/// What happened to one process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// The container.
    pub container: String,
    /// The exec; empty for init.
    pub exec: String,
    /// `create`, `start`, `exec-added`, `exec-started`, `oom`, `exit`, `delete`.
    pub what: &'static str,
    /// Of an exit and a delete.
    pub status: u32,
}

/// Everything published since [`Containerd::events`], in order.
#[derive(Debug)]
pub struct Events {
    seen: Arc<Mutex<Vec<Event>>>,
    stop: Option<oneshot::Sender<()>>,
    reader: Option<JoinHandle<()>>,
}

impl Containerd {
    /// Subscribes. Returns once containerd delivers: what happens from here on is seen.
    pub fn events(&self) -> Result<Events> {
        let (stop, stopped) = oneshot::channel();
        let seen: Arc<Mutex<Vec<Event>>> = Arc::default();
        let (socket, into) = (self.socket(), Arc::clone(&seen));
        let reader = thread::spawn(move || {
            if let Err(error) = follow(&socket, stopped, &into) {
                eprintln!("harness: {error}");
            }
        });
        let events = Events { seen, stop: Some(stop), reader: Some(reader) };
        // A subscription is answered with its first event only: one of our own, again until it arrives.
        let publisher = runtime()?;
        let mut client = EventsClient::new(connect(&publisher, &self.socket())?);
        run::until("a subscription to events", ARRIVAL, || {
            let mut request =
                Request::new(PublishRequest { topic: MARKER.to_owned(), event: Some(Any::default()) });
            // Tags are letters and digits: they parse.
            if let Ok(namespace) = self.tag().parse() {
                request.metadata_mut().insert("containerd-namespace", namespace);
            }
            publisher.block_on(client.publish(request)).map_err(HarnessError::rpc("events.Publish"))?;
            thread::sleep(Duration::from_millis(10));
            Ok(!events.all().is_empty())
        })?;
        Ok(events)
    }
}

/// Reads until it is told to stop, or containerd ends.
fn follow(socket: &Path, mut stopped: oneshot::Receiver<()>, into: &Mutex<Vec<Event>>) -> Result<()> {
    let runtime = runtime()?;
    let mut client = EventsClient::new(connect(&runtime, socket)?);
    let request = SubscribeRequest { filters: vec!["topic~=/tasks/".to_owned()] };
    runtime.block_on(async {
        let answer = tokio::select! {
            _ = &mut stopped => return Ok(()),
            answer = client.subscribe(Request::new(request)) => answer,
        };
        let mut stream = answer.map_err(HarnessError::rpc("events.Subscribe"))?.into_inner();
        loop {
            let next = tokio::select! {
                _ = &mut stopped => return Ok(()),
                next = stream.message() => next,
            };
            // An error is the end of containerd: what was seen stays.
            let Ok(Some(envelope)) = next else { return Ok(()) };
            if let Some(event) = envelope.event.as_ref().and_then(|any| read(&envelope.topic, any)) {
                into.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        }
    })
}

impl Events {
    /// Everything so far.
    #[must_use]
    pub fn all(&self) -> Vec<Event> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything so far of one container: `what` of its init, `what EXEC` of an exec.
    #[must_use]
    pub fn of(&self, container: &str) -> Vec<String> {
        let all = self.all().into_iter().filter(|event| event.container == container);
        all.map(|Event { what, exec, .. }| format!("{what} {exec}").trim_end().to_owned()).collect()
    }

    /// How often each thing happened to each container.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(String, &'static str), usize> {
        let mut counts = BTreeMap::new();
        for event in self.all() {
            *counts.entry((event.container, event.what)).or_default() += 1;
        }
        counts
    }

    /// Waits until something has happened to a container's init.
    pub fn wait_for(&self, container: &str, what: &str) -> Result<()> {
        run::until(&format!("the event {what} of {container}"), ARRIVAL, || {
            Ok(self.of(container).iter().any(|event| event == what))
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It has ended by itself: nobody is left to tell.
            stop.send(()).unwrap_or_default();
        }
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

fn read(topic: &str, any: &Any) -> Option<Event> {
    use prost::Message as _;

    let bytes = any.value.as_slice();
    let event = |container: String, exec: String, what, status| Event { container, exec, what, status };
    Some(match topic {
        MARKER => event(String::new(), String::new(), "marker", 0),
        "/tasks/create" => event(TaskCreate::decode(bytes).ok()?.container_id, String::new(), "create", 0),
        "/tasks/start" => event(TaskStart::decode(bytes).ok()?.container_id, String::new(), "start", 0),
        "/tasks/oom" => event(TaskOom::decode(bytes).ok()?.container_id, String::new(), "oom", 0),
        "/tasks/exec-added" => {
            let TaskExecAdded { container_id, exec_id } = TaskExecAdded::decode(bytes).ok()?;
            event(container_id, exec_id, "exec-added", 0)
        }
        "/tasks/exec-started" => {
            let TaskExecStarted { container_id, exec_id, .. } = TaskExecStarted::decode(bytes).ok()?;
            event(container_id, exec_id, "exec-started", 0)
        }
        "/tasks/exit" => {
            let TaskExit { container_id, id, exit_status, .. } = TaskExit::decode(bytes).ok()?;
            let exec = if id == container_id { String::new() } else { id };
            event(container_id, exec, "exit", exit_status)
        }
        "/tasks/delete" => {
            let TaskDelete { container_id, id, exit_status, .. } = TaskDelete::decode(bytes).ok()?;
            let exec = if id == container_id { String::new() } else { id };
            event(container_id, exec, "delete", exit_status)
        }
        _ => return None,
    })
}
