//! What people ask about one container: where its log is, and which process it is.

use std::path::PathBuf;

use bulkhead_model::ContainerId;
use containerd_client::services::v1::{GetContainerRequest, GetRequest, tasks_client::TasksClient};

use crate::{Failure, client::Containerd, client::found, cri};

impl Containerd {
    /// The file that CRI writes the container's output to; none of one that CRI did not make, or that is gone.
    ///
    /// # Errors
    /// containerd cannot be asked, or its record cannot be read.
    pub async fn log_path(&self, container: &ContainerId) -> Result<Option<PathBuf>, Failure> {
        let id = container.as_str();
        let request = self.request(GetContainerRequest { id: id.to_owned() });
        let mut containers = self.containers();
        let answer = found(self.answer("containers.Get", id, containers.get(request)).await)?;
        let Some(container) = answer.and_then(|answer| answer.container) else { return Ok(None) };
        cri::log_path(self.namespace(), id, &container.extensions, |any| any.value.as_slice())
    }

    /// Process id of the container's first process, while it lives.
    ///
    /// # Errors
    /// containerd cannot be asked.
    pub async fn pid(&self, container: &ContainerId) -> Result<Option<u32>, Failure> {
        let id = container.as_str();
        let request = self.request(GetRequest { container_id: id.to_owned(), exec_id: String::new() });
        let mut tasks = TasksClient::new(self.channel());
        let answer = found(self.answer("tasks.Get", id, tasks.get(request)).await)?;
        Ok(answer.and_then(|answer| answer.process).map(|process| process.pid).filter(|pid| *pid > 0))
    }
}
