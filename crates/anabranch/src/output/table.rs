//! Columns for a person: no borders, two spaces between, the last column cut to the terminal.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};

/// Columns that a terminal has; `None` when stdout is none.
pub(crate) fn width() -> Option<usize> {
    Table::new().width().map(usize::from)
}

/// Writes rows under a head. The last column is cut so that no line is wider than `width`.
pub(crate) fn write(
    out: &mut impl Write,
    head: Option<Vec<String>>,
    mut rows: Vec<Vec<String>>,
    width: Option<usize>,
) -> io::Result<()> {
    if let Some(head) = head {
        rows.insert(0, head);
    }
    for cell in rows.iter_mut().flatten() {
        *cell = printable(cell);
    }
    if let Some(width) = width {
        cut_last_column(&mut rows, width);
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Control characters would move the cursor: they are shown as symbols.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => '⏎',
            '\t' => '→',
            c if c.is_control() => '·',
            c => c,
        })
        .collect()
}

fn cut_last_column(rows: &mut [Vec<String>], width: usize) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let Some(last) = columns.checked_sub(1) else {
        return;
    };
    let wide = |column: usize, rows: &[Vec<String>]| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let before: usize = (0..last).map(|column| wide(column, rows) + 2).sum();
    // A terminal too narrow for the other columns still shows something of the last one.
    let room = width.saturating_sub(before).max(8);
    for cell in rows.iter_mut().filter_map(|row| row.get_mut(last)) {
        if cell.chars().count() > room {
            *cell = cell.chars().take(room - 1).chain(['…']).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 3]], width: Option<usize>) -> String {
        let rows = rows
            .iter()
            .map(|row| row.iter().map(ToString::to_string).collect())
            .collect();
        let mut out = Vec::new();
        let head = ["NAME", "N", "VALUE"].map(str::to_owned).to_vec();
        write(&mut out, Some(head), rows, width).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_line_up_without_borders() {
        assert_eq!(
            table(&[["a", "1", "x"], ["longer", "22", "y"]], None),
            "NAME    N   VALUE\na       1   x\nlonger  22  y\n"
        );
    }

    #[test]
    fn the_last_column_is_cut_to_the_terminal() {
        assert_eq!(
            table(&[["a", "1", "0123456789abcdef"]], Some(20)),
            "NAME  N  VALUE\na     1  0123456789…\n"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let text = table(&[["a", "1", "x\u{1b}[2Jy\nz"]], None);
        assert!(text.contains("x·[2Jy⏎z"));
    }
}
