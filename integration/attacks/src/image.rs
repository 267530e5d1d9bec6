//! Images made to attack the runtime itself: run once, told by what they left on the host.

use bulkhead_integration::{Entry, Layer, Output, Result, answered};

use crate::{arena::Arena, column::Column};

/// Runs an allowed image in which `link` is a symbolic link to `to`; where `to` is a directory the image has it as well,
/// so that mounts find it.
pub(crate) fn run_with_link(arena: &Arena, column: Column, link: &str, to: &str) -> Result<Output> {
    let inside = to.trim_start_matches('/');
    let mut entries: Vec<Entry<'_>> =
        inside.match_indices('/').map(|(at, _)| Entry::Dir(&inside[..at], 0o755)).collect();
    entries.extend([Entry::Dir(inside, 0o755), Entry::Symlink(link, to)]);
    run(arena, column, &entries, &["/bin/true"])
}

/// Runs an allowed image with one more layer.
pub(crate) fn run(arena: &Arena, column: Column, entries: &[Entry<'_>], command: &[&str]) -> Result<Output> {
    let reference = arena.name(column, "hostile");
    arena.import(&arena.busybox(column, &reference)?.with(Layer::of(entries)?))?;
    run_by_name(arena, column, &reference, command)
}

/// Runs an image that is there.
pub(crate) fn run_by_name(
    arena: &Arena,
    column: Column,
    reference: &str,
    command: &[&str],
) -> Result<Output> {
    answered(column.runtime(), || {
        let id = arena.bench.daemon.id(&format!("hostile-{}", arena.next()));
        let mut arguments = vec!["run", "--rm"];
        arguments.extend(arena.runtime(column));
        arguments.extend(column.options());
        arguments.extend([reference, &id]);
        arguments.extend(command);
        let output = arena.bench.daemon.ctr(&arguments)?;
        // `ctr` leaves a task that was created and did not start.
        if !output.ok() {
            arena.forget(&id)?;
        }
        Ok(output)
    })
}
