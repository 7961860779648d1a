//! The `barnabas` binary.

use std::process::ExitCode;

// librdkafka frees on one thread what another has allocated, message by
// message; this allocator is made for that, and serves C code too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    barnabas_server::main()
}
