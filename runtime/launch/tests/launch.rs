//! Real containers by a real zygote on this machine's kernel: needs root and /bin/busybox (static).
//!
//! Without libtest: the zygote must be forked before the first thread. Every test ends with the same mounts,
//! control groups, processes, descriptors and directories as it began with, or it fails.

#![allow(clippy::unwrap_used)]

mod cgroups;
mod failures;
mod mounts;
mod streams;
mod support;

use std::fs;

use serde_json::json;
use support::{NO_STDIO, OUTPUTS, PATIENCE, World, output_of};

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        println!("\ntest result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        return;
    }
    // What the server has, a container must not inherit.
    nix::unistd::setgroups(&[nix::unistd::Gid::from_raw(4242)]).unwrap();
    #[allow(unsafe_code)]
    // SAFETY: this process has one thread.
    unsafe {
        std::env::set_var("LISTEN_FDS", "20");
    }
    let mut world = World::new();
    support::main(
        &mut world,
        &[
            ("container_runs_its_program_and_its_exit_code_is_seen", container_runs),
            ("exec_runs_in_the_container_and_its_exit_code_is_seen", exec_runs),
            ("missing_program_fails_create_in_the_words_of_runc", failures::missing_program),
            ("missing_program_of_an_exec_fails_its_start", failures::missing_program_of_exec),
            ("file_that_is_no_program_fails_start_with_errno", failures::no_program),
            ("libcontainer_s_error_reaches_the_create_reply", failures::bad_mount),
            ("broken_rootfs_fails_create_and_says_what", failures::broken_rootfs),
            ("environment_is_the_spec_s_and_nothing_of_the_server_s", environment),
            ("additional_groups_are_the_spec_s_and_none_of_the_server_s", groups),
            ("no_descriptor_of_the_host_is_open_in_container_or_exec", descriptors),
            ("working_directory_is_never_one_of_the_host_s", working_directory),
            ("limits_beyond_the_server_s_own_are_clamped_and_others_kept", clamped),
            ("rootfs_is_nosuid_and_nodev_and_the_host_never_sees_it", rootfs),
            ("stdin_reaches_the_program_and_its_end_too", streams::stdin),
            ("pipe_can_be_reopened_by_its_owner", streams::reopen_pipe),
            ("terminal_of_container_and_of_exec_works", streams::terminal),
            ("terminal_is_its_user_s_before_the_first_instruction", streams::terminal_owner),
            ("terminal_and_streams_that_disagree_are_refused", streams::terminal_mismatch),
            ("process_of_root_is_refused_whatever_the_plan_says", failures::root_is_refused),
            ("cgroup_view_shows_the_container_s_limits_and_no_other_group", cgroups::cgroup_view),
            ("process_is_in_the_container_s_cgroups_with_its_limits", cgroups::cgroup_limits),
            ("pod_s_second_container_joins_ipc_and_network_by_path", shared_namespaces),
            ("runtime_is_not_executed_or_written_by_a_container", self_exe),
            ("job_as_long_as_three_full_seccomp_programs_arrives", long_job),
            ("after_its_filters_a_process_needs_read_write_and_execve_alone", narrow_profile),
            ("process_that_is_not_as_planned_never_executes", failures::not_as_planned),
            ("exec_in_a_container_that_ended_is_refused", failures::exec_in_dead),
            ("start_that_nobody_agrees_to_never_executes", failures::dropped_start),
            ("worker_that_dies_is_an_error_not_a_hang", failures::dead_worker),
            ("zygote_and_waiting_container_end_with_the_server", failures::server_dies),
            ("many_layers_mount", many_layers),
            ("mounts_land_nested_in_any_order_over_files_and_through_links_of_the_image", mounts::land),
            ("mount_that_would_land_elsewhere_twice_or_on_the_wrong_kind_is_refused", mounts::refused),
            ("link_that_a_tenant_makes_in_its_volume_meanwhile_is_never_followed", mounts::raced),
            (
                "exec_has_the_rule_of_a_mount_for_that_mount_alone_whatever_its_tenant_moves",
                mounts::rule_stays_with_its_mount,
            ),
            ("hook_sees_the_container_s_state_and_its_failure_fails_create", hooks),
            ("cgroup_v2_is_entered_by_clone_and_shown_to_the_container", cgroups::version_2),
        ],
    );
}

fn container_runs(world: &mut World) {
    let container =
        world.container(&["sh", "-c", "echo hello; id -u; id -G; pwd; echo $HOME; exit 7"], |_| {});
    let (code, output) = world.run(&container).unwrap();
    assert_eq!(output, "hello\n65532\n65532\n/\n/home\n");
    assert_eq!(code, 7);
}

fn exec_runs(world: &mut World) {
    let mut container = world.container(&["sleep", "100"], |_| {});
    let alive = world.start(&container);
    let (code, output) = world
        .exec(&mut container, &alive, &["sh", "-c", "id -u; hostname; cat /proc/1/comm; exit 3"])
        .unwrap();
    assert_eq!((code, output.as_str()), (3, "65532\nbulkhead\nsleep\n"));
    let left: Vec<_> = fs::read_dir(&container.task_dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("exec-")), "{left:?}");
    world.stop(&container, alive);
}

fn environment(world: &mut World) {
    let container = world.container(&["env"], |spec| {
        spec["process"]["env"] = json!(["PATH=/bin", "B=2", "A=1", "B=3"]);
    });
    assert_eq!(world.run(&container).unwrap().1, "PATH=/bin\nB=3\nA=1\nHOME=/home\n");
}

fn groups(world: &mut World) {
    let command = ["grep", "Groups", "/proc/self/status"];
    let container = world.container(&command, |_| {});
    assert_eq!(world.run(&container).unwrap().1.trim(), "Groups:");
    let container = world.container(&command, |spec| {
        spec["process"]["user"]["additionalGids"] = json!([7, 8]);
    });
    assert_eq!(world.run(&container).unwrap().1.trim(), "Groups:\t7 8");
}

fn descriptors(world: &mut World) {
    let held = fs::File::open("/").unwrap();
    let command = ["sh", "-c", "ls /proc/$$/fd; readlink /proc/$$/cwd"];
    let mut container = world.container(&command, |_| {});
    let (_, output) = world.run(&container).unwrap();
    assert!(output.starts_with("0\n1\n2\n") && output.ends_with("\n/\n"), "{output}");
    assert_eq!(output.lines().count(), 4, "{output}");
    container = world.container(&["sleep", "100"], |_| {});
    let alive = world.start(&container);
    assert_eq!(world.exec(&mut container, &alive, &command).unwrap().1, output);
    world.stop(&container, alive);
    drop(held);
}

/// CVE-2024-21626: a working directory below /proc/self/fd led to whatever the runtime had left open.
fn working_directory(world: &mut World) {
    let mut sleeper = world.container(&["sleep", "100"], |_| {});
    let alive = world.start(&sleeper);
    for number in 3..24 {
        let cwd = format!("/proc/self/fd/{number}");
        let container =
            world.container(&["sh", "-c", "pwd; ls -a"], |spec| spec["process"]["cwd"] = json!(cwd));
        if let Ok((_, output)) = world.run(&container) {
            assert!(output.contains("\nbin\n") && !output.contains("lost+found"), "{cwd}: {output}");
        }
        let mut process = sleeper.spec.process().clone().unwrap();
        process.set_cwd(cwd.clone().into()).set_args(Some(vec!["true".to_owned()]));
        let exec = format!("cwd-{number}").parse().unwrap();
        if let Ok(running) = world.exec_process(&sleeper, &alive, &exec, &process, &NO_STDIO) {
            panic!("an exec ran in {cwd}: {running:?}");
        }
    }
    let missing =
        world.container(&["readlink", "/proc/self/cwd"], |spec| spec["process"]["cwd"] = json!("/no/such"));
    assert_eq!(world.run(&missing).unwrap().1, "/no/such\n");
    for (cwd, why) in [("/etc/passwd/x", "Not a directory"), ("/proc/no", "below a mount")] {
        let container = world.container(&["true"], |spec| spec["process"]["cwd"] = json!(cwd));
        let error = world.run(&container).unwrap_err();
        assert!(error.contains(cwd) && error.contains(why), "{cwd}: {error}");
    }
    assert_eq!(world.exec(&mut sleeper, &alive, &["readlink", "/proc/self/cwd"]).unwrap().1, "/\n");
    world.stop(&sleeper, alive);
}

fn clamped(world: &mut World) {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let container =
        world.container(&["sh", "-c", "ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj"], |spec| {
            spec["process"]["rlimits"] = json!([
                { "type": "RLIMIT_NOFILE", "hard": hard + 1, "soft": 100 },
                { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 },
            ]);
            spec["process"]["oomScoreAdj"] = json!(321);
        });
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim().to_owned();
    let may_raise = u64::from_str_radix(&effective, 16).unwrap() & 1 << 24 != 0;
    let files = if may_raise { hard + 1 } else { hard };
    assert_eq!(world.run(&container).unwrap().1, format!("{files}\n0\n321\n"));
    let container = world.container(&["cat", "/proc/self/oom_score_adj"], |spec| {
        spec["process"]["oomScoreAdj"] = json!(-999);
    });
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let expected = if may_raise { "-999\n" } else { own.as_str() };
    assert_eq!(world.run(&container).unwrap().1, expected);
}

fn rootfs(world: &mut World) {
    let container = world.container(&["sh", "-c", "grep ' / / ' /proc/self/mountinfo; touch /x"], |_| {});
    let (code, output) = world.run(&container).unwrap();
    let line = output.lines().next().unwrap();
    assert!(line.contains("overlay") && line.contains("ro,nosuid,nodev"), "{output}");
    assert_ne!(code, 0);
    let container = world.container(&["sleep", "100"], |_| {});
    let alive = world.start(&container);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*world.dir.path().to_string_lossy()), "{mounts}");
    world.stop(&container, alive);
}

fn shared_namespaces(world: &mut World) {
    let pause = world.container(&["sleep", "100"], |_| {});
    let pause_alive = world.start(&pause);
    let pid = pause_alive.pid;
    let second = world.container(
        &["sh", "-c", "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done"],
        |spec| {
            spec["linux"]["namespaces"] = json!([
                { "type": "pid" }, { "type": "mount" },
                { "type": "ipc", "path": format!("/proc/{pid}/ns/ipc") },
                { "type": "uts", "path": format!("/proc/{pid}/ns/uts") },
                { "type": "network", "path": format!("/proc/{pid}/ns/net") },
            ]);
        },
    );
    let (_, output) = world.run(&second).unwrap();
    let found: Vec<&str> = output.lines().collect();
    let of = |name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string();
    assert_eq!(found[..3], [of("net"), of("ipc"), of("uts")]);
    assert_ne!(found[3], of("pid"));
    world.stop(&pause, pause_alive);
}

/// CVE-2019-5736. The attack's two halves: have the runtime execute itself in the container, and open the
/// runtime's file for writing through a process of it.
fn self_exe(world: &mut World) {
    let container = world.container(&["/proc/self/exe"], |_| {});
    match world.run(&container) {
        Err(error) => assert!(error.contains("permission denied"), "{error}"),
        Ok(ran) => panic!("the runtime ran in the container: {ran:?}"),
    }
    // The file that matters can be written by its owner, who is not the container's user: the positive control.
    let path = fs::read_link("/proc/self/exe").unwrap();
    let open = fs::OpenOptions::new().write(true).open(&path);
    assert_eq!(open.unwrap_err().raw_os_error(), Some(libc::ETXTBSY), "the test would prove nothing");

    // A container that tries all the time, while execs come and go.
    let attack = r#"while true; do for p in /proc/[0-9]*; do
        m=$( ( : >> $p/exe ) 2>&1 )
        case "$m" in *denied*|*nonexistent*|*"No such"*) ;; *) echo "$p: $m" ;; esac
        done; done"#;
    let mut container = world.container(&["sh", "-c", attack], |_| {});
    let created = world.create(&container, &OUTPUTS).unwrap();
    let alive = support::Alive { pid: created.pid, pidfd: created.pidfd };
    created.gate.release().unwrap().wait(PATIENCE).unwrap();
    for _ in 0..20 {
        world.exec(&mut container, &alive, &["true"]).unwrap();
    }
    world.stop(&container, alive);
    assert_eq!(output_of(created.kept), "");
}

fn long_job(world: &mut World) {
    let mut container = world.container(&["true"], |_| {});
    // BPF_RET | BPF_K, SECCOMP_RET_ALLOW after 4095 times BPF_LD | BPF_W | BPF_ABS.
    let mut program = vec![0x0020_u64; 4095];
    program.push(0x7fff_0000_u64 << 32 | 0x06);
    container.confine.seccomp = vec![program.clone(), program.clone(), program];
    assert_eq!(world.run(&container).unwrap().0, 0);
}

/// Killed by whatever else the runtime itself could have used between the filter and the program.
fn narrow_profile(world: &mut World) {
    let mut container = world.container(&["true"], |_| {});
    let killed = [libc::SYS_sendmsg, libc::SYS_fcntl, libc::SYS_close, libc::SYS_openat, libc::SYS_dup];
    // BPF_LD | BPF_W | BPF_ABS of the number; BPF_JMP | BPF_JEQ to the last instruction; BPF_RET.
    let mut program = vec![0x20_u64];
    for (index, number) in killed.iter().enumerate() {
        let to_kill = (killed.len() - index) as u64;
        program.push(0x15 | to_kill << 16 | (*number as u64) << 32);
    }
    program.extend([support::ALLOW, 0x8000_0000 << 32 | 0x06]);
    container.confine.seccomp = vec![program];
    assert_eq!(world.run(&container).unwrap(), (0, String::new()));
    let mut container = world.container(&["cat", "/etc/passwd"], |_| {});
    let kill_all = vec![0x8000_0000 << 32 | 0x06];
    container.confine.seccomp = vec![kill_all];
    assert!(world.run(&container).is_err());
}

fn hooks(world: &mut World) {
    let seen = world.dir.path().join("hook-saw");
    let hook = |command: String| json!({ "path": "/bin/sh", "args": ["sh", "-c", command], "timeout": 10 });
    let container = world.container(&["true"], |spec| {
        spec["hooks"] = json!({ "createRuntime": [hook(format!("cat > {}", seen.display()))] });
    });
    assert_eq!(world.run(&container).unwrap().0, 0);
    let state: serde_json::Value = serde_json::from_str(&fs::read_to_string(&seen).unwrap()).unwrap();
    assert_eq!(state["id"], json!(container.id.as_str()));
    assert!(state["pid"].as_u64().unwrap() > 0);
    let container = world.container(&["true"], |spec| {
        spec["hooks"] = json!({ "createRuntime": [hook("cat >/dev/null; exit 3".to_owned())] });
    });
    let error = world.run(&container).unwrap_err();
    assert!(error.contains("hook"), "{error}");
}

fn many_layers(world: &mut World) {
    let mut container = world.container(&["cat", "/layer-0", "/layer-119"], |_| {});
    let mut lower = Vec::new();
    for index in 0..120 {
        let dir = container.layer.join(format!("snapshot-with-a-long-name-{index:060}")).join("fs");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("layer-{index}")), format!("{index}\n")).unwrap();
        lower.push(dir.display().to_string());
    }
    for option in &mut container.rootfs[0].options {
        if let Some(image) = option.strip_prefix("lowerdir=") {
            *option = format!("lowerdir={}:{image}", lower.join(":"));
        }
    }
    assert!(container.rootfs[0].options.iter().map(String::len).sum::<usize>() > 4096);
    assert_eq!(world.run(&container).unwrap().1, "0\n119\n");
}
