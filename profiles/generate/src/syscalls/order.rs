//! In which order a function's blocks are best run: each after those that lead to it, as far as no loop forbids, so that
//! most are run once.
//!
//! Where a jump through a table leads is known when that is met: its targets come next, in an order of their own. The order
//! decides how often a block is run, and so where a value that keeps changing is given up: what is known by one order may
//! not be by another, and both are right.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

use super::{address::AddressMap, function::Callee, object::Object};

/// Most instructions of one function that are put into order.
const INSTRUCTIONS_MAX: u32 = 500_000;

/// When a block is run: the least first.
pub(super) type Turn = (u32, u32, u64);

pub(super) struct Order<'o, 'd> {
    object: &'o Object<'d>,
    entry: u64,
    /// By head: its place in the whole, and among what was found behind the same block.
    turns: AddressMap<(u32, u32)>,
    found_later: u32,
    pub(super) looked_at: u32,
}

/// Where a block leads to, the way that is likely to leave a loop first.
type Ways = [Option<u64>; 2];

impl<'o, 'd> Order<'o, 'd> {
    pub(super) fn of(object: &'o Object<'d>, entry: u64) -> Self {
        let turns = AddressMap::default();
        let mut order = Self { object, entry, turns, found_later: 0, looked_at: 0 };
        for (turn, head) in (0u32..).zip(order.after(&[entry])) {
            order.turns.insert(head, (turn, 0));
        }
        order
    }

    pub(super) fn turn(&self, head: u64) -> Turn {
        let (turn, later) = self.turns.get(&head).copied().unwrap_or((u32::MAX, u32::MAX));
        (turn, later, head)
    }

    /// `heads` were found to follow on the block at `from`.
    pub(super) fn add(&mut self, from: u64, heads: &[u64]) {
        if heads.iter().all(|head| self.turns.contains_key(head)) {
            return;
        }
        let turn = self.turn(from).0;
        for head in self.after(heads) {
            self.turns.insert(head, (turn, self.found_later));
            self.found_later = self.found_later.saturating_add(1);
        }
    }

    /// Heads that have no turn yet, from these on: each before those that it leads to.
    fn after(&mut self, heads: &[u64]) -> Vec<u64> {
        let (mut ended, mut open): (Vec<u64>, Vec<(u64, Ways)>) = (Vec::new(), Vec::new());
        for head in heads {
            self.open(*head, &mut open);
            while let Some((at, ways)) = open.last_mut() {
                match ways.iter_mut().find_map(Option::take) {
                    Some(way) => self.open(way, &mut open),
                    None => {
                        ended.push(*at);
                        open.pop();
                    }
                }
            }
        }
        ended.reverse();
        ended
    }

    fn open(&mut self, head: u64, open: &mut Vec<(u64, Ways)>) {
        if self.looked_at < INSTRUCTIONS_MAX && !self.turns.contains_key(&head) {
            // It has a turn as soon as its ways are known, until then the last.
            self.turns.insert(head, (u32::MAX, u32::MAX));
            let ways = self.ways(head);
            open.push((head, ways));
        }
    }

    fn ways(&mut self, head: u64) -> Ways {
        let Some(bytes) = self.object.elf.from(head).filter(|_| self.object.is_code(head)) else {
            return [None; 2];
        };
        let end = self.object.next_jump(head + 1).min(self.object.next_start(head + 1));
        let mut decoder = Decoder::with_ip(64, bytes, head, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() && self.looked_at < INSTRUCTIONS_MAX {
            if decoder.ip() >= end {
                return [None, self.own(decoder.ip())];
            }
            self.looked_at += 1;
            decoder.decode_out(&mut instruction);
            match instruction.flow_control() {
                FlowControl::ConditionalBranch => {
                    return [self.own(instruction.near_branch_target()), self.own(decoder.ip())];
                }
                FlowControl::UnconditionalBranch => {
                    return [None, self.own(instruction.near_branch_target())];
                }
                FlowControl::Return | FlowControl::IndirectBranch | FlowControl::Exception => break,
                _ => {}
            }
        }
        [None; 2]
    }

    /// An address where the function goes on, and no other begins.
    fn own(&self, to: u64) -> Option<u64> {
        let is_own = to == self.entry || !self.object.is_start(to);
        (is_own && self.object.callee(to) == Callee::Address(to)).then_some(to)
    }
}
