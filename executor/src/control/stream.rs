//! One stream, from registration to its end.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use volley_proto::control::{ExecutorMessage, Heartbeat, Notice, SchedulerMessage, Welcome};
use volley_proto::wire::control::v1 as wire;
use volley_proto::wire::control::v1::executor_control_client::ExecutorControlClient;

use super::commands::Next;
use super::dial::Dialler;
use crate::process;

/// How long a scheduler may take to answer a registration.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a farewell may take to arrive.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(10);
/// Plans may be large; nothing else here is.
const MESSAGE_BYTES: usize = i32::MAX as usize;

/// How a stream ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Something broke: dial again.
    Broken(String),
    /// The scheduler does not want this executor.
    Refused { reason: String, retry: bool },
    /// The farewell was said.
    Left,
}

/// Both directions of an open stream.
struct Open {
    says: mpsc::UnboundedSender<wire::ExecutorMessage>,
    hears: Streaming<wire::SchedulerMessage>,
}

impl Dialler {
    /// Registers over `channel` and talks until the stream ends.
    pub(super) async fn talk(&mut self, channel: Channel) -> Ended {
        match self.converse(channel).await {
            Ok(ended) => ended,
            Err(reason) => Ended::Broken(reason),
        }
    }

    async fn converse(&mut self, channel: Channel) -> Result<Ended, String> {
        let (says, said) = mpsc::unbounded_channel();
        self.say(&says, Notice::Register(self.registration()))?;
        let mut client = ExecutorControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        let answer = timeout(WELCOME_TIMEOUT, client.connect(UnboundedReceiverStream::new(said)));
        let answer = answer.await.map_err(|_| "it did not answer".to_owned())?.map_err(|status| status.message().to_owned())?;
        let mut open = Open { says, hears: answer.into_inner() };
        match timeout(WELCOME_TIMEOUT, self.welcome(&mut open)).await.map_err(|_| "it did not answer the registration".to_owned())?? {
            Ok(welcome) => self.serve(open, welcome).await,
            Err(refused) => Ok(refused),
        }
    }

    /// Waits for the answer to the registration.
    async fn welcome(&mut self, open: &mut Open) -> Result<Result<Welcome, Ended>, String> {
        loop {
            match self.commands.obey(hear(&mut open.hears).await?) {
                Next::Welcomed(welcome) => return Ok(Ok(welcome)),
                Next::Refused { reason, retry } => return Ok(Err(Ended::Refused { reason, retry })),
                Next::Listen => {}
                Next::Drain => self.leave.cancel(),
            }
        }
    }

    /// Obeys and reports until the stream breaks or the farewell is said.
    async fn serve(&mut self, mut open: Open, welcome: Welcome) -> Result<Ended, String> {
        let _connected = self.connected(&welcome);
        self.commands.outbox.start_over();
        let mut heartbeats = interval(Duration::from_millis(welcome.heartbeat_interval_ms).max(SHORTEST_HEARTBEAT));
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = hear(&mut open.hears) => match self.commands.obey(message?) {
                    Next::Listen | Next::Welcomed(_) => {}
                    Next::Refused { reason, retry } => return Ok(Ended::Refused { reason, retry }),
                    Next::Drain => self.leave.cancel(),
                },
                notice = self.commands.outbox.next() => self.say(&open.says, notice)?,
                _ = heartbeats.tick() => self.say(&open.says, Notice::Heartbeat(self.heartbeat()))?,
                () = self.farewell.cancelled() => return self.say_farewell(open).await,
            }
        }
    }

    /// Says what is left to say, then that it goes.
    async fn say_farewell(&self, open: Open) -> Result<Ended, String> {
        let Open { says, mut hears } = open;
        for notice in self.commands.outbox.drain().into_iter().chain([Notice::Leaving]) {
            self.say(&says, notice)?;
        }
        drop(says);
        // The scheduler ends its side once it has read ours; whatever it says until then is no longer obeyed.
        let ended = async { while let Ok(Some(_)) = hears.message().await {} };
        if timeout(FAREWELL_TIMEOUT, ended).await.is_err() {
            tracing::debug!("the scheduler did not end the stream after the farewell");
        }
        Ok(Ended::Left)
    }

    fn say(&self, says: &mpsc::UnboundedSender<wire::ExecutorMessage>, notice: Notice) -> Result<(), String> {
        let message = ExecutorMessage { incarnation: self.commands.incarnation, notice };
        says.send(message.into()).map_err(|_| "the stream was closed".to_owned())
    }

    fn heartbeat(&self) -> Heartbeat {
        let usage = self.commands.exchange.usage();
        Heartbeat {
            memory_used_bytes: self.budget.used() as u64,
            store_bytes: usage.memory_bytes as u64,
            spilled_bytes: usage.spilled_bytes,
            busy_slots: self.commands.runner.busy_slots(),
            cpu_ns: process::cpu_ns().unwrap_or_default(),
            peak_resident_bytes: process::peak_resident_bytes().unwrap_or_default(),
        }
    }
}

async fn hear(hears: &mut Streaming<wire::SchedulerMessage>) -> Result<SchedulerMessage, String> {
    let message = hears.message().await.map_err(|status| status.message().to_owned())?;
    let message = message.ok_or_else(|| "it ended the stream".to_owned())?;
    SchedulerMessage::try_from(message).map_err(|error| error.to_string())
}
