//! `widths`: how wide the partitions of a slice are.

use anabranch_proto::admin::v1::{GetPartitionSizesRequest, GetPartitionSizesResponse};

use super::split::{count, partition_text};
use super::{Session, print_sheet, say};
use crate::exit::{Exit, Failure};
use crate::messages;
use crate::output::{Format, Sheet, print_line, print_one};
use crate::units::{counted, format_count, format_size};

const MESSAGE: &str = "anabranch.admin.v1.GetPartitionSizesResponse";
/// Characters of the longest bar.
const BAR_MAX: u64 = 24;

pub(super) async fn run(session: &Session, namespace: String, slice: Option<String>) -> Result<(), Failure> {
    let mut client = session.client().await?;
    let request = GetPartitionSizesRequest {
        namespace,
        time_slice: slice.unwrap_or_default(),
    };
    let sizes = client.admin.get_partition_sizes(request).await?.into_inner();
    if session.format == Format::Table {
        print_table(session, &sizes)?;
    } else {
        let json = messages::to_json(MESSAGE, &sizes, true);
        let fields = shares(&sizes)
            .into_iter()
            .map(|(name, bytes)| (name.to_owned(), bytes.to_string()))
            .collect::<Vec<_>>();
        print_one(session.format, &fields, &json)?;
    }
    if sizes.partial {
        say(format!(
            "partial: {}; these are the first partitions in the store's order",
            sizes.partial_reason
        ));
        return Err(Failure::said(Exit::Partial));
    }
    Ok(())
}

fn print_table(session: &Session, sizes: &GetPartitionSizesResponse) -> Result<(), Failure> {
    print_line(&format!(
        "slice {}: {}, {}, {}",
        sizes.time_slice,
        counted(count(sizes.count), "partition"),
        counted(count(sizes.events), "event"),
        format_size(count(sizes.bytes))
    ))?;
    if sizes.widest.is_empty() {
        return Ok(());
    }
    let longest = sizes.percentiles.map_or(0, |percentiles| count(percentiles.max));
    print_line("")?;
    let mut sheet = Sheet::new(&["share", "size", "bar"]);
    for (name, bytes) in shares(sizes) {
        sheet.cells(vec![name.to_owned(), format_size(bytes), bar(bytes, longest)]);
    }
    print_sheet(session, &sheet)?;
    print_line("")?;
    let mut sheet = Sheet::new(&["widest", "size", "events", "bar"]);
    for size in &sizes.widest {
        let more = if size.at_least { "at least " } else { "" };
        sheet.cells(vec![
            size.partition.as_ref().map(partition_text).unwrap_or_default(),
            format!("{more}{}", format_size(count(size.bytes))),
            format_count(count(size.events)),
            bar(count(size.bytes), longest),
        ]);
    }
    print_sheet(session, &sheet)
}

fn shares(sizes: &GetPartitionSizesResponse) -> Vec<(&'static str, u64)> {
    sizes.percentiles.map_or_else(Vec::new, |percentiles| {
        [
            ("p50", percentiles.p50),
            ("p90", percentiles.p90),
            ("p99", percentiles.p99),
            ("max", percentiles.max),
        ]
        .map(|(name, bytes)| (name, count(bytes)))
        .to_vec()
    })
}

/// What is there at all shows.
fn bar(bytes: u64, longest: u64) -> String {
    let length = (u128::from(bytes) * u128::from(BAR_MAX)).div_ceil(u128::from(longest.max(1)));
    "█".repeat(usize::try_from(length).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share_of_the_longest() {
        assert_eq!(bar(0, 100), "");
        assert_eq!(bar(1, 100), "█");
        assert_eq!(bar(50, 100).chars().count(), 12);
        assert_eq!(bar(100, 100).chars().count(), 24);
        assert_eq!(bar(0, 0), "");
    }
}
