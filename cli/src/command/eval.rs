//! `tristill eval`: a packed student's answers to sets of questions, and their scores. Given completions instead of a student, it only
//! marks them.

mod exam;

use std::{fs::File, io::Read, path::Path};

use anyhow::{Context, Result, bail};
use eval::{EvalConfig, Questions, SetTable, report::Report};
use model::ModelConfig;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};

use crate::{
    arguments::{EvalArguments, command_line},
    command::report::{self, FACTS},
    config,
    progress::{print, say},
    run::{read_sets, set_name},
    system::System,
};

pub use exam::Exam;
use exam::say_score;

pub fn command(arguments: &EvalArguments) -> Result<()> {
    let config = settings(arguments)?;
    config.check()?;
    let sets = read_sets(&config.sets)?;
    if sets.is_empty() {
        bail!(
            "there is no set to ask: the config's [eval] table has no sets; those of [synth] lie in its run's folder, --set RUN/traces/held_out.jsonl"
        );
    }
    if !is_packed(&arguments.student)? {
        let asks = EvalConfig { sets: Vec::new(), ..config } != EvalConfig::default();
        if arguments.to.is_some() || (asks && arguments.config.is_none()) {
            bail!(
                "{} is no packed student: what it holds is only marked, so that --to and options for asking have no meaning",
                arguments.student.display()
            );
        }
        return mark(&arguments.student, &sets);
    }
    let folder = arguments.to.clone().unwrap_or_else(|| arguments.student.parent().unwrap_or(Path::new("")).to_owned());
    let mut exam = Exam::open(&arguments.student, &config)?;
    let mut facts = facts(&arguments.student, &folder, &exam)?;
    exam.sit_all(&sets, &folder, &mut facts)?;
    facts.write(&folder.join(FACTS))?;
    report::write(&folder)?;

    let score = |(set, _): &(SetTable, Questions)| -> Result<(String, Value)> {
        let score = match facts.eval.get(&set.name) {
            Some(score) => serde_json::to_value(score)?,
            None => serde_json::to_value(&facts.choices[&set.name])?,
        };
        Ok((set.name.clone(), score))
    };
    print_scores(sets.iter().map(score).collect::<Result<_>>()?)
}

/// The `[eval]` table of the config that was named, or what was typed as one.
fn settings(arguments: &EvalArguments) -> Result<EvalConfig> {
    /// Any run's config, of which only one table matters.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "other tables may be there")]
    struct EvalOnly {
        eval: EvalConfig,
        synth: Option<IgnoredAny>,
        data: Option<IgnoredAny>,
        model: Option<IgnoredAny>,
        train: Option<IgnoredAny>,
        stage: Option<IgnoredAny>,
    }
    let threads = arguments.threads.threads;
    if let Some(path) = &arguments.config {
        let config = config::load::<EvalOnly>(path, &[])?.eval;
        return Ok(EvalConfig { threads: threads.or(config.threads), ..config });
    }
    let Some(path) = &arguments.set else { bail!("--set FILE or --config CONFIG is needed") };
    let set = SetTable {
        kind: arguments.kind,
        fields: task::Fields {
            question: arguments.question.clone(),
            answer: arguments.answer.clone(),
            id: arguments.id.clone(),
            options: arguments.options.clone(),
        },
        limit: arguments.limit,
        ..SetTable::new(set_name(path), path.clone())
    };
    Ok(EvalConfig {
        sets: vec![set],
        prompt: arguments.prompt,
        examples: arguments.examples.clone(),
        samples: arguments.samples,
        max_tokens: arguments.sampling.max_tokens,
        temperature: arguments.sampling.temperature,
        top_p: arguments.sampling.top_p,
        seed: arguments.sampling.seed,
        threads,
        ..EvalConfig::default()
    })
}

/// Whether a path is a packed student's rather than one of completions.
fn is_packed(path: &Path) -> Result<bool> {
    if path.extension().is_some_and(|extension| extension == "gguf") {
        return Ok(true); // Whatever is in it: opening it says what is wrong.
    }
    let mut magic = [0; 4];
    let Ok(mut file) = File::open(path) else { return Ok(false) };
    Ok(file.read_exact(&mut magic).is_ok() && &magic == b"GGUF")
}

/// Mark what a system said before, asking nobody.
fn mark(typed: &Path, sets: &[(SetTable, Questions)]) -> Result<()> {
    let system = System::find(typed)?;
    let mut scores = Map::new();
    for (set, questions) in sets {
        let Questions::Numbers(problems) = questions else {
            bail!("{} is multiple choice, which is scored by a student's likelihoods; completions cannot be marked on it", set.name);
        };
        let said = system.said(&set.name, problems)?;
        let said = said.with_context(|| format!("{} holds no completions of {}", system.name, set.name))?;
        let score = eval::score(problems, &said.completions, said.head.map(|head| head.settings).as_ref());
        say_score(&set.name, &score);
        if score.not_asked > 0 {
            say(&format!("   warning {}: {} problems have no completion and do not count", set.name, score.not_asked));
        }
        scores.insert(set.name.clone(), serde_json::to_value(score)?);
    }
    print_scores(scores)
}

/// One score as it is, several by the names of their sets.
fn print_scores(scores: Map<String, Value>) -> Result<()> {
    let scores = match scores.len() {
        1 => scores.into_iter().next().map(|(_, score)| score).unwrap_or_default(),
        _ => Value::Object(scores),
    };
    print(&format!("{}\n", serde_json::to_string_pretty(&scores)?))
}

/// The report that the scores go into: the run's where the folder is one, else a new one.
fn facts(student: &Path, folder: &Path, exam: &Exam) -> Result<Report> {
    let path = folder.join(FACTS);
    let command = command_line(std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()));
    let mut facts = match path.exists() {
        true => {
            let facts = Report::read(&path);
            let mut facts = facts.with_context(|| format!("cannot add the score to {}; name another folder with --to", path.display()))?;
            // Reports of before have only the file's length.
            let is_other = match &facts.student_hash {
                Some(hash) => *hash != exam.hash,
                None => std::fs::metadata(student).is_ok_and(|file| file.len() != facts.packed_bytes),
            };
            if is_other {
                bail!("{} is the report of another student than {}; name another folder with --to", path.display(), student.display());
            }
            facts.student_hash = Some(exam.hash.clone());
            facts
        }
        false => {
            let config = exam.engine.student().config();
            Report {
                run: exam.engine.student().name().to_owned(),
                student: describe(config),
                student_hash: Some(exam.hash.clone()),
                parameters: config.parameters() as u64,
                packed_bytes: std::fs::metadata(student).with_context(|| format!("cannot read {}", student.display()))?.len(),
                f16_bytes: 2 * config.parameters() as u64,
                machine: exam.machine(),
                files: [("packed student".to_owned(), student.display().to_string())].into(),
                ..Report::default()
            }
        }
    };
    if !facts.commands.contains(&command) {
        facts.commands.push(command);
    }
    Ok(facts)
}

/// A student in a few words.
pub fn describe(config: &ModelConfig) -> String {
    format!("{} blocks of width {}, {}", config.layers, config.width, config.precision())
}
