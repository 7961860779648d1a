//! Runs one target. As `cargo xtask fuzz` builds it, it is libFuzzer, and the
//! variable `FUZZ_TARGET` names the target: one binary for all of them, because
//! everything is linked into each. Built as usual, it runs the files that are
//! named: `cargo run -p barnabas-fuzz -- resp FILE …`.

#![cfg_attr(feature = "libfuzzer", no_main)]
#![cfg_attr(
    feature = "libfuzzer",
    allow(unsafe_code, reason = "the macro exports what libFuzzer calls")
)]

#[cfg(feature = "libfuzzer")]
mod fuzzer {
    #![allow(
        clippy::expect_used,
        reason = "there is nothing to be done without a target"
    )]

    use barnabas_fuzz::Target;
    use std::path::Path;
    use std::sync::OnceLock;

    fn target() -> &'static Target {
        static TARGET: OnceLock<&'static Target> = OnceLock::new();
        TARGET.get_or_init(|| {
            let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET is not set");
            Target::find(&name).expect("FUZZ_TARGET is the name of a target")
        })
    }

    /// Writes the valid inputs to begin with to where libFuzzer is going to
    /// look for them.
    fn seed() {
        let Some(folder) = std::env::var_os("FUZZ_SEEDS") else {
            return;
        };
        let folder = Path::new(&folder);
        std::fs::create_dir_all(folder).expect("a folder for the seeds");
        for (number, seed) in (target().seeds)().iter().enumerate() {
            std::fs::write(folder.join(number.to_string()), seed).expect("a seed");
        }
    }

    libfuzzer_sys::fuzz_target!(init: seed(), |bytes: &[u8]| (target().run)(bytes));
}

#[cfg(not(feature = "libfuzzer"))]
fn main() -> std::process::ExitCode {
    match replay() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(feature = "libfuzzer"))]
fn replay() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments
        .next()
        .ok_or("usage: barnabas-fuzz TARGET FILE …")?;
    let target = barnabas_fuzz::Target::find(&name).ok_or_else(|| format!("no target {name}"))?;
    for file in arguments {
        let bytes = std::fs::read(&file).map_err(|error| format!("{file}: {error}"))?;
        (target.run)(&bytes);
        println!("{file}: well");
    }
    Ok(())
}
