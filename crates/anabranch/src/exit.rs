//! How a command ends: one table of exit codes, and the failure that carries one of them.

use std::fmt;
use std::process::ExitCode;

/// How a command ends, as a shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Ok = 0,
    /// Something that should not happen.
    Internal = 1,
    /// The command line or the settings are wrong. What `clap` uses as well.
    Usage = 2,
    /// The input has lines that could not be written.
    BadInput = 3,
    /// The server refused the request; sending it again can not help.
    Refused = 4,
    /// The server, or the store behind it, could not be reached.
    Unavailable = 5,
    /// The answer is correct, but cut short by its time limit.
    Partial = 6,
}

impl Exit {
    /// Every code with what it means, in order.
    pub(crate) const ALL: [(Self, &'static str, &'static str); 7] = [
        (Self::Ok, "ok", "everything was done"),
        (
            Self::Internal,
            "internal",
            "something that should not happen: a bug, a full disk, damaged data",
        ),
        (
            Self::Usage,
            "usage",
            "the command line, a query or the settings are wrong; nothing was done",
        ),
        (
            Self::BadInput,
            "bad input",
            "the input has lines that could not be written; they are named on stderr",
        ),
        (
            Self::Refused,
            "refused",
            "the server refused the request; sending it again can not help",
        ),
        (
            Self::Unavailable,
            "unavailable",
            "the server or its store could not be reached; try again later",
        ),
        (
            Self::Partial,
            "partial",
            "the answer is correct but was cut short by its time limit",
        ),
    ];
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not end well: what to print on stderr, and the code to end with.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The code to end with.
    pub(crate) exit: Exit,
    /// What to print; nothing when it has been said already.
    pub(crate) text: String,
}

impl Failure {
    /// The command line or the settings are wrong.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Usage,
            text: format!("error: {text}"),
        }
    }

    /// Something that should not happen.
    pub(crate) fn internal(text: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Internal,
            text: format!("error: {text}"),
        }
    }

    /// What this process rests on can not be used.
    pub(crate) fn unavailable(text: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Unavailable,
            text: format!("error: {text}"),
        }
    }

    /// Everything has been said; only the code is left.
    pub(crate) fn said(exit: Exit) -> Self {
        Self {
            exit,
            text: String::new(),
        }
    }
}

/// What is written to stdout failed. A reader that has seen enough (`| head`) is no failure.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::said(Exit::Ok);
        }
        Self::internal(format_args!("can not write the output: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented_under_its_number() {
        for (number, (exit, ..)) in Exit::ALL.iter().enumerate() {
            assert_eq!(*exit as usize, number);
        }
    }

    #[test]
    fn a_closed_pipe_is_a_quiet_success() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit, Exit::Ok);
        assert!(failure.text.is_empty());
    }
}
