//! Evaluations with the real binary: every kind of set, every way to ask, marking again, comparing, and being killed in the middle.
#![allow(missing_docs)]

mod program;

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use program::{Place, TINY};
use serde_json::{Value, json};

const STUDENT: &str = "checkpoints/tiny/student.gguf";

/// A place with a packed student that has hardly learned anything.
fn place() -> Place {
    let place = Place::new(TINY);
    place.succeed(&["ingest", "tiny.toml"]);
    place.succeed(&["train", "tiny.toml", "--set", "train.steps=2"]);
    place.succeed(&["export", "checkpoints/tiny"]);
    place
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in:\n{text}"))
}

fn report(place: &Place, folder: &str) -> (Value, String) {
    let read = |name: &str| fs::read_to_string(place.path(folder).join(name)).unwrap();
    (json_of(&read("report.json")), read("report.html"))
}

const MMLU: &str = "What is two and two?,3,4,5,6,B\n\"A pair, as a number?\",2,3,4,5,A\nHow many days has a week?,5,6,7,8,C\n";

#[test]
fn multiple_choice_goes_by_likelihoods() {
    let place = place();
    place.write("mmlu.csv", MMLU);
    place.write("aqua.jsonl", "{\"question\":\"Two and two?\",\"options\":[\"A)3\",\"B)4\"],\"rationale\":\"r\",\"correct\":\"B\"}\n");
    place.write("own.jsonl", "{\"frage\":\"Two and two?\",\"wahl\":[\"3\",\"4\",\"5\"],\"recht\":1}\n");
    let own = ["--question", "frage", "--options", "wahl", "--answer", "recht"];
    for (set, n, chance, more) in
        [("mmlu.csv", 3, 0.25, &[][..]), ("aqua.jsonl", 1, 0.5, &["--kind", "choice"][..]), ("own.jsonl", 1, 1.0 / 3.0, &own[..])]
    {
        let score = json_of(&place.succeed(&[&["eval", STUDENT, "--set", set, "--to", "scored"][..], more].concat()));
        assert_eq!((&score["n"], score["chance"].as_f64()), (&n.into(), Some(chance)), "{score}");
        for way in ["letters", "texts", "texts_by_length"] {
            let [low, accuracy, high] = ["low", "accuracy", "high"].map(|key| score[way][key].as_f64().unwrap());
            assert!(low <= accuracy && accuracy <= high, "{score}");
        }
    }
    let (facts, page) = report(&place, "scored");
    assert_eq!(facts["choices"].as_object().unwrap().keys().collect::<Vec<_>>(), ["aqua", "mmlu", "own"]);
    assert_eq!(facts["commands"].as_array().unwrap().len(), 3);
    assert!(page.contains("Multiple choice") && page.contains("likeliest letter"));
    let lines = fs::read_to_string(place.path("scored/eval/mmlu/likelihoods.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 4, "a head and three questions");

    // A run is scored on it too, and compared by it.
    let config = TINY.replace("max_tokens = 24", "max_tokens = 24\nsets = [{ name = \"mmlu\", path = \"mmlu.csv\" }]");
    place.write("chosen.toml", &config.replace("steps = 30", "steps = 2"));
    let said = place.succeed(&["distill", "chosen.toml"]);
    assert!(said.contains("of 3 right by letter"), "{said}");
    assert_eq!(report(&place, "checkpoints/chosen").0["choices"]["mmlu"]["n"], 3);
    let compared = json_of(&place.succeed(&["compare", "checkpoints/chosen", "checkpoints/chosen", "--json"]));
    let sets: Vec<&str> = compared.as_array().unwrap().iter().map(|one| one["set"].as_str().unwrap()).collect();
    assert_eq!(sets[2..], ["mmlu, likeliest letter", "mmlu, likeliest text", "mmlu, likeliest text per character"]);

    // A set of which nothing was asked of both is left out, as one of numbers is.
    place.write("elsewhere/mmlu.jsonl", "{\"id\":\"x\",\"frage\":\"Two and three?\",\"wahl\":[\"4\",\"5\"],\"recht\":1}\n");
    let student = "checkpoints/chosen/student.gguf";
    for (set, more) in [("elsewhere/mmlu.jsonl", &own[..]), ("checkpoints/chosen/traces/held_out.jsonl", &[])] {
        place.succeed(&[&["eval", student, "--set", set, "--to", "others"], more].concat());
    }
    let compared = json_of(&place.succeed(&["compare", "checkpoints/chosen", "others", "--json"]));
    assert_eq!((compared.as_array().unwrap().len(), &compared[0]["set"]), (1, &"held_out".into()));
}

#[test]
fn scores_of_two_students_never_stand_together() {
    let place = place();
    let set = "checkpoints/tiny/traces/held_out.jsonl";
    let mut other = fs::read(place.path(STUDENT)).unwrap();
    *other.last_mut().unwrap() ^= 1; // One weight.
    fs::write(place.path("other.gguf"), other).unwrap();
    fs::copy(place.path(set), place.path("a set, größer.jsonl")).unwrap();
    place.succeed(&["eval", STUDENT, "--set", set, "--limit", "2", "--to", "both"]);
    let said = place.fail(&["eval", "other.gguf", "--set", "a set, größer.jsonl", "--limit", "2", "--to", "both"]);
    assert!(said.contains("another student than other.gguf") && said.contains("--to"), "{said}");
    place.succeed(&["eval", STUDENT, "--set", "a set, größer.jsonl", "--limit", "2", "--to", "both"]);
    let (facts, _) = report(&place, "both");
    assert_eq!(facts["eval"].as_object().unwrap().keys().collect::<Vec<_>>(), ["a_set__gr__er", "held_out"]);
}

#[test]
fn published_sets_are_read_as_they_are() {
    let place = place();
    for (file, text, fields) in [
        ("gsm8k.jsonl", "{\"question\":\"2 and 2?\",\"answer\":\"2 + 2 = <<2+2=4>>4\\n#### 4\"}\n", &[][..]),
        ("svamp.json", "[{\"ID\":\"chal-1\",\"Body\":\"Two.\",\"Question\":\"And two?\",\"Answer\":4.0}]", &[]),
        ("multiarith.json", "[{\"iIndex\":1,\"sQuestion\":\"2 and 2?\",\"lSolutions\":[4.0]}]", &[]),
        ("asdiv.jsonl", "{\"body\":\"Two.\",\"question\":\"And two?\",\"answer\":\"4 (apples)\"}\n", &[]),
        ("gsm_plus.jsonl", "{\"question\":\"2 and 2?\",\"solution\":\"4\",\"answer\":\"4\",\"perturbation_type\":\"x\"}\n", &[]),
        ("gsm_symbolic.jsonl", "{\"id\":1,\"instance\":0,\"question\":\"2 and 2?\",\"answer\":\"It is 4.\\n#### 4\"}\n", &[]),
        ("mgsm_de.tsv", "Zwei und zwei?\t4\n", &[]),
        ("math500.jsonl", "{\"problem\":\"$1+1$?\",\"solution\":\"s\",\"answer\":\"2\",\"unique_id\":\"a/1.json\"}\n", &[]),
        ("own.csv", "frage,antwort\n2 and 2?,4\n", &["--question", "frage", "--answer", "antwort"]),
    ] {
        place.write(file, text);
        let score = json_of(&place.succeed(&[&["eval", STUDENT, "--set", file, "--max-tokens", "2"][..], fields].concat()));
        assert_eq!((&score["n"], &score["unmarkable"]), (&1.into(), &0.into()), "{file}: {score}");
    }
    // An answer that is no number counts nowhere, and is told.
    place.write("math.jsonl", "{\"problem\":\"a\",\"answer\":\"\\\\frac{3}{4}\"}\n{\"problem\":\"b\",\"answer\":\"2\\\\pi\"}\n");
    let score = json_of(&place.succeed(&["eval", STUDENT, "--set", "math.jsonl", "--max-tokens", "2"]));
    assert_eq!((&score["n"], &score["unmarkable"]), (&1.into(), &1.into()), "{score}");
}

#[test]
fn every_way_to_ask() {
    let place = place();
    let eval = |arguments: &[&str]| {
        let all = [&["eval", STUDENT, "--set", "checkpoints/tiny/traces/held_out.jsonl", "--limit", "6"][..], arguments].concat();
        json_of(&place.succeed(&all))
    };
    let score = eval(&["--samples", "4", "--temperature", "1", "--top-p", "0.75", "--seed", "7", "--max-tokens", "20", "--to", "sampled"]);
    assert_eq!((&score["n"], &score["completions"]), (&6.into(), &24.into()));
    for at in ["pass_at", "majority_at"] {
        assert_eq!(score[at].as_object().unwrap().keys().collect::<Vec<_>>(), ["1", "2", "4"], "{score}");
    }
    let wanted = json!({ "prompt": "chat", "max_tokens": 20, "samples": 4, "temperature": 1.0, "top_p": 0.75, "seed": 7 });
    assert_eq!(score["settings"], wanted);
    let (_, page) = report(&place, "sampled");
    assert!(page.contains("4 samples of each problem at temperature 1, top-p 0.75, seed 7, at most 20 tokens") && page.contains("avg@4"));

    let solved: String = (0..9).map(|i| format!("{{\"question\":\"{i}?\",\"answer\":\"#### {i}\"}}\n")).collect();
    place.write("train.jsonl", &solved);
    for (style, more) in
        [("gsm8k", &["--examples", "train.jsonl"][..]), ("gsm8k_cot", &[]), ("gsm8k_zeroshot", &[]), ("gsm8k_cot_zeroshot", &[])]
    {
        let folder = format!("by_{style}");
        let score = eval(&[&["--prompt", style, "--max-tokens", "3", "--to", &folder][..], more].concat());
        // Eight examples fill a context of 256 tokens: not asked is not wrong.
        let asked = if style == "gsm8k_cot" { 0 } else { 6 };
        assert_eq!((&score["n"], &score["settings"]["prompt"]), (&asked.into(), &style.into()), "{score}");
        assert_eq!(score["not_asked"], 6 - asked);
    }
    for (arguments, parts) in [
        (&["--prompt", "gsm8"][..], &["gsm8", "gsm8k_cot_zeroshot"][..]),
        (&["--prompt", "gsm8k"], &["eval.prompt", "eval.examples"]),
        (&["--samples", "3"], &["eval.samples", "temperature"]),
        (&["--config", "tiny.toml"], &["--config", "cannot be used with"]),
    ] {
        let all = [&["eval", STUDENT, "--set", "checkpoints/tiny/traces/held_out.jsonl"][..], arguments].concat();
        let output = place.run(&all);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && parts.iter().all(|part| errors.contains(part)), "{errors}");
    }

    // A config's table says the same.
    let table = "[eval]\nmax_tokens = 20\nsamples = 4\ntemperature = 1.0\ntop_p = 0.75\nseed = 7\n\
                 sets = [{ name = \"held_out\", path = \"checkpoints/tiny/traces/held_out.jsonl\", limit = 6 }]\n";
    place.write("ask.toml", table);
    assert_eq!(json_of(&place.succeed(&["eval", STUDENT, "--config", "ask.toml", "--to", "by_config"])), score);
    place.write("ask.toml", &table.replace("samples", "sample"));
    assert!(place.fail(&["eval", STUDENT, "--config", "ask.toml"]).contains("did you mean `samples`?"));
}

#[test]
fn completions_are_marked_again_and_compared_with_what_others_recorded() {
    let place = Place::new(TINY);
    let config = TINY.replace("steps = 30", "steps = 2");
    place.write("tiny.toml", &config);
    place.succeed(&["distill", "tiny.toml"]);
    let set = "checkpoints/tiny/traces/held_out.jsonl";
    let ours = "checkpoints/tiny/eval/held_out/completions.jsonl";
    let score = json_of(&fs::read_to_string(place.path("checkpoints/tiny/eval/held_out/score.json")).unwrap());
    assert_eq!(json_of(&place.succeed(&["eval", ours, "--set", set])), score);
    for asking in [&["--to", "marked"][..], &["--samples", "4", "--temperature", "1"]] {
        assert!(place.fail(&[&["eval", ours, "--set", set], asking].concat()).contains("only marked"));
    }

    // Two teachers in one record, as published ones are: the first is always right, the second never.
    let text = fs::read_to_string(place.path(set)).unwrap();
    let record = |line: &str| {
        let problem = json_of(line);
        let right = format!("So it is.\nA: {}", task::Answer::parse(problem["answer"].as_str().unwrap()).unwrap());
        json!({ "question": problem["question"], "big": { "is_correct": true, "solution": right }, "small": { "solution": "A: -5" } })
    };
    place.write("teachers.jsonl", &text.lines().map(|line| format!("{}\n", record(line))).collect::<String>());
    let recorded = json_of(&place.succeed(&["eval", "teachers.jsonl:big", "--set", set]));
    assert_eq!((&recorded["accuracy"], &recorded["right"], recorded.get("mean_tokens")), (&1.0.into(), &12.into(), None));

    let said = place.succeed(&["compare", "checkpoints/tiny", "teachers.jsonl:big", "teachers.jsonl:small"]);
    for part in ["held_out", "teachers.jsonl:big", "100.0 %", "McNemar", "minimum detectable difference"] {
        assert!(said.contains(part), "{part} is missing in:\n{said}");
    }
    let compared = json_of(&place.succeed(&["compare", "teachers.jsonl:small", "teachers.jsonl:big", ours, "--set", set, "--json"]));
    assert_eq!((&compared[0]["n"], &compared[0]["difference"]), (&12.into(), &1.0.into()));
    assert_eq!(compared[1]["agreement"]["only_first"], 0);

    // In the report, and still there when the run is done again.
    place.succeed(&["report", "checkpoints/tiny", "--against", "teachers.jsonl:big"]);
    let (facts, page) = report(&place, "checkpoints/tiny");
    assert_eq!(
        (&facts["comparisons"][0]["first"], &facts["comparisons"][0]["second"]),
        (&"teachers.jsonl:big".into(), &"checkpoints/tiny".into())
    );
    assert!(page.contains("Comparisons") && page.contains("teachers.jsonl:big"));
    place.succeed(&["distill", "tiny.toml"]);
    assert_eq!(report(&place, "checkpoints/tiny").0["comparisons"], facts["comparisons"]);

    // Other questions under the same name and ids are not taken for the same.
    place.succeed(&["distill", "tiny.toml", "--set", "synth.seed=9", "--run", "checkpoints/other"]);
    assert!(place.fail(&["compare", "checkpoints/tiny", "checkpoints/other"]).contains("no questions in common"));

    assert!(place.fail(&["compare", "teachers.jsonl:big", "teachers.jsonl:small"]).contains("--set FILE is needed"));
    assert!(place.fail(&["compare", "checkpoints/tiny", "teachers.jsonl"]).contains("needed one of completion"));
    assert!(place.fail(&["compare", "checkpoints/tiny", "nowhere"]).contains("nowhere does not exist"));
    assert!(place.fail(&["compare", "checkpoints/tiny", STUDENT]).contains("tristill eval"));
}

#[test]
fn a_killed_evaluation_ends_with_the_bytes_of_one_that_was_not() {
    const PROBLEMS: usize = 160;
    let place = place();
    let problems: String =
        (0..PROBLEMS).map(|i| format!("{{\"question\":\"What is {i} and {}?\",\"answer\":\"{}\"}}\n", i + 3, 2 * i + 3)).collect();
    place.write("sums.jsonl", &problems);
    // The same command in two places, so that the commands in the reports are the same too.
    let arguments =
        ["eval", "student.gguf", "--set", "sums.jsonl", "--max-tokens", "100", "--samples", "2", "--temperature", "1", "--threads", "1"];
    let at = |name: &str| {
        place.write(&format!("{name}/sums.jsonl"), &problems);
        fs::copy(place.path(STUDENT), place.path(name).join("student.gguf")).unwrap();
        let mut command = place.command(&arguments);
        command.current_dir(place.path(name)).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    assert!(at("whole").status().unwrap().success());

    let mut killed = at("killed").spawn().unwrap();
    let completions = place.path("killed/eval/sums/completions.jsonl");
    let patience = Instant::now() + Duration::from_secs(300);
    let lines = || fs::read(&completions).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count());
    while lines() <= PROBLEMS {
        assert!(Instant::now() < patience && killed.try_wait().unwrap().is_none(), "killed too late, after {} lines", lines());
        std::thread::sleep(Duration::from_millis(1));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(lines() < 2 * PROBLEMS && !place.path("killed/report.json").exists(), "it was not killed in the middle");
    assert!(at("killed").status().unwrap().success());
    for file in ["eval/sums/completions.jsonl", "eval/sums/score.json", "report.json", "report.html"] {
        let read = |name: &str| fs::read(place.path(name).join(file)).unwrap();
        assert!(read("whole") == read("killed"), "{file} differs");
    }
}

#[cfg(unix)]
#[test]
fn a_watched_report_follows_the_run() {
    let place = Place::new(TINY);
    let line = |step: u32| json!({ "step": step, "loss": 5.0 / f64::from(step), "eval": { "held_out": { "accuracy": 0.5, "low": 0.4, "high": 0.6 } } });
    let lines = |steps: u32| (1..=steps).map(|step| format!("{}\n", line(step))).collect::<String>();
    assert!(place.fail(&["report", "run", "--watch"]).contains("neither report.json nor metrics.jsonl"));
    place.write("run/metrics.jsonl", &lines(1));
    let mut watching = place.command(&["report", "run", "--watch"]).stderr(Stdio::null()).spawn().unwrap();
    let page = || fs::read_to_string(place.path("run/report.html")).unwrap_or_default();
    let wait_for = |what: &str, there: &dyn Fn(&str) -> bool| {
        let patience = Instant::now() + Duration::from_secs(60);
        while !there(&page()) {
            assert!(Instant::now() < patience, "{what} was not seen");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for("the first page", &|page| page.contains("http-equiv=\"refresh\"") && !page.contains("Loss over"));
    place.write("run/metrics.jsonl", &lines(3));
    wait_for("the grown curve", &|page| page.contains("Loss over") && page.contains("held_out over"));
    // A run that has just begun writes half a line now and then.
    place.write("run/metrics.jsonl", &format!("{}{{\"step\":4,\"lo", lines(3)));
    std::process::Command::new("kill").args(["-INT", &watching.id().to_string()]).status().unwrap();
    assert!(watching.wait().unwrap().success());
    assert!(!page().contains("http-equiv=\"refresh\"") && page().contains("Loss over"));
    assert!(!place.path("run/README.md").exists(), "a run that is not over has no model card");
}
