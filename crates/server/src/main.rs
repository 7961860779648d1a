//! The `barnabas` binary.

use std::ffi::{c_int, c_long};
use std::process::ExitCode;

// librdkafka frees on one thread what another has allocated, message by
// message; this allocator is made for that, and serves C code too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`: after how many milliseconds memory that was freed goes
/// back to the system. By default that is a second, in which clients can make a
/// process take and free many times what it may have.
const PURGE_DELAY: (c_int, c_long) = (15, 10);

#[allow(
    unsafe_code,
    reason = "the crate does not have it; it takes two numbers and stores one of them"
)]
unsafe extern "C" {
    /// mimalloc's; what `MIMALLOC_PURGE_DELAY` says goes before it.
    safe fn mi_option_set_default(option: c_int, value: c_long);
}

fn main() -> ExitCode {
    let (option, milliseconds) = PURGE_DELAY;
    mi_option_set_default(option, milliseconds);
    barnabas_server::main()
}
