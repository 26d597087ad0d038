//! The `unified-scheduler` command: a node to run, and everything to ask of its store.

mod app;
mod args;
mod calendars;
mod completions;
mod config;
mod doctor;
mod executions;
mod exit;
mod import;
mod jobs;
mod migrate;
mod nodes;
mod output;
mod registry;
mod serve;
mod status;
mod values;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use app::App;
use args::{Cli, Command};
use exit::{Answer, Failure};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, and go to the standard output.
            let _ = error.print();
            return if error.use_stderr() { exit::BAD_INPUT.into() } else { ExitCode::SUCCESS };
        }
    };
    let json = cli.global.json;
    match run(cli) {
        Ok(Answer::Yes) | Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Ok(Answer::No) => exit::NO.into(),
        Ok(Answer::Code(code)) => code.into(),
        Err(failure) => {
            failure.report(json);
            failure.code().into()
        }
    }
}

fn run(cli: Cli) -> Result<Answer, Failure> {
    let Cli { global, command } = cli;
    if let Command::Completions { shell } = command {
        return completions::write(shell);
    }
    let app = App::new(global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::input(format!("the runtime can't be started: {e}")))?;
    let answer = runtime.block_on(async {
        let answer = dispatch(&app, command).await;
        // Closing writes what is still on its way; a failure of it must not hide the answer.
        app.close().await;
        answer
    });
    // A handler that blocks a thread must not keep the process.
    runtime.shutdown_background();
    let answer = answer?;
    app.out.flush()?;
    Ok(answer)
}

async fn dispatch(app: &App, command: Command) -> Result<Answer, Failure> {
    match command {
        Command::Serve(args) => serve::run(app, args).await,
        Command::Jobs(command) => jobs::run(app, command).await,
        Command::Executions(command) => executions::run(app, command).await,
        Command::Calendars(command) => calendars::run(app, command).await,
        Command::Nodes => nodes::run(app).await,
        Command::Status => status::run(app).await,
        Command::Verify(args) => verify::run(app, args).await,
        Command::Doctor => doctor::run(app).await,
        Command::Migrate(args) => migrate::run(app, args).await,
        Command::Completions { shell } => completions::write(shell),
    }
}
