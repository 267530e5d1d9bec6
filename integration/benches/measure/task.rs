//! Kill to exit event, and delete, as a client of containerd's API sees them.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use bulkhead_integration::HarnessError;
use containerd_client::{
    events::TaskExit,
    services::v1::{SubscribeRequest, events_client::EventsClient},
};
use prost::Message as _;

use crate::{
    row::Findings,
    series::{Series, in_turn},
    stage::Stage,
    wrong,
};

/// How long an exit event may take.
const EVENT: Duration = Duration::from_secs(20);

const SIGKILL: u32 = 9;

pub(super) fn kill_and_delete(stage: &Stage, findings: &mut Findings) -> Result<(), HarnessError> {
    let exits = exits(stage);
    until_subscribed(stage, &exits)?;
    let tasks = stage.daemon().tasks()?;
    let (mut killed, mut deleted) = (Series::default(), Series::default());
    in_turn("task", stage.settings.runs, &stage.runtimes, findings, |runtime, _| {
        let id = stage.start_pause(runtime, "task")?;
        let began = Instant::now();
        tasks.kill(&id, SIGKILL, false)?;
        loop {
            let (of, at) = exits
                .recv_timeout(EVENT)
                .map_err(|_| HarnessError::Timeout { what: "an exit event".to_owned(), within: EVENT })?;
            if of == id {
                killed.add(runtime.name, at.duration_since(began).as_secs_f64() * 1e3);
                break;
            }
        }
        let began = Instant::now();
        tasks.delete(&id)?;
        deleted.add(runtime.name, began.elapsed().as_secs_f64() * 1e3);
        stage.daemon().ctr(&["container", "delete", &id])?.success().map(drop)
    })?;
    killed.rows("kill-to-event", "ms", findings);
    deleted.rows("delete", "ms", findings);
    Ok(())
}

/// containerd 1.6 does not say when a subscription holds: one container after another, until the end of one is seen.
fn until_subscribed(stage: &Stage, exits: &Receiver<(String, Instant)>) -> Result<(), HarnessError> {
    for _ in 0..20 {
        stage.run_true(&stage.runtimes[0], "heard")?;
        match exits.recv_timeout(Duration::from_millis(500)) {
            Ok(_) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Err(wrong("a subscription to events", "no event came"))
}

/// Ids of containers whose init ended, with the time at which the event came. The subscription ends with the daemon.
fn exits(stage: &Stage) -> Receiver<(String, Instant)> {
    let (sender, receiver) = channel();
    let socket = stage.daemon().socket();
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let Ok(channel) = containerd_client::connect(&socket).await else { return };
            let request = SubscribeRequest { filters: vec!["topic==\"/tasks/exit\"".to_owned()] };
            let Ok(answer) = EventsClient::new(channel).subscribe(request).await else { return };
            let mut stream = answer.into_inner();
            while let Ok(Some(envelope)) = stream.message().await {
                let at = Instant::now();
                let event = envelope.event.and_then(|any| TaskExit::decode(any.value.as_slice()).ok());
                let Some(event) = event.filter(|event| event.id == event.container_id) else { continue };
                if sender.send((event.container_id, at)).is_err() {
                    return;
                }
            }
        });
    });
    receiver
}
