//! Gathers the events of an input into batches, on a thread of its own.

use std::path::Path;

use anabranch_proto::timeseries::v1::EventRecord;
use prost::Message;
use tokio::sync::mpsc;

use super::decode::decode;
use super::lines::{LINE_BYTES_MAX, Line, Lines};
use super::open::Input;

/// Bytes of events that one batch holds at most, but for a single event that has more: far below what a
/// server takes in one message.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Events to be written together, with the lines they come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Batch {
    /// The events.
    pub(crate) events: Vec<EventRecord>,
    /// The line of each event.
    pub(crate) lines: Vec<u64>,
    /// Their size on the wire.
    pub(crate) bytes: usize,
}

/// What an input yields, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// Events.
    Batch(Batch),
    /// A line that is no event.
    Wrong {
        /// Its number.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The input could not be read on.
    Unreadable {
        /// The line it stopped at.
        line: u64,
        /// Why.
        problem: String,
    },
    /// The end, with the number of lines.
    End {
        /// The last line.
        lines: u64,
    },
}

/// How an input is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Events a batch.
    pub(crate) events_max: usize,
    /// Lines before this one are passed over.
    pub(crate) from_line: u64,
    /// Whether the first wrong line ends it.
    pub(crate) stop_at_wrong: bool,
}

/// Starts reading. The channel is short: what is not written yet stays in the file.
pub(crate) fn read(input: Input, cut: Cut) -> std::io::Result<mpsc::Receiver<Item>> {
    let (send, receive) = mpsc::channel(4);
    std::thread::Builder::new()
        .name("input".to_owned())
        // It ends with the input, or when nobody takes its batches any more.
        .spawn(move || {
            let mut gather = Gather {
                send,
                batch: Batch::default(),
            };
            // Nobody listens any more: nothing is left to do.
            let _ = run(input, cut, &mut gather);
        })?;
    Ok(receive)
}

/// Nobody takes batches any more.
struct Gone;

struct Gather {
    send: mpsc::Sender<Item>,
    batch: Batch,
}

impl Gather {
    fn say(&mut self, item: Item) -> Result<(), Gone> {
        self.flush()?;
        self.send.blocking_send(item).map_err(|_| Gone)
    }

    fn flush(&mut self) -> Result<(), Gone> {
        if self.batch.events.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.send.blocking_send(Item::Batch(batch)).map_err(|_| Gone)
    }
}

fn run(input: Input, cut: Cut, gather: &mut Gather) -> Result<(), Gone> {
    let mut lines = Lines::new(input.reader);
    loop {
        let number = lines.number() + 1;
        let event = match lines.read() {
            Ok(None) if number < cut.from_line => {
                return gather.say(Item::Unreadable {
                    line: number,
                    problem: format!(
                        "it ends here, before line {} where it was to go on: is it another input?",
                        cut.from_line
                    ),
                });
            }
            Ok(None) => return gather.say(Item::End { lines: number - 1 }),
            Err(error) => {
                return gather.say(Item::Unreadable {
                    line: number,
                    problem: format!("can not be read: {error}"),
                });
            }
            Ok(_) if number < cut.from_line => continue,
            Ok(Some(Line::Text(text))) if text.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(Some(Line::Text(text))) => decode(text).map_err(|wrong| wrong.to_string()),
            Ok(Some(Line::TooLong)) => Err(format!("has more than {LINE_BYTES_MAX} bytes")),
        };
        match event {
            Ok(event) => {
                let bytes = event.encoded_len();
                if gather.batch.bytes + bytes > BATCH_BYTES_MAX {
                    gather.flush()?;
                }
                gather.batch.bytes += bytes;
                gather.batch.events.push(event);
                gather.batch.lines.push(number);
                if gather.batch.events.len() >= cut.events_max {
                    gather.flush()?;
                }
            }
            Err(problem) => {
                gather.say(Item::Wrong {
                    line: number,
                    problem,
                })?;
                if cut.stop_at_wrong {
                    return Ok(());
                }
            }
        }
    }
}

/// Opens an input and starts reading it.
pub(crate) fn open(path: &Path) -> Result<Input, String> {
    super::open::open(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn items(text: String, cut: Cut) -> Vec<Item> {
        let input = Input {
            reader: Box::new(Cursor::new(text.into_bytes())),
            name: "test".to_owned(),
            size: None,
            consumed: std::sync::Arc::default(),
        };
        let mut receive = read(input, cut).unwrap();
        std::iter::from_fn(|| receive.blocking_recv()).collect()
    }

    fn line(id: u32) -> String {
        format!(
            r#"{{"timeSeriesId":"a","eventTime":"2026-03-28T00:00:00Z","eventId":"{id}","eventItems":[{{"eventItemKey":"k"}}]}}"#
        )
    }

    const CUT: Cut = Cut {
        events_max: 2,
        from_line: 1,
        stop_at_wrong: false,
    };

    fn shape(items: &[Item]) -> Vec<String> {
        items
            .iter()
            .map(|item| match item {
                Item::Batch(batch) => format!("batch {:?}", batch.lines),
                Item::Wrong { line, .. } => format!("wrong {line}"),
                Item::Unreadable { line, .. } => format!("unreadable {line}"),
                Item::End { lines } => format!("end {lines}"),
            })
            .collect()
    }

    #[test]
    fn batches_keep_the_lines_of_their_events() {
        let text = format!("{}\n\n{}\n{}\nnonsense\n{}", line(1), line(2), line(3), line(4));
        let shapes = shape(&items(text.clone(), CUT));
        assert_eq!(
            shapes,
            ["batch [1, 3]", "batch [4]", "wrong 5", "batch [6]", "end 6"]
        );
        let stop = Cut {
            stop_at_wrong: true,
            ..CUT
        };
        assert_eq!(
            shape(&items(text.clone(), stop)),
            ["batch [1, 3]", "batch [4]", "wrong 5"]
        );
        let later = Cut { from_line: 4, ..CUT };
        assert_eq!(
            shape(&items(text, later)),
            ["batch [4]", "wrong 5", "batch [6]", "end 6"]
        );
    }
}
