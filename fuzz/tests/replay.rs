//! Replays the corpus: every input that was worth keeping still passes, and the
//! valid ones that targets begin with.

#![allow(clippy::unwrap_used, reason = "tests")]

use barnabas_fuzz::{TARGETS, Target};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A panic on a thread of a front end is one, too.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            usual(panic);
        }));
    });
}

fn replay(name: &str) {
    count_panics();
    let target = Target::find(name).unwrap();
    let mut paths: Vec<_> = std::fs::read_dir(target.corpus())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let kept = paths.iter().map(|path| std::fs::read(path).unwrap());
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty() && !paths.is_empty(), "nothing for {name}");
    let names = paths.iter().map(|path| path.display().to_string());
    let names = (0..seeds.len())
        .map(|number| format!("seed {number}"))
        .chain(names);
    for (name, bytes) in names.zip(seeds.iter().cloned().chain(kept)) {
        // Shown when it fails.
        println!("{name}");
        (target.run)(&bytes);
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "a thread has panicked");
    }
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { replay(stringify!($name)) })*

        #[test]
        fn every_target_is_replayed_and_documented() {
            let replayed = BTreeSet::from([$(stringify!($name)),*]);
            let all: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(replayed, all);
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let folders: BTreeSet<_> = std::fs::read_dir(root.join("corpus"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            assert_eq!(folders, all.iter().map(|name| (*name).to_owned()).collect());
            let page = std::fs::read_to_string(root.join("../docs/fuzzing.md")).unwrap();
            for name in all {
                assert!(page.contains(&format!("| `{name}` |")), "{name} is not in docs/fuzzing.md");
            }
        }
    };
}

targets!(
    acks,
    configuration,
    grpc,
    http,
    journal,
    offsets,
    redis,
    resp
);
