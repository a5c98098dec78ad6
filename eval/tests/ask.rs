//! A real engine over a tiny student: stopped, killed or asked in one go, the completions are the same bytes.

mod student;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use runtime::{Engine, Student};
use student::{PROBLEMS, pack, problems};
use task::Finish;
use tristill_eval::{Asked, Asking, Error, EvalConfig, Progress, ask, read_completions, score, student_hash};

fn config() -> EvalConfig {
    EvalConfig { max_tokens: 40, samples: 2, temperature: 1.0, top_p: 0.9, slots: 5, threads: Some(1), ..EvalConfig::default() }
}

fn ask_into(student: &Path, config: &EvalConfig, path: &Path, progress: impl FnMut(&Progress) -> ControlFlow<()>) -> Result<Asked, Error> {
    let mut engine = Engine::new(Arc::new(Student::open(student).unwrap()), &config.engine_options()).unwrap();
    let (hash, problems) = (student_hash(student).unwrap(), problems());
    let asking = Asking { student: &hash, set: "apples", problems: &problems, config };
    ask(&mut engine, &asking, path, progress)
}

fn go_on(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn every_problem_is_asked_once_and_in_the_sets_order() {
    let folder = tempfile::tempdir().unwrap();
    let (student, path) = (pack(folder.path()), folder.path().join("completions.jsonl"));
    let mut last = Progress::default();
    let asked = ask_into(&student, &config(), &path, |at| {
        assert!(at.done >= last.done && at.done <= at.wanted && at.right <= at.done);
        last = *at;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(asked.whole && asked.resumed == 0 && asked.too_long.is_empty());
    assert_eq!((last.done, last.wanted, asked.completions.len()), (48, 48, 48));
    let order: Vec<(String, u32)> = asked.completions.iter().map(|said| (said.id.clone(), said.sample)).collect();
    let wanted: Vec<(String, u32)> = (0..PROBLEMS).flat_map(|i| [0, 1].map(|sample| (format!("p{i}"), sample))).collect();
    assert_eq!(order, wanted);
    assert_eq!(asked.completions, read_completions(&path).unwrap().completions);
    let texts: BTreeSet<&str> = asked.completions.iter().map(|said| said.text.as_str()).collect();
    assert!(texts.len() > 40, "only {} different texts", texts.len());
    let (cut_off, ended): (Vec<_>, Vec<_>) = asked.completions.iter().partition(|said| said.finish == Finish::Length);
    assert!(cut_off.iter().all(|said| said.tokens == 40) && ended.iter().all(|said| said.tokens <= 40));
    let score = score(&problems(), &asked.completions, None);
    assert_eq!((score.n, score.completions, score.right), (24, 48, last.right));
}

#[test]
fn slots_and_threads_change_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let student = pack(folder.path());
    let ask = |name: &str, slots: usize, threads: usize| {
        let path = folder.path().join(name);
        ask_into(&student, &EvalConfig { slots, threads: Some(threads), ..config() }, &path, go_on).unwrap();
        std::fs::read(path).unwrap()
    };
    let one = ask("one", 1, 1);
    assert!(one == ask("many", 64, 2), "other slots and threads gave other completions");
}

#[test]
fn a_stopped_evaluation_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (student, whole, stopped) = (pack(folder.path()), folder.path().join("whole"), folder.path().join("stopped"));
    ask_into(&student, &config(), &whole, go_on).unwrap();
    let mut rounds = 0;
    loop {
        rounds += 1;
        let mut begin = None;
        let asked = ask_into(&student, &config(), &stopped, |at| {
            let first = *begin.get_or_insert(at.done);
            if at.done >= first + 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if asked.unwrap().whole {
            break;
        }
    }
    assert!(rounds >= 2, "it was never stopped");
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&stopped).unwrap(), "the completions differ");
}

#[test]
fn another_setting_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (student, path) = (pack(folder.path()), folder.path().join("completions"));
    let stop = |_: &Progress| ControlFlow::Break(());
    assert!(!ask_into(&student, &config(), &path, stop).unwrap().whole);
    let error = ask_into(&student, &EvalConfig { seed: 2, ..config() }, &path, go_on).unwrap_err();
    assert!(error.to_string().contains("seed was 1 when it was written and is 2 now"), "{error}");
}

#[test]
fn a_prompt_that_fills_the_context_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (student, path) = (pack(folder.path()), folder.path().join("completions"));
    let mut engine = Engine::new(Arc::new(Student::open(&student).unwrap()), &config().engine_options()).unwrap();
    let mut problems = problems();
    problems[3].question = "and then 7 ".repeat(200);
    let asking = Asking { student: "hash", set: "apples", problems: &problems, config: &config() };
    let asked = ask(&mut engine, &asking, &path, go_on).unwrap();
    assert!(asked.whole);
    assert_eq!((asked.too_long, asked.completions.len()), (vec!["p3".to_owned()], 46));
    assert_eq!(score(&problems, &asked.completions, None).not_asked, 1);
}

/// Where [`a_killed_evaluation_goes_on_to_the_same_bytes`] tells its child process to write.
const CHILD: &str = "TRISTILL_TEST_ASK_INTO";

/// Nothing by itself: the body of the process that is killed.
#[test]
fn asks_in_a_process_to_be_killed() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let slowly = |_: &Progress| {
        std::thread::sleep(Duration::from_millis(2));
        ControlFlow::Continue(())
    };
    ask_into(&folder.join("student.gguf"), &config(), &folder.join("killed"), slowly).unwrap();
}

#[test]
fn a_killed_evaluation_goes_on_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (student, whole, killed) = (pack(folder.path()), folder.path().join("whole"), folder.path().join("killed"));
    ask_into(&student, &config(), &whole, go_on).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["asks_in_a_process_to_be_killed", "--exact"])
        .env(CHILD, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lines = || std::fs::read(&killed).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count());
    while lines() < PROBLEMS {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let asked = ask_into(&student, &config(), &killed, go_on).unwrap();
    assert!(asked.whole && asked.resumed >= PROBLEMS as u64 - 1 && asked.resumed < 48, "{} were left", asked.resumed);
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&killed).unwrap(), "the completions differ");
}
