//! `onecard-driver`: drives a server and prints one JSON object.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use onecard_driver::load::{Mode, Plan, Report, run};
use onecard_driver::swipes::Range;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Sends distinct swipes over gRPC and prints what came of it as one JSON object.
///
/// Cards and terminals must be there already. Card i (from --first-card on) has the 16 digits of
/// i x 6180339887498949 mod 10^16.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// IP:PORT of the server.
    #[arg(long)]
    target: SocketAddr,
    /// What is called.
    #[arg(long, value_enum, default_value = "unary")]
    mode: Mode,
    /// Calls in flight (stream: messages), all connections together.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=256))]
    in_flight: u32,
    /// Connections; never more than calls in flight.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// Seconds that are measured; more if nothing is answered within them.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Open loop: so many calls (stream: messages) a second; latency counts from the intended time.
    #[arg(long)]
    rate: Option<f64>,
    /// Swipes in a message of a stream.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    batch: u32,
    /// Programme of cards and terminals.
    #[arg(long, default_value_t = 1)]
    programme: u32,
    /// Business date as YYYYMMDD; needed but for mode empty.
    #[arg(long, default_value_t = 0)]
    date: u32,
    /// First terminal.
    #[arg(long, default_value_t = 1)]
    first_terminal: u32,
    /// Number of terminals.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    terminals: u32,
    /// First trace of each terminal; a run after another takes its `next_trace`.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    first_trace: u32,
    /// Index of the first card.
    #[arg(long, default_value_t = 0)]
    first_card: u64,
    /// Number of cards.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    cards: u64,
    /// Draw cards by zipf 0.99 instead of uniformly.
    #[arg(long)]
    zipf: bool,
    /// Of the random numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Args {
    fn plan(&self) -> Result<Plan, String> {
        if self.mode != Mode::Empty && self.date == 0 {
            return Err("--date is missing: give the open business date as YYYYMMDD".to_owned());
        }
        if self.rate.is_some_and(|rate| !(0.01..=1e7).contains(&rate)) {
            return Err("--rate must be from 0.01 to 10,000,000 a second".to_owned());
        }
        let seconds = |seconds| Duration::try_from_secs_f64(seconds).map_err(|error| format!("seconds: {error}"));
        Ok(Plan {
            target: self.target,
            mode: self.mode,
            in_flight: self.in_flight,
            connections: self.connections.min(self.in_flight),
            warm_up: seconds(self.warm_up)?,
            duration: seconds(self.seconds)?,
            rate: self.rate,
            batch: self.batch,
            swipes: Range {
                programme: self.programme,
                date: self.date,
                first_terminal: self.first_terminal,
                terminals: self.terminals,
                first_trace: self.first_trace,
                first_card: self.first_card,
                cards: self.cards,
                zipf: self.zipf,
                seed: self.seed,
            },
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = args.plan().and_then(|plan| {
        let report = run(&plan).map_err(|error| format!("{}: {error}", plan.target))?;
        Ok(object(&plan, &report))
    });
    match outcome {
        Ok(object) => {
            println!("{object}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("onecard-driver: {message}");
            ExitCode::FAILURE
        }
    }
}

fn object(plan: &Plan, report: &Report) -> Value {
    let milliseconds = |quantile| report.latencies_us.value_at_quantile(quantile) as f64 / 1e3;
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let approved = report.codes.get(&0).copied().unwrap_or_default();
    json!({
        "mode": format!("{:?}", plan.mode).to_lowercase(),
        "in_flight": plan.in_flight,
        "connections": plan.connections,
        "rate": plan.rate,
        "batch": if plan.mode == Mode::Stream { plan.batch } else { 1 },
        "seconds": report.measured_for.as_secs_f64(),
        "sent": report.sent,
        "calls": report.calls,
        "calls_per_s": report.measured as f64 / report.measured_for.as_secs_f64(),
        "approved": approved,
        "refused": report.codes.values().sum::<u64>() - approved,
        "codes": report.codes,
        "posted": report.posted,
        "balances": report.balances,
        "replayed": report.replayed,
        "errors": report.errors,
        "error": report.error,
        "p50_ms": milliseconds(0.5),
        "p99_ms": milliseconds(0.99),
        "p999_ms": milliseconds(0.999),
        "max_ms": report.latencies_us.max() as f64 / 1e3,
        "driver_cpu_s": cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        "next_trace": report.next_trace,
    })
}
