//! Crontabs as jobs: what `crontab -l` prints, and system crontabs with their column of users.
//!
//! The format is that of Vixie cron and its heirs (crontab(5) of Debian and of cronie): assignments hold
//! for the lines below them, a `%` in a command is the begin of its input, a job is five fields or a
//! nickname. What a line of crontab means and a job here can't is a fault of that line; all faults are
//! told at once.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};
use unified_scheduler::Fault;
use unified_scheduler::job::JobDefinition;
use unified_scheduler::schedule::Schedule;

use text::{Problem, Word, assignment, fields, place, slug, split_input, word};

/// How a crontab is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrontabOptions {
    /// Whether it is a system crontab: the word before the command is a user.
    pub system: bool,
    /// Reads lines of any user. Every command runs as the node's user all the same.
    pub ignore_user: bool,
    /// The node's user: lines of this one are read in any case.
    pub current_user: Option<String>,
    /// The time zone of lines for which the crontab names none.
    pub timezone: String,
    /// What the name of each job begins with.
    pub name_prefix: String,
    /// How long each job may take. Cron has no such limit, so this should be a generous one.
    pub timeout: Duration,
}

impl Default for CrontabOptions {
    /// A user's own crontab, in UTC; a day for each job.
    fn default() -> Self {
        Self {
            system: false,
            ignore_user: false,
            current_user: None,
            timezone: "UTC".to_owned(),
            name_prefix: String::new(),
            timeout: Duration::from_hours(24),
        }
    }
}

/// A job made from a line.
#[derive(Debug, Clone, PartialEq)]
pub struct CrontabJob {
    /// The line, from 1.
    pub line: usize,
    /// What the line says, for the template `command`.
    pub definition: JobDefinition,
    /// What the line says and the job does not.
    pub warnings: Vec<String>,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrontabFault {
    /// The line, from 1.
    pub line: usize,
    /// The character of the line at which the fault begins, from 1.
    pub column: Option<usize>,
    /// The line as it is.
    pub text: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it; empty when the message says it already.
    pub help: String,
}

impl fmt::Display for CrontabFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}", self.message)?;
        if !self.help.is_empty() {
            write!(f, "; {}", self.help)?;
        }
        Ok(())
    }
}

/// Reads a whole crontab.
///
/// # Errors
///
/// Every line that can't be read.
pub fn read(text: &str, options: &CrontabOptions) -> Result<Vec<CrontabJob>, Vec<CrontabFault>> {
    let mut reader = Reader {
        options,
        settings: Settings::default(),
        names: BTreeSet::new(),
        jobs: Vec::new(),
        faults: Vec::new(),
    };
    // An editor of another system may have put a byte order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (i, line) in text.lines().enumerate() {
        let line = Line { number: i + 1, text: line };
        if let Err(problem) = reader.line(&line) {
            reader.faults.push(line.fault(problem));
        }
    }
    if reader.faults.is_empty() { Ok(reader.jobs) } else { Err(reader.faults) }
}

struct Line<'a> {
    number: usize,
    text: &'a str,
}

impl Line<'_> {
    fn fault(&self, problem: Problem) -> CrontabFault {
        let column = problem.at.and_then(|at| self.text.get(..at)).map(|before| before.chars().count() + 1);
        CrontabFault {
            line: self.number,
            column,
            text: self.text.to_owned(),
            message: problem.message,
            help: problem.help,
        }
    }
}

/// What the assignments above a line say.
#[derive(Default)]
struct Settings {
    environment: BTreeMap<String, String>,
    cron_tz: Option<String>,
    tz: Option<String>,
    shell: Option<String>,
    mailto: Option<String>,
    random_delay: Duration,
}

struct Reader<'a> {
    options: &'a CrontabOptions,
    settings: Settings,
    names: BTreeSet<String>,
    jobs: Vec<CrontabJob>,
    faults: Vec<CrontabFault>,
}

impl Reader<'_> {
    fn line(&mut self, line: &Line<'_>) -> Result<(), Problem> {
        let text = line.text.trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        if let Some((name, value)) = assignment(text) {
            return self.assign(&name, value, line);
        }
        self.job(line)
    }

    fn assign(&mut self, name: &str, value: String, line: &Line<'_>) -> Result<(), Problem> {
        let at = line.text.len() - line.text.trim_start().len();
        match name {
            "CRON_TZ" => self.settings.cron_tz = Some(zone(&value, at)?),
            "TZ" => {
                self.settings.tz = Some(zone(&value, at)?);
                self.settings.environment.insert(name.to_owned(), value);
            }
            "SHELL" => self.settings.shell = Some(value),
            "MAILTO" => self.settings.mailto = Some(value),
            // Of cronie: a delay of up to so many minutes.
            "RANDOM_DELAY" => {
                let minutes: u32 = value.parse().map_err(|_| {
                    Problem::new(
                        at,
                        format!("`{value}` is not a number of minutes"),
                        "such as RANDOM_DELAY=45",
                    )
                })?;
                self.settings.random_delay = Duration::from_mins(minutes.into());
            }
            _ => {
                self.settings.environment.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }

    fn job(&mut self, line: &Line<'_>) -> Result<(), Problem> {
        let (fields, mut rest) = fields(line.text)?;
        let schedule = self.schedule(&fields)?;
        let mut warnings = Vec::new();
        let mut extra = Map::new();
        if self.options.system {
            let Some((user, after)) = word(line.text, rest) else {
                let help = "a system crontab has the user before the command";
                return Err(Problem::new(line.text.len(), "the user and the command are missing", help));
            };
            self.check_user(user)?;
            extra.insert("crontab_user".to_owned(), json!(user.1));
            rest = after;
        }
        let Some(((at, first), _)) = word(line.text, rest) else {
            return Err(Problem::new(line.text.len(), "the command is missing", ""));
        };
        if !self.options.system && first == "root" {
            warnings.push("the command begins with `root`, as lines of a system crontab do".to_owned());
        }
        let (command, stdin) = split_input(line.text.get(at..).unwrap_or_default().trim_end());
        if command.is_empty() {
            return Err(Problem::new(
                at,
                "the command is empty",
                "a `%` begins its input; write `\\%` for the character",
            ));
        }
        let name = self.name(&command);
        let mut definition = JobDefinition::new(name, "command", schedule);
        definition.description = command.chars().take(1000).filter(|c| !c.is_control()).collect();
        definition.timeout = self.options.timeout;
        definition.extra = extra;
        definition.parameters = self.parameters(command, stdin);
        if let Some(mailto) = self.settings.mailto.as_ref().filter(|address| !address.is_empty()) {
            definition.tags.push(format!("mailto:{mailto}"));
            warnings.push(format!("MAILTO={mailto}: output goes to the history instead of being mailed"));
        }
        self.jobs.push(CrontabJob { line: line.number, definition, warnings });
        Ok(())
    }

    fn schedule(&self, fields: &[Word<'_>]) -> Result<Schedule, Problem> {
        let at = fields.first().map_or(0, |(at, _)| *at);
        let words: Vec<&str> = fields.iter().map(|(_, field)| *field).collect();
        let settings = &self.settings;
        let zone = settings.cron_tz.as_ref().or(settings.tz.as_ref()).unwrap_or(&self.options.timezone);
        let schedule = Schedule::cron_in(words.join(" "), zone).jitter(settings.random_delay);
        match schedule.compile("crontab") {
            Ok(_) => Ok(schedule),
            Err(faults) => {
                let fault = faults.into_iter().next().unwrap_or_else(|| Fault::new("", "it can't be read"));
                let at = fault.position.map_or(at, |position| place(fields, position));
                let mut help = fault.help;
                if words.iter().any(|field| field.contains('~')) {
                    "in place of a random value write `H`: one that is the job's own, and stays"
                        .clone_into(&mut help);
                }
                Err(Problem::new(at, fault.message, help))
            }
        }
    }

    fn check_user(&self, (at, user): Word<'_>) -> Result<(), Problem> {
        if self.options.ignore_user || self.options.current_user.as_deref() == Some(user) {
            return Ok(());
        }
        let help = "import it on a node of that user, or ignore users (--ignore-user)";
        Err(Problem::new(at, format!("it is to run as `{user}`; commands run as the node's user"), help))
    }

    fn parameters(&self, command: String, stdin: Option<String>) -> Map<String, Value> {
        let mut parameters = Map::new();
        let mut put = |key: &str, value: Value| parameters.insert(key.to_owned(), value);
        put("shell", Value::String(command));
        if let Some(stdin) = stdin {
            put("stdin", Value::String(stdin));
        }
        let settings = &self.settings;
        if let Some(shell) = &settings.shell {
            put("shell_program", json!(shell));
        }
        if let Some(home) = settings.environment.get("HOME").filter(|home| home.starts_with('/')) {
            put("working_directory", json!(home));
        }
        if !settings.environment.is_empty() {
            put("environment", json!(settings.environment));
        }
        parameters
    }

    /// A name that says what the command is, and does not depend on the lines around it unless they say
    /// the same.
    fn name(&mut self, command: &str) -> String {
        let name = format!("{}{}", self.options.name_prefix, slug(command));
        let mut unique = name.clone();
        for n in 2.. {
            if self.names.insert(unique.clone()) {
                break;
            }
            unique = format!("{name}-{n}");
        }
        unique
    }
}

/// The zone of an assignment, which may begin with the colon of POSIX.
fn zone(value: &str, at: usize) -> Result<String, Problem> {
    let name = value.strip_prefix(':').unwrap_or(value);
    match Schedule::cron_in("0 0 * * *", name).compile("crontab") {
        Ok(_) => Ok(name.to_owned()),
        Err(faults) => {
            let fault = faults.into_iter().next().unwrap_or_else(|| Fault::new("", "no such time zone"));
            Err(Problem::new(at, fault.message, fault.help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(text: &str) -> Vec<CrontabJob> {
        read(text, &CrontabOptions::default()).unwrap()
    }

    fn faults(text: &str) -> Vec<(usize, Option<usize>, String)> {
        let faults = read(text, &CrontabOptions::default()).unwrap_err();
        faults.into_iter().map(|f| (f.line, f.column, format!("{}; {}", f.message, f.help))).collect()
    }

    #[test]
    fn a_debian_system_crontab_is_read_as_it_is() {
        let text = include_str!("../tests/fixtures/crontab.debian");
        let options = CrontabOptions {
            system: true,
            current_user: Some("root".into()),
            timezone: "Europe/Berlin".into(),
            ..CrontabOptions::default()
        };
        let jobs = read(text, &options).unwrap();
        let names: Vec<&str> = jobs.iter().map(|job| job.definition.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "cd-run-parts-report-cron.hourly",
                "test-x-anacron-cd-run-parts-report-cron.daily",
                "test-x-anacron-cd-run-parts-report-cron.weekly",
                "test-x-anacron-cd-run-parts-report-cron.monthly",
            ]
        );
        let job = &jobs[2].definition;
        assert_eq!(jobs[2].line, 22);
        assert_eq!(job.schedule, Schedule::cron_in("47 6 * * 7", "Europe/Berlin"));
        assert_eq!(
            Value::Object(job.parameters.clone()),
            json!({
                "shell": "test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.weekly; }",
                "shell_program": "/bin/sh",
                "environment": {"PATH": "/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin"},
            })
        );
        assert_eq!(
            (&job.extra["crontab_user"], job.tags.as_slice()),
            (&json!("root"), &["mailto:root".to_owned()][..])
        );
        let other = CrontabOptions { current_user: Some("www-data".into()), ..options };
        let faults = read(text, &other).unwrap_err();
        assert_eq!(faults.len(), 4);
        assert_eq!((faults[0].line, faults[0].column), (20, Some(12)));
        assert!(faults[0].to_string().contains("--ignore-user"), "{}", faults[0]);
        assert!(read(text, &CrontabOptions { ignore_user: true, ..other }).is_ok());
    }

    #[test]
    fn assignments_hold_for_the_lines_below_them() {
        let jobs = jobs(
            "0 3 * * * first\n A = \"b c\" \n'B'='x'\nHOME=/srv\nCRON_TZ=Asia/Tokyo\nTZ=:UTC\nSHELL=/bin/bash\n\
             MAILTO=\n# A=z\n0 3 * * 1-5 second --a=b\nMAILTO=ops@example.org\nRANDOM_DELAY=45\n@Daily third",
        );
        let parameters = |i: usize| Value::Object(jobs[i].definition.parameters.clone());
        assert_eq!(parameters(0), json!({"shell": "first"}));
        let environment = json!({"A": "b c", "B": "x", "HOME": "/srv", "TZ": ":UTC"});
        assert_eq!(
            parameters(1),
            json!({
                "shell": "second --a=b", "shell_program": "/bin/bash", "working_directory": "/srv",
                "environment": environment,
            })
        );
        assert_eq!(jobs[1].definition.schedule, Schedule::cron_in("0 3 * * 1-5", "Asia/Tokyo"));
        assert_eq!((jobs[1].warnings.len(), jobs[2].warnings.len()), (0, 1));
        assert_eq!(jobs[2].definition.schedule.jitter, Duration::from_mins(45));
    }

    #[test]
    fn a_percent_sign_begins_the_input() {
        let split = |text: &str| {
            let parameters = &jobs(&format!("* * * * * {text}"))[0].definition.parameters;
            let of = |key: &str| parameters.get(key).and_then(Value::as_str).map(str::to_owned);
            (of("shell").unwrap(), of("stdin"))
        };
        assert_eq!(split("mail -s hi%one%%two"), ("mail -s hi".into(), Some("one\n\ntwo\n".into())));
        assert_eq!(split(r"date +\%Y-\%m"), ("date +%Y-%m".into(), None));
        assert_eq!(split(r"printf '\n' % 100\% \x"), (r"printf '\n'".into(), Some(" 100% \\x\n".into())));
        assert_eq!(split("cat %"), ("cat".into(), None));
        assert_eq!(split(r"a\\%b\\%c"), (r"a\\".into(), Some("b\\%c\n".into())));
        assert!(faults("* * * * * %x")[0].2.contains("is empty"));
    }

    #[test]
    fn every_bad_line_is_told_with_its_column() {
        let found = faults(
            "# fine\n61 * * * * a\n\n  0 3\t*  13 * b\n@reboot c\n@sometimes d\n0 3 * *\nTZ=Mars/Olympus\n0 3 * * * fine\n* * * * *",
        );
        let places: Vec<(usize, Option<usize>)> =
            found.iter().map(|(line, column, _)| (*line, *column)).collect();
        assert_eq!(
            places,
            [
                (2, Some(1)),
                (4, Some(10)),
                (5, Some(1)),
                (6, Some(1)),
                (7, Some(8)),
                (8, Some(1)),
                (10, Some(10))
            ]
        );
        assert!(found[2].2.contains("service manager"), "{}", found[2].2);
        assert!(found[3].2.contains("@weekly"), "{}", found[3].2);
        assert!(faults("0~59 * * * * a")[0].2.contains('H'));
    }

    #[test]
    fn names_are_readable_unique_and_do_not_depend_on_other_lines() {
        let long = "x".repeat(300);
        let text = format!(
            "* * * * * /usr/bin/backup.sh --full >/dev/null 2>&1\n1 * * * * /opt/backup.sh --full > /dev/null 2>&1\n\
             * * * * * ***\n* * * * * {long}"
        );
        let options = CrontabOptions { name_prefix: "web1: ".into(), ..CrontabOptions::default() };
        let jobs = read(&text, &options).unwrap();
        let names: Vec<&str> = jobs.iter().map(|job| job.definition.name.as_str()).collect();
        assert_eq!(
            names[..3],
            ["web1: backup.sh-full-null-2-1", "web1: backup.sh-full-null-2-1-2", "web1: command"]
        );
        assert_eq!(names[3].chars().count(), 66);
    }

    #[test]
    fn a_system_crontab_read_as_a_users_own_is_noticed() {
        assert!(jobs("17 * * * * root run-parts /etc")[0].warnings[0].contains("system crontab"));
        assert_eq!(
            jobs("-*/5 * * * * quiet\r\n\u{20}")[0].definition.schedule,
            Schedule::cron("*/5 * * * *")
        );
    }
}
