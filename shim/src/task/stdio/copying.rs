//! A copy under way, in a task of its own.

use tokio::{sync::oneshot, task::JoinHandle};

/// A copy under way. Dropped, it is given up.
pub(super) struct Copying {
    task: JoinHandle<()>,
    done: Option<oneshot::Receiver<()>>,
}

impl Copying {
    /// Starts one.
    pub(super) fn start(copy: impl Future<Output = ()> + Send + 'static) -> Self {
        let (done, told) = oneshot::channel();
        let task = tokio::spawn(async move {
            copy.await;
            // Where nobody waits for it, nobody minds.
            done.send(()).unwrap_or_default();
        });
        Self { task, done: Some(told) }
    }

    /// Tells when it is at its end: once.
    pub(super) fn take_done(&mut self) -> Option<oneshot::Receiver<()>> {
        self.done.take()
    }
}

/// Nobody will read any more.
impl Drop for Copying {
    fn drop(&mut self) {
        self.task.abort();
    }
}
