//! Real containers by a real zygote on this machine's kernel: needs root and /bin/busybox (static).
//!
//! Without libtest: the zygote must be forked before the first thread. Every test ends with the same mounts,
//! control groups, processes, descriptors and directories as it began with, or it fails.

#![allow(clippy::unwrap_used)]

mod support;

use support::World;

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        println!("\ntest result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        return;
    }
    let mut world = World::new();
    support::main(
        &mut world,
        &[
            ("container_runs_its_program_and_its_exit_code_is_seen", container_runs),
            ("missing_program_fails_create_in_the_words_of_runc", missing_program),
        ],
    );
}

fn container_runs(world: &mut World) {
    let container = world.container(&["sh", "-c", "echo hello; id -u; id -G; pwd; echo $HOME; exit 7"], |_| {});
    let (code, output) = world.run(&container).unwrap();
    assert_eq!(output, "hello\n65532\n65532\n/\n/home\n");
    assert_eq!(code, 7);
}

fn missing_program(world: &mut World) {
    let container = world.container(&["no-such"], |_| {});
    let error = world.run(&container).unwrap_err();
    assert_eq!(error, "create: exec: \"no-such\": executable file not found in $PATH");
}
