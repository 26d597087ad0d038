//! The parameters of a command: their schema, and what the schema can't say.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use unified_scheduler_core::Fault;

use super::CommandOptions;
use super::lines::Capture;

const DEFAULT_SHELL: &str = "/bin/sh";
const DEFAULT_LINES: u64 = 1000;
const DEFAULT_LINE_BYTES: u64 = 4096;
/// Variables by which an allowed program can be made to run another.
const LEADING_ASTRAY: [&str; 8] =
    ["PATH", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "PERL5OPT", "PYTHONSTARTUP", "NODE_OPTIONS"];

pub(super) fn schema() -> Value {
    let text_list = json!({"type": "array", "items": {"type": ["string", "number"]}});
    json!({
        "type": "object",
        "properties": {
            "program": {"type": "string", "description": "Program to run", "minLength": 1},
            "args": {"description": "Its arguments, each as it is", "default": [], "type": text_list["type"], "items": text_list["items"]},
            "shell": {"type": "string", "description": "Line of shell to run instead of a program", "minLength": 1},
            "shell_program": {"type": "string", "description": "Shell that runs the line", "default": DEFAULT_SHELL},
            "working_directory": {"type": "string", "description": "Directory to run in (absolute)"},
            "environment": {
                "type": "object", "description": "Variables to set", "default": {},
                "additionalProperties": {"type": ["string", "number", "boolean", "object"]},
            },
            "stdin": {"type": "string", "description": "Text for its standard input", "maxLength": 1_048_576},
            "success_exit_codes": {
                "type": "array", "description": "Exit codes that count as success",
                // Forms send numbers as text.
                "items": {"type": ["integer", "string"], "minimum": 0, "maximum": 255},
                "minItems": 1, "default": [0],
            },
            "capture": {
                "type": "object", "description": "How much of what it writes is kept",
                "properties": {
                    "max_lines": {
                        "type": "integer", "description": "Lines of each output",
                        "minimum": 0, "maximum": 10_000, "default": DEFAULT_LINES,
                    },
                    "max_line_bytes": {
                        "type": "integer", "description": "Bytes of each line",
                        "minimum": 1, "maximum": 65_536, "default": DEFAULT_LINE_BYTES,
                    },
                },
            },
        },
    })
}

/// A process to start.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) program: String,
    pub(super) args: Vec<String>,
    pub(super) working_directory: Option<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) stdin: Option<String>,
    pub(super) success: Vec<i32>,
    pub(super) capture: Capture,
}

impl Command {
    /// Reads the parameters, and turns numbers that arrived as text into numbers.
    pub(super) fn read(
        parameters: &mut Map<String, Value>,
        options: &CommandOptions,
    ) -> Result<Self, Vec<Fault>> {
        if let Some(Value::Array(codes)) = parameters.get_mut("success_exit_codes") {
            for code in codes {
                if let Some(number) = code.as_str().and_then(|text| text.trim().parse::<u8>().ok()) {
                    *code = json!(number);
                }
            }
        }
        let mut reader = Reader { parameters, faults: Vec::new() };
        let (program, args) = reader.program(options);
        let working_directory = reader.text("working_directory");
        if working_directory.as_ref().is_some_and(|path| !path.starts_with('/')) {
            reader.fault("working_directory", "is not absolute", "begin it with /");
        }
        let environment = reader.environment(options);
        let stdin = reader.text("stdin");
        let success = reader.success();
        let capture = Capture {
            max_lines: reader.limit("max_lines", DEFAULT_LINES, 0, 10_000),
            max_line_bytes: reader.limit("max_line_bytes", DEFAULT_LINE_BYTES, 1, 65_536),
        };
        if reader.has("user") {
            let help = "run a node as that user, or name a program that changes it, such as sudo";
            reader.fault("user", "is not supported: a command runs as the node's user", help);
        }
        if !reader.faults.is_empty() {
            return Err(reader.faults);
        }
        Ok(Self { program, args, working_directory, environment, stdin, success, capture })
    }
}

struct Reader<'a> {
    parameters: &'a Map<String, Value>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, field: &str, message: impl Into<String>, help: &str) {
        self.faults.push(Fault::new(field, message).help(help));
    }

    fn has(&self, field: &str) -> bool {
        self.parameters.get(field).is_some_and(|v| !v.is_null() && v.as_str() != Some(""))
    }

    fn text(&mut self, field: &str) -> Option<String> {
        if !self.has(field) {
            return None;
        }
        let text = self.parameters.get(field).and_then(Value::as_str);
        if text.is_none_or(|text| text.contains('\0')) {
            self.fault(field, "is not a text without NUL", "");
        }
        text.map(str::to_owned)
    }

    /// What is started, with which arguments.
    fn program(&mut self, options: &CommandOptions) -> (String, Vec<String>) {
        let line = self.text("shell");
        let program = self.text("program");
        let shell = self.text("shell_program");
        match (program, line) {
            (Some(program), None) => {
                self.allowed("program", &program, options);
                let args = self.args();
                (program, args)
            }
            (None, Some(line)) => {
                if self.has("args") && self.parameters.get("args") != Some(&json!([])) {
                    self.fault(
                        "args",
                        "belongs to `program`",
                        "write the arguments into the line of `shell`",
                    );
                }
                if !options.allow_shell {
                    let help = "name a `program` with `args`, or ask the operator of the node to allow it";
                    self.fault("shell", "lines of shell are not allowed here", help);
                }
                let shell = shell.unwrap_or_else(|| DEFAULT_SHELL.to_owned());
                if shell != DEFAULT_SHELL {
                    self.allowed("shell_program", &shell, options);
                }
                (shell, vec!["-c".to_owned(), line])
            }
            (Some(_), Some(_)) => {
                self.fault("shell", "stands beside `program`", "give one of them");
                Default::default()
            }
            (None, None) => {
                self.fault("program", "is missing", "give `program` with `args`, or a line of `shell`");
                Default::default()
            }
        }
    }

    fn allowed(&mut self, field: &str, program: &str, options: &CommandOptions) {
        if let Some(allowed) = &options.allowed_programs
            && !allowed.iter().any(|known| known == program)
        {
            let help = format!("allowed are {}", allowed.join(", "));
            self.fault(field, format!("`{program}` is not allowed here"), &help);
        }
    }

    fn args(&mut self) -> Vec<String> {
        let Some(value) = self.parameters.get("args").filter(|v| !v.is_null()) else { return Vec::new() };
        let args = value.as_array().and_then(|list| list.iter().map(plain_text).collect());
        args.unwrap_or_else(|| {
            self.fault("args", "is not a list of texts", "such as [\"-v\", \"file\"]");
            Vec::new()
        })
    }

    fn environment(&mut self, options: &CommandOptions) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        let Some(value) = self.parameters.get("environment").filter(|v| !v.is_null()) else {
            return environment;
        };
        let Some(map) = value.as_object() else {
            self.fault("environment", "is not an object of names and values", "");
            return environment;
        };
        for (name, value) in map {
            let field = format!("environment.{name}");
            if name.is_empty() || name.contains(['=', '\0']) {
                self.fault(&field, "is not the name of a variable", "");
            }
            let astray = LEADING_ASTRAY.contains(&name.as_str())
                || name.starts_with("LD_")
                || name.starts_with("DYLD_");
            if options.allowed_programs.is_some() && astray {
                self.fault(&field, "can't be set where only some programs are allowed", "");
            }
            // A reference; what it stands for is put in its place when the job runs.
            if value.as_object().is_some_and(|map| map.len() == 1 && map.contains_key("$secret")) {
                continue;
            }
            match plain_text(value) {
                Some(text) => {
                    environment.insert(name.clone(), text);
                }
                None => self.fault(&field, "is not a text", ""),
            }
        }
        environment
    }

    fn success(&mut self) -> Vec<i32> {
        let Some(value) = self.parameters.get("success_exit_codes") else { return vec![0] };
        let code = |v: &Value| v.as_u64().and_then(|n| u8::try_from(n).ok()).map(i32::from);
        let codes: Option<Vec<i32>> = value.as_array().and_then(|list| list.iter().map(code).collect());
        codes.filter(|codes| !codes.is_empty()).unwrap_or_else(|| {
            self.fault("success_exit_codes", "is not a list of numbers from 0 to 255", "such as [0]");
            Vec::new()
        })
    }

    fn limit(&mut self, field: &str, default: u64, min: u64, max: u64) -> usize {
        let value = self.parameters.get("capture").and_then(|capture| capture.get(field));
        let number = value.map_or(Some(default), Value::as_u64).filter(|n| (min..=max).contains(n));
        if number.is_none() {
            let message = format!("is not a whole number from {min} to {max}");
            self.fault(&format!("capture.{field}"), message, "");
        }
        number.and_then(|n| usize::try_from(n).ok()).unwrap_or_default()
    }
}

fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.contains('\0') => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value, options: &CommandOptions) -> Result<Command, Vec<String>> {
        Command::read(&mut value.as_object().unwrap().clone(), options)
            .map_err(|faults| faults.into_iter().map(|f| f.field).collect())
    }

    #[test]
    fn a_command_is_a_program_or_a_line_of_shell() {
        let options = CommandOptions { allow_shell: true, ..CommandOptions::default() };
        let command = read(&json!({"program": "echo", "args": ["a b", 7]}), &options).unwrap();
        assert_eq!(
            (command.program.as_str(), command.args),
            ("echo", vec!["a b".to_owned(), "7".to_owned()])
        );
        let command = read(&json!({"shell": "a | b", "success_exit_codes": ["0", 3]}), &options).unwrap();
        assert_eq!(
            (command.program.as_str(), command.args),
            ("/bin/sh", vec!["-c".to_owned(), "a | b".to_owned()])
        );
        assert_eq!(command.success, [0, 3]);
        assert_eq!(read(&json!({}), &options).unwrap_err(), ["program"]);
        assert_eq!(read(&json!({"program": "a", "shell": "b"}), &options).unwrap_err(), ["shell"]);
        assert_eq!(read(&json!({"shell": "b"}), &CommandOptions::default()).unwrap_err(), ["shell"]);
    }

    #[test]
    fn only_what_is_allowed_can_be_run_and_not_be_led_astray() {
        let allowed_programs = Some(vec!["/usr/bin/true".to_owned()]);
        let options = CommandOptions { allowed_programs, allow_shell: true, ..CommandOptions::default() };
        assert!(read(&json!({"program": "/usr/bin/true"}), &options).is_ok());
        let bad = json!({"program": "true", "environment": {"PATH": "/tmp", "LD_PRELOAD": "x", "A": "fine"}});
        assert_eq!(
            read(&bad, &options).unwrap_err(),
            ["program", "environment.LD_PRELOAD", "environment.PATH"]
        );
        assert_eq!(
            read(&json!({"shell": "x", "shell_program": "/bin/dash"}), &options).unwrap_err(),
            ["shell_program"]
        );
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let bad = json!({
            "program": "x", "args": [{}], "working_directory": "here", "environment": {"A=B": "x", "C": []},
            "success_exit_codes": [256], "capture": {"max_lines": -1, "max_line_bytes": 0}, "user": "www-data",
        });
        assert_eq!(
            read(&bad, &CommandOptions::default()).unwrap_err(),
            [
                "args",
                "working_directory",
                "environment.A=B",
                "environment.C",
                "success_exit_codes",
                "capture.max_lines",
                "capture.max_line_bytes",
                "user",
            ]
        );
    }
}
