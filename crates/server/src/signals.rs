//! SIGTERM and SIGINT: the first drains, the second ends at once.

use crate::exit;
use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals as one stream.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
        })
    }

    /// Waits for the first signal. A thread of its own then waits for the
    /// second, so that even a drain that hangs can be ended.
    pub(crate) async fn wait(mut self) -> anyhow::Result<()> {
        self.next().await;
        tracing::info!(component = "server", "Signal received: draining");
        std::thread::Builder::new()
            .name("second-signal".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                if let Ok(runtime) = runtime {
                    runtime.block_on(self.next());
                    eprintln!("second signal: ending at once");
                    std::process::exit(i32::from(exit::FAILURE));
                }
            })
            .context("cannot start a thread")?;
        Ok(())
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
