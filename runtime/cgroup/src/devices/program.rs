//! Rules as a program that the kernel runs at each open and mknod of a device.

use super::{Kind, Rules};

// Registers and operations. Source: include/uapi/linux/bpf_common.h and bpf.h.
const R0: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const JUMP_IF: u8 = 0x15;
const JUMP_IF_NOT: u8 = 0x55;
const EXIT: u8 = 0x95;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, value: u32) -> u64 {
    u64::from(code)
        | u64::from(destination | source << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(value) << 32
}

/// The program: 1 allows, 0 denies. An exception that allows must allow all of the access that is asked for; one that
/// denies needs to deny some of it.
pub(super) fn of(rules: &Rules) -> Vec<u64> {
    // struct bpf_cgroup_dev_ctx: access in the upper half and type in the lower of the first word.
    let mut program = vec![
        instruction(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, TYPE, 0, 0),
        instruction(AND, TYPE, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for exception in &rules.exceptions {
        let kind = match exception.kind {
            Kind::Block => 1,
            Kind::Character => 2,
        };
        let mut tests = vec![(TYPE, kind)];
        tests.extend(exception.major.map(|major| (MAJOR, major)));
        tests.extend(exception.minor.map(|minor| (MINOR, minor)));
        // After the tests: 3 instructions for access, 2 that answer.
        let length = tests.len() as i16 + 5;
        for (index, (register, value)) in tests.iter().enumerate() {
            program.push(instruction(JUMP_IF_NOT, *register, 0, length - 1 - index as i16, *value));
        }
        let access = u32::from(exception.access.0);
        let (mask, pass_on) = if rules.allow { (access, JUMP_IF) } else { (!access & 7, JUMP_IF_NOT) };
        program.push(instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
        program.push(instruction(AND, SCRATCH, 0, 0, mask));
        program.push(instruction(pass_on, SCRATCH, 0, 2, 0));
        program.push(instruction(MOVE, R0, 0, 0, u32::from(!rules.allow)));
        program.push(instruction(EXIT, 0, 0, 0, 0));
    }
    program.push(instruction(MOVE, R0, 0, 0, u32::from(rules.allow)));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::devices::tests::rules;

    /// What the kernel would do: enough of its machine for these programs.
    fn run(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [access << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0_u64; 8], 0_usize);
        loop {
            let word = program[at];
            let (code, destination, source) =
                (word as u8, (word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
            let (offset, value) = ((word >> 16) as u16 as i16, word >> 32);
            at += 1;
            match code {
                LOAD_WORD => registers[destination] = context[offset as usize / 4].into(),
                MOVE => registers[destination] = value,
                MOVE_REGISTER => registers[destination] = registers[source],
                AND => registers[destination] &= value,
                SHIFT_RIGHT => registers[destination] >>= value,
                JUMP_IF if registers[destination] == value => at += offset as usize,
                JUMP_IF_NOT if registers[destination] != value => at += offset as usize,
                JUMP_IF | JUMP_IF_NOT => {}
                EXIT => return registers[R0 as usize],
                other => panic!("{other:#x}"),
            }
        }
    }

    const BLOCK: u32 = 1;
    const CHARACTER: u32 = 2;
    const MKNOD: u32 = 1;
    const READ: u32 = 2;
    const WRITE: u32 = 4;

    #[test]
    fn allowed_devices_are_allowed_and_no_others() {
        let program =
            of(&rules(&["deny a", "allow c 1:3 rw", "allow c 136:* rwm", "allow b *:* m"]).unwrap());
        for (kind, access, major, minor, wanted) in [
            (CHARACTER, READ, 1, 3, 1),
            (CHARACTER, READ | WRITE, 1, 3, 1),
            (CHARACTER, MKNOD, 1, 3, 0),
            (CHARACTER, READ | MKNOD, 1, 3, 0),
            (CHARACTER, READ, 1, 5, 0),
            (BLOCK, READ, 1, 3, 0),
            (CHARACTER, READ | WRITE | MKNOD, 136, 77, 1),
            (BLOCK, MKNOD, 8, 0, 1),
            (BLOCK, READ, 8, 0, 0),
        ] {
            let found = run(&program, kind, access, major, minor);
            assert_eq!(found, wanted, "{kind} {access} {major}:{minor}");
        }
    }

    #[test]
    fn where_all_is_allowed_any_part_of_a_denied_access_denies() {
        let program = of(&rules(&["allow a", "deny b 8:* w"]).unwrap());
        assert_eq!(run(&program, BLOCK, READ, 8, 1), 1);
        assert_eq!(run(&program, BLOCK, READ | WRITE, 8, 1), 0);
        assert_eq!(run(&program, CHARACTER, READ | WRITE, 8, 1), 1);
        assert_eq!(run(&of(&rules(&[]).unwrap()), CHARACTER, READ, 1, 3), 0);
    }
}
