//! Who is writing right now, so that a seal can wait for those who were admitted before it.
//!
//! A write takes a ticket before it reads the settings and keeps it until the store has answered, also
//! when its caller has gone away. A ticket is never held while waiting for the slice keeper, which
//! itself waits for tickets.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The writes of a server that are under way. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tickets: Mutex<Tickets>,
    /// Rung when a ticket comes back. Not a watch channel: that wakes in an order drawn at random, and one seed of the
    /// simulation would not replay.
    left: Notify,
}

#[derive(Debug, Default)]
struct Tickets {
    next: u64,
    held: BTreeSet<u64>,
}

/// Held by a write from before it reads the settings until the store has answered.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    of: InFlight,
}

impl InFlight {
    /// Takes a ticket.
    pub fn enter(&self) -> Ticket {
        let mut tickets = self.tickets();
        let number = tickets.next;
        tickets.next += 1;
        tickets.held.insert(number);
        Ticket {
            number,
            of: self.clone(),
        }
    }

    /// Returns when every ticket that was taken before the call has been given back.
    pub async fn settle(&self) {
        let until = self.tickets().next;
        loop {
            // Before the look at the tickets, so that one that comes back in between is heard.
            let left = self.0.left.notified();
            if self.tickets().held.first().is_none_or(|oldest| *oldest >= until) {
                return;
            }
            left.await;
        }
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.0.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.of.tickets().held.remove(&self.number);
        self.of.0.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settle_waits_for_earlier_tickets_only() {
        let in_flight = InFlight::default();
        let earlier = in_flight.enter();
        let settled = in_flight.settle();
        tokio::pin!(settled);
        assert!(futures::poll!(&mut settled).is_pending());
        let _later = in_flight.enter();
        drop(earlier);
        assert!(futures::poll!(&mut settled).is_ready());
    }
}
