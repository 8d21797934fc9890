//! Bugs that are planted on purpose, to see that tests find them.
//!
//! ```text
//! feature planted-bugs, plant(Some(bug)) ─▶ planted(bug) is true at the one place where it bites
//! no such feature                        ─▶ planted(_) is false when compiled, and nothing of it is left
//! ```
//!
//! The selection is of a thread: a simulation runs each seed on one thread, so many seeds run side by side, each with
//! a bug of its own. A runtime with several threads would move its tasks away from it, so with such a one, and on
//! threads that a store has started, nothing is planted.
//!
//! Where each of them is, and which test finds it, is a table in `docs/splits.md`.

macro_rules! bugs {
    ($($bug:ident: $line:literal,)+) => {
        /// Something that could be wrong in the pipeline.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $(#[doc = $line] $bug,)+
        }

        impl Bug {
            /// All of them, from the first step of the pipeline to the last.
            pub const ALL: &[Self] = &[$(Self::$bug),+];

            /// Its name, as in the docs.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => stringify!($bug),)+
                }
            }

            /// What is wrong, in a line.
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$bug => $line,)+
                }
            }
        }
    };
}

bugs! {
    DetectionBytesForgotten: "The bytes read of a partition are counted for each page anew.",
    SuppressedForGood: "A partition that was offered once is never offered again.",
    IntakeAcksFirst: "A detection is acknowledged before its record is stored.",
    GrowthIgnored: "A partition that is split does not want to be detected when it has grown.",
    FreezeNotEnforced: "Writers do not look at what is frozen.",
    FreezeNotSettled: "What is frozen counts at once, while other servers' writes are under way.",
    OwnWritesNotSettled: "What is frozen counts at once, while the own process's writes are under way.",
    BoundaryPastFrozen: "A survey reaches past what is frozen.",
    OpeningKeepsEpoch: "Time is opened again without a new epoch.",
    OpeningDoesNotWait: "Time is opened again while servers still read by the old epoch.",
    SurveySkipsAfterCheckpoint: "A survey that goes on skips the first event after its checkpoint.",
    SurveyBoundaryInclusive: "A survey takes in the events at the boundary, too.",
    SurveyGoesOnAcrossBasis: "A survey goes on that rests on a basis that is gone.",
    ThinningLosesRows: "Segments that become one keep the checksum of the first.",
    LostRowsAtCut: "What lies between two targets is in neither.",
    ChecksumWithoutValue: "The checksum does not see values.",
    ChecksumWithoutOrder: "The checksum does not see order.",
    TargetsSharedByGenerations: "The next generation writes into the targets of the last.",
    ParkedNeverDue: "What is parked is never looked at again.",
    FailedNeverRetried: "What failed is never tried again.",
    LeaseNeverLapses: "The work of a worker that died is never taken over.",
    CopySkipsAfterCheckpoint: "A copy that goes on skips the target that was under way.",
    CopyLeavesOutOldest: "A copy ends before the oldest event of a target.",
    VerifiesInMemory: "What was to be written is compared, instead of what was read back.",
    PublishWithoutFence: "A worker that was overtaken may move the record.",
    CompletesWithoutComparing: "Targets are served whatever they hold.",
    ExtensionForgetsKept: "An extension serves its own targets alone.",
    RetiresServed: "An extension has the targets that it keeps removed.",
    HalfWrittenForgotten: "What a failed generation wrote is never removed.",
    InvalidatedStillServed: "What is invalidated is still served.",
    RetiresAtOnce: "Targets are removed while reads may still use them.",
    JanitorTakesServed: "The janitor removes the served targets instead of the retiring ones.",
    MarkerBeforeRecord: "The marker of a shard moves before the record that it tells of.",
    FilterNeverRebuilt: "A filter that was built once stays.",
    CacheNeverExpires: "A record that was looked up once is never looked up again.",
    EpochNotCompared: "A split is served whatever its basis.",
    DivertDropsTail: "Events after the boundary are not read from the original.",
    TailBoundaryExclusive: "The tail begins after the events at the boundary.",
    DivertIgnoresDirection: "A read in ascending order walks the targets as a descending one does.",
    DivertSkipsTarget: "A page that begins inside a target leaves out the rest of it.",
    CursorOffByOne: "A page in ascending order begins a microsecond after the last event of the page before it.",
    FallbackGoesOn: "After trouble in a target the read goes on with the next one.",
}

/// True when this bug is planted on this thread.
#[cfg(not(feature = "planted-bugs"))]
pub const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// True when this bug is planted on this thread.
#[cfg(feature = "planted-bugs")]
pub fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Plants a bug on this thread, in place of the one before it.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

impl Bug {
    /// The bug of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

#[cfg(test)]
mod tests;
