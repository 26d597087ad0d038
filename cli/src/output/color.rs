//! Colors, where a terminal is and nobody minds; see <https://no-color.org>.

use unified_scheduler::Status;
use unified_scheduler::execution::StatusClass;

use crate::args::ColorChoice;

/// A way to show text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Style {
    #[default]
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Style {
    /// The style in which a status is shown.
    pub(crate) fn of(status: Status) -> Self {
        match status.class() {
            StatusClass::Ok => Self::Green,
            StatusClass::Part => Self::Yellow,
            StatusClass::Bad => Self::Red,
            StatusClass::Open => Self::Cyan,
            StatusClass::Neutral => Self::Dim,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\u{1b}[1m",
            Self::Dim => "\u{1b}[2m",
            Self::Red => "\u{1b}[31m",
            Self::Green => "\u{1b}[32m",
            Self::Yellow => "\u{1b}[33m",
            Self::Cyan => "\u{1b}[36m",
        }
    }
}

/// Whether to color, decided once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    pub(crate) fn new(choice: ColorChoice, terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let on = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !unwanted,
        };
        Self { on }
    }

    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    /// The text in a style, if colors are on.
    pub(crate) fn show(self, style: Style, text: &str) -> String {
        if self.on && style != Style::Plain {
            return format!("{}{text}\u{1b}[0m", style.code());
        }
        text.to_owned()
    }
}

/// Whether what goes to the standard error may be colored.
pub(crate) fn stderr_is_colored() -> bool {
    use std::io::IsTerminal as _;
    Paint::new(ColorChoice::Auto, std::io::stderr().is_terminal()).is_on()
}
