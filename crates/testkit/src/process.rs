//! Child processes that cannot outlive this one.
//!
//! The kernel is asked (`PR_SET_PDEATHSIG`) to kill the child when its parent goes, so that neither
//! a panic, nor `process::exit` with a cluster in a `static`, nor SIGKILL of the test leaves a
//! broker behind. The kernel's notion of "the parent" is the *thread* that forked; a test's thread
//! ends with the test. Therefore one thread that lives as long as the process does all the forking.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{Context, Error, Result};
use crate::procfs;

/// The signals tests send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: end in order.
    Terminate,
    /// SIGINT: what Ctrl-C sends.
    Interrupt,
    /// SIGHUP: by custom, reload.
    Hangup,
    /// SIGQUIT.
    Quit,
    /// SIGKILL: gone, with no chance to tidy up.
    Kill,
    /// SIGSTOP: stand still with every connection open.
    Stop,
    /// SIGCONT: go on after [`Signal::Stop`].
    Continue,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Self::Terminate => libc::SIGTERM,
            Self::Interrupt => libc::SIGINT,
            Self::Hangup => libc::SIGHUP,
            Self::Quit => libc::SIGQUIT,
            Self::Kill => libc::SIGKILL,
            Self::Stop => libc::SIGSTOP,
            Self::Continue => libc::SIGCONT,
            Self::User1 => libc::SIGUSR1,
            Self::User2 => libc::SIGUSR2,
        }
    }
}

/// A child process that ends when this value is dropped, and at the latest with this process.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    /// A pid is ours only until the child is reaped, so that signals and waiting share this lock.
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command`. Standard streams are as the command says.
    ///
    /// # Errors
    /// [`Error::Io`] if the program cannot be started.
    pub fn spawn(command: Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = spawn_on_forker(command).context(|| format!("start {name}"))?;
        Ok(Self {
            pid: child.id(),
            child: Mutex::new(child),
        })
    }

    /// The process id; another process's once this one has ended and been waited for.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends `signal`; nothing happens if the process has ended. After [`Signal::Stop`] it waits
    /// until every thread stands still: until then the kernel lets them run on, for as long as it
    /// takes to answer a request.
    ///
    /// # Errors
    /// [`Error::Io`] if the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child.lock();
        let mut has_ended = || {
            child
                .try_wait()
                .context(|| format!("wait for {}", self.pid))
        };
        if has_ended()?.is_some() {
            return Ok(());
        }
        send(self.pid, signal).context(|| format!("send {signal:?} to {}", self.pid))?;
        if signal == Signal::Stop {
            while has_ended()?.is_none() && !procfs::stands_still(self.pid)? {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// How the process ended, or `None` while it runs.
    ///
    /// # Errors
    /// [`Error::Io`] if the kernel refuses.
    pub fn status(&self) -> Result<Option<ExitStatus>> {
        self.child
            .lock()
            .try_wait()
            .context(|| format!("wait for {}", self.pid))
    }

    /// Waits until the process ends, at most for `timeout`.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it runs on; it is not killed.
    pub fn wait(&self, timeout: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            let waited = started.elapsed();
            if waited >= timeout {
                return Err(Error::Timeout {
                    what: format!("process {} to end", self.pid),
                    waited,
                });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGTERM, then waits: how the process ended, and how long it took to.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it runs on; it is not killed.
    pub fn terminate(&self, timeout: Duration) -> Result<(ExitStatus, Duration)> {
        let started = Instant::now();
        self.signal(Signal::Terminate)?;
        let status = self.wait(timeout)?;
        Ok((status, started.elapsed()))
    }

    /// SIGKILL, then waits until the kernel has closed its sockets and files.
    ///
    /// # Errors
    /// [`Error::Io`] if the kernel refuses.
    pub fn kill(&self) -> Result<ExitStatus> {
        self.signal(Signal::Kill)?;
        self.wait(Duration::from_secs(30))
    }

    /// The names of its threads; the first is the main thread.
    ///
    /// # Errors
    /// [`Error::Io`] if the process has ended.
    pub fn threads(&self) -> Result<Vec<String>> {
        procfs::threads(self.pid)
    }

    /// Resident memory in bytes, as the kernel counts it at this moment.
    ///
    /// # Errors
    /// [`Error::Io`] if the process has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        procfs::status_bytes(self.pid, "VmRSS")
    }

    /// The most memory that was ever resident, in bytes.
    ///
    /// # Errors
    /// [`Error::Io`] if the process has ended.
    pub fn peak_resident_bytes(&self) -> Result<u64> {
        procfs::status_bytes(self.pid, "VmHWM")
    }

    /// CPU time of all its threads, user and system, ended threads included. Resolution 10 ms.
    ///
    /// # Errors
    /// [`Error::Io`] if the process has ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        procfs::cpu_time(self.pid)
    }

    /// How many file descriptors are open: files, sockets, pipes, event queues.
    ///
    /// # Errors
    /// [`Error::Io`] if the process has ended.
    pub fn descriptors(&self) -> Result<usize> {
        procfs::descriptors(self.pid)
    }

    /// Hands out the child's pipes. Only the first call gets one.
    pub(crate) fn with_child<T>(&self, take: impl FnOnce(&mut Child) -> T) -> T {
        take(&mut self.child.lock())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        // A failure here means that it has ended already, which is what is wanted.
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[allow(
    unsafe_code,
    reason = "std can only send SIGKILL; kill(2) takes two integers and touches no memory of ours"
)]
fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: no pointers are passed.
    match unsafe { libc::kill(pid, signal.number()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

struct ForkRequest {
    command: Command,
    reply: mpsc::SyncSender<io::Result<Child>>,
}

fn spawn_on_forker(mut command: Command) -> io::Result<Child> {
    static FORKER: OnceLock<Option<mpsc::Sender<ForkRequest>>> = OnceLock::new();

    prepare_child(&mut command);
    let forker = FORKER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<ForkRequest>();
        thread::Builder::new()
            .name("testkit-forker".to_owned())
            .spawn(move || {
                for mut request in requests {
                    let _ = request.reply.send(request.command.spawn());
                }
            })
            .ok()
            .map(|_| sender)
    });
    let ended = || io::Error::other("the thread that forks is not running");
    let (reply, answer) = mpsc::sync_channel(1);
    forker
        .as_ref()
        .ok_or_else(ended)?
        .send(ForkRequest { command, reply })
        .map_err(|_| ended())?;
    answer.recv().map_err(|_| ended())?
}

#[allow(
    unsafe_code,
    reason = "the child's parent-death signal has to be set between fork and exec, for which std \
              has only the unsafe pre_exec"
)]
fn prepare_child(command: &mut Command) {
    const FIRST_AFTER_STDERR: libc::c_uint = 3;

    let parent = libc::pid_t::try_from(std::process::id());
    // SAFETY: the closure runs between fork and exec and makes only async-signal-safe system
    // calls; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have gone before the line above: nobody would send the signal then.
            if parent != Ok(libc::getppid()) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            // librdkafka opens its sockets without CLOEXEC. A child that held them would keep
            // connections of this process open, and have descriptors that it never opened.
            // Kernels before 5.11 do not know this, which is no reason not to start.
            libc::syscall(
                libc::SYS_close_range,
                FIRST_AFTER_STDERR,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            Ok(())
        });
    }
}
