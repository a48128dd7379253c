//! `volley scheduler` and `volley executor`: start, serve until told to leave, leave in order.

use std::future::Future;
#[cfg(feature = "postgres")]
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use volley_executor::Executor;
use volley_scheduler::Scheduler;

use super::exit::Exit;
use super::interrupt::interrupted;
use super::{complain, say};
#[cfg(feature = "postgres")]
use crate::postgres::Gateway;

/// Flags of `volley scheduler`.
#[derive(Debug, clap::Args)]
pub(crate) struct SchedulerArgs {
    #[command(flatten)]
    scheduler: volley_scheduler::config::SchedulerArgs,
    /// Address for PostgreSQL clients, such as psql; without it there is none
    #[cfg(feature = "postgres")]
    #[arg(long, value_name = "HOST:PORT", env = "VOLLEY_POSTGRES")]
    postgres: Option<SocketAddr>,
}

/// Runs `volley scheduler`.
pub(crate) async fn scheduler(args: SchedulerArgs) -> Exit {
    let config = match args.scheduler.validate() {
        Ok(config) => config,
        Err(error) => return refuse(&error.to_string(), Exit::Usage),
    };
    let standing_by: fn(&str) = |leader| say(&format!("scheduler: standing by, {leader} leads"));
    let components = volley_scheduler::Components { standing_by: Some(standing_by), ..Default::default() };
    let started = tokio::select! {
        started = Scheduler::start(config, components) => started,
        () = interrupted() => return Exit::Ok,
    };
    let mut scheduler = match started {
        Ok(scheduler) => scheduler,
        Err(error) => return refuse(&error.to_string(), Exit::Failed),
    };
    let page = scheduler.http_address().map(|http| format!(", health on http://{http}/healthz")).unwrap_or_default();
    say(&format!("scheduler: clients and executors on {}{page}", scheduler.address()));
    #[cfg(feature = "postgres")]
    let gateway = match args.postgres {
        Some(address) => match Gateway::start(address, &url_of(scheduler.address())).await {
            Ok(gateway) => {
                say(&format!("scheduler: PostgreSQL clients on {}", gateway.address()));
                Some(gateway)
            }
            Err(error) => return refuse(&error.to_string(), Exit::Failed),
        },
        None => None,
    };
    tokio::select! {
        ended = scheduler.join() => match ended {
            Ok(()) => Exit::Ok,
            Err(error) => refuse(&error.to_string(), Exit::Failed),
        },
        () = interrupted() => leave("scheduler", async {
            #[cfg(feature = "postgres")]
            if let Some(gateway) = gateway {
                gateway.shutdown().await;
            }
            scheduler.shutdown().await
        }).await,
    }
}

/// Where a scheduler that listens at `address` is reached from here.
#[cfg(feature = "postgres")]
fn url_of(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        let here = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
        address.set_ip(here);
    }
    format!("http://{address}")
}

/// Runs `volley executor`.
pub(crate) async fn executor(args: volley_executor::Args) -> Exit {
    let config = match args.validate() {
        Ok(config) => config,
        Err(error) => return refuse(&error.to_string(), Exit::Usage),
    };
    let (slots, schedulers) = (config.slots, config.schedulers.join(", "));
    let started = tokio::select! {
        started = Executor::start(config, volley_executor::Components::default()) => started,
        () = interrupted() => return Exit::Ok,
    };
    let mut executor = match started {
        Ok(executor) => executor,
        Err(error) => return refuse(&error.to_string(), Exit::Failed),
    };
    say(&format!("executor: {slots} slots on {} for the scheduler at {schedulers}", executor.address()));
    tokio::select! {
        ended = executor.join() => match ended {
            Ok(()) => Exit::Ok,
            Err(error) => refuse(&error.to_string(), Exit::Failed),
        },
        () = interrupted() => leave("executor", executor.shutdown()).await,
    }
}

fn refuse(message: &str, exit: Exit) -> Exit {
    complain(message);
    exit
}

/// Waits until everything is in order, or until it is told a second time.
async fn leave<E: std::fmt::Display>(who: &str, shutdown: impl Future<Output = Result<(), E>>) -> Exit {
    say(&format!("{who}: leaving; once more to leave at once"));
    tokio::select! {
        done = shutdown => match done {
            Ok(()) => Exit::Ok,
            Err(error) => refuse(&error.to_string(), Exit::Failed),
        },
        () = interrupted() => Exit::Interrupted,
    }
}
