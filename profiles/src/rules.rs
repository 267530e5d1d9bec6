//! Rules as data: what a table answers to a call, and the intersection of two tables.
//!
//! Invariant: [`Table::intersect`] answers the stricter of the two answers, for every number and all arguments.

/// What becomes of a call. Order is the kernel's, but for [`Action::Told`]: two answers are combined here, in one
/// program, and not by the kernel.
///
/// Source: seccomp(2), "Return values" (precedence).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It runs.
    Allow,
    /// It runs and is logged.
    Log,
    /// It fails with this errno.
    Errno(u16),
    /// It fails with this errno once the server has seen it (SECCOMP_RET_USER_NOTIF). As strict as [`Action::Errno`].
    Told(u16),
    /// SIGSYS.
    Trap,
    /// The calling thread dies.
    KillThread,
    /// The process dies.
    KillProcess,
}

impl Action {
    /// 0 is the mildest. Two errnos are equally strict.
    #[must_use]
    pub fn strictness(self) -> u8 {
        match self {
            Action::Allow => 0,
            Action::Log => 1,
            Action::Errno(_) | Action::Told(_) => 2,
            Action::Trap => 3,
            Action::KillThread => 4,
            Action::KillProcess => 5,
        }
    }

    /// The stricter of the two; `self` when they are equally strict.
    #[must_use]
    pub fn stricter(self, other: Action) -> Action {
        if other.strictness() > self.strictness() { other } else { self }
    }

    /// Whether the call runs.
    #[must_use]
    pub fn runs(self) -> bool {
        self.strictness() <= Action::Log.strictness()
    }
}

/// How much of an argument is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// The lower half: what the kernel reads of an `int`.
    Bits32,
    /// All of it.
    Bits64,
}

/// A comparison with an argument, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// Equal.
    Eq(u64),
    /// Not equal.
    Ne(u64),
    /// Less.
    Lt(u64),
    /// Less or equal.
    Le(u64),
    /// Greater.
    Gt(u64),
    /// Greater or equal.
    Ge(u64),
    /// Equal in the bits of `mask`.
    MaskedEq {
        /// Bits to look at.
        mask: u64,
        /// What they must be.
        value: u64,
    },
}

impl Test {
    /// Whether an argument passes.
    #[must_use]
    pub fn holds(self, arg: u64) -> bool {
        match self {
            Test::Eq(value) => arg == value,
            Test::Ne(value) => arg != value,
            Test::Lt(value) => arg < value,
            Test::Le(value) => arg <= value,
            Test::Gt(value) => arg > value,
            Test::Ge(value) => arg >= value,
            Test::MaskedEq { mask, value } => arg & mask == value & mask,
        }
    }
}

/// A condition on one argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub arg: u8,
    /// How much of it.
    pub width: Width,
    /// Compared how and with what.
    pub test: Test,
}

impl Condition {
    fn holds(&self, args: &[u64; 6]) -> bool {
        let Some(arg) = args.get(usize::from(self.arg)) else { return false };
        let arg = match self.width {
            Width::Bits32 => arg & 0xffff_ffff,
            Width::Bits64 => *arg,
        };
        self.test.holds(arg)
    }
}

/// An action for the calls whose conditions all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) when: Vec<Condition>,
    pub(crate) then: Action,
}

/// An argument that is one of these values, in these bits of its lower half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OneOf {
    pub(crate) arg: u8,
    pub(crate) mask: u32,
    pub(crate) values: Vec<u32>,
    /// What a call with another gets.
    pub(crate) else_then: Action,
}

impl OneOf {
    fn holds(&self, args: &[u64; 6]) -> bool {
        #[allow(clippy::cast_possible_truncation, reason = "the lower half is what is compared")]
        let arg = args.get(usize::from(self.arg)).map(|arg| *arg as u32 & self.mask);
        arg.is_some_and(|arg| self.values.contains(&arg))
    }
}

/// What becomes of one syscall: the first rule that holds, else `otherwise`; and where the call would run then, it does if
/// each of `only` holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) rules: Vec<Rule>,
    pub(crate) otherwise: Action,
    /// None of them kills: what a rule denies, it denies in its own way.
    pub(crate) only: Vec<OneOf>,
}

impl Answer {
    pub(crate) fn always(otherwise: Action) -> Self {
        Self { rules: Vec::new(), otherwise, only: Vec::new() }
    }

    fn to(&self, args: &[u64; 6]) -> Action {
        let held = self.rules.iter().find(|rule| rule.when.iter().all(|condition| condition.holds(args)));
        let then = held.map_or(self.otherwise, |rule| rule.then);
        if !then.runs() {
            return then;
        }
        self.only.iter().find(|only| !only.holds(args)).map_or(then, |only| only.else_then)
    }

    /// Both in lexicographic order of their rules: the first pair that holds is the first of each that holds.
    fn intersect(&self, other: &Answer) -> Answer {
        let only: Vec<OneOf> = self.only.iter().chain(&other.only).cloned().collect();
        if other.rules.is_empty() {
            let then = |action: Action| action.stricter(other.otherwise);
            let rules = self.rules.iter().map(|rule| Rule { when: rule.when.clone(), then: then(rule.then) });
            return Answer { rules: rules.collect(), otherwise: then(self.otherwise), only }.simplified();
        }
        let mut rules = Vec::new();
        let last = [Rule { when: Vec::new(), then: self.otherwise }];
        for ours in self.rules.iter().chain(&last) {
            for theirs in &other.rules {
                let when = ours.when.iter().chain(&theirs.when).copied().collect();
                rules.push(Rule { when, then: ours.then.stricter(theirs.then) });
            }
            if !ours.when.is_empty() {
                rules.push(Rule { when: ours.when.clone(), then: ours.then.stricter(other.otherwise) });
            }
        }
        Answer { rules, otherwise: self.otherwise.stricter(other.otherwise), only }.simplified()
    }

    /// Without the last rules that say what `otherwise` says anyway.
    fn simplified(mut self) -> Self {
        while self.rules.last().is_some_and(|rule| rule.then == self.otherwise) {
            self.rules.pop();
        }
        if self.rules.is_empty() && !self.otherwise.runs() {
            self.only.clear();
        }
        self
    }
}

/// What becomes of every syscall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// By number, from 0.
    pub(crate) numbers: Vec<Answer>,
    /// All greater numbers, the x32 ones among them.
    pub(crate) beyond: Action,
}

impl Table {
    pub(crate) fn answer(&self, number: u32, args: &[u64; 6]) -> Action {
        self.numbers.get(number as usize).map_or(self.beyond, |answer| answer.to(args))
    }

    /// The stricter answer of the two everywhere; this table's errno where both give one.
    pub(crate) fn intersect(&self, other: &Table) -> Table {
        let (own, their) = (Answer::always(self.beyond), Answer::always(other.beyond));
        let numbers = (0..self.numbers.len().max(other.numbers.len()))
            .map(|at| {
                let ours = self.numbers.get(at).unwrap_or(&own);
                ours.intersect(other.numbers.get(at).unwrap_or(&their))
            })
            .collect();
        Table { numbers, beyond: self.beyond.stricter(other.beyond) }
    }
}
