//! How a surveyed partition is divided. One strategy so far: more event buckets for the same time bucket.

use anabranch_model::EventKey;
use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;
use crate::planted::{Bug, planted};
use crate::survey::{Segment, Survey};

/// Candidate cuts that a survey keeps for each target that there may be.
const SEGMENTS_A_TARGET: usize = 4;
/// Candidate cuts that a survey keeps at most: the checkpoint has to stay a small record.
const SEGMENTS_MAX: usize = 512;

/// What a division aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aim {
    /// Size aimed at for a target.
    pub target_bytes: u64,
    /// Most targets of the partition.
    pub targets_max: u32,
}

/// Events that belong into one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its first event in event order.
    pub oldest: EventKey,
    /// Its last event in event order.
    pub newest: EventKey,
    /// What it holds.
    pub checksum: Checksum,
}

/// What a strategy makes of a survey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Dividing it would bring nothing.
    NotWorthIt,
    /// The ranges, in event order. Each event is in exactly one.
    Divide {
        /// In event order.
        ranges: Vec<Range>,
        /// There had to be fewer targets, and so larger ones, than aimed at.
        capped: bool,
    },
    /// There is no room for more targets beside those that are kept: divide the whole again.
    DivideAnew,
}

/// `EventBucketSplit`: contiguous ranges of about the size aimed at, never cutting inside an event.
#[derive(Clone, Copy, Debug)]
pub struct EventBucketSplit {
    /// What it aims at.
    pub aim: Aim,
    /// Targets of an earlier generation that stay; 0 when the whole partition is divided.
    pub kept: usize,
}

impl EventBucketSplit {
    /// A survey that this strategy can decide on.
    pub fn survey(&self) -> Survey {
        let targets = usize::try_from(self.aim.targets_max).unwrap_or(usize::MAX);
        let segments_max = targets.saturating_mul(SEGMENTS_A_TARGET).clamp(16, SEGMENTS_MAX);
        Survey::new(self.aim.target_bytes / SEGMENTS_A_TARGET as u64, segments_max)
    }

    /// Decides.
    pub fn decide(&self, survey: &Survey) -> Decision {
        let total = survey.total().bytes;
        let aim = self.aim.target_bytes.max(1);
        let least = if self.kept == 0 {
            aim.saturating_mul(2)
        } else {
            aim
        };
        if total < least {
            return Decision::NotWorthIt;
        }
        let room = (self.aim.targets_max as usize).saturating_sub(self.kept);
        let wanted = usize::try_from(total.div_ceil(aim)).unwrap_or(usize::MAX);
        if self.kept > 0 && wanted > room {
            return Decision::DivideAnew;
        }
        let count = wanted.min(room).max(1);
        let ranges = divide(survey.segments(), total, count);
        if self.kept == 0 && ranges.len() < 2 {
            // One event holds nearly all of it.
            return Decision::NotWorthIt;
        }
        Decision::Divide {
            ranges,
            capped: wanted > room,
        }
    }
}

/// Gathers segments into at most `count` ranges of about equal size.
fn divide(segments: &[Segment], total: u64, count: usize) -> Vec<Range> {
    let share = total.div_ceil(count as u64).max(1);
    let mut skips = planted(Bug::LostRowsAtCut);
    let mut ranges: Vec<Range> = Vec::with_capacity(count);
    for segment in segments {
        let (first, more_ranges) = (ranges.is_empty(), ranges.len() < count);
        let open = ranges.last_mut().filter(|range| {
            // Half of a segment past the share is nearer to it than half of one below.
            !more_ranges || range.checksum.bytes + segment.checksum.bytes / 2 < share
        });
        match open {
            Some(range) => {
                range.checksum = range.checksum.then(&segment.checksum);
                range.oldest = segment.oldest.clone();
            }
            None if skips && !first => skips = false,
            None => ranges.push(Range {
                oldest: segment.oldest.clone(),
                newest: segment.newest.clone(),
                checksum: segment.checksum,
            }),
        }
    }
    ranges.reverse();
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event, id};
    use proptest::prelude::*;

    fn strategy(target_bytes: u64, targets_max: u32, kept: usize) -> EventBucketSplit {
        EventBucketSplit {
            aim: Aim {
                target_bytes,
                targets_max,
            },
            kept,
        }
    }

    fn surveyed(strategy: &EventBucketSplit, sizes: &[usize]) -> Survey {
        let mut survey = strategy.survey();
        for (n, size) in sizes.iter().enumerate() {
            survey.add(&id("a"), &event(-(n as i64), "e", &[("k", &"v".repeat(*size))]));
        }
        survey
    }

    #[test]
    fn below_twice_the_target_it_is_not_worth_it() {
        let strategy = strategy(1_000, 64, 0);
        assert_eq!(
            strategy.decide(&surveyed(&strategy, &[100; 15])),
            Decision::NotWorthIt
        );
        assert!(matches!(
            strategy.decide(&surveyed(&strategy, &[100; 16])),
            Decision::Divide { capped: false, .. }
        ));
    }

    #[test]
    fn one_event_larger_than_everything_is_not_divided() {
        let strategy = strategy(100, 64, 0);
        assert_eq!(
            strategy.decide(&surveyed(&strategy, &[10_000])),
            Decision::NotWorthIt
        );
    }

    #[test]
    fn too_many_targets_are_capped_and_say_so() {
        let strategy = strategy(100, 4, 0);
        let Decision::Divide { ranges, capped } = strategy.decide(&surveyed(&strategy, &[100; 100])) else {
            panic!("it is worth it");
        };
        assert!(capped && ranges.len() == 4);
    }

    #[test]
    fn an_extension_without_room_divides_anew() {
        let full = strategy(100, 4, 4);
        assert_eq!(full.decide(&surveyed(&full, &[100; 10])), Decision::DivideAnew);
        let roomy = strategy(100, 64, 4);
        assert!(matches!(
            roomy.decide(&surveyed(&roomy, &[100])),
            Decision::Divide { .. }
        ));
        assert_eq!(roomy.decide(&surveyed(&roomy, &[])), Decision::NotWorthIt);
    }

    proptest! {
        #[test]
        fn every_event_is_in_exactly_one_range(
            sizes in proptest::collection::vec(0usize..400, 0..300), target in 50u64..2_000, targets_max in 2u32..80,
        ) {
            let strategy = strategy(target, targets_max, 0);
            let survey = surveyed(&strategy, &sizes);
            match strategy.decide(&survey) {
                Decision::NotWorthIt => {}
                Decision::DivideAnew => prop_assert!(false, "nothing is kept"),
                Decision::Divide { ranges, .. } => {
                    prop_assert!(ranges.len() <= targets_max as usize);
                    prop_assert!(ranges.iter().all(|range| range.oldest <= range.newest));
                    prop_assert!(ranges.windows(2).all(|pair| pair[0].newest < pair[1].oldest));
                    let newest_first = ranges.iter().rev().map(|range| range.checksum);
                    prop_assert_eq!(newest_first.fold(Checksum::default(), |sum, part| sum.then(&part)), survey.total());
                    // The cuts lie between events: each range is what the events between its ends are.
                    for range in &ranges {
                        let mut sum = Checksum::default();
                        for (n, size) in sizes.iter().enumerate() {
                            let event = event(-(n as i64), "e", &[("k", &"v".repeat(*size))]);
                            if (&range.oldest..=&range.newest).contains(&&event.key) {
                                sum.add_event(&id("a"), &event);
                            }
                        }
                        prop_assert_eq!(sum, range.checksum);
                    }
                }
            }
        }
    }
}
