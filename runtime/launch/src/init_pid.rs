//! The pid that a container's first process had, for whoever has to tell of its end after the server died.
//!
//! Never here: a signal. The pid may be another's by now.

use std::{fs, path::Path};

use bulkhead_model::ContainerId;
use serde::Deserialize;

use crate::worker::state_dir;

/// Of libcontainer's state the one field.
///
/// Source: libcontainer, container/state.rs.
#[derive(Deserialize)]
struct State {
    pid: Option<u32>,
}

/// The pid as libcontainer wrote it down; none where it had not come to that.
#[must_use]
pub fn read(task_dir: &Path, id: &ContainerId) -> Option<u32> {
    let text = fs::read(state_dir(task_dir, id.as_str()).join("state.json")).ok()?;
    serde_json::from_slice::<State>(&text).ok()?.pid
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pid_is_read_from_libcontainers_state_and_none_where_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let id: ContainerId = "c".parse().unwrap();
        assert_eq!(read(dir.path(), &id), None);
        let state = state_dir(dir.path(), "c");
        fs::create_dir_all(&state).unwrap();
        fs::write(state.join("state.json"), r#"{"ociVersion":"1.2.1","id":"c","status":"running","pid":42}"#)
            .unwrap();
        assert_eq!(read(dir.path(), &id), Some(42));
        fs::write(state.join("state.json"), r#"{"id":"c","pid":null}"#).unwrap();
        assert_eq!(read(dir.path(), &id), None);
        fs::write(state.join("state.json"), "{").unwrap();
        assert_eq!(read(dir.path(), &id), None);
    }
}
