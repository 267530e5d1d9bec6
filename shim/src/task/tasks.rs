//! The containers of this server, by their ids.
//!
//! Invariant: an exit of init is told after those of all execs of its container, whatever order they died in.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bulkhead_model::ContainerId;
use containerd_shim_protos::events::task::{TaskCreate, TaskExit};
use tokio::sync::{Notify, watch};

use super::{
    Container, Process, TaskError,
    container::timestamp,
    places::ended_badly,
    process::Told,
    stdio::{Hub, Role, Whose},
};
use crate::{
    server::{Exit, Owner, Publisher, Reaper},
    stages::{Pod, Stages},
};

/// Exit status of a process that SIGKILL ended.
const KILLED: u32 = 128 + libc::SIGKILL.cast_unsigned();

/// All containers of this server.
pub(crate) struct Tasks {
    stages: Stages,
    publisher: Publisher,
    reaper: Reaper,
    streams: Arc<Hub>,
    containers: Mutex<HashMap<String, Slot>>,
    count: watch::Sender<usize>,
    shutdown: Notify,
}

/// An id in use.
enum Slot {
    /// Its Create is under way.
    Reserved,
    /// It is there.
    Created(Arc<Container>),
}

/// An id that is being created; dropped without [`Reservation::fill`], it is free again.
pub(crate) struct Reservation<'a> {
    tasks: &'a Tasks,
    id: String,
    filled: bool,
}

impl Tasks {
    /// No container yet.
    pub(crate) fn new(stages: Stages, publisher: Publisher, streams: Arc<Hub>) -> Self {
        Self {
            stages,
            publisher,
            reaper: Reaper::new(),
            streams,
            containers: Mutex::default(),
            count: watch::Sender::new(0),
            shutdown: Notify::new(),
        }
    }

    /// The way in.
    pub(crate) fn stages(&self) -> &Stages {
        &self.stages
    }

    /// Where events go.
    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Who reaps.
    pub(crate) fn reaper(&self) -> &Reaper {
        &self.reaper
    }

    /// The named streams.
    pub(crate) fn streams(&self) -> &Arc<Hub> {
        &self.streams
    }

    /// For whom the streams of that container or exec are.
    pub(crate) fn whose_streams<'a>(&'a self, role: Role, id: &'a str) -> Whose<'a> {
        Whose { role, id, namespace: self.stages.namespace(), socket: self.streams.socket() }
    }

    /// Takes an id for a Create.
    pub(crate) fn reserve(&self, id: &ContainerId) -> Result<Reservation<'_>, TaskError> {
        let mut containers = self.containers();
        if containers.contains_key(id.as_str()) {
            return Err(TaskError::AlreadyExists(format!("container {id}")));
        }
        containers.insert(id.to_string(), Slot::Reserved);
        self.count.send_replace(containers.len());
        Ok(Reservation { tasks: self, id: id.to_string(), filled: false })
    }

    /// The container of that id.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<Container>, TaskError> {
        match self.containers().get(id) {
            Some(Slot::Created(container)) => Ok(Arc::clone(container)),
            Some(Slot::Reserved) | None => Err(TaskError::NotFound("container not created".to_owned())),
        }
    }

    /// The process of that container: init where `exec_id` is empty.
    pub(crate) fn process(
        &self,
        id: &str,
        exec_id: &str,
    ) -> Result<(Arc<Container>, Arc<Process>), TaskError> {
        let container = self.get(id)?;
        let process = container.process(exec_id)?;
        Ok((container, process))
    }

    /// The pod, once its sandbox runs.
    pub(crate) fn pod(&self) -> Option<Pod> {
        let containers = self.containers();
        let created = || {
            containers.values().filter_map(|slot| match slot {
                Slot::Created(container) => Some(container),
                Slot::Reserved => None,
            })
        };
        let sandbox = created().find(|container| container.admitted.is_sandbox())?;
        Some(Pod {
            sandbox: sandbox.id.to_string(),
            sandbox_pid: sandbox.init.pid(),
            network_namespace: sandbox.admitted.network_namespace(),
            user_namespace: sandbox.admitted.plan().confine().user_namespace().cloned(),
            init_pids: created().map(|container| container.init.pid()).collect(),
        })
    }

    /// Forgets a container.
    pub(crate) fn remove(&self, id: &str) {
        let mut containers = self.containers();
        containers.remove(id);
        self.count.send_replace(containers.len());
    }

    /// Whether there is no container, and none on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.containers().is_empty()
    }

    /// How many there are, as it changes.
    pub(crate) fn watch_count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Someone asks the server to end.
    pub(crate) fn ask_shutdown(&self) {
        self.shutdown.notify_one();
    }

    /// Waits until someone asks.
    pub(crate) async fn shutdown_asked(&self) {
        self.shutdown.notified().await;
    }

    /// The reaper's word: a process has ended.
    pub(crate) fn exited(&self, owner: &Owner, exit: Exit) {
        let Owner { container, process } = owner;
        if process.is_init() {
            container.init_is_gone();
        }
        match process.note_exit(exit) {
            Told::Later => {}
            Told::Now => self.tell_exit(container, process, exit),
        }
    }

    /// Tells an exit; that of init only when no exec is left.
    pub(crate) fn tell_exit(&self, container: &Container, process: &Process, exit: Exit) {
        // One that ends by itself may do so because its child was killed; only systemd then takes the count away.
        if exit.status == KILLED || process.is_init() && container.cgroup.is_systemds() {
            container.check_ooms(&self.publisher);
        }
        if !process.is_init() {
            self.publish_exit(container, process, exit);
            if let Some(init_exit) = container.exec_ended() {
                self.publish_exit(container, &container.init, init_exit);
            }
            return;
        }
        // In a PID namespace of its own all others are dead by now. Elsewhere they are not, and must be.
        if !container.admitted.own_pid_namespace()
            && let Err(error) = container.cgroup.kill_all()
        {
            tracing::error!(error = super::error::chain(&error), id = %container.id, "processes outlive init");
        }
        if container.init_ended(exit) {
            self.publish_exit(container, process, exit);
        }
    }

    /// An exec that was counted as running never ran.
    pub(crate) fn exec_never_ran(&self, container: &Container) {
        if let Some(init_exit) = container.exec_ended() {
            self.publish_exit(container, &container.init, init_exit);
        }
    }

    fn publish_exit(&self, container: &Container, process: &Process, exit: Exit) {
        // Of what a signal ended the program itself said nothing.
        if process.is_init() && (1..128).contains(&exit.status) {
            container.denied.ended_badly(ended_badly(container.admitted.plan().spec(), exit.status));
        }
        let mut event = TaskExit::new();
        event.container_id = container.id.to_string();
        event.id = if process.is_init() { container.id.to_string() } else { process.exec_id.clone() };
        event.pid = process.pid();
        event.exit_status = exit.status;
        event.exited_at = timestamp(exit.at);
        process.stop(exit);
        self.publisher.publish(event);
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation<'_> {
    /// The container is there; `event` is told first.
    pub(crate) fn fill(mut self, container: Arc<Container>, event: TaskCreate) {
        self.filled = true;
        self.tasks.containers().insert(self.id.clone(), Slot::Created(container));
        self.tasks.publisher.publish(event);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.filled {
            self.tasks.remove(&self.id);
        }
    }
}
