//! bulkhead: the questions that the shim asks, asked by people; and the judge.
//!
//! Exit status: 0 yes, 1 refused, 2 usage, 3 failed.
//!
//! Invariant: nothing here decides. Each command puts a question to the crate that the shim puts it to.
//! Never here: anything on the way of a launch, but `bulkhead judge`, which is `bulkhead_trust` as a process.

#![forbid(unsafe_code)]

mod answer;
mod args;
mod check;
mod doctor;
mod explain;
mod fetcher;
mod from_manifest;
mod generate;
mod generator;
mod image_verifier;
mod init;
mod policy_test;
mod profile;
mod settings;
mod sweep;
mod trust;
mod verify;
mod watch;

use std::process::ExitCode;

use bulkhead_model::Layout;
use clap::Parser as _;

use crate::{
    answer::{Answer, Trouble},
    args::{Args, Command, PolicyCommand, TrustCommand},
};

fn main() -> ExitCode {
    // The judge is started by the shim with this one argument; it locks itself down before anything else.
    if std::env::args_os().skip(1).eq(["judge"]) {
        return bulkhead_trust::judge_main(&[]);
    }
    if std::env::args_os().skip(1).take(2).eq(["judge", "in"]) {
        let groups: Vec<_> = std::env::args_os().skip(3).map(std::path::PathBuf::from).collect();
        return bulkhead_trust::judge_main(&groups);
    }
    if std::env::args_os().skip(1).eq(["judge", "layers"]) {
        return bulkhead_trust::layers_main();
    }
    // Started by a worker of the shim's, and by itself.
    if std::env::args_os().skip(1).eq(["judge", "profile"]) {
        return generator::keeper_main();
    }
    if std::env::args_os().skip(1).eq(["judge", "profile", "child"]) {
        return generator::child_main();
    }
    // Started by a person's `profile generate oci:…`.
    if std::env::args_os().skip(1).eq(["judge", "unpack"]) {
        return bulkhead_trust::unpack_main();
    }
    if std::env::args_os().skip(1).eq(["judge", "fetch"]) {
        return fetcher::fetcher_main();
    }
    if let [Some("judge"), Some("contents"), Some(layers), Some(blobs)] = std::env::args_os()
        .skip(1)
        .collect::<Vec<_>>()
        .iter()
        .map(|argument| argument.to_str())
        .collect::<Vec<_>>()
        .as_slice()
    {
        return bulkhead_trust::contents_main(layers, blobs);
    }
    if let Some(arguments) = image_verifier::arguments() {
        let layout = bulkhead_node::layout_from_environment();
        return answer::print(image_verifier::judge(&layout, &arguments), false);
    }
    let Args { root, json, command } = Args::parse();
    let layout = root.map_or_else(bulkhead_node::layout_from_environment, Layout::below);
    answer::print(run(&layout, command, json), json)
}

fn run(layout: &Layout, command: Command, as_json: bool) -> Result<Answer, Trouble> {
    match command {
        Command::Init(daemon) => init::init(layout, &daemon),
        Command::Doctor(daemon) => doctor::doctor(layout, &daemon),
        Command::Policy(PolicyCommand::Check { file, tenant }) => match file {
            None => check::node(layout),
            Some(file) => check::files(&file, tenant.as_deref()),
        },
        Command::Policy(PolicyCommand::Test { file, policy }) => {
            policy_test::test(layout, &file, policy.as_deref())
        }
        Command::Policy(PolicyCommand::FromManifest { file }) => from_manifest::from_manifest(&file),
        Command::Policy(PolicyCommand::Explain) => generate::reference(),
        Command::Verify { image, name, namespace, tenant, daemon } => {
            verify::verify(layout, &image, name.as_deref(), &namespace, tenant.as_ref(), &daemon)
        }
        Command::Trust(command) => match command {
            TrustCommand::Import { paths } => trust::import(layout, &paths),
            TrustCommand::Fetch { image, registry, config } => {
                trust::fetch(layout, &image, &registry, &config)
            }
            TrustCommand::List { digest } => trust::list(layout, digest.as_ref()),
            TrustCommand::Remove { digest, file } => trust::remove(layout, &digest, file.as_ref()),
            TrustCommand::Sweep { days, daemon } => sweep::sweep(layout, days, &daemon),
        },
        Command::Watch(options) => watch::watch(layout, &options, as_json),
        Command::Explain { container, namespace, output, daemon } => {
            let (container, output) = (&container, output.as_deref());
            let question = explain::Question { namespace: &namespace, container, output, daemon: &daemon };
            explain::explain(layout, &question)
        }
        Command::Profile(command) => profile::profile(layout, command),
        Command::Completion { shell } => generate::completion(shell),
        Command::Man => generate::man(),
        Command::Judge => Ok(Answer::usage("bulkhead judge takes no options: it is started by the shim")),
    }
}
