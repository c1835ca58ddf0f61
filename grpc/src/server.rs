//! The server: a runtime on a thread of its own, from [`serve`] to the end of the drain.
//!
//! Draining: health turns NOT_SERVING, nothing new is accepted, what is in flight is answered, streams end with
//! UNAVAILABLE after the messages they have taken. Nothing that was submitted is ever taken back.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use onecard_core::Engine;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::transport::server::Server as Http2;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::Builder as Reflection;

use crate::admin::Admin;
use crate::counter::Counter;
use crate::feed::Feeds;
use crate::listener::{Connections, bind};
use crate::members::Members;
use crate::terminal::Terminals;
use crate::v1;
use crate::v1::admin_service_server::AdminServiceServer;
use crate::v1::feed_service_server::FeedServiceServer;
use crate::v1::member_service_server::MemberServiceServer;
use crate::v1::terminal_service_server::TerminalServiceServer;

/// Largest message: 1,000 transactions or 10,000 registrations fit well.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Most calls in flight on a connection.
const STREAMS_MAX: u32 = 1_024;
/// Most bytes of a request's headers.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// What may be on its way before the server has read it. Wide, so that small calls seldom need an update.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// A connection is pinged after this long without a word, and closed if the ping is not answered: one whose other end
/// is gone does not stay, an idle one does.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the engine is asked whether it still lives.
const POISON_INTERVAL: Duration = Duration::from_millis(100);

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Not HOST:PORT, or a host that is not known.
    #[error("address {0:?} cannot be read; give HOST:PORT, such as 127.0.0.1:50051")]
    Address(String),
    /// An address that other machines reach.
    #[error("{0} is not a loopback address; there is no TLS yet: serve on 127.0.0.1:PORT or [::1]:PORT")]
    NotLoopback(SocketAddr),
    /// The address is in use or not to be had.
    #[error("cannot listen on {address}: {source}; give a free port, or port 0 for any")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system gave no thread or no event queue.
    #[error("cannot start the server: {0}")]
    Start(io::Error),
}

/// A running server. Dropping it stops it without grace.
pub struct Server {
    address: SocketAddr,
    drain: CancellationToken,
    cut: CancellationToken,
    state: Arc<State>,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls, answers those under way, and returns when all are answered or the grace is over.
    ///
    /// True if all were answered. What was submitted and not answered is posted all the same.
    pub fn stop(&self, grace: Duration) -> bool {
        self.drain.cancel();
        let drained = self.state.wait_until(grace, |phase| phase.stopped);
        self.cut.cancel();
        self.state.wait_until(Duration::MAX, |phase| phase.stopped);
        drained
    }

    /// True once there is nothing more to wait for: the server has stopped, or its engine is poisoned and the owner
    /// should stop it.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.state.wait_until(timeout, |phase| phase.stopped || phase.poisoned)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

#[derive(Clone, Copy, Default)]
struct Phase {
    stopped: bool,
    poisoned: bool,
}

/// What the server's thread tells its owner.
#[derive(Default)]
struct State {
    phase: Mutex<Phase>,
    changed: Condvar,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Phase> {
        // Two flags are never half written.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Phase)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait_until(&self, timeout: Duration, reached: impl Fn(&Phase) -> bool) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut phase = self.lock();
        while !reached(&phase) {
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            // A wait of years is cut, because not every system can count so far.
            let waited = self.changed.wait_timeout(phase, left.min(Duration::from_secs(3600)));
            phase = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// Says that the server has stopped, even if its thread panics.
struct Stopped(Arc<State>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.change(|phase| phase.stopped = true);
    }
}

/// Serves an engine on HOST:PORT, loopback only; port 0 takes any free one. Returns when it accepts connections.
pub fn serve(engine: Engine, address: &str) -> Result<Server, ServeError> {
    let listener = bind(address)?;
    let address = listener.local_addr().map_err(ServeError::Start)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Start)?;
    let server =
        Server { address, drain: CancellationToken::new(), cut: CancellationToken::new(), state: Arc::new(State::default()) };
    let front = Front { engine, drain: server.drain.clone(), cut: server.cut.clone(), state: server.state.clone() };
    let thread = thread::Builder::new().name("onecard-grpc".to_owned());
    thread.spawn(move || front.run(runtime, listener)).map_err(ServeError::Start)?;
    Ok(server)
}

/// The server's side of the handle.
struct Front {
    engine: Engine,
    drain: CancellationToken,
    cut: CancellationToken,
    state: Arc<State>,
}

impl Front {
    fn run(self, runtime: Runtime, listener: TcpListener) {
        let _stopped = Stopped(self.state.clone());
        runtime.block_on(async {
            tokio::select! {
                () = self.serve(listener) => {}
                () = self.cut.cancelled() => {}
            }
        });
        // A call that still runs in the core is not waited for; the engine's close does that.
        runtime.shutdown_background();
    }

    async fn serve(&self, listener: TcpListener) {
        let Ok(connections) = Connections::new(listener) else { return };
        let health = HealthReporter::new();
        set_health(&health, ServingStatus::Serving).await;
        tokio::spawn(watch_engine(self.engine.clone(), health.clone(), self.state.clone()));
        let counter = Counter::default();
        tokio::spawn(counter.clone().serve(self.engine.clone()));
        let services = services(&self.engine, &counter, &self.drain, &health);
        let drained = async {
            self.drain.cancelled().await;
            set_health(&health, ServingStatus::NotServing).await;
            end_health_watches(health.clone()).await;
        };
        // It cannot fail: accepting never does, and nothing else is started here.
        let _ = Http2::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS_MAX)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .serve_with_incoming_shutdown(services, connections, drained)
            .await;
    }
}

const SERVICES: [&str; 5] = [
    "",
    v1::terminal_service_server::SERVICE_NAME,
    v1::admin_service_server::SERVICE_NAME,
    v1::member_service_server::SERVICE_NAME,
    v1::feed_service_server::SERVICE_NAME,
];

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        health.set_service_status(service, status).await;
    }
}

/// Watches never end by themselves, and would hold up the drain. They still tell the last status.
async fn end_health_watches(mut health: HealthReporter) {
    for service in SERVICES {
        health.clear_service_status(service).await;
    }
}

/// Turns health NOT_SERVING and tells the owner once the engine is poisoned.
async fn watch_engine(engine: Engine, health: HealthReporter, state: Arc<State>) {
    while engine.poisoned().is_none() {
        tokio::time::sleep(POISON_INTERVAL).await;
    }
    set_health(&health, ServingStatus::NotServing).await;
    state.change(|phase| phase.poisoned = true);
}

fn services(
    engine: &Engine,
    counter: &Counter,
    drain: &CancellationToken,
    health: &HealthReporter,
) -> impl Service<
    http::Request<Body>,
    Response = http::Response<Body>,
    Error = Infallible,
    Future = BoxFuture<http::Response<Body>, Infallible>,
> + Clone
+ use<> {
    let reflection = || {
        Reflection::configure()
            .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Services {
        terminals: TerminalServiceServer::new(Terminals::new(engine.clone(), counter.clone(), drain.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX),
        admin: AdminServiceServer::new(Admin::new(engine.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX),
        members: MemberServiceServer::new(Members::new(engine.clone())),
        feeds: FeedServiceServer::new(Feeds::new(engine.clone(), drain.clone())),
        health: HealthServer::new(HealthService::from_health_reporter(health.clone())),
        reflection: reflection().build_v1().expect("the descriptors were compiled with this program"),
        // What older tools ask.
        reflection_alpha: reflection().build_v1alpha().expect("the descriptors were compiled with this program"),
    }
}

/// All services, found by the first part of a call's path. A router for any number of them costs more per call.
#[derive(Clone)]
struct Services<Reflection, ReflectionAlpha> {
    terminals: TerminalServiceServer<Terminals>,
    admin: AdminServiceServer<Admin>,
    members: MemberServiceServer<Members>,
    feeds: FeedServiceServer<Feeds>,
    health: HealthServer<HealthService>,
    reflection: Reflection,
    reflection_alpha: ReflectionAlpha,
}

type Calling = BoxFuture<http::Response<Body>, Infallible>;

impl<R, A> Service<http::Request<Body>> for Services<R, A>
where
    R: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible, Future = Calling> + NamedService,
    A: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible, Future = Calling> + NamedService,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Calling;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Calling {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        match service {
            v1::terminal_service_server::SERVICE_NAME => self.terminals.call(request),
            v1::admin_service_server::SERVICE_NAME => self.admin.call(request),
            v1::member_service_server::SERVICE_NAME => self.members.call(request),
            v1::feed_service_server::SERVICE_NAME => self.feeds.call(request),
            tonic_health::pb::health_server::SERVICE_NAME => self.health.call(request),
            name if name == R::NAME => self.reflection.call(request),
            name if name == A::NAME => self.reflection_alpha.call(request),
            _ => Box::pin(async { Ok(Status::unimplemented("no such service; reflection lists them").into_http()) }),
        }
    }
}
