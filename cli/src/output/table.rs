//! Tables: columns as wide as their widest cell, numbers to the right, nothing where nothing is.

use super::color::{Paint, Style};
use super::{Out, clean, cut};
use crate::exit::Failure;

/// No cell is shown wider.
const WIDEST: usize = 60;

/// One cell.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self { text: cut(&clean(text.as_ref()), WIDEST), ..Self::default() }
    }

    /// A cell of which nothing is cut.
    pub(crate) fn whole(text: impl AsRef<str>) -> Self {
        Self { text: clean(text.as_ref()), ..Self::default() }
    }

    /// The same, to the right of its column.
    pub(crate) fn right(mut self) -> Self {
        self.right = true;
        self
    }

    pub(crate) fn style(mut self, style: Style) -> Self {
        self.style = style;
        self
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// Rows below their titles.
pub(crate) struct Table {
    titles: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        Self { titles: titles.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn write(&self, out: &Out) -> Result<(), Failure> {
        self.lines(out.paint).iter().try_for_each(|line| out.line(line))
    }

    fn lines(&self, paint: Paint) -> Vec<String> {
        let column = |i: usize| self.rows.iter().filter_map(move |row| row.get(i));
        let widths: Vec<usize> = (0..self.titles.len())
            .map(|i| column(i).map(Cell::width).max().unwrap_or(0).max(self.titles[i].chars().count()))
            .collect();
        // A column in which nothing stands is left out.
        let shown: Vec<usize> =
            (0..self.titles.len()).filter(|i| column(*i).any(|cell| !cell.text.is_empty())).collect();
        let titles: Vec<Cell> = self
            .titles
            .iter()
            .enumerate()
            .map(|(i, title)| Cell {
                text: title.to_uppercase(),
                style: Style::Bold,
                right: column(i).all(|cell| cell.right),
            })
            .collect();
        std::iter::once(&titles)
            .chain(&self.rows)
            .map(|row| {
                let mut line = String::new();
                for i in &shown {
                    if !line.is_empty() {
                        line.push_str("  ");
                    }
                    let cell = row.get(*i).cloned().unwrap_or_default();
                    let space = " ".repeat(widths[*i].saturating_sub(cell.width()));
                    let text = paint.show(cell.style, &cell.text);
                    line.push_str(&if cell.right { space + &text } else { text + &space });
                }
                line.trim_end().to_owned()
            })
            .collect()
    }
}

/// `name: value` lines, the values below each other.
pub(crate) struct Facts(Vec<(String, String)>);

impl Facts {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a fact that may have several lines; one without a value is left out.
    pub(crate) fn add(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.0.push((name.to_owned(), value));
        }
    }

    pub(crate) fn write(&self, out: &Out) -> Result<(), Failure> {
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 1;
        for (name, value) in &self.0 {
            for (i, line) in value.lines().enumerate() {
                let name = if i == 0 { format!("{name}:") } else { String::new() };
                out.line(format_args!(
                    "{}  {line}",
                    out.paint.show(Style::Bold, &format!("{name:<width$}"))
                ))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ColorChoice;

    #[test]
    fn columns_line_up_and_empty_ones_are_left_out() {
        let mut table = Table::new(&["name", "fault", "n"]);
        table.row(vec![Cell::new("a"), Cell::default(), Cell::new("7").right()]);
        table.row(vec![Cell::new("long\tname"), Cell::default(), Cell::new("120").right()]);
        let lines = table.lines(Paint::new(ColorChoice::Never, true));
        assert_eq!(lines, ["NAME          N", "a             7", "long\\tname  120"]);
    }
}
