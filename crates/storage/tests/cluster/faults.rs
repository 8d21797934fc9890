//! What can go wrong with one statement on its way.

use std::time::Duration;

use scylla::errors::DbError;
use scylla_proxy::{
    Condition, Reaction, RequestReaction, RequestRule, ResponseOpcode, ResponseReaction, ResponseRule,
    RunningProxy, example_db_errors as errors,
};

use super::executed;

/// What goes wrong with one statement.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The node answers so, and does nothing.
    Answer(DbError),
    /// It never reaches the node.
    Hang,
    /// It is applied, and the reply never comes.
    LostReply,
    /// The connection breaks instead.
    Disconnect,
    /// The reply comes late, and in time.
    Delay,
}

/// All of them.
pub(crate) fn faults() -> Vec<Fault> {
    let answers = [
        errors::syntax_error(),
        errors::invalid(),
        errors::already_exists(),
        errors::function_failure(),
        errors::authentication_error(),
        errors::unauthorized(),
        errors::config_error(),
        errors::unavailable(),
        errors::overloaded(),
        errors::is_bootstrapping(),
        errors::truncate_error(),
        errors::read_timeout(),
        errors::write_timeout(),
        errors::read_failure(),
        errors::write_failure(),
        errors::unprepared(),
        errors::server_error(),
        errors::protocol_error(),
        // CAS_WRITE_UNKNOWN, CDC_WRITE_FAILURE.
        errors::other(0x1700),
        errors::other(0x1600),
    ];
    let others = [Fault::Hang, Fault::LostReply, Fault::Disconnect, Fault::Delay];
    answers.into_iter().map(Fault::Answer).chain(others).collect()
}

impl Fault {
    /// Has the next statements meet it, so many of them.
    pub(crate) fn inject(&self, proxy: &mut RunningProxy, times: usize) {
        self.of_statements(proxy, &executed(), 0, times);
    }

    /// Has the one statement meet it that comes after `before` others.
    pub(crate) fn inject_at(&self, proxy: &mut RunningProxy, before: usize) {
        self.of_statements(proxy, &executed(), before, 1);
    }

    /// Has so many of these statements meet it, after the first ones.
    pub(crate) fn of_statements(
        &self,
        proxy: &mut RunningProxy,
        statements: &Condition,
        before: usize,
        times: usize,
    ) {
        let node = &mut proxy.running_nodes[0];
        // Each is asked only of what has passed those before it.
        let meant = |all: Condition| {
            all.and(Condition::not(Condition::TrueForLimitedTimes(before)))
                .and(Condition::TrueForLimitedTimes(times))
        };
        let request = |reaction| vec![RequestRule(meant(statements.clone()), reaction)];
        match self {
            Self::Answer(error) => {
                node.change_request_rules(Some(request(RequestReaction::forge_with_error(error.clone()))));
            }
            Self::Hang => node.change_request_rules(Some(request(RequestReaction::drop_frame()))),
            Self::Disconnect => node.change_request_rules(Some(request(RequestReaction::drop_connection()))),
            Self::Delay => {
                let late = RequestReaction::delay(Duration::from_millis(50));
                node.change_request_rules(Some(request(late)));
            }
            Self::LostReply => {
                // Statements come one after the other, and so do their replies.
                let replies = Condition::ResponseOpcode(ResponseOpcode::Result)
                    .and(Condition::not(Condition::ConnectionRegisteredAnyEvent));
                let rule = ResponseRule(meant(replies), ResponseReaction::drop_frame());
                node.change_response_rules(Some(vec![rule]));
            }
        }
    }
}
