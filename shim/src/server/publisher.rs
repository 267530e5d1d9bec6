//! Events for containerd, in order.
//!
//! ```text
//! publish ─► queue ─► Forward ─ok─► next
//!                       └─error─► wait, connect again, the same event once more
//! ```
//! Invariant: an event leaves the queue only when containerd has taken it, so their order is that of `publish`
//! and an exit is not lost while the server lives, however long containerd is away.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bulkhead_model::Namespace;
use containerd_shim::event::Event;
use containerd_shim_protos::{
    api::ForwardRequest,
    shim::event::Envelope,
    shim_async::{Client, EventsClient},
    ttrpc::{self, context},
};
use protobuf::{
    Message, MessageField,
    well_known_types::{any::Any, timestamp::Timestamp},
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

/// First and longest wait between two attempts.
const RETRY_MS: std::ops::RangeInclusive<u64> = 50..=2_000;

/// How long one attempt may take while the connection holds: a containerd that was stopped reads the event when it goes
/// on, and a second copy would be an exit that happened twice. Past this it is taken for dead.
const FORWARD_MS: u64 = 120_000;

/// Hands events to containerd. Clones share one queue.
#[derive(Clone)]
pub(crate) struct Publisher {
    queue: mpsc::UnboundedSender<Envelope>,
    waiting: Arc<watch::Sender<usize>>,
    namespace: String,
}

impl Publisher {
    /// Starts the task that forwards.
    pub(crate) fn start(address: &str, namespace: &Namespace) -> Self {
        let (queue, events) = mpsc::unbounded_channel();
        let waiting = Arc::new(watch::Sender::new(0));
        let address = match address.starts_with("unix://") {
            true => address.to_owned(),
            false => format!("unix://{address}"),
        };
        tokio::spawn(forward_all(address, events, Arc::clone(&waiting)));
        Self { queue, waiting, namespace: namespace.to_string() }
    }

    /// Queues an event. Returns at once.
    pub(crate) fn publish<E: Event + Message>(&self, event: E) {
        self.publish_as(event.topic(), &event);
    }

    /// Queues one of another topic than its type's, which has to be of containerd's events. Returns at once.
    pub(crate) fn publish_as<E: Message>(&self, topic: String, event: &E) {
        let mut envelope = Envelope::new();
        envelope.timestamp = MessageField::some(Timestamp::from(SystemTime::now()));
        envelope.namespace.clone_from(&self.namespace);
        envelope.topic = topic;
        match packed(event) {
            Ok(event) => envelope.event = MessageField::some(event),
            Err(error) => {
                tracing::error!(%error, topic = envelope.topic, "event cannot be encoded");
                return;
            }
        }
        self.waiting.send_modify(|waiting| *waiting += 1);
        if self.queue.send(envelope).is_err() {
            tracing::error!("the publisher is gone");
        }
    }

    /// Waits until containerd has taken everything.
    pub(crate) async fn flushed(&self) {
        // The sender is held by `self`, so the wait cannot fail.
        if self.waiting.subscribe().wait_for(|waiting| *waiting == 0).await.is_err() {
            tracing::debug!("the publisher is gone");
        }
    }
}

/// The event under its full name. Not asked of its descriptor: the first one costs 0.6 ms and 300 kB that the server
/// keeps, in every pod.
///
/// Source: `package containerd.events`, containerd api/events/task.proto.
fn packed<E: Message>(event: &E) -> protobuf::Result<Any> {
    let mut any = Any::new();
    any.type_url = format!("containerd.events.{}", E::NAME);
    any.value = event.write_to_bytes()?;
    Ok(any)
}

async fn forward_all(
    address: String,
    mut events: mpsc::UnboundedReceiver<Envelope>,
    waiting: Arc<watch::Sender<usize>>,
) {
    let mut client = None;
    while let Some(envelope) = events.recv().await {
        let mut request = ForwardRequest::new();
        request.envelope = MessageField::some(envelope);
        let mut pause_ms = *RETRY_MS.start();
        while let Err(error) = forward(&address, &mut client, &request).await {
            tracing::warn!(%error, topic = request.envelope.topic, "event is not taken yet");
            sleep(Duration::from_millis(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(*RETRY_MS.end());
        }
        waiting.send_modify(|waiting| *waiting -= 1);
    }
}

/// One attempt. After an error of the connection the next one connects again.
async fn forward(
    address: &str,
    client: &mut Option<EventsClient>,
    request: &ForwardRequest,
) -> Result<(), ttrpc::Error> {
    let connected = match client {
        Some(client) => client,
        None => client.insert(EventsClient::new(Client::connect(address).await?)),
    };
    let context = context::with_duration(Duration::from_millis(FORWARD_MS));
    match connected.forward(context, request).await {
        Ok(_) => Ok(()),
        // containerd has read the event and will never like it: the next one counts more.
        Err(ttrpc::Error::RpcStatus(status)) if is_final(&status) => {
            tracing::error!(
                message = status.message(),
                topic = request.envelope.topic,
                "event is not wanted"
            );
            Ok(())
        }
        Err(error) => {
            *client = None;
            Err(error)
        }
    }
}

fn is_final(status: &ttrpc::Status) -> bool {
    use ttrpc::Code;
    matches!(
        status.code(),
        Code::INVALID_ARGUMENT | Code::UNIMPLEMENTED | Code::PERMISSION_DENIED | Code::NOT_FOUND
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use containerd_shim_protos::events::container::ContainerUpdate;
    use containerd_shim_protos::events::task::{
        TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused, TaskResumed,
        TaskStart,
    };
    use protobuf::MessageFull;

    use super::*;

    fn named<E: MessageFull>() -> (String, String) {
        (packed(&E::new()).unwrap().type_url, E::descriptor().full_name().to_owned())
    }

    #[test]
    fn events_have_the_names_that_their_descriptors_give_them() {
        for (name, described) in [
            named::<ContainerUpdate>(),
            named::<TaskCreate>(),
            named::<TaskDelete>(),
            named::<TaskExecAdded>(),
            named::<TaskExecStarted>(),
            named::<TaskExit>(),
            named::<TaskOOM>(),
            named::<TaskPaused>(),
            named::<TaskResumed>(),
            named::<TaskStart>(),
        ] {
            assert_eq!(name, described);
        }
    }
}
