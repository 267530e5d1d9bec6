//! What is generated from the command line's own definition, and the policy reference.

use clap::CommandFactory as _;
use serde_json::json;

use crate::{
    answer::{Answer, Trouble},
    args::Args,
};

pub(crate) fn reference() -> Result<Answer, Trouble> {
    let page = bulkhead_policy::explain();
    Ok(Answer::yes(page.trim_end(), json!({ "markdown": page })))
}

pub(crate) fn completion(shell: clap_complete::Shell) -> Result<Answer, Trouble> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "bulkhead", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    Ok(Answer::yes(script.trim_end(), json!({ "shell": shell.to_string(), "script": script })))
}

/// One page: the command, then each of its subcommands.
pub(crate) fn man() -> Result<Answer, Trouble> {
    let failed = |error| Trouble::Kernel("write the manual page", error);
    let mut command = Args::command();
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(failed)?;
    for sub in leaves(&command) {
        let man = clap_mangen::Man::new(sub.clone());
        page.extend(format!(".SH \"{}\"\n", sub.get_display_name().unwrap_or(sub.get_name())).bytes());
        man.render_synopsis_section(&mut page).map_err(failed)?;
        man.render_description_section(&mut page).map_err(failed)?;
        man.render_options_section(&mut page).map_err(failed)?;
    }
    let page = String::from_utf8_lossy(&page).into_owned();
    Ok(Answer::yes(page.trim_end(), json!({ "roff": page })))
}

fn leaves(command: &clap::Command) -> Vec<&clap::Command> {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
    shown.flat_map(|sub| if sub.has_subcommands() { leaves(sub) } else { vec![sub] }).collect()
}
