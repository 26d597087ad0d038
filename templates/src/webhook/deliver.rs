//! Calling a webhook: tries, waits, redirects, and what is kept of the answer.

use std::time::Duration;

use chrono::DateTime;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::json;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::execution::{JobResult, Level};
use unified_scheduler_core::handler::{HandlerError, Outcome};

use super::guard::{Guard, Refused};
use super::request::Request;
use crate::run::{Run, interrupted};

const LONGEST_WAIT: Duration = Duration::from_mins(1);
const MAX_REDIRECTS: usize = 5;
/// How much of an answer is kept, in characters, and how much is read for that, in bytes.
const KEPT_CHARS: usize = 500;
const READ_BYTES: usize = 16 * 1024;
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Calls the webhook until it answers as expected, or its tries are used up.
pub(super) async fn deliver(
    client: &Client,
    guard: &Guard,
    request: &Request,
    key: &str,
    run: &dyn Run,
) -> Result<Outcome, HandlerError> {
    let url = request.shown_url();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let answer = tokio::select! {
            answer = call(client, guard, request, key, run) => answer,
            () = run.cancelled() => return Err(interrupted(format!("stopped during try {attempts}"))),
        };
        let miss = match answer {
            Ok(Answer { status, text }) => {
                run.log(Level::Info, format!("{} {url}: HTTP {status}", request.method));
                return Ok(JobResult {
                    message: format!("{} answered with HTTP {status}", request.method),
                    details: json!({
                        "url": url, "method": request.method.as_str(), "status_code": status,
                        "response": text, "attempts": attempts,
                    }),
                    records_processed: 1,
                    records_affected: 1,
                    ..JobResult::default()
                }
                .into());
            }
            Err(miss) => miss,
        };
        run.log(Level::Warning, format!("{} {url}, try {attempts}: {}", request.method, miss.message));
        if !miss.again || attempts > request.n_retries {
            let details = json!({
                "url": url, "method": request.method.as_str(), "attempts": attempts, "last_error": miss.message,
            });
            let result = JobResult {
                message: miss.message.clone(),
                details,
                records_processed: 1,
                errors: vec![miss.message.clone()],
                ..JobResult::default()
            };
            let tries = if attempts == 1 { "1 try".to_owned() } else { format!("{attempts} tries") };
            return Err(HandlerError::new(format!("{} after {tries}", miss.message)).with_result(result));
        }
        let wait = wait_before(attempts).max(miss.wait.unwrap_or_default()).min(LONGEST_WAIT);
        tokio::select! {
            () = run.sleep(wait) => {}
            () = run.cancelled() => return Err(interrupted(format!("stopped after try {attempts}"))),
        }
    }
}

/// 2, 4, 8 … seconds.
fn wait_before(retry: u32) -> Duration {
    Duration::from_secs(1_u64.checked_shl(retry).unwrap_or(u64::MAX)).min(LONGEST_WAIT)
}

struct Answer {
    status: u16,
    text: String,
}

/// A try that did not bring what was expected.
struct Miss {
    message: String,
    again: bool,
    wait: Option<Duration>,
}

impl Miss {
    fn for_good(message: impl Into<String>) -> Self {
        Self { message: message.into(), again: false, wait: None }
    }
}

async fn call(
    client: &Client,
    guard: &Guard,
    request: &Request,
    key: &str,
    run: &dyn Run,
) -> Result<Answer, Miss> {
    let mut url = request.url.clone();
    let mut method = request.method.clone();
    let mut headers = request.headers.clone();
    let mut body = request.body.as_ref();
    if !headers.contains_key(&IDEMPOTENCY_KEY)
        && let Ok(value) = HeaderValue::from_str(key)
    {
        headers.insert(IDEMPOTENCY_KEY.clone(), value);
    }
    for _ in 0..=MAX_REDIRECTS {
        if let Some(why) = guard.refusal(&url) {
            return Err(Miss::for_good(format!("refused: {why}")));
        }
        let mut call =
            client.request(method.clone(), url.clone()).headers(headers.clone()).timeout(request.timeout);
        if let Some(body) = body {
            call = call.body(body.to_string());
        }
        let response = call.send().await.map_err(|e| transport(&e))?;
        let status = response.status();
        if request.expected.contains(&status.as_u16()) {
            return Ok(Answer { status: status.as_u16(), text: beginning_of(response).await });
        }
        let Some(next) = redirect_target(&response) else {
            return Err(unexpected(response, run.now()).await);
        };
        if next.origin() != url.origin() {
            // What was meant for one host, such as a token, is not shown to another.
            let kept = [CONTENT_TYPE, IDEMPOTENCY_KEY.clone()];
            headers = kept
                .into_iter()
                .filter_map(|name| headers.remove(&name).map(|value| (name, value)))
                .collect();
        }
        let to_get = status == StatusCode::SEE_OTHER
            || (method == Method::POST
                && matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND));
        if to_get {
            method = Method::GET;
            body = None;
            headers.remove(CONTENT_TYPE);
        }
        url = next;
    }
    Err(Miss::for_good(format!("more than {MAX_REDIRECTS} redirects")))
}

fn redirect_target(response: &Response) -> Option<Url> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    response.url().join(location).ok()
}

/// An answer with another status. A request that was wrong stays wrong: of the 4xx only those that
/// speak of time are worth another try.
async fn unexpected(response: Response, now: Timestamp) -> Miss {
    let status = response.status();
    let wait = response.headers().get(RETRY_AFTER).and_then(|v| retry_after(v.to_str().ok()?, now));
    let again = !status.is_client_error() || matches!(status.as_u16(), 408 | 425 | 429);
    let text = beginning_of(response).await;
    let text: String = text.chars().take(200).collect();
    let message = match text.trim() {
        "" => format!("HTTP {}", status.as_u16()),
        text => format!("HTTP {}: {text}", status.as_u16()),
    };
    Miss { message, again, wait }
}

/// RFC 9110, section 10.2.3: seconds, or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTime::parse_from_rfc2822(text.trim()).ok()?;
    Some(Timestamp::from(until.to_utc()).since(now))
}

fn transport(error: &reqwest::Error) -> Miss {
    let mut message = if error.is_timeout() { "no answer in time" } else { "the call failed" }.to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return Miss::for_good(refused.to_string());
        }
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    Miss { message, again: true, wait: None }
}

/// The first characters of the answer; nothing when it breaks off, which its status survives.
async fn beginning_of(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < READ_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                let room = READ_BYTES - bytes.len();
                bytes.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            }
            Ok(None) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&bytes).chars().take(KEPT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use unified_scheduler_core::template::Template;

    use super::*;
    use crate::run::tests::FakeRun;
    use crate::webhook::{WebhookOptions, WebhookTrigger};

    /// A server that gives these answers one after another, the last for ever, and keeps what it is sent.
    struct Server {
        url: String,
        requests: Arc<Mutex<Vec<String>>>,
    }

    impl Server {
        async fn answering(answers: &[&str]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/hook", listener.local_addr().unwrap());
            let requests = Arc::new(Mutex::new(Vec::new()));
            let kept = Arc::clone(&requests);
            let answers: Vec<String> = answers.iter().map(|a| (*a).to_owned()).collect();
            tokio::spawn(async move {
                for n in 0.. {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let request = read_request(&mut stream).await;
                    kept.lock().unwrap().push(request);
                    let answer = answers.get(n).or(answers.last()).unwrap();
                    if answer.is_empty() {
                        continue;
                    }
                    let (head, body) = answer.split_once("\n\n").unwrap_or((answer, ""));
                    let head = head.replace('\n', "\r\n");
                    let reply = format!(
                        "HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    // The client may have gone away after the part that it wanted.
                    let _ = stream.write_all(reply.as_bytes()).await;
                }
            });
            Self { url, requests }
        }

        fn requests(&self) -> Vec<String> {
            self.requests.lock().unwrap().clone()
        }
    }

    async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |n| n.parse().unwrap()) {
                    return text;
                }
            }
            if stream.read_buf(&mut bytes).await.unwrap() == 0 {
                return text;
            }
        }
    }

    async fn run_on(
        options: WebhookOptions,
        parameters: Value,
        run: &FakeRun,
    ) -> Result<Outcome, HandlerError> {
        let template = WebhookTrigger::new(options);
        let mut parameters = parameters.as_object().unwrap().clone();
        let request = Request::read(&mut parameters).unwrap();
        deliver(template.client()?, &template.guard, &request, "job@2026", run).await
    }

    async fn call_it(parameters: Value, run: &FakeRun) -> Result<Outcome, HandlerError> {
        run_on(WebhookOptions::default(), parameters, run).await
    }

    fn details(result: Result<Outcome, HandlerError>) -> Value {
        match result {
            Ok(outcome) => outcome.result.details,
            Err(error) => error.result.map(|r| r.details).unwrap_or_default(),
        }
    }

    #[tokio::test]
    async fn an_expected_answer_is_kept_to_its_500th_character() {
        let server = Server::answering(&[&format!("201 Created\n\n{}", "é".repeat(20_000))]).await;
        let run = FakeRun::new();
        let parameters = json!({"url": server.url, "headers": {"X-Token": "t"}, "body": {"a": 1}});
        let details = details(call_it(parameters, &run).await);
        assert_eq!(details["response"], "é".repeat(500));
        assert_eq!(details["status_code"], 201);
        assert_eq!((&details["attempts"], &details["method"]), (&json!(1), &json!("POST")));
        let requests = server.requests();
        for part in [
            "post /hook",
            "x-token: t",
            "content-type: application/json",
            "idempotency-key: job@2026",
            "{\"a\":1}",
        ] {
            assert!(requests[0].contains(part), "{part} in {}", requests[0]);
        }
    }

    #[tokio::test]
    async fn tries_are_2_4_8_seconds_apart_and_then_it_fails() {
        let server =
            Server::answering(&["500 No\n\nbroken", "", "429 Slow\nretry-after: 7", "503 Away"]).await;
        let run = FakeRun::new();
        let error = call_it(json!({"url": server.url, "method": "GET"}), &run).await.unwrap_err();
        assert_eq!(*run.slept.lock().unwrap(), [2, 4, 8]);
        assert_eq!(error.failure.message, "HTTP 503 after 4 tries");
        let details = error.result.unwrap().details;
        assert_eq!(
            details,
            json!({"url": server.url, "method": "GET", "attempts": 4, "last_error": "HTTP 503"})
        );
        assert!(run.has_line("HTTP 500: broken") && run.has_line("HTTP 429"));
    }

    #[tokio::test]
    async fn a_server_that_names_a_time_is_obeyed_up_to_a_minute() {
        // The date is 20 seconds after the clock of the execution, and 18 after the first wait.
        let server = Server::answering(&[
            "429 Slow\nretry-after: 30",
            "503 Away\nretry-after: Fri, 02 Jan 2026 03:05:00 GMT",
            "408 Late\nretry-after: 3600",
            "200 OK",
        ])
        .await;
        let run = FakeRun::new();
        assert_eq!(details(call_it(json!({"url": server.url}), &run).await)["attempts"], 4);
        assert_eq!(*run.slept.lock().unwrap(), [30, 25, 60]);
    }

    #[tokio::test]
    async fn what_can_not_change_is_not_tried_again() {
        for (answer, more) in [
            ("404 No", json!({})),
            ("401 No", json!({})),
            ("500 No", json!({"retry_on_failure": false})),
            ("503 No", json!({"max_retries": 0})),
        ] {
            let server = Server::answering(&[answer]).await;
            let run = FakeRun::new();
            let mut parameters = json!({"url": server.url});
            parameters.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert!(call_it(parameters, &run).await.is_err());
            assert_eq!(server.requests().len(), 1, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_followed_without_showing_secrets_to_another_host() {
        let other = Server::answering(&["200 OK\n\nhere"]).await;
        let server = Server::answering(&[&format!("307 There\nlocation: {}", other.url)]).await;
        let parameters = json!({"url": server.url, "headers": {"X-Token": "t"}, "body": {"a": 1}});
        assert_eq!(details(call_it(parameters, &FakeRun::new()).await)["response"], "here");
        let request = &other.requests()[0];
        assert!(request.starts_with("post ") && request.contains("{\"a\":1}"), "{request}");
        assert!(!request.contains("x-token") && request.contains("idempotency-key: job@2026"), "{request}");
    }

    #[tokio::test]
    async fn a_redirect_to_where_nothing_may_go_is_refused_at_once() {
        for target in [
            "http://169.254.169.254/latest/meta-data",
            "http://metadata.google.internal/",
            "file:///etc/passwd",
        ] {
            let server = Server::answering(&[&format!("302 There\nlocation: {target}")]).await;
            let run = FakeRun::new();
            let error = call_it(json!({"url": server.url}), &run).await.unwrap_err();
            assert!(error.failure.message.starts_with("refused: "), "{error}");
            assert_eq!((server.requests().len(), run.slept.lock().unwrap().len()), (1, 0));
        }
        let server = Server::answering(&["302 There\nlocation: /hook"]).await;
        let error = call_it(json!({"url": server.url}), &FakeRun::new()).await.unwrap_err();
        assert!(error.failure.message.contains("more than 5 redirects"), "{error}");
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_resolves_to() {
        let server = Server::answering(&["200 OK"]).await;
        let port = server.url.rsplit(':').next().unwrap().to_owned();
        // By its name `localhost` would be refused too: here the strict rules are those of the resolver.
        let strict =
            WebhookTrigger::new(WebhookOptions { allow_private: false, ..WebhookOptions::default() });
        let lenient = WebhookTrigger::default();
        let parameters = json!({"url": format!("http://localhost:{port}")});
        let request = Request::read(&mut parameters.as_object().unwrap().clone()).unwrap();
        let client = strict.client().unwrap();
        let result = deliver(client, &lenient.guard, &request, "key", &FakeRun::new()).await;
        let message = result.unwrap_err().failure.message;
        assert!(message.starts_with("refused: "), "{message}");
        assert!(message.ends_with("not a public address after 1 try"), "{message}");
        assert_eq!(server.requests().len(), 0);
        let options =
            WebhookOptions { allowed_hosts: Some(vec!["localhost".into()]), ..WebhookOptions::default() };
        let outcome =
            run_on(options, json!({"url": format!("http://localhost:{port}")}), &FakeRun::new()).await;
        assert!(outcome.is_ok(), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_cancelled_call_ends_while_it_waits_for_the_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let run = FakeRun::new();
        let (result, ()) = tokio::join!(call_it(json!({"url": url}), &run), async {
            let _stream = listener.accept().await.unwrap();
            run.cancel();
        });
        assert_eq!(result.unwrap_err().failure.kind, "interrupted");
    }

    #[test]
    fn a_url_that_may_not_be_called_is_refused_when_the_job_is_stored() {
        let template = WebhookTrigger::default();
        let mut parameters = json!({"url": "http://169.254.169.254"}).as_object().unwrap().clone();
        assert_eq!(template.check(&mut parameters)[0].field, "url");
        parameters.insert("url".into(), json!("https://example.org"));
        assert_eq!(template.check(&mut parameters), []);
        let metadata = template.metadata();
        assert_eq!((metadata.name.as_str(), metadata.icon.as_str()), ("Webhook Trigger", "🔗"));
    }
}
