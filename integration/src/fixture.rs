//! What most tests begin with: a daemon, an image that policy allows, and the policy.

use std::{io::Write as _, process::Stdio, thread, time::Duration};

use crate::{
    Answers, BULKHEAD, Containerd, Cri, Digests, Entry, HarnessError, Image, Layer, Output, PAUSE, Release,
    Result, Surroundings, UID, run,
};

/// The name of the image that policy allows.
pub const ALLOWED: &str = "registry.test/team-a/busybox:1";

/// What `cat /etc/evil` prints in an image that policy does not allow.
pub const EVIL: &str = "content that nobody allowed\n";

/// A daemon with [`ALLOWED`], run as [`UID`], and a policy that admits it by digest.
#[derive(Debug)]
pub struct Bench {
    /// The daemon.
    pub daemon: Containerd,
    /// Of [`ALLOWED`].
    pub digests: Digests,
    /// Of [`PAUSE`]; that of [`ALLOWED`] where there is no CRI.
    pub pause: String,
}

impl Bench {
    /// Starts it; any command may be exec'd.
    pub fn start(release: Release, cri: Cri) -> Result<Self> {
        Self::start_in(release, cri, &Surroundings::default())
    }

    /// As [`Self::start`], in surroundings that are not the host's own.
    pub fn start_in(release: Release, cri: Cri, around: &Surroundings<'_>) -> Result<Self> {
        let daemon = Containerd::start_in(release, cri, around)?;
        let digests = daemon.import(&Image::busybox(ALLOWED, &UID.to_string())?)?;
        let mut pause = digests.manifest.clone();
        if cri == Cri::On {
            daemon.import_in("k8s.io", &Image::busybox(ALLOWED, &UID.to_string())?)?;
            // Written again only for its digest: the same bytes each time.
            let path = daemon.dir().join("pause.tar");
            pause = Image::pause(PAUSE)?.write(&path)?.manifest;
        }
        let bench = Self { daemon, digests, pause };
        bench.allow("exec = [\"*\"]")?;
        Ok(bench)
    }

    /// Writes the policy: [`ALLOWED`] by its digest, confined by the defaults and `lines`.
    pub fn allow(&self, lines: &str) -> Result<()> {
        self.allow_digests(&[&self.digests.manifest], lines)
    }

    /// As [`Self::allow`], with other digests.
    pub fn allow_digests(&self, digests: &[&str], lines: &str) -> Result<()> {
        self.daemon.policy(&format!(
            "version = 1\nmode = \"enforce\"\n[image]\n\"registry.test/team-a/*\" = {{ digests = {digests:?}, \
             confine = \"test\" }}\n\"registry.test/pause\" = {{ digests = [{:?}] }}\n[confine.test]\n{lines}\n",
            self.pause
        ))
    }

    /// As [`Self::allow`], and the pods' own container by the same lines: for pods that have what is the node's.
    pub fn allow_pods(&self, lines: &str) -> Result<()> {
        let (image, pause) = (&self.digests.manifest, &self.pause);
        self.daemon.policy(&format!(
            "version = 1\nmode = \"enforce\"\n[image]\n\"registry.test/team-a/*\" = {{ digests = [{image:?}], confine = \
             \"test\" }}\n\"registry.test/pause\" = {{ digests = [{pause:?}], confine = \"test\" }}\n[confine.test]\n{lines}\n"
        ))
    }

    /// `ctr run --rm` of [`ALLOWED`] under Bulkhead.
    pub fn run(&self, name: &str, command: &[&str]) -> Result<Output> {
        self.run_with(name, &[], command)
    }

    /// As [`Self::run`], with more options of `ctr run`.
    pub fn run_with(&self, name: &str, options: &[&str], command: &[&str]) -> Result<Output> {
        self.run_under(BULKHEAD, name, options, command)
    }

    /// As [`Self::run_with`], under a runtime.
    pub fn run_under(&self, runtime: &str, name: &str, options: &[&str], command: &[&str]) -> Result<Output> {
        let id = self.daemon.id(name);
        let mut args = vec!["run", "--rm", "--runtime", runtime];
        args.extend(options);
        args.extend([ALLOWED, &id]);
        args.extend(command);
        self.daemon.ctr(&args)
    }

    /// Creates a container of an image, without a task; its id.
    pub fn create_container(
        &self,
        runtime: &str,
        image: &str,
        name: &str,
        command: &[&str],
    ) -> Result<String> {
        let id = self.daemon.id(name);
        let mut args = vec!["container", "create", "--runtime", runtime, image, &id];
        args.extend(command);
        self.daemon.ctr(&args)?.success()?;
        Ok(id)
    }

    /// Starts the task of a container and waits for its end.
    pub fn start_container(&self, id: &str) -> Result<Output> {
        self.daemon.ctr(&["task", "start", id])
    }

    /// What the task of a container prints, and once more whenever it is asked: the task goes with its end.
    pub fn says_again(&self, id: &str) -> Result<String> {
        let said = self.start_container(id)?.success()?.stdout;
        // `ctr` has deleted it, or has left that to others.
        self.daemon.ctr(&["task", "delete", id])?;
        Ok(said)
    }

    /// Imports another image under the name [`ALLOWED`]: [`EVIL`] tells that it ran.
    pub fn import_evil(&self, name: &str) -> Result<Digests> {
        let evil = Layer::of(&[Entry::Dir("etc", 0o755), Entry::File("etc/evil", 0o644, EVIL.as_bytes())])?;
        self.daemon.import(&Image::busybox(name, &UID.to_string())?.with(evil))
    }

    /// Starts [`ALLOWED`] in the background; its id.
    pub fn start_task(&self, name: &str, command: &[&str]) -> Result<String> {
        self.start_task_under(BULKHEAD, name, command)
    }

    /// As [`Self::start_task`], under a runtime.
    pub fn start_task_under(&self, runtime: &str, name: &str, command: &[&str]) -> Result<String> {
        let id = self.daemon.id(name);
        let mut args = vec!["run", "-d", "--runtime", runtime, ALLOWED, &id];
        args.extend(command);
        self.daemon.ctr(&args)?.success()?;
        Ok(id)
    }

    /// Runs a command in a task.
    pub fn exec(&self, id: &str, command: &[&str]) -> Result<Output> {
        let exec = format!("e{}", unique());
        let mut args = vec!["task", "exec", "--exec-id", &exec, id];
        args.extend(command);
        self.daemon.ctr(&args)
    }

    /// What the probe says as the first process of a container.
    pub fn probe(&self, runtime: &str, words: &[&str]) -> Result<Answers> {
        let mut command = vec!["/bin/probe"];
        command.extend(words);
        Answers::read(&self.says_under(runtime, &format!("p{}", unique()), &command)?)
    }

    /// What a command prints that prints something: as [`crate::runcs`] says, runc's shim may lose it.
    pub fn says_under(&self, runtime: &str, name: &str, command: &[&str]) -> Result<String> {
        run::heard(runtime, || Ok(self.run_under(runtime, name, &[], command)?.success()?.stdout))
    }

    /// What the probe says in a task of Bulkhead's that runs.
    pub fn probe_exec(&self, id: &str, words: &[&str]) -> Result<Answers> {
        self.probe_exec_under(BULKHEAD, id, words)
    }

    /// As [`Self::probe_exec`], in a task of a runtime.
    pub fn probe_exec_under(&self, runtime: &str, id: &str, words: &[&str]) -> Result<Answers> {
        let mut command = vec!["/bin/probe"];
        command.extend(words);
        Answers::read(&run::heard(runtime, || Ok(self.exec(id, &command)?.success()?.stdout))?)
    }

    /// Kills, deletes and removes a task with its container.
    pub fn remove(&self, id: &str) -> Result<()> {
        self.daemon.remove(id)
    }

    /// Fails when anything is left of any container.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        match self.daemon.leftovers_after(Duration::from_secs(60)) {
            Ok(left) => assert!(left.none(), "left behind: {left}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Runs a command of `ctr` for the container `id` that reads `input` and, once its task runs, the end: `ctr` itself loses
    /// an end that comes before its task is there, whatever the runtime.
    pub fn ctr_with_input(&self, id: &str, args: &[&str], input: &str) -> Result<Output> {
        let mut command = self.daemon.ctr_command(self.daemon.tag(), args);
        let failed = |source| HarnessError::Run { program: "ctr".to_owned(), source };
        let (read, mut write) = std::io::pipe().map_err(failed)?;
        write.write_all(input.as_bytes()).map_err(failed)?;
        thread::scope(|scope| {
            let output =
                scope.spawn(|| run::run_on(&mut command, Stdio::from(read), Duration::from_secs(60)));
            let tasks = self.daemon.tasks()?;
            let runs = || tasks.state(id, "").is_ok_and(|seen| seen.status == "RUNNING");
            let began = run::until("a task with input", Duration::from_secs(60), || {
                Ok(output.is_finished() || runs())
            });
            // Its end comes in any case: `ctr` must not wait for it.
            drop(write);
            let output = output.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            began.and(output)
        })
    }
}

/// A refusal as it reached the client, checked for its form.
#[derive(Clone, Debug)]
pub struct Refused(String);

impl Refused {
    /// The refusal in what a client printed or a status said.
    ///
    /// What, why, fix and page must be there, on one line of at most 700 bytes.
    pub fn read(text: &str) -> Result<Self> {
        let wrong = |what| HarnessError::Format { what, found: text.to_owned() };
        let start = text.find("bulkhead refused: ").ok_or_else(|| wrong("a refusal"))?;
        let line = text[start..].lines().next().unwrap_or("");
        let page = "; see: docs/refusals.md#";
        if !(line.contains("; why: ") && line.contains("; fix: ") && line.contains(page)) {
            return Err(wrong("a refusal with why, fix and see"));
        }
        if line.len() > 700 + ": unknown".len() {
            return Err(wrong("a refusal of at most 700 bytes"));
        }
        Ok(Self(line.to_owned()))
    }

    /// The refusal of a `ctr` that had to fail.
    pub fn of(output: Output) -> Result<Self> {
        if output.ok() {
            return Err(HarnessError::Format { what: "a refusal, but it ran", found: output.stdout });
        }
        Self::read(&output.stderr)
    }

    /// The section of docs/refusals.md that it names.
    #[must_use]
    pub fn rule(&self) -> &str {
        let rest = self.0.rsplit_once('#').map_or("", |(_, rest)| rest);
        rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap_or("")
    }

    /// The whole line.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.0
    }
}

/// A number that nothing else of this process has.
pub(crate) fn unique() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_refusal_is_read_with_its_rule_and_half_of_one_is_an_error() {
        let text =
            "ctr: bulkhead refused: image a; why: b; fix: c; see: docs/refusals.md#image-digest: unknown\n";
        let refused = Refused::read(text).unwrap();
        assert_eq!(refused.rule(), "image-digest");
        assert!(Refused::read("ctr: bulkhead refused: image a; why: b").is_err());
        assert!(Refused::read("ctr: permission denied").is_err());
        let long =
            format!("bulkhead refused: {}; why: b; fix: c; see: docs/refusals.md#spec", "x".repeat(700));
        assert!(Refused::read(&long).is_err());
    }
}
