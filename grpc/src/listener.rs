//! The listener: loopback only, and never the reason why the server stops.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;

use crate::server::ServeError;

/// Connections that may wait to be accepted: ten thousand terminals that come back at once.
const BACKLOG: i32 = 4_096;
/// Pause after a connection that could not be accepted, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// The other end is asked for a sign of life after this, and given up after five times without an answer.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const TCP_KEEPALIVE_RETRIES: u32 = 5;

/// Binds HOST:PORT; port 0 takes any free one.
pub fn bind(address: &str) -> Result<StdListener, ServeError> {
    let malformed = || ServeError::Address(address.to_owned());
    let found: Vec<SocketAddr> = address.to_socket_addrs().map_err(|_| malformed())?.collect();
    if let Some(outside) = found.iter().find(|found| !found.ip().is_loopback()) {
        return Err(ServeError::NotLoopback(*outside));
    }
    let first = *found.first().ok_or_else(malformed)?;
    listen(first).map_err(|source| ServeError::Bind { address: first, source })
}

fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait for connections of the server before.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections as they come in. A failed accept is tried again after a pause, so this never ends or fails.
pub struct Connections {
    listener: TcpListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Connections {
    /// Needs a runtime.
    pub fn new(listener: StdListener) -> io::Result<Connections> {
        Ok(Connections { listener: TcpListener::from_std(listener)?, pause: None })
    }
}

impl Stream for Connections {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match std::task::ready!(self.listener.poll_accept(context)) {
                Ok((stream, _)) if prepare(&stream).is_ok() => return Poll::Ready(Some(Ok(stream))),
                // It is gone already.
                Ok(_) => {}
                Err(_) => self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE))),
            }
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    let keepalive =
        TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE_INTERVAL).with_retries(TCP_KEEPALIVE_RETRIES);
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
