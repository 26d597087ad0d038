//! The network between a node and its store: a TCP proxy that forwards, and on command does worse.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use unified_scheduler_tests::random::Random;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Forwards.
    #[default]
    Pass,
    /// Forwards each piece late by this much.
    Delay(Duration),
    /// Listens no longer: new connections are refused, those that are open are cut.
    Refuse,
    /// Half open: accepts, takes what is sent, and nothing arrives anywhere.
    Swallow,
    /// Forwards requests and loses the replies.
    Mute,
    /// Forwards, and at each piece draws whether to delay it, or to cut the connection.
    Fickle {
        /// In how many of a thousand pieces it is delayed, by up to 100 ms.
        delays: u64,
        /// In how many of a thousand pieces the connection is cut instead.
        cuts: u64,
    },
}

impl Mode {
    /// Whether a connection that went through this is of no use afterwards: a part of it is missing.
    fn spoils(self) -> bool {
        matches!(self, Self::Refuse | Self::Swallow | Self::Mute)
    }
}

/// What holds now.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    mode: Mode,
    /// Connections that began with a smaller number are cut.
    generation: u64,
}

/// A proxy on a port of its own. Dropping it ends it, and what goes through it.
pub struct Proxy {
    weather: watch::Sender<Weather>,
    listening: JoinHandle<()>,
}

/// What all connections of a proxy share.
struct Line {
    server: SocketAddr,
    weather: watch::Receiver<Weather>,
    random: Mutex<Random>,
}

impl Proxy {
    /// Forwards from `port` of 127.0.0.1 to `server`. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the port can't be had.
    pub async fn start(port: u16, server: SocketAddr, random: Random) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let (weather, seen) = watch::channel(Weather::default());
        let line = Arc::new(Line { server, weather: seen, random: Mutex::new(random) });
        let listening = tokio::spawn(line.listen(listener, port));
        Ok(Self { weather, listening })
    }

    /// Does this from now on.
    pub fn set(&self, mode: Mode) {
        self.weather.send_modify(|weather| {
            if weather.mode.spoils() || mode == Mode::Refuse {
                weather.generation += 1;
            }
            weather.mode = mode;
        });
    }

    /// Cuts every connection, in the middle of whatever it carries. New ones are let in.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.generation += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        // The connections have tasks of their own.
        self.cut();
    }
}

impl Line {
    async fn listen(self: Arc<Self>, listener: TcpListener, port: u16) {
        let mut listener = Some(listener);
        let mut weather = self.weather.clone();
        loop {
            let mode = weather.borrow_and_update().mode;
            if mode == Mode::Refuse {
                listener = None;
                if weather.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let Some(open) = or_bind(listener.take(), port).await else { continue };
            tokio::select! {
                changed = weather.changed() => if changed.is_err() { return },
                accepted = open.accept() => if let Ok((client, _)) = accepted {
                    tokio::spawn(Arc::clone(&self).carry(client));
                },
            }
            listener = Some(open);
        }
    }

    /// Carries one connection until an end of it is closed, or it is cut.
    async fn carry(self: Arc<Self>, client: TcpStream) {
        let mut weather = self.weather.clone();
        let born = weather.borrow_and_update().generation;
        let _ = client.set_nodelay(true);
        // Cut means cut: the other side hears a reset, not an orderly end.
        let _ = client.set_zero_linger();
        let forward = async {
            let Ok(server) = TcpStream::connect(self.server).await else { return };
            let _ = server.set_nodelay(true);
            let _ = server.set_zero_linger();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = self.pump(from_client, to_server, false) => {}
                () = self.pump(from_server, to_client, true) => {}
            }
        };
        tokio::select! {
            () = forward => {}
            _ = weather.wait_for(|weather| weather.generation > born) => {}
        }
    }

    async fn pump(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_reply: bool) {
        let mut piece = vec![0; 16 * 1024];
        loop {
            let Ok(n) = from.read(&mut piece).await else { return };
            if n == 0 {
                return;
            }
            let mode = self.weather.borrow().mode;
            match mode {
                Mode::Delay(wait) => tokio::time::sleep(wait).await,
                Mode::Swallow => continue,
                Mode::Mute if is_reply => continue,
                Mode::Pass | Mode::Refuse | Mode::Mute => {}
                Mode::Fickle { delays, cuts } => {
                    let (is_cut, wait) = self.draw(delays, cuts);
                    if is_cut {
                        return;
                    }
                    tokio::time::sleep(wait).await;
                }
            }
            if to.write_all(&piece[..n]).await.is_err() {
                return;
            }
        }
    }

    fn draw(&self, delays: u64, cuts: u64) -> (bool, Duration) {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let is_cut = random.in_thousand(cuts);
        let wait = if random.in_thousand(delays) { random.within(0..100) } else { 0 };
        (is_cut, Duration::from_millis(wait))
    }
}

/// The listener, or after a refusal a new one; none yet, where the port is not free for a moment.
async fn or_bind(listener: Option<TcpListener>, port: u16) -> Option<TcpListener> {
    if listener.is_some() {
        return listener;
    }
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    if bound.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bound.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that repeats what it is told, a proxy before it, and the proxy's address.
    async fn echo_behind_proxy() -> (Proxy, SocketAddr) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = client.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        let port = unified_scheduler_services::free_ports(1).unwrap()[0];
        let proxy = Proxy::start(port, address, Random::of(1, "proxy", 0)).await.unwrap();
        (proxy, (Ipv4Addr::LOCALHOST, port).into())
    }

    async fn says(stream: &mut TcpStream, word: &[u8; 4]) -> io::Result<bool> {
        stream.write_all(word).await?;
        let mut heard = [0; 4];
        let read = stream.read_exact(&mut heard);
        match tokio::time::timeout(Duration::from_millis(200), read).await {
            Ok(read) => read.map(|_| heard == *word),
            Err(_) => Ok(false),
        }
    }

    #[tokio::test]
    async fn what_is_cut_hears_a_reset_and_may_come_again() {
        let (proxy, address) = echo_behind_proxy().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(says(&mut stream, b"ping").await.unwrap());
        proxy.cut();
        assert!(says(&mut stream, b"ping").await.is_err());
        let mut again = TcpStream::connect(address).await.unwrap();
        assert!(says(&mut again, b"ping").await.unwrap());
    }

    #[tokio::test]
    async fn what_is_half_open_or_mute_accepts_and_says_nothing() {
        let (proxy, address) = echo_behind_proxy().await;
        for mode in [Mode::Swallow, Mode::Mute] {
            proxy.set(mode);
            let mut stream = TcpStream::connect(address).await.unwrap();
            assert!(!says(&mut stream, b"ping").await.unwrap(), "{mode:?}");
            proxy.set(Mode::Pass);
            // It would answer to half of a question.
            assert!(says(&mut stream, b"ping").await.is_err(), "{mode:?}");
        }
    }

    #[tokio::test]
    async fn what_is_refused_is_let_in_again() {
        let (proxy, address) = echo_behind_proxy().await;
        proxy.set(Mode::Refuse);
        let refused = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        refused.await;
        proxy.set(Mode::Pass);
        let mut stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert!(says(&mut stream, b"ping").await.unwrap());
    }
}
