//! A classic-BPF interpreter for seccomp programs: what the kernel would answer.

/// `struct seccomp_data`, as the kernel lays it out (include/uapi/linux/seccomp.h).
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) number: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            _ => panic!("no word at {offset}"),
        }
    }
}

/// Runs `program` on `call` and gives its return value, and how many instructions that took.
pub(crate) fn run(program: &[u64], call: &Call) -> (u32, usize) {
    let (mut at, mut accumulator, mut steps) = (0, 0, 0);
    loop {
        steps += 1;
        let instruction = program[at];
        let (code, jt, jf, k) = (
            instruction as u16,
            (instruction >> 16) as u8 as usize,
            (instruction >> 24) as u8 as usize,
            (instruction >> 32) as u32,
        );
        at += 1;
        let choose = |yes: bool| if yes { jt } else { jf };
        match code {
            0x20 => accumulator = call.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += choose(accumulator == k),
            0x25 => at += choose(accumulator > k),
            0x35 => at += choose(accumulator >= k),
            0x06 => return (k, steps),
            _ => panic!("unknown instruction {code:#x}"),
        }
    }
}
