//! System calls that a C library makes of its own accord only after somebody asked for it by another function: they wait
//! until one of those can run.

use super::{super::models, Context, Known, Made, Node, graph::Graph};

pub(super) struct Rare {
    rules: Vec<Rule>,
}

struct Rule {
    module: u32,
    number: u32,
    /// The functions of that name: others call them for themselves.
    wrappers: Vec<u32>,
    causes: Vec<Node>,
    happened: bool,
    waiting: Waiting,
}

/// Who would be called, with what, and by whom.
type WaitingCall = (Node, Context, Option<(Node, Known)>);

/// What waits for one of the causes.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) calls: Vec<WaitingCall>,
    pub(super) sites: Vec<(u32, Made)>,
}

impl Rare {
    pub(super) fn of(graph: &Graph<'_>) -> Self {
        let mut rules = Vec::new();
        for (module, summary) in (0u32..).zip(graph.modules).filter(|(_, summary)| summary.c_library) {
            for (call, causes) in models::RARE {
                let of = |name: &str| -> Vec<u32> { summary.exported(name).collect() };
                let known = causes.iter().map(|cause| of(cause)).collect::<Vec<_>>();
                let Some(number) = bulkhead_profiles::syscall_number(call) else { continue };
                // A library that has not all of them is not the one that the model is of.
                if known.iter().any(Vec::is_empty) || of(call).is_empty() {
                    continue;
                }
                let causes = known.into_iter().flatten().map(|function| Node { module, function });
                rules.push(Rule {
                    module,
                    number,
                    wrappers: of(call),
                    causes: causes.collect(),
                    happened: false,
                    waiting: Waiting::default(),
                });
            }
        }
        Self { rules }
    }

    /// Where a call of `target` by a function of `module` waits, if it does.
    pub(super) fn call(&mut self, module: u32, target: Node) -> Option<&mut Waiting> {
        let waits = |rule: &&mut Rule| {
            !rule.happened
                && rule.module == module
                && target.module == module
                && rule.wrappers.contains(&target.function)
        };
        self.rules.iter_mut().find(waits).map(|rule| &mut rule.waiting)
    }

    /// Where a system call of the function `node` waits, if it does.
    pub(super) fn site(&mut self, node: Node, number: u32) -> Option<&mut Waiting> {
        let waits = |rule: &&mut Rule| {
            !rule.happened
                && rule.module == node.module
                && rule.number == number
                && !rule.wrappers.contains(&node.function)
        };
        self.rules.iter_mut().find(waits).map(|rule| &mut rule.waiting)
    }

    /// What need not wait any longer, as `runs` says which functions can run.
    pub(super) fn released(&mut self, runs: impl Fn(Node) -> bool) -> Waiting {
        let mut released = Waiting::default();
        for rule in self.rules.iter_mut().filter(|rule| !rule.happened) {
            if rule.causes.iter().any(|cause| runs(*cause)) {
                rule.happened = true;
                released.calls.append(&mut rule.waiting.calls);
                released.sites.append(&mut rule.waiting.sites);
            }
        }
        released
    }
}
