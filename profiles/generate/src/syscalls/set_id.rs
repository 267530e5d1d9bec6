//! Whether a site that has the shape of a static glibc's change of ids is one: other programs hand calls to a thread of
//! theirs by the same kind of struct.

use super::{
    models,
    summary::{Function, Guard, Place, Site, Summary, Target, Test, Value},
};

/// SIGSETXID, which nobody but glibc can have a handler of. Source: glibc sysdeps/unix/sysv/linux/internal-signals.h.
const SIGSETXID: u64 = 33;
/// tgkill(2), of which that is the third argument.
const TGKILL: Value = Value::One(234);
/// rdi: the handler's signal.
const SIGNAL: Place = 7;

/// Makes of every site whose function is not proven to be glibc's one of which the number is not known: glibc's either
/// handles SIGSETXID, or sends it, or is called by those functions alone that make such a change themselves.
///
/// Source: glibc nptl/nptl_setxid.c, `__nptl_setxid_sighandler` and `__nptl_setxid`.
pub(super) fn prove(summary: &mut Summary) {
    let is_open = |site: &Site| site.number == Value::SetId && !handles_signal(site);
    // A library that names its functions is told by those.
    if !summary.exports.is_empty() || !summary.functions.iter().flat_map(|of| &of.sites).any(is_open) {
        return;
    }
    let other = |at: &usize| {
        let is_open = summary.functions[*at].sites.iter().any(is_open);
        is_open
            && !sends_signal(&summary.functions[*at])
            && !u32::try_from(*at).is_ok_and(|at| has_own_callers(summary, at))
    };
    let others: Vec<usize> = (0..summary.functions.len()).filter(other).collect();
    for at in others {
        for site in summary.functions[at].sites.iter_mut().filter(|site| is_open(site)) {
            site.number = Value::Any;
        }
    }
}

fn handles_signal(site: &Site) -> bool {
    let is =
        |guard: &Guard| guard.place == SIGNAL && guard.plus == 0 && guard.test == Test::In(vec![SIGSETXID]);
    site.when.iter().any(is)
}

fn sends_signal(function: &Function) -> bool {
    let sends = |site: &Site| site.number == TGKILL && site.args.contains(&(2, Value::One(SIGSETXID)));
    function.sites.iter().any(sends)
}

/// Whether it is called, by functions that change ids and by nobody else.
fn has_own_callers(summary: &Summary, function: u32) -> bool {
    let own = Target::Own(function);
    let calls = |by: &&Function| by.calls.iter().any(|call| call.to == own);
    let is_taken = summary.functions.iter().any(|by| by.taken.iter().any(|(to, _)| *to == own))
        || summary.roots.contains(&function)
        || summary.entry == Some(function)
        || summary.stretches.iter().any(|stretch| stretch.roots.contains(&function));
    let mut callers = summary.functions.iter().filter(calls).peekable();
    !is_taken && callers.peek().is_some() && callers.all(changes_ids)
}

fn changes_ids(function: &Function) -> bool {
    let numbers = models::set_id_numbers();
    let is_change = |site: &Site| matches!(site.number, Value::One(number) if u32::try_from(number).is_ok_and(|number| numbers.contains(&number)));
    function.sites.iter().any(is_change)
}
