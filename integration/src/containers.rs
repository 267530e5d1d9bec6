//! Container records: a spec that `ctr` would not write.

use std::{path::PathBuf, time::Duration};

use containerd_client::services::v1::{
    GetContainerRequest, UpdateContainerRequest, containers_client::ContainersClient,
};
use prost_types::FieldMask;
use serde_json::Value;
use tonic::Request;

use crate::{
    Containerd, HarnessError, Result,
    run::until,
    tasks::{connect, runtime},
    tools::bulkhead_dir,
};

impl Containerd {
    /// The OCI spec of a container.
    pub fn spec(&self, id: &str) -> Result<Value> {
        let runtime = runtime()?;
        let mut client = ContainersClient::new(connect(&runtime, &self.socket())?);
        let answer = runtime.block_on(client.get(self.tagged(GetContainerRequest { id: id.to_owned() })));
        let found = answer.map_err(HarnessError::rpc("containers.Get"))?.into_inner().container;
        let wrong = || HarnessError::Format { what: "a container with a spec", found: id.to_owned() };
        let any = found.and_then(|container| container.spec).ok_or_else(wrong)?;
        serde_json::from_slice(&any.value).map_err(|_| wrong())
    }

    /// A runtime type whose `start` finds these bytes as config.json, whatever containerd wrote.
    pub fn runtime_with_config(&self, name: &str) -> Result<(String, PathBuf)> {
        let config = self.dir().join(format!("config-{name}.json"));
        let shim = bulkhead_dir()?.join("containerd-shim-bulkhead-v2");
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *' start '*) cp {} config.json || exit 1 ;; esac\nexec {} \"$@\"\n",
            config.display(),
            shim.display()
        );
        Ok((self.runtime(name, &script)?, config))
    }

    /// Kills, deletes and removes a task with its container.
    pub fn remove(&self, id: &str) -> Result<()> {
        // It may have ended by itself.
        let killed = self.ctr(&["task", "kill", "-s", "SIGKILL", id])?;
        if !killed.ok() && !killed.stderr.contains("not found") && !killed.stderr.contains("already finished")
        {
            return Err(killed.into_error());
        }
        until("the end of a killed task", Duration::from_secs(60), || {
            // The exit code of `task delete` is that of the task.
            let deleted = self.ctr(&["task", "delete", id])?;
            Ok(deleted.ok() || deleted.code() == 137 || deleted.stderr.contains("not found"))
        })?;
        self.ctr(&["container", "delete", id])?.success().map(drop)
    }

    /// The bundle of a task.
    #[must_use]
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.dir().join("state/io.containerd.runtime.v2.task").join(self.tag()).join(id)
    }

    /// Changes the OCI spec of a container that has no task yet.
    pub fn edit_spec(&self, id: &str, edit: impl FnOnce(&mut Value)) -> Result<()> {
        let runtime = runtime()?;
        let mut client = ContainersClient::new(connect(&runtime, &self.socket())?);
        let answer = runtime.block_on(client.get(self.tagged(GetContainerRequest { id: id.to_owned() })));
        let found = answer.map_err(HarnessError::rpc("containers.Get"))?.into_inner().container;
        let wrong = |found: String| HarnessError::Format { what: "a container with a spec", found };
        let mut container = found.ok_or_else(|| wrong(id.to_owned()))?;
        let any = container.spec.as_mut().ok_or_else(|| wrong(id.to_owned()))?;
        let mut spec: Value = serde_json::from_slice(&any.value).map_err(|error| wrong(error.to_string()))?;
        edit(&mut spec);
        any.value = spec.to_string().into_bytes();
        let update = UpdateContainerRequest {
            container: Some(container),
            update_mask: Some(FieldMask { paths: vec!["spec".to_owned()] }),
        };
        let answer = runtime.block_on(client.update(self.tagged(update)));
        answer.map(drop).map_err(HarnessError::rpc("containers.Update"))
    }

    fn tagged<T>(&self, body: T) -> Request<T> {
        let mut request = Request::new(body);
        // Tags are letters and digits: they parse.
        if let Ok(namespace) = self.tag().parse() {
            request.metadata_mut().insert("containerd-namespace", namespace);
        }
        request
    }
}
