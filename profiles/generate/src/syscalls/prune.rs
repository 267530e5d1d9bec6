//! Leaves out of a [`Summary`] what linking would look at and find nothing in.
//!
//! Invariant: what is linked with a pruned summary is what would be linked with the whole. Left out are calls of functions of
//! the same file that lead neither to the kernel, nor to another file, nor to an address that is taken, nor to data, nor have a
//! name that is asked for; arguments that no such way looks at; and calls that an unconditional one with any arguments includes,
//! which one that hands something to another file does not: of `syscall` and of dlsym(3), among others, any is not all.

use std::collections::BTreeSet;

use super::{
    models,
    summary::{Call, Function, Guard, Place, Summary, Target, Value},
};

/// The second argument of a call, in the C convention: of dlsym(3), the name.
const RSI: Place = 6;

pub(super) fn prune(summary: &mut Summary) {
    let asked_for = asked_for(summary);
    let leads = leads(summary, &asked_for);
    for function in &mut summary.functions {
        function.calls.retain(|call| leads_to(&leads, call.to));
    }
    let relevant = relevant(summary, &asked_for);
    let handed_out = handed_out(summary, &asked_for);
    for function in &mut summary.functions {
        for call in &mut function.calls {
            if let Target::Own(to) = call.to {
                let places = relevant.get(to as usize).copied().unwrap_or(u32::MAX);
                call.args.retain(|(place, _)| places & bit(*place) != 0);
            }
        }
        tidy(function, &handed_out);
    }
}

fn bit(place: Place) -> u32 {
    1 << place
}

fn asked_for(summary: &Summary) -> Vec<u32> {
    models::asked_for().flat_map(|name| summary.exported(name)).collect()
}

fn leads_to(leads: &[bool], target: Target) -> bool {
    match target {
        Target::Import(_) => true,
        Target::Own(to) => leads.get(to as usize).copied().unwrap_or(true),
    }
}

/// By function: whether anything is to be found there or further on.
fn leads(summary: &Summary, asked_for: &[u32]) -> Vec<bool> {
    let mut callers: Vec<Vec<u32>> = vec![Vec::new(); summary.functions.len()];
    let mut queue = asked_for.to_vec();
    for (number, function) in (0u32..).zip(&summary.functions) {
        let imports = function.calls.iter().any(|call| matches!(call.to, Target::Import(_)));
        let makes = !function.sites.is_empty() || !function.taken.is_empty() || !function.data.is_empty();
        if imports || makes {
            queue.push(number);
        }
        for call in &function.calls {
            if let Target::Own(to) = call.to
                && let Some(callers) = callers.get_mut(to as usize)
            {
                callers.push(number);
            }
        }
    }
    let mut leads = vec![false; summary.functions.len()];
    while let Some(number) = queue.pop() {
        if let Some(lead) = leads.get_mut(number as usize)
            && !std::mem::replace(lead, true)
        {
            queue.append(&mut callers[number as usize]);
        }
    }
    leads
}

/// By function: the places that decide something there or further on. What another file does with them is not known here.
fn relevant(summary: &Summary, asked_for: &[u32]) -> Vec<u32> {
    let relevant =
        summary.functions.iter().map(|function| looked_at(function) | to_imports(function)).collect();
    passed_on(summary, relevant, asked_for)
}

/// By function: the places that are handed to another file, there or further on, or are a name that is looked up.
fn handed_out(summary: &Summary, asked_for: &[u32]) -> Vec<u32> {
    passed_on(summary, summary.functions.iter().map(to_imports).collect(), asked_for)
}

/// The same, and of those who hand a place of their own on in such a place, that one.
fn passed_on(summary: &Summary, mut relevant: Vec<u32>, asked_for: &[u32]) -> Vec<u32> {
    for function in asked_for {
        if let Some(places) = relevant.get_mut(*function as usize) {
            *places |= bit(RSI);
        }
    }
    // By callee: who hands which of its places on in which place.
    let mut passes: Vec<Vec<(u32, Place, Place)>> = vec![Vec::new(); summary.functions.len()];
    for (number, function) in (0u32..).zip(&summary.functions) {
        for call in &function.calls {
            let Target::Own(to) = call.to else { continue };
            let Some(passes) = passes.get_mut(to as usize) else { continue };
            passes.extend(call.args.iter().filter_map(|(to, value)| Some((number, entry(value)?, *to))));
        }
    }
    let mut queue: Vec<u32> =
        (0u32..).zip(&relevant).filter(|(_, places)| **places != 0).map(|(at, _)| at).collect();
    while let Some(number) = queue.pop() {
        for (caller, from, to) in &passes[number as usize] {
            if relevant[number as usize] & bit(*to) != 0 && relevant[*caller as usize] & bit(*from) == 0 {
                relevant[*caller as usize] |= bit(*from);
                queue.push(*caller);
            }
        }
    }
    relevant
}

/// The places that a function looks at itself.
fn looked_at(function: &Function) -> u32 {
    let Function { calls, taken, sites, data: _, address: _, name: _ } = function;
    let whens = calls.iter().map(|call| &call.when).chain(taken.iter().map(|(_, when)| when));
    let whens = whens.chain(sites.iter().map(|site| &site.when));
    let guards = whens.flatten().map(|guard: &Guard| guard.place);
    let of_sites = sites.iter().flat_map(|site| {
        std::iter::once(&site.number).chain(site.args.iter().map(|(_, value)| value)).filter_map(entry)
    });
    guards.chain(of_sites).fold(0, |places, place| places | bit(place))
}

/// The places that a function hands to another file itself.
fn to_imports(function: &Function) -> u32 {
    let imported = function.calls.iter().filter(|call| matches!(call.to, Target::Import(_)));
    let places = imported.flat_map(|call| call.args.iter().filter_map(|(_, value)| entry(value)));
    places.fold(0, |places, place| places | bit(place))
}

fn entry(value: &Value) -> Option<Place> {
    match value {
        Value::Entry { place, .. } => Some(*place),
        Value::One(_) | Value::OneOf(_) | Value::SetId | Value::Any => None,
    }
}

/// Each call once, and none besides one that says it all.
fn tidy(function: &mut Function, handed_out: &[u32]) {
    function.calls.sort_unstable();
    function.calls.dedup();
    let all: BTreeSet<Target> = function
        .calls
        .iter()
        .filter(|call| call.args.is_empty() && call.when.is_empty())
        .map(|call| call.to)
        .collect();
    let says_more = |call: &Call| match call.to {
        Target::Import(_) => !call.args.is_empty(),
        Target::Own(to) => {
            let places = handed_out.get(to as usize).copied().unwrap_or(u32::MAX);
            call.args.iter().any(|(place, _)| places & bit(*place) != 0)
        }
    };
    function.calls.retain(|call| {
        call.args.is_empty() && call.when.is_empty() || !all.contains(&call.to) || says_more(call)
    });
    function.calls.shrink_to_fit();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{super::summary::Site, *};

    fn call(to: Target, args: Vec<(Place, Value)>) -> Call {
        Call { to, args, when: Vec::new() }
    }

    fn entering(number: Value) -> Function {
        Function {
            sites: vec![Site { at: 1, number, args: Vec::new(), when: Vec::new() }],
            ..Function::default()
        }
    }

    /// Function 0 calls each of the others with two constants.
    fn pruned(others: Vec<Function>) -> Vec<Call> {
        let numbers = 1..=u32::try_from(others.len()).unwrap();
        let args = vec![(7, Value::One(1)), (6, Value::One(2))];
        let calls = numbers.map(|to| call(Target::Own(to), args.clone())).collect();
        let mut functions = vec![Function { calls, ..Function::default() }];
        functions.extend(others);
        let mut summary = Summary { functions, ..Summary::default() };
        prune(&mut summary);
        summary.functions.swap_remove(0).calls
    }

    #[test]
    fn a_call_of_what_computes_is_left_out_and_one_of_what_enters_the_kernel_or_refers_to_data_stays() {
        let refers = Function { data: vec![0], ..Function::default() };
        let calls = pruned(vec![Function::default(), entering(Value::One(39)), refers]);
        assert_eq!(calls, [call(Target::Own(2), Vec::new()), call(Target::Own(3), Vec::new())]);
    }

    #[test]
    fn an_argument_stays_where_it_may_be_a_number_there_or_in_another_file() {
        let number = entering(Value::Entry { place: 7, low: true, plus: 0 });
        let handed_on = (6, Value::Entry { place: 6, low: false, plus: 0 });
        let other_file = call(Target::Import(0), vec![handed_on]);
        let calls = pruned(vec![number, Function { calls: vec![other_file], ..Function::default() }]);
        assert_eq!(calls[0].args, [(7, Value::One(1))]);
        assert_eq!(calls[1].args, [(6, Value::One(2))]);
    }

    fn kept(calls: Vec<Call>, others: Vec<Function>) -> Vec<Call> {
        let mut functions = vec![Function { calls, ..Function::default() }];
        functions.extend(others);
        let mut summary = Summary { functions, ..Summary::default() };
        prune(&mut summary);
        summary.functions.swap_remove(0).calls
    }

    #[test]
    fn a_call_with_any_arguments_includes_one_with_some_but_not_one_of_another_function() {
        let number = || entering(Value::Entry { place: 7, low: true, plus: 0 });
        let some = |to| call(Target::Own(to), vec![(7, Value::One(1))]);
        let any = || call(Target::Own(1), Vec::new());
        let calls = kept(vec![some(1), some(2), any()], vec![number(), number()]);
        assert_eq!(calls, [any(), some(2)]);
    }

    #[test]
    fn a_call_with_any_arguments_does_not_include_one_that_hands_a_constant_to_another_file() {
        let some = |to| call(to, vec![(7, Value::One(1))]);
        let handed_on = call(Target::Import(0), vec![(7, Value::Entry { place: 7, low: false, plus: 0 })]);
        let wrapper = Function { calls: vec![handed_on], ..Function::default() };
        for to in [Target::Import(0), Target::Own(1)] {
            let calls = kept(vec![some(to), call(to, Vec::new())], vec![wrapper.clone()]);
            assert_eq!(calls, [call(to, Vec::new()), some(to)]);
        }
    }
}
