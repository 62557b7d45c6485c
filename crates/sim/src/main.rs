//! `landfall-sim --histories N --seed S [--plant NAME] [--plants] [--trace] [--wasm-equality]
//! [--threads N] [--keep-going] [--early] [--export FILE]`
//!
//! `--export` writes the histories as data for outside checkers (docs/histories.md) instead of counting them; with `--trace` it
//! prints what happened in a single one, which is not the one that is played without `--export`.
//!
//! The last line is JSON. A broken promise prints its seed and a minimal trace, and the exit code is 1.

use landfall_core::plant::Plant;
use landfall_sim::export::Record;
use landfall_sim::model::Violation;
use landfall_sim::policy::PolicyKind;
use landfall_sim::{Ended, History, classes, equality, isolation, plants, run, run_in, shrink};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// From so many histories on a class of faults that is rare fails the run.
const CLASSES_JUDGED_FROM: u64 = 2_000;

#[global_allocator]
static MEMORY: landfall_sim::arena::Arena = landfall_sim::arena::Arena;

struct Asked {
    histories: u64,
    seed: u64,
    plant: Option<Plant>,
    plants: bool,
    trace: bool,
    wasm_equality: bool,
    keep_going: bool,
    threads: usize,
    export: Option<String>,
    /// Of the first generation.
    early: bool,
}

impl Asked {
    fn history(&self, seed: u64) -> History {
        if self.early { History::early(seed) } else { History::generate(seed) }
    }
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        histories: 0,
        seed: 1,
        plant: None,
        plants: false,
        trace: false,
        wasm_equality: false,
        keep_going: false,
        early: false,
        export: None,
        threads: std::thread::available_parallelism().map_or(1, |count| count.get()),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
        match arg.as_str() {
            "--histories" => asked.histories = number(value()?)?,
            "--seed" => asked.seed = number(value()?)?,
            "--plant" => {
                let name = value()?;
                asked.plant = Some(plants::named(&name).ok_or(format!("no plant is called {name}"))?);
            }
            "--plants" => asked.plants = true,
            "--trace" => asked.trace = true,
            "--wasm-equality" => asked.wasm_equality = true,
            "--threads" => asked.threads = number(value()?)?.clamp(1, 256) as usize,
            "--export" => asked.export = Some(value()?),
            "--early" => asked.early = true,
            "--keep-going" => asked.keep_going = true,
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    if asked.wasm_equality {
        for seed in 0..equality::SEEDS {
            println!("{{\"seed\":{seed},\"hash\":\"{:016x}\"}}", equality::hash_of(seed));
        }
        return ExitCode::SUCCESS;
    }
    let asked = Asked {
        histories: match asked.histories {
            0 if asked.export.is_some() => 1,
            0 if asked.plants => plants::HISTORIES_MAX,
            0 => 1_000,
            asked => asked,
        },
        ..asked
    };
    match &asked.export {
        Some(file) => export(&asked, file),
        None if asked.plants => find_plants(&asked),
        None => histories(&asked),
    }
}

/// What became of one seed.
struct Played {
    seed: u64,
    faults: u64,
    steps: u64,
    healed_ms: Option<(u64, bool)>,
    kinds: Vec<&'static str>,
    violation: Option<Violation>,
    is_isolation: bool,
}

fn play(seed: u64, asked: &Asked) -> Played {
    let ended = run(&asked.history(seed), asked.plant, asked.trace && asked.histories == 1);
    ended.trace.iter().for_each(|line| println!("{line}"));
    let mut violation = ended.violation;
    let is_isolation = violation.is_none() && seed.is_multiple_of(isolation::EVERY);
    if is_isolation {
        violation = isolation::check(seed, asked.plant);
    }
    let Ended { faults, steps, healed_ms, .. } = ended;
    Played { seed, faults, steps, healed_ms, kinds: ended.kinds.into_iter().collect(), violation, is_isolation }
}

/// Plays all seeds, as many at once as there are cores: histories know nothing of each other.
fn play_all(asked: &Asked) -> Vec<Played> {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let work = || {
        let mut played = Vec::new();
        loop {
            let count = next.fetch_add(1, Ordering::Relaxed);
            if count >= asked.histories || stop.load(Ordering::Relaxed) {
                return played;
            }
            let one = play(asked.seed.wrapping_add(count), asked);
            if one.violation.is_some() && !asked.keep_going {
                stop.store(true, Ordering::Relaxed);
            }
            played.push(one);
        }
    };
    let mut played: Vec<Played> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..asked.threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    played.sort_by_key(|played| played.seed);
    played
}

fn histories(asked: &Asked) -> ExitCode {
    let started = Instant::now();
    let played = play_all(asked);
    let seconds = started.elapsed().as_secs_f64();
    let faults: u64 = played.iter().map(|played| played.faults).sum();
    let mut violations = 0u64;
    for Played { seed, violation, is_isolation, .. } in &played {
        let Some(violation) = violation else { continue };
        violations += 1;
        println!("seed {seed}: {} {}", violation.promise, violation.text);
        if asked.keep_going {
            continue;
        }
        let history = match is_isolation {
            false => asked.history(*seed),
            true => {
                let pair = isolation::Pair::of(*seed);
                let whole = run(&pair.whole, asked.plant, false).violation;
                if whole.is_some_and(|it| it.promise == violation.promise) { pair.whole } else { pair.alone }
            }
        };
        // Of two that differ neither shows it.
        let differ = *is_isolation && violation.promise == "I1";
        if !differ && !asked.trace {
            print_minimal(&history, asked.plant, violation);
        }
        break;
    }
    let count = played.len().max(1) as f64;
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    played.iter().flat_map(|played| &played.kinds).for_each(|kind| *kinds.entry(kind).or_default() += 1);
    let shares = kinds.iter().map(|(kind, times)| format!("\"{kind}\":{:.1}", *times as f64 * 100.0 / count));
    println!("{{\"percent_of_histories_with\":{{{}}}}}", shares.collect::<Vec<_>>().join(","));
    // What is rare in a few histories says nothing.
    let is_judged = !asked.early && asked.plant.is_none() && played.len() as u64 >= CLASSES_JUDGED_FROM;
    let rare = if is_judged { classes::rare(&kinds, played.len() as u64) } else { Vec::new() };
    for (class, share) in &rare {
        println!("{class} is in {share:.1} of a hundred histories, and should be in {}", classes::LEAST_PERCENT);
    }
    println!("{{\"ms_to_heal\":{{\"told\":{},\"by_timers\":{}}}}}", healed(&played, false), healed(&played, true));
    println!(
        "{{\"histories\":{},\"violations\":{violations},\"classes\":{},\"rare\":{},\"steps_per_history\":{:.1},\
         \"faults_per_history\":{:.1},\"histories_per_second\":{:.0}}}",
        played.len(),
        classes::CLASSES.len(),
        rare.len(),
        played.iter().map(|played| played.steps).sum::<u64>() as f64 / count,
        faults as f64 / count,
        count / seconds
    );
    if violations == 0 && rare.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How long after the faults everybody had arrived: median, the slowest of a hundred, the slowest.
fn healed(played: &[Played], is_quiet: bool) -> String {
    let mut all: Vec<u64> = played
        .iter()
        .filter_map(|played| played.healed_ms)
        .filter(|(_, quiet)| *quiet == is_quiet)
        .map(|it| it.0)
        .collect();
    all.sort_unstable();
    let at =
        |percent: usize| all.get((all.len() * percent / 100).min(all.len().saturating_sub(1))).copied().unwrap_or(0);
    format!("{{\"median\":{},\"p99\":{},\"most\":{}}}", at(50), at(99), at(100))
}

/// Plays one history after the other and writes them into one file, without what makes one device two or takes its disk: of
/// those a checker can say little.
fn export(asked: &Asked, file: &str) -> ExitCode {
    let mut text = String::new();
    let mut count = 0;
    for seed in asked.seed..asked.seed + asked.histories {
        let history = asked.history(seed).without_lost_devices();
        // Who decides a conflict writes values of others again, which a checker takes for a replay.
        if history.setup.reviewers || history.setup.policies.contains(&PolicyKind::Review) {
            continue;
        }
        count += 1;
        let ended = run_in(&history, asked.plant, asked.trace && asked.histories == 1, &|world| {
            let mut model = world.model.borrow_mut();
            model.record = Some(Record::default());
            // What is planted the checker is to find by itself.
            model.goes_on = asked.plant.is_some();
        });
        ended.trace.iter().for_each(|line| println!("{line}"));
        if let Some(violation) = ended.violation.filter(|_| asked.plant.is_none()) {
            eprintln!("seed {seed}: {} {}", violation.promise, violation.text);
            return ExitCode::FAILURE;
        }
        text.push_str(&ended.exported.unwrap_or_default());
    }
    if let Err(error) = std::fs::write(file, &text) {
        eprintln!("{file}: {error}");
        return ExitCode::FAILURE;
    }
    println!("{{\"histories\":{count},\"lines\":{}}}", text.lines().count());
    ExitCode::SUCCESS
}

fn print_minimal(history: &History, bug: Option<Plant>, violation: &Violation) {
    let (smallest, ended) = shrink::shrink(history, bug, violation.promise);
    println!("{} of {} steps are enough:", smallest.steps.len(), history.steps.len());
    println!("{:?}", smallest.setup);
    for step in &smallest.steps {
        println!("  +{} ms {:?}", step.wait_ms, step.what);
    }
    println!("trace:");
    ended.trace.iter().for_each(|line| println!("{line}"));
    if let Some(found) = ended.violation {
        println!("{}: {}", found.promise, found.text);
    }
}

fn find_plants(asked: &Asked) -> ExitCode {
    let histories = plants::HISTORIES_MAX.min(asked.histories.max(1));
    let all: Vec<Plant> = asked.plant.map_or(Plant::ALL.to_vec(), |plant| vec![plant]);
    let (mut found, mut worst) = (0, 0);
    for plant in &all {
        let result = plants::find(*plant, asked.seed, histories);
        match result.found {
            Some((count, seed, promise)) => {
                found += 1;
                worst = worst.max(count);
                println!("{plant:?}: {promise} after {count} histories (seed {seed})");
            }
            None => println!("{plant:?}: not found in {histories} histories"),
        }
    }
    println!("{{\"plants\":{},\"found\":{found},\"worst_histories\":{worst}}}", all.len());
    if found == all.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
