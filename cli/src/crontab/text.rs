//! The text of a crontab: assignments, words, the fields of a time, commands and their input.

/// What is wrong with a line, and at which byte of it.
pub(super) struct Problem {
    pub(super) at: Option<usize>,
    pub(super) message: String,
    pub(super) help: String,
}

impl Problem {
    pub(super) fn new(at: usize, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { at: Some(at), message: message.into(), help: help.into() }
    }
}

/// A word of a line, and where it begins.
pub(super) type Word<'a> = (usize, &'a str);

/// `NAME=value`, with blanks and quotes as cron takes them: around the name, the sign and the value.
pub(super) fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let name = unquoted(name.trim());
    let mut characters = name.chars();
    let begins = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !begins || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    Some((name.to_owned(), unquoted(value.trim()).to_owned()))
}

fn unquoted(text: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(text)
}

/// The next word from byte `from` on, and the byte after it.
pub(super) fn word(text: &str, from: usize) -> Option<(Word<'_>, usize)> {
    let rest = text.get(from..)?;
    let begin = from + (rest.len() - rest.trim_start().len());
    let rest = text.get(begin..)?;
    let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let found = rest.get(..length).filter(|found| !found.is_empty())?;
    Some(((begin, found), begin + length))
}

/// The fields of a job's time, and the byte after them.
pub(super) fn fields(text: &str) -> Result<(Vec<Word<'_>>, usize), Problem> {
    let mut fields = Vec::new();
    let mut end = 0;
    while fields.len() < 5 {
        let Some(((mut at, mut field), after)) = word(text, end) else {
            let n = fields.len();
            let message = format!("{n} of the 5 fields of a time are there, and no command");
            let help = "minute, hour, day of month, month, day of week, command";
            return Err(Problem::new(text.len(), message, help));
        };
        if fields.is_empty() {
            nickname(at, field)?;
            if field.starts_with('@') {
                return Ok((vec![(at, field)], after));
            }
            // Of cronie: keeps the job out of the system's log.
            if let Some(loud) = field.strip_prefix('-') {
                (at, field) = (at + 1, loud);
            }
        }
        fields.push((at, field));
        end = after;
    }
    Ok((fields, end))
}

fn nickname(at: usize, field: &str) -> Result<(), Problem> {
    const KNOWN: [&str; 7] =
        ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    let lower = field.to_ascii_lowercase();
    if !lower.starts_with('@') || KNOWN.contains(&lower.as_str()) {
        return Ok(());
    }
    if lower == "@reboot" {
        let help = "leave the line out, and let the system's service manager start the command";
        return Err(Problem::new(at, "a scheduler is not told when the machine starts", help));
    }
    Err(Problem::new(at, format!("there is no time `{field}`"), format!("there are {}", KNOWN.join(", "))))
}

/// Byte `position` of the fields joined by single blanks, as a byte of the line.
pub(super) fn place(fields: &[Word<'_>], position: usize) -> usize {
    let mut begin = 0;
    for (at, field) in fields {
        if position <= begin + field.len() {
            return at + position.saturating_sub(begin);
        }
        begin += field.len() + 1;
    }
    fields.last().map_or(0, |(at, field)| at + field.len())
}

/// The command and its input, as `do_command.c` of Vixie cron splits them: at the first `%`; each later
/// one is a new line; `\%` is the character, but `\\%` in a command is a backslash and the split; the
/// input ends with a new line.
pub(super) fn split_input(text: &str) -> (String, Option<String>) {
    let mut command = String::new();
    let mut input = "";
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == '%' && !escaped {
            input = text.get(at + 1..).unwrap_or_default();
            break;
        }
        if c == '%' {
            command.pop();
        }
        command.push(c);
        escaped = c == '\\' && !escaped;
    }
    let lines: Vec<String> = input.split("\\%").map(|part| part.replace('%', "\n")).collect();
    let mut input = lines.join("%");
    if !input.is_empty() && !input.ends_with('\n') {
        input.push('\n');
    }
    (command.trim_end().to_owned(), (!input.is_empty()).then_some(input))
}

/// The words of a command, paths by their last part, as a name: `/usr/bin/backup.sh --full` is
/// `backup.sh-full`.
pub(super) fn slug(command: &str) -> String {
    const LONGEST: usize = 60;
    let mut slug = String::new();
    for word in command.split_whitespace() {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_');
        let word = word.trim_matches(|c| !plain(c));
        let word = word.rsplit('/').next().unwrap_or_default();
        for part in word.split(|c| !plain(c)).filter(|part| !part.is_empty()) {
            if slug.chars().count() + part.chars().count() >= LONGEST && !slug.is_empty() {
                return slug;
            }
            if !slug.is_empty() {
                slug.push('-');
            }
            slug.extend(part.chars().take(LONGEST));
        }
    }
    if slug.is_empty() { "command".to_owned() } else { slug }
}
