//! Progress on a terminal; nothing anywhere else.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{is_watched, say};

/// A bar, when somebody watches.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Progress through a number of bytes.
    pub(crate) fn bytes(total: Option<u64>) -> Self {
        match total {
            Some(total) => Self::new(Some(total), "{bar:30} {bytes}/{total_bytes}  {msg}  {eta} left"),
            None => Self::new(None, "{spinner} {bytes}  {msg}"),
        }
    }

    /// Progress through a number of steps.
    pub(crate) fn steps(total: u64) -> Self {
        Self::new(Some(total), "{bar:30} {human_pos}/{human_len}  {msg}  {eta} left")
    }

    /// Progress towards an end that nobody knows.
    #[cfg(feature = "cluster")]
    pub(crate) fn open_ended() -> Self {
        Self::new(None, "{spinner} {msg}")
    }

    fn new(total: Option<u64>, template: &str) -> Self {
        if !is_watched() {
            return Self(None);
        }
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("█▌░"));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(Some(bar))
    }

    /// How far it is.
    pub(crate) fn set(&self, position: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(position);
        }
    }

    /// What is worth knowing beside it.
    pub(crate) fn note(&self, text: impl Into<Cow<'static, str>>) {
        if let Some(bar) = &self.0 {
            bar.set_message(text);
        }
    }

    /// Says a line without disturbing the bar.
    pub(crate) fn say(&self, text: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
