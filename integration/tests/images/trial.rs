//! One image under one runtime in one setting: asked, told to read again, ended.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use bulkhead_integration::{Bench, ContainerOptions, Cri, Pods, Refused, Release, UID, namespaces, until};
use k8s_cri::v1::{Int64Value, KeyValue, LinuxContainerSecurityContext};

use crate::described::{Client, Described};

const IMAGE: &str = "registry.test/images/it:1";

const CLIENT: &str = "registry.test/images/client:1";

/// What the client's script begins with.
const FUNCTIONS: &str = r#"
http() { exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3 && timeout 20 cat <&3; }
say() { exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "$2" >&3 && timeout 20 cat <&3; }
"#;

/// How a pod has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// No security context, no volume: as the image says.
    AsItSays,
    /// As Pod Security "restricted" has it, with a read-only root and the volumes of its users.
    Restricted,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    /// It did what it is for, read its configuration again where it can, and ended when asked. 137: it had to be killed.
    Served { reloaded: bool, exit: i32 },
    /// Bulkhead refused it by this rule.
    Refused { rule: String, line: String },
    /// It did not: what it said last.
    Failed(String),
}

impl Ran {
    pub(crate) fn served(&self) -> bool {
        matches!(self, Self::Served { .. })
    }

    /// For the table.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Served { reloaded, exit } => {
                let reloaded = if *reloaded { ", reloads" } else { "" };
                let end = if *exit == 137 { "is killed".to_owned() } else { format!("ends with {exit}") };
                format!("serves{reloaded}, {end}")
            }
            Self::Refused { rule, .. } => format!("refused: {rule}"),
            Self::Failed(_) => "fails".to_owned(),
        }
    }
}

/// A containerd with one image, and an image that asks it.
pub(crate) struct Node {
    pub(crate) bench: Bench,
    pods: Pods,
    described: Described,
    digests: Vec<String>,
    runs: std::cell::Cell<u32>,
}

impl Node {
    pub(crate) fn start(name: &str, described: &Described) -> Self {
        let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
        let image = described.image(name, IMAGE);
        let import = |image| bench.daemon.import_in("k8s.io", image).unwrap().manifest;
        let digests = vec![import(&Described::client(CLIENT)), import(&image)];
        let pods = bench.daemon.pods().unwrap();
        Self { bench, pods, described: described.clone(), digests, runs: std::cell::Cell::new(0) }
    }

    /// The node's policy: each image by its digest, and these lines for the one.
    fn allow(&self, lines: &[String]) {
        let (client, it, pause) = (&self.digests[0], &self.digests[1], &self.bench.pause);
        let (confine, section) = match lines {
            [] => ("", String::new()),
            _ => (", confine = \"it\"", format!("[confine.it]\n{}\n", lines.join("\n"))),
        };
        self.bench
            .daemon
            .policy(&format!(
                "version = 1\n[image]\n\"registry.test/images/it\" = {{ digests = [{it:?}]{confine} }}\n\
                 \"registry.test/images/client\" = {{ digests = [{client:?}] }}\n\
                 \"registry.test/pause\" = {{ digests = [{pause:?}] }}\n{section}"
            ))
            .unwrap();
    }

    /// Runs it once, with these lines beyond its digest.
    pub(crate) fn run(&self, handler: &str, setting: Setting, lines: &[String]) -> Ran {
        self.allow(lines);
        self.runs.set(self.runs.get() + 1);
        let pod = self.pods.run(handler, "team-a", &format!("p{}", self.runs.get())).unwrap();
        let ran = self.in_pod(&pod, setting);
        self.pods.remove_pod(&pod).unwrap();
        eprintln!("{handler} {setting:?} {lines:?}: {ran:?}");
        ran
    }

    fn in_pod(&self, pod: &bulkhead_integration::Pod, setting: Setting) -> Ran {
        let pods = &self.pods;
        let mut options = ContainerOptions::restricted("it", IMAGE, &[]);
        match setting {
            Setting::AsItSays => {
                options.security = LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces()),
                    ..LinuxContainerSecurityContext::default()
                };
            }
            Setting::Restricted => self.restricted(pod, &mut options),
        }
        let id = pods
            .create_with(pod, &options, |config| {
                if setting == Setting::Restricted {
                    let variables = self.described.pod.env.iter().map(|entry| entry.split_once('=').unwrap());
                    config.envs = variables
                        .map(|(key, value)| KeyValue { key: key.to_owned(), value: value.to_owned() })
                        .collect();
                }
            })
            .unwrap();
        if let Err(error) = pods.start(&id) {
            let text = error.to_string();
            return match Refused::read(&text) {
                Ok(refused) => {
                    Ran::Refused { rule: refused.rule().to_owned(), line: refused.line().to_owned() }
                }
                Err(_) => Ran::Failed(text),
            };
        }
        let it = Running { node: self, pod, id, asked: std::cell::Cell::new(0) };
        it.to_its_end().unwrap_or_else(|| Ran::Failed(it.last_lines()))
    }

    fn restricted(&self, pod: &bulkhead_integration::Pod, options: &mut ContainerOptions) {
        let user = Some(Int64Value { value: self.described.pod.user });
        options.security.run_as_user = user;
        options.security.run_as_group = user;
        options.security.readonly_rootfs = true;
        for (number, path) in self.described.pod.volumes.iter().enumerate() {
            let below = format!("volumes/kubernetes.io~empty-dir/v{number}");
            let (here, there) = self.bench.daemon.kubelet_dir(pod, &below).unwrap();
            // As the kubelet makes them.
            fs::set_permissions(here, fs::Permissions::from_mode(0o777)).unwrap();
            options.mounts.push((there, path.clone(), false));
        }
    }
}

/// A container of it.
struct Running<'a> {
    node: &'a Node,
    pod: &'a bulkhead_integration::Pod,
    id: String,
    asked: std::cell::Cell<u32>,
}

impl Running<'_> {
    fn to_its_end(&self) -> Option<Ran> {
        let Node { described, pods, bench, .. } = self.node;
        let check = &described.check;
        if described.job {
            self.until(|| Ok(self.ended()?.is_some()))?;
            let exit = self.ended().unwrap()?;
            self.until(|| Ok(self.said(0).contains(check.said.as_deref().unwrap())))?;
            return (exit == 0).then_some(Ran::Served { reloaded: false, exit });
        }
        self.is_ready()?;
        if let Some(signal) = &check.reload {
            let before = self.said(0).len();
            bench
                .daemon
                .ctr_in("k8s.io", &["task", "kill", "-s", signal, &self.id])
                .unwrap()
                .success()
                .unwrap();
            if let Some(texts) = &check.reloaded {
                self.until(|| Ok(texts.split('|').any(|text| self.said(before).contains(text))))?;
            }
            if check.ask.is_some() {
                self.is_ready()?;
            }
        }
        if self.ended().unwrap().is_some() {
            return None;
        }
        pods.stop(&self.id, check.grace).unwrap();
        let exit = self.ended().unwrap()?;
        Some(Ran::Served { reloaded: check.reload.is_some(), exit })
    }

    fn is_ready(&self) -> Option<()> {
        let check = &self.node.described.check;
        if let Some(said) = &check.said {
            return self.until(|| Ok(self.said(0).contains(said)));
        }
        let (ask, answer) = (check.ask.as_deref().unwrap(), &check.answer);
        let script = format!(
            "{FUNCTIONS}\nfor i in $(seq 400); do said=$( ({ask}) 2>&1 ); case $said in *{answer:?}*) exit 0;; esac; \
             sleep 0.3; done; printf '%s\\n' \"$said\"; exit 1"
        );
        let image = match check.client {
            Client::Base => CLIENT,
            Client::Itself => IMAGE,
        };
        self.asked.set(self.asked.get() + 1);
        let name = format!("asks{}", self.asked.get());
        let mut client = ContainerOptions::restricted(&name, image, &["/bin/bash", "-c", &script]);
        if check.client == Client::Itself {
            let user = Some(Int64Value { value: UID.into() });
            (client.security.run_as_user, client.security.run_as_group) = (user, user);
        }
        let client = self.node.pods.launch(self.pod, &client).unwrap();
        let mut code = None;
        self.until(|| {
            code = self.node.pods.exit_code(&client)?;
            Ok(code.is_some())
        })?;
        (code == Some(0)).then_some(())
    }

    /// Waits for it; none where the container ends before, or it does not come.
    fn until(&self, mut ready: impl FnMut() -> bulkhead_integration::Result<bool>) -> Option<()> {
        let mut came = false;
        let within = Duration::from_secs(self.node.described.check.within);
        let waited = until("an everyday image", within, || {
            // First: what it waits for may be what it said last.
            let ended = self.ended()?.is_some();
            came = ready()?;
            Ok(came || ended && !self.node.described.job)
        });
        (waited.is_ok() && came).then_some(())
    }

    fn ended(&self) -> bulkhead_integration::Result<Option<i32>> {
        self.node.pods.exit_code(&self.id)
    }

    /// Its output from there on.
    fn said(&self, from: usize) -> String {
        let log = self.node.pods.log(self.pod, "it");
        let log = fs::read(log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        text.get(from..).unwrap_or_default().to_owned()
    }

    fn last_lines(&self) -> String {
        let said = self.said(0);
        let lines: Vec<&str> = said.lines().collect();
        let ended = self.ended().unwrap();
        format!("exit {ended:?}: {}", lines[lines.len().saturating_sub(12)..].join("\n"))
    }
}
