//! One ELF file to its [`Summary`].

use std::collections::BTreeMap;

use super::{
    address::AddressSet,
    data::Pointer,
    function::{Callee, Found, Walk},
    models,
    names::{literals, names},
    object::Object,
    prune::prune,
    set_id,
    summary::{Function, Stretch, Summary, Target},
};
use crate::{Limits, closure::texts::texts, elf::Elf};

/// Looks at every function of the file.
pub(crate) fn summarise(elf: Elf<'_>, limits: &Limits) -> Summary {
    let unseen = elf.unseen_code();
    let object = Object::new(elf);
    let mut summary = Summary {
        imports: object.imports.clone(),
        go: object.go,
        soname: object.soname.clone(),
        gave_up: unseen.map(str::to_owned),
        c_library: object.is_c_library(),
        ..Summary::default()
    };
    let mut steps = object.swept;
    let mut numbers: BTreeMap<u64, u32> = BTreeMap::new();
    let mut queue: Vec<u64> = Vec::new();
    let mut found: BTreeMap<u64, Found> = BTreeMap::new();
    // Ranges of code that some function's walk came through.
    let mut covered = AddressSet::default();
    // Where the blocks begin that some walk came to.
    let mut blocks = AddressSet::default();

    queue.extend(object.roots.iter().copied());
    queue.extend(object.exports.iter().map(|(_, address)| *address));
    queue.extend(Some(object.elf.entry).filter(|entry| object.is_code(*entry)));
    let mut orphans = object.frames().to_vec().into_iter();
    let mut labels: Vec<u64> = object.labels().collect();
    loop {
        let Some(address) = queue.pop() else {
            // Code that nothing leads to by a way that was understood.
            let orphan = orphans.find(|frame| {
                !covered.contains(&frame.start)
                    && !object.is_plain(frame.start)
                    && !object.is_linkage_table(frame)
            });
            let orphan = orphan.map(|frame| frame.start);
            // An address that is kept, of code that no jump was seen to reach: it is called.
            let orphan =
                orphan.or_else(|| std::iter::from_fn(|| labels.pop()).find(|label| !blocks.contains(label)));
            let Some(orphan) = orphan else { break };
            summary.roots.push(number(&mut numbers, orphan));
            queue.push(orphan);
            continue;
        };
        if found.contains_key(&address) {
            continue;
        }
        let walked = Walk::function(&object, address);
        steps += walked.steps;
        if walked.gave_up || steps > limits.instructions_max {
            summary.gave_up = Some(format!("the code at {address:#x} takes too long to follow"));
            break;
        }
        covered
            .extend(walked.heads.iter().filter_map(|head| object.frame_of(*head)).map(|frame| frame.start));
        blocks.extend(&walked.heads);
        let callees = walked
            .calls
            .iter()
            .map(|(callee, _)| callee)
            .chain(walked.taken.iter().map(|(callee, _)| callee));
        for callee in callees {
            if let Callee::Address(to) = callee
                && object.is_code(*to)
                && !found.contains_key(to)
            {
                queue.push(*to);
            }
        }
        found.insert(address, walked);
    }
    for address in found.keys() {
        number(&mut numbers, *address);
    }
    summary.roots.extend(object.always.iter().map(|root| number(&mut numbers, *root)));
    summary.root_imports = object.always_imports.iter().copied().collect();
    summary.stretches = stretches(&object, &mut numbers);
    summary.started = object.stretches.started().collect();
    let exports = object.data_exports.iter();
    summary.data_exports = exports
        .map(|(name, address)| (name.clone(), object.reached(*address).into_iter().collect()))
        .collect();
    summary.exports =
        object.exports.iter().map(|(name, address)| (name.clone(), number(&mut numbers, *address))).collect();
    summary.bound = object.bound().into_iter().collect();
    summary.resolvers = object.resolvers.iter().map(|address| number(&mut numbers, *address)).collect();
    summary.names = names(&object);
    if object.is_code(object.elf.entry) {
        summary.entry = Some(number(&mut numbers, object.elf.entry));
    }
    let mut functions: Vec<(u64, Function)> = Vec::new();
    let known = numbers.clone();
    let target = |callee: Callee| match callee {
        Callee::Import(import) => Some(Target::Import(import)),
        Callee::Address(address) => known.get(&address).map(|number| Target::Own(*number)),
    };
    for (address, number) in &numbers {
        let mut function =
            Function { address: *address, name: object.names.get(address).cloned(), ..Function::default() };
        let (unused, user) = models::PER_THREAD;
        let is_unused = object.go
            && function.name.as_deref() == Some(unused)
            && !object.names.values().any(|name| name == user);
        if let Some(walked) = found.remove(address).filter(|_| !is_unused) {
            for (callee, mut call) in walked.calls {
                if let Some(to) = target(callee) {
                    call.to = to;
                    function.calls.push(call);
                }
            }
            let taken = walked.taken.into_iter();
            function.taken = taken.filter_map(|(callee, when)| Some((target(callee)?, when))).collect();
            function.sites = walked.sites;
            function.data = walked.data.into_iter().collect();
        }
        functions.push((u64::from(*number), function));
    }
    functions.sort_by_key(|(number, _)| *number);
    summary.functions = functions.into_iter().map(|(_, function)| function).collect();
    summary.instructions = steps;
    set_id::prove(&mut summary);
    prune(&mut summary);
    summary.literals = literals(&object, &summary.functions);
    summary.texts = texts(&object.elf);
    summary
}

/// What each stretch of data leads to.
fn stretches(object: &Object<'_>, numbers: &mut BTreeMap<u64, u32>) -> Vec<Stretch> {
    let mut found = Vec::new();
    for at in (0u8..).take(object.stretches.len()) {
        let mut stretch = Stretch::default();
        for pointer in object.stretches.pointers(at) {
            match pointer {
                Pointer::Own(address) if object.roots.contains(&address) => {
                    stretch.roots.push(number(numbers, address));
                }
                Pointer::Own(address) => stretch.stretches.extend(object.reached(address)),
                Pointer::Import(import) if object.root_imports.contains(&import) => {
                    stretch.imports.push(import);
                }
                Pointer::Import(_) => {}
            }
        }
        for list in [&mut stretch.roots, &mut stretch.imports] {
            list.sort_unstable();
            list.dedup();
        }
        stretch.stretches.sort_unstable();
        stretch.stretches.dedup();
        found.push(stretch);
    }
    found
}

fn number(numbers: &mut BTreeMap<u64, u32>, address: u64) -> u32 {
    let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    *numbers.entry(address).or_insert(next)
}
