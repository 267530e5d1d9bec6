//! A table to one BPF program: a binary search over the numbers, seccompiler's conditions at its leaves.
//!
//! ```text
//! arch? ─other─► kill process
//!   │ ours
//!   ▼
//! number < 200 ? ──► number < 100 ? ──► … ──► RET allow        numbers with one answer: one instruction
//!                                        └──► conditions ─► RET  (a leaf for one number)
//!                                                  └─► what would run: values of arguments ─► RET
//! ```
//! seccompiler's own layout compares number by number (1942 ticks for the last of 306, a tree 312: FACTS.md §4) and
//! has one match action per program; the tree takes any number of actions, so that one program does. That both say
//! the same is tested against seccompiler's own filters.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule, sock_filter,
};

use crate::{
    Action, Condition, ProfileError, SECCOMP_INSTRUCTIONS_MAX, Test, Width,
    rules::{Answer, OneOf, Table},
};

/// Load a word of `seccomp_data`. Source: include/uapi/linux/bpf_common.h, `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u16 = 0x20;
/// Jump by k. `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// Jump if equal to k. `BPF_JMP | BPF_JEQ | BPF_K`.
const IF_EQUAL: u16 = 0x15;
/// Jump if greater than or equal to k. `BPF_JMP | BPF_JGE | BPF_K`.
const IF_AT_LEAST: u16 = 0x35;
/// Keeps the bits of k. `BPF_ALU | BPF_AND | BPF_K`.
const KEEP: u16 = 0x54;
/// Answer k. `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// Asks the listener. Source: `SECCOMP_RET_USER_NOTIF`, include/uapi/linux/seccomp.h.
pub(crate) const USER_NOTIF: u32 = 0x7fc0_0000;
/// Offset of `nr` in `struct seccomp_data`. Source: include/uapi/linux/seccomp.h.
const NUMBER_AT: u32 = 0;
/// Offset of the first argument in `struct seccomp_data`; 8 bytes each, the lower half first on these machines.
const ARGS_AT: u32 = 16;
/// Offset of `arch` in `struct seccomp_data`.
const ARCH_AT: u32 = 4;

/// `AUDIT_ARCH_X86_64`. Source: include/uapi/linux/audit.h.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
/// `AUDIT_ARCH_AARCH64`. Source: include/uapi/linux/audit.h.
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

/// Numbers from `start` on, to the next segment, with one answer.
struct Segment {
    start: u32,
    code: Vec<sock_filter>,
}

pub(crate) fn program(table: &Table) -> Result<Vec<u64>, ProfileError> {
    let mut program = vec![
        op(LOAD, ARCH_AT),
        sock_filter { code: IF_EQUAL, jt: 1, jf: 0, k: ARCH },
        ret(Action::KillProcess),
        op(LOAD, NUMBER_AT),
    ];
    program.extend(tree(&segments(table)?));
    if program.len() > SECCOMP_INSTRUCTIONS_MAX {
        return Err(ProfileError::TooLong { instructions: program.len() });
    }
    Ok(program.iter().map(pack).collect())
}

fn segments(table: &Table) -> Result<Vec<Segment>, ProfileError> {
    let beyond = Answer::always(table.beyond);
    let mut segments: Vec<Segment> = Vec::new();
    let mut before: Option<&Answer> = None;
    for (start, answer) in (0..).zip(table.numbers.iter().chain([&beyond])) {
        if before != Some(answer) {
            segments.push(Segment { start, code: leaf(answer)? });
            before = Some(answer);
        }
    }
    Ok(segments)
}

fn tree(segments: &[Segment]) -> Vec<sock_filter> {
    let (low, high) = match segments {
        [] => return Vec::new(),
        [one] => return one.code.clone(),
        more => more.split_at(more.len() / 2),
    };
    let middle = high.first().map_or(0, |segment| segment.start);
    let (low, high) = (tree(low), tree(high));
    let mut code = Vec::with_capacity(low.len() + high.len() + 2);
    match u8::try_from(low.len()) {
        Ok(past) => code.push(sock_filter { code: IF_AT_LEAST, jt: past, jf: 0, k: middle }),
        Err(_) => {
            code.push(sock_filter { code: IF_AT_LEAST, jt: 0, jf: 1, k: middle });
            // A program is at most 4096 long, or it is refused at the end.
            code.push(op(JUMP, u32::try_from(low.len()).unwrap_or(u32::MAX)));
        }
    }
    code.extend(low);
    code.extend(high);
    code
}

fn leaf(answer: &Answer) -> Result<Vec<sock_filter>, ProfileError> {
    if answer.only.is_empty() {
        return rules(answer, ret);
    }
    let mut actions: Vec<Action> = answer.rules.iter().map(|rule| rule.then).collect();
    actions.push(answer.otherwise);
    actions.retain(|action| action.runs());
    actions.dedup();
    let code = rules(answer, |action| if action.runs() { UNSAID } else { ret(action) })?;
    // Of each action that runs a call, the values come before it. There is one, but for a request's SCMP_ACT_LOG.
    let mut tails: Vec<(Action, Vec<sock_filter>)> = Vec::new();
    for action in actions {
        if tails.iter().all(|(known, _)| *known != action) {
            let mut tail = Vec::new();
            for only in &answer.only {
                tail.extend(one_of(only));
            }
            tail.push(ret(action));
            tails.push((action, tail));
        }
    }
    Ok(joined(answer, code, &tails))
}

/// Stands for the way to what comes before an action that runs a call.
const UNSAID: sock_filter = sock_filter { code: JUMP, jt: 0, jf: 0, k: u32::MAX };

/// Each of the actions that run a call, in the order in which `rules` wrote them, as a jump to its tail.
fn joined(
    answer: &Answer,
    mut code: Vec<sock_filter>,
    tails: &[(Action, Vec<sock_filter>)],
) -> Vec<sock_filter> {
    let length = code.len();
    let written = answer.rules.iter().map(|rule| rule.then).chain([answer.otherwise]);
    let mut wanted = written.filter(|action| action.runs());
    for (at, instruction) in code.iter_mut().enumerate() {
        if *instruction != UNSAID {
            continue;
        }
        let action = wanted.next().unwrap_or(answer.otherwise);
        let before: usize =
            tails.iter().take_while(|(known, _)| *known != action).map(|(_, tail)| tail.len()).sum();
        // A program is at most 4096 long, or it is refused at the end.
        instruction.k = u32::try_from(length - at - 1 + before).unwrap_or(u32::MAX);
    }
    code.extend(tails.iter().flat_map(|(_, tail)| tail.iter().cloned()));
    code
}

/// Falls through if the argument is one of the values. There are at most [`VALUES_MAX`](crate::VALUES_MAX): a jump is short.
fn one_of(only: &OneOf) -> Vec<sock_filter> {
    let mut code = vec![op(LOAD, ARGS_AT + 8 * u32::from(only.arg))];
    if only.mask != u32::MAX {
        code.push(op(KEEP, only.mask));
    }
    for (at, value) in only.values.iter().enumerate() {
        let past = u8::try_from(only.values.len() - at).unwrap_or(u8::MAX);
        code.push(sock_filter { code: IF_EQUAL, jt: past, jf: 0, k: *value });
    }
    code.push(ret(only.else_then));
    code
}

fn rules(answer: &Answer, then: impl Fn(Action) -> sock_filter) -> Result<Vec<sock_filter>, ProfileError> {
    let mut code = Vec::new();
    for rule in &answer.rules {
        // What the rule's own list says about an empty one: it always holds, so it ends the leaf.
        if rule.when.is_empty() {
            code.push(then(rule.then));
            return Ok(code);
        }
        let conditions = rule.when.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
        // seccompiler: falls into the next instruction if all hold, jumps over it if not.
        code.extend(BpfProgram::from(SeccompRule::new(conditions).map_err(ProfileError::Compiler)?));
        code.push(then(rule.then));
    }
    code.push(then(answer.otherwise));
    Ok(code)
}

fn condition(condition: &Condition) -> Result<SeccompCondition, ProfileError> {
    let width = match condition.width {
        Width::Bits32 => SeccompCmpArgLen::Dword,
        Width::Bits64 => SeccompCmpArgLen::Qword,
    };
    let (op, value) = match condition.test {
        Test::Eq(value) => (SeccompCmpOp::Eq, value),
        Test::Ne(value) => (SeccompCmpOp::Ne, value),
        Test::Lt(value) => (SeccompCmpOp::Lt, value),
        Test::Le(value) => (SeccompCmpOp::Le, value),
        Test::Gt(value) => (SeccompCmpOp::Gt, value),
        Test::Ge(value) => (SeccompCmpOp::Ge, value),
        Test::MaskedEq { mask, value } => (SeccompCmpOp::MaskedEq(mask), value),
    };
    SeccompCondition::new(condition.arg, width, op, value).map_err(ProfileError::Compiler)
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn ret(action: Action) -> sock_filter {
    let action = match action {
        Action::Allow => SeccompAction::Allow,
        Action::Log => SeccompAction::Log,
        Action::Errno(errno) => SeccompAction::Errno(errno.into()),
        // The kernel looks at no data of this answer; the server reads its errno from there.
        Action::Told(errno) => return op(RETURN, USER_NOTIF | u32::from(errno)),
        Action::Trap => SeccompAction::Trap,
        Action::KillThread => SeccompAction::KillThread,
        Action::KillProcess => SeccompAction::KillProcess,
    };
    op(RETURN, action.into())
}

fn pack(instruction: &sock_filter) -> u64 {
    u64::from(instruction.code)
        | u64::from(instruction.jt) << 16
        | u64::from(instruction.jf) << 24
        | u64::from(instruction.k) << 32
}
