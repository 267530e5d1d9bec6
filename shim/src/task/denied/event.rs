//! A denied call as an event of containerd's: `/bulkhead/denied`.
//!
//! Each program's first denied call of a kind is one, at most [`ROWS_MAX`](super::ROWS_MAX) in a container's life, and one
//! more says that there is no room: a flood is one event. How often, explain knows.
//!
//! ```text
//! /bulkhead/denied {"id":"…","labels":{"args":"…","errno":"ENOSYS","pid":"71","program":"python3","syscall":"mknodat"}}
//! ```
//! Its type is `containerd.events.ContainerUpdate`: what a client of containerd's cannot decode it skips with a warning, and
//! of what each of them can decode, this one has room for an id and for words. Whoever acts on an event asks for its topic
//! (containerd's CRI plugin for `/tasks/oom`, `/tasks/exit` and `/images/…`), so that nobody takes it for an update.
//!
//! Source: `Command` of ctr events, containerd cmd/ctr/commands/events/events.go; `Subscribe` in its CRI plugin.

use bulkhead_model::DeniedCall;
use containerd_shim_protos::events::container::ContainerUpdate;

use crate::server::Publisher;

/// Topic of the events, in containerd's form.
const TOPIC: &str = "/bulkhead/denied";

/// Who tells containerd, and of which container.
pub(crate) struct Teller {
    /// The container.
    pub(crate) id: String,
    /// Its queue does not wait for containerd.
    pub(crate) publisher: Publisher,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The first of its kind.
    Call(DeniedCall),
    /// There are more kinds than a container has room for.
    NoRoom,
}

impl Teller {
    pub(super) fn tell(&self, news: &News) {
        let mut event = ContainerUpdate::new();
        event.id.clone_from(&self.id);
        event.labels.extend(labels(news).map(|(name, value)| (name.to_owned(), value)));
        self.publisher.publish_as(TOPIC.to_owned(), &event);
    }
}

fn labels(news: &News) -> impl Iterator<Item = (&'static str, String)> {
    let pairs = match news {
        News::Call(call) => {
            let args: Vec<String> = call.args.iter().map(|arg| format!("{arg:#x}")).collect();
            vec![
                ("program", call.program.clone()),
                ("pid", call.pid.to_string()),
                ("syscall", call.syscall.clone()),
                ("args", args.join(" ")),
                ("errno", call.errno.to_string()),
            ]
        }
        News::NoRoom => vec![("more", "further calls are counted, and told no more".to_owned())],
    };
    pairs.into_iter()
}
